//! What `run` takes, and what its second process is told. Nobody calls that one by hand: `inside.rs`.

use std::{ffi::OsString, os::fd::RawFd, path::PathBuf};

use clap::ValueHint;
use fairlead_model::{ExternalHost, Pattern};
use laptop_account::HubUrl;

use super::OfTeamspace;

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// What to reach
    #[arg(long = "consume", required_unless_present = "also", num_args = 1.., value_name = "PATTERN")]
    pub(crate) patterns: Vec<Pattern>,
    /// Also reach this host outside the cluster, through it and by its own name; can be repeated
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) also: Vec<ExternalHost>,
    /// How many seconds to wait until a service has answered
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=45))]
    pub(crate) timeout: u64,
    /// Take other ports where a service's own cannot be had, and say which
    #[arg(long)]
    pub(crate) remap: bool,
    #[command(flatten)]
    pub(crate) of: OfTeamspace,
    #[command(flatten)]
    pub(crate) job: Job,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// How a CI job says who it is, without a sign-in before.
#[derive(Debug, clap::Args)]
pub(crate) struct Job {
    /// Sign in first as a service account, with the token in this file, in place of the one in FAIRLEAD_TOKEN
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// With a token: the hub, in place of the one in FAIRLEAD_HUB or the one used last
    #[arg(long, value_name = "URL")]
    pub(crate) hub: Option<HubUrl>,
    /// With a token: trust this authority (PEM) to sign the hub's certificate
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ca_file: Option<PathBuf>,
}

/// What the second process of `run` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Inside {
    /// Descriptor of the hosts file that the program shall see; without it, only see whether that can be done
    #[arg(long)]
    pub(crate) hosts: Option<RawFd>,
    /// A name of it, and where it must lead
    #[arg(long, num_args = 2, value_names = ["NAME", "ADDRESS"])]
    pub(crate) proof: Vec<String>,
    #[arg(last = true)]
    pub(crate) program: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Args, Verb};

    #[test]
    fn what_the_program_is_told_is_not_taken_for_ours() {
        let words = ["fairlead", "run", "--consume", "shop/*", "!shop/pay", "--", "ls", "--remap"];
        let args = Args::try_parse_from(words).expect("valid");
        let Verb::Run(run) = args.verb else { panic!("{args:?}") };
        assert_eq!((run.patterns.len(), run.remap), (2, false));
        assert_eq!(run.program, ["ls", "--remap"]);
        Args::try_parse_from(["fairlead", "run", "--", "ls"]).expect_err("nothing to reach");
        Args::try_parse_from(["fairlead", "run", "--consume", "shop/*"]).expect_err("no program");
    }
}
