//! `demo`: builds what the demo shows and lets it play.

use crate::{
    console,
    setup::{self, Area},
    transcript,
    workspace::{become_command, cargo, output, root, run as run_command, sudo},
};
use clap::Args;
use std::{
    ffi::OsStr,
    net::Ipv4Addr,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("elsewhere").args(["kubeconfig", "save_images"]))]
pub(crate) struct Demo {
    /// Ends after the show; the exit status says whether each step held
    #[arg(long)]
    once: bool,
    /// Writes what was shown into README.md
    #[arg(long, requires = "once", conflicts_with = "elsewhere")]
    readme: bool,
    /// Plays on the cluster of this file (its current context): kind, k3d, a test cluster; takes everything out again
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The address of this machine at which that cluster's pods reach it, where it is not the one towards its nodes
    #[arg(long, value_name = "IP", requires = "kubeconfig")]
    hub_address: Option<Ipv4Addr>,
    /// Where that cluster's nodes fetch the images; without it, they must have been given them
    #[arg(long, value_name = "REPOSITORY", requires = "elsewhere")]
    images: Option<String>,
    /// Writes the images as archives into a folder, says what to do with them, and does nothing else
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "once"])]
    save_images: Option<PathBuf>,
}

pub(crate) fn run(demo: &Demo) -> anyhow::Result<ExitCode> {
    setup::ensure(&demo.areas())?;
    // Before the hub, which serves it.
    console::ensure_built()?;
    run_command(&mut cargo(["build", "--workspace", "--bins"]))?;
    let program = fairlead_lab::sibling("demo")?;
    if demo.save_images.is_some() {
        // The files are the user's.
        return become_command(demo.tells(&mut Command::new(program)));
    }
    let mut show = sudo(program);
    demo.tells(&mut show);
    if !demo.readme {
        return become_command(&mut show);
    }
    let shown = String::from_utf8(output(show.stderr(Stdio::inherit()))?)?;
    let readme = root().join("README.md");
    std::fs::write(&readme, transcript::replaced(&std::fs::read_to_string(&readme)?, &shown)?)?;
    Ok(ExitCode::SUCCESS)
}

impl Demo {
    /// Only a demo on a cluster of its own builds Kubernetes.
    fn areas(&self) -> [Area; 4] {
        let elsewhere = self.kubeconfig.is_some() || self.save_images.is_some();
        let ground = if elsewhere { Area::Hosts } else { Area::Lab };
        [Area::Build, ground, Area::Hub, Area::Console]
    }

    /// Hands on what was said to the program that plays.
    fn tells<'c>(&self, show: &'c mut Command) -> &'c mut Command {
        show.args(self.once.then_some("--once"));
        for (option, path) in
            [("--kubeconfig", &self.kubeconfig), ("--save-images", &self.save_images)]
        {
            show.args(path.iter().flat_map(|path| [OsStr::new(option), path.as_os_str()]));
        }
        if let Some(address) = self.hub_address {
            show.arg("--hub-address").arg(address.to_string());
        }
        if let Some(repository) = &self.images {
            show.arg("--images").arg(repository);
        }
        show
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn only_a_demo_on_a_cluster_of_its_own_needs_go() {
        assert!(needs_go(&["--once"]));
        assert!(!needs_go(&["--kubeconfig", "file"]));
        assert!(!needs_go(&["--save-images", "folder"]));
        assert!(!needs_go(&["--save-images", "folder", "--images", "registry.test/somebody"]));
    }

    fn needs_go(words: &[&str]) -> bool {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            demo: Demo,
        }
        let line = Line::try_parse_from([&["demo"], words].concat()).expect("understood");
        setup::tools(&line.demo.areas()).any(|tool| tool.program == "go")
    }
}
