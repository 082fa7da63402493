//! The command line: every verb, its arguments, and the help that teaches it. Second words are in `second.rs`, and what
//! `run` takes in `run.rs`.

mod run;
mod second;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueHint};
use fairlead_model::{ExternalHost, Pattern};
use laptop_account::HubUrl;
use laptop_ipc::RunFolder;

pub(crate) use self::{
    run::{Inside, Job, Run},
    second::{ConsumeVerb, DaemonVerb, InterceptVerb, ServiceAccountVerb, TeamspaceVerb},
};
use crate::{errors::EXIT_CODES, output::Format, target::Target, traced::Traced};

const HELP_WIDTH: usize = 100;

/// Run one service on your laptop while everything else stays in the cluster.
#[derive(Debug, Parser)]
#[command(
    name = "fairlead",
    version,
    disable_help_subcommand = true,
    max_term_width = HELP_WIDTH,
    after_help = "\
A first session:
  fairlead login https://hub.example.com    sign in, in the browser
  fairlead start                            start the daemon
  fairlead consume 'shop/*'                 reach every service of the namespace by name
  curl http://frontend.shop
  fairlead intercept shop/cart 3000         requests for shop/cart come to localhost:3000
  fairlead leave --all                      give every service back
  fairlead stop                             and leave the laptop as it was",
    after_long_help = EXIT_CODES
)]
pub(crate) struct Args {
    /// How to print what a command shows
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) places: Places,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Places {
    /// Folder of the sockets
    #[arg(long, global = true, hide = true, value_name = "DIR", default_value = RunFolder::DEFAULT)]
    pub(crate) run_dir: PathBuf,
    /// Folder of accounts, in place of ~/.config/fairlead
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    pub(crate) config_dir: Option<PathBuf>,
    /// Folder of sessions and logs, in place of ~/.local/state/fairlead
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Sign in to a hub, in the browser
    #[command(after_help = "\
Examples:
  fairlead login https://hub.example.com
  fairlead login                                      again, at the hub used last
  fairlead login https://hub.corp --ca-file ca.pem    a hub with your organization's own authority
  fairlead login https://hub.example.com --no-browser prints the address, opens nothing
  fairlead login https://hub.example.com --device     no browser on this machine: use another one's
  fairlead login https://hub.example.com --token-file token    a CI job, as a service account")]
    Login {
        /// Address of the hub; the default is the one used last
        hub: Option<HubUrl>,
        /// Trust this authority (PEM) to sign the hub's certificate
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        ca_file: Option<PathBuf>,
        /// Only print the address that the browser must open
        #[arg(long)]
        no_browser: bool,
        /// Show letters to type in a browser of any machine; so it is by itself where there is no display
        #[arg(long, conflicts_with = "no_browser")]
        device: bool,
        /// Sign in as a service account, with the token in this file (`-`: standard input); the variable FAIRLEAD_TOKEN
        /// does the same
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["no_browser", "device"])]
        token_file: Option<PathBuf>,
    },
    /// End all sessions and the sign-in
    Logout,
    /// Show who is signed in
    Whoami,
    /// Start the daemon
    #[command(after_help = "\
The daemon runs as you. A small supervisor runs as root: it adds names to /etc/hosts and redirects
to nftables, and takes both back. Without a running supervisor, `fairlead start` starts one with
sudo. What this shell says about proxies (HTTPS_PROXY, ALL_PROXY, NO_PROXY) counts from now on.")]
    Start,
    /// End all sessions, give everything back, and stop the daemon
    Stop,
    /// Show what is connected and what has been proven to work
    #[command(after_help = "\
Examples:
  fairlead status
  fairlead status --wait && npm test         begin when each session is proven to work
  fairlead status --wait --timeout 10

With --wait the exit code is 0 when each session is proven, and 70 when one is not in time.
A consume is proven when one of its services has answered: those that did not are named.")]
    Status {
        /// Wait until each session is proven to work
        #[arg(long)]
        wait: bool,
        /// How long to wait, in seconds (1 to 600)
        #[arg(long, value_name = "SECONDS", requires = "wait", default_value_t = 60,
              value_parser = clap::value_parser!(u16).range(1..=600))]
        timeout: u16,
    },
    /// List the teamspaces, or choose one
    #[command(
        visible_alias = "ts",
        after_help = "\
Examples:
  fairlead teamspace list
  fairlead teamspace use staging

Services of several teamspaces can be consumed side by side. Those of the chosen one have the
names that they have in the cluster, frontend.shop; those of another one, `prod`, are called
frontend.shop.prod.fairlead. Where none was chosen, the one consumed first has the cluster's."
    )]
    Teamspace {
        #[command(subcommand)]
        verb: TeamspaceVerb,
    },
    /// List the services of the teamspace and what you may do with them
    #[command(after_help = "\
Examples:
  fairlead services
  fairlead services shop           only the namespace `shop`
  fairlead services -o json")]
    Services {
        /// Only this namespace
        namespace: Option<fairlead_model::Namespace>,
        #[command(flatten)]
        of: OfTeamspace,
    },
    /// Reach services of the cluster by their names
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        after_help = "\
Patterns:
  shop/cart          one service            shop/cart:8080     one port of it
  shop/*             a whole namespace      !shop/payment      but not this one
  */cart             it in each namespace   */*:80             this port of everything
  +db.example.net:5432                      a host outside the cluster, as --also has it

Examples:
  fairlead consume 'shop/*'
  fairlead consume 'shop/*' '!shop/payment' pay/api:443
  fairlead consume -t prod shop/frontend       beside what is consumed of other teamspaces
  fairlead consume --also db.example.net:5432  a host outside, where a policy permits it
  fairlead consume '!shop/payment'             no more of this; the rest stays
  fairlead consume list
  fairlead consume clear

Names: frontend.shop, frontend.shop.svc, frontend.shop.svc.cluster.local; with one namespace also
frontend. What is consumed already stays, and connections to it go on; what is new in the cluster
and matches is added, what is deleted goes. A service that you intercept is left out. When no
service answers within 20 s the exit code is 70: the consume goes on trying."
    )]
    Consume {
        #[command(subcommand)]
        verb: Option<ConsumeVerb>,
        /// What to reach
        #[arg(required_unless_present = "also", value_name = "PATTERN")]
        patterns: Vec<Pattern>,
        /// Also reach this host outside the cluster, through it and by its own name; can be repeated
        #[arg(long, value_name = "HOST:PORT")]
        also: Vec<ExternalHost>,
        /// Where there is no nftables: give a port that another program has another number here
        #[arg(long)]
        remap: bool,
        #[command(flatten)]
        of: OfTeamspace,
    },
    /// Run one program that reaches services by their names; nothing on this machine changes
    #[command(
        override_usage = "fairlead run --consume <PATTERN>...|--also <HOST:PORT> [OPTIONS] -- <PROGRAM> [ARGUMENT]...",
        after_help = "\
Examples:
  fairlead run --consume 'shop/*' -- npm test
  fairlead run --consume shop/db pay/api:8443 -- ./server
  fairlead run --consume shop/cart --also db.example.net:5432 -- ./server
  fairlead run --consume shop/frontend --remap -- curl http://frontend.shop:8080/

Needs neither root nor a running daemon. Only the program and what it starts see the names (Linux:
user and mount namespaces). It has your terminal, your uid and your network; its exit code is this
command's. Ports below 1024 are root's: with --remap 80 is 8080, 443 is 8443, and so on.

A CI job needs no `fairlead login` before: with a service account's token in FAIRLEAD_TOKEN (or a
--token-file) and the hub's address in FAIRLEAD_HUB (or --hub) it is signed in first. The program
does not see the token."
    )]
    Run(Run),
    /// Take over a service's traffic on a port of this laptop
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        after_help = "\
Examples:
  fairlead intercept shop/cart 3000             the one port of shop/cart
  fairlead intercept shop/cart:80 3000          its port 80
  fairlead intercept shop/cart 3000:80 3001:81  several ports, LAPTOP:SERVICE
  fairlead intercept list
  fairlead leave shop/cart                      give it back

While nothing listens on the port, and when this laptop is away, the pods answer. Whatever program
listens there gets the requests; Fairlead itself takes no port that could be in use."
    )]
    Intercept {
        #[command(subcommand)]
        verb: Option<InterceptVerb>,
        /// NAMESPACE/SERVICE or NAMESPACE/SERVICE:PORT
        #[arg(required = true, value_name = "SERVICE")]
        target: Option<Target>,
        /// Port of this laptop, or LAPTOP_PORT:SERVICE_PORT
        #[arg(required = true, value_name = "LAPTOP_PORT")]
        ports: Vec<String>,
        #[command(flatten)]
        of: OfTeamspace,
    },
    /// Follow one connection to a service hop by hop, and name the hop that fails
    #[command(after_help = "\
Examples:
  fairlead trace http://frontend.shop/cart    with a request, past all proxies
  fairlead trace shop/db                      only a connection
  fairlead trace shop/db:5432 -o json
  fairlead trace shop/dns:53/udp              a port of UDP
  fairlead trace db.example.net:5432          a host outside that you consume

Hops: the name, the redirect to the daemon, the hub, the cluster's agent, the service; of a URL the
answer as well. Each is tried by itself. The exit code is that of the first hop that fails.")]
    Trace {
        /// URL, or NAMESPACE/SERVICE, or NAMESPACE/SERVICE:PORT[/udp], or HOST:PORT
        #[arg(value_name = "URL|SERVICE|HOST")]
        traced: Traced,
        #[command(flatten)]
        of: OfTeamspace,
    },
    /// List the sessions of this laptop
    List,
    /// End a session and give its service back
    #[command(
        override_usage = "fairlead leave <SESSION>\n       fairlead leave --all",
        after_help = "\
Examples:
  fairlead leave shop/cart     the intercept of this service
  fairlead leave 01980a3f      a session by its id, or the beginning of it
  fairlead leave --all"
    )]
    Leave {
        /// Session id (or its beginning), or the intercepted service
        #[arg(required_unless_present = "all")]
        session: Option<String>,
        /// Every intercept of this laptop (`fairlead consume clear` ends what is consumed)
        #[arg(long, conflicts_with = "session")]
        all: bool,
    },
    /// Take back whatever Fairlead changed on this laptop
    #[command(after_help = "\
Your sessions end, and your names and redirects go. As root: those of every user, whose daemons
end. What could not be taken back stays in the journal and is tried again by the next clean-up or
start.")]
    Cleanup {
        /// Only show what would be taken back
        #[arg(long)]
        dry_run: bool,
    },
    /// Show how this laptop differs from its clean state, and what would break
    #[command(after_help = "\
Each line says what to do. The exit code is that of the first problem: 90 for what stands and nobody
wants, 60 for this laptop's network, 82 for parts of different versions; warnings leave it at 0.")]
    Doctor {
        /// First take back what stands, as `fairlead cleanup` does
        #[arg(long)]
        fix: bool,
    },
    /// Show what the daemon has logged, or bundle up what helps to understand it
    #[command(after_help = "\
Examples:
  fairlead logs --follow
  fairlead logs --bundle fairlead.tar.gz    logs, status, doctor and versions, without secrets")]
    Logs {
        /// Go on showing what is added
        #[arg(short, long, conflicts_with = "bundle")]
        follow: bool,
        /// Write everything into this file, which must not exist yet
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        bundle: Option<PathBuf>,
    },
    /// Manage the service accounts that CI jobs sign in with
    #[command(after_help = "\
Examples:
  fairlead service-account create ci-tests --teamspace staging
  fairlead service-account token ci-tests --for github > token    shown this once
  fairlead service-account list
  fairlead service-account revoke 01980a3f-...                    by the token's id")]
    ServiceAccount {
        #[command(subcommand)]
        verb: ServiceAccountVerb,
    },
    /// Run the daemon in this terminal, for troubleshooting
    Daemon {
        #[command(subcommand)]
        verb: DaemonVerb,
    },
    /// Show the versions of all parts
    Version,
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  fairlead completion bash > ~/.local/share/bash-completion/completions/fairlead
  fairlead completion zsh > ~/.zfunc/_fairlead")]
    Completion { shell: clap_complete::Shell },
    /// Become the program of `run`
    #[command(hide = true)]
    Inside(Inside),
    /// Print the reference of all commands in Markdown
    #[command(hide = true)]
    Reference,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OfTeamspace {
    /// Teamspace, in place of the chosen one
    #[arg(short, long, value_name = "NAME")]
    pub(crate) teamspace: Option<String>,
}

/// Returns all the words of a consume: a host is one that says so.
pub(crate) fn with_hosts(patterns: Vec<Pattern>, also: Vec<ExternalHost>) -> Vec<Pattern> {
    patterns.into_iter().chain(also.into_iter().map(Pattern::from)).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn no_line_of_a_help_text_is_broken_by_the_terminal() {
        let mut command = Args::command();
        command.build();
        for verb in command.get_subcommands() {
            for line in
                verb.get_after_help().map(ToString::to_string).iter().flat_map(|h| h.lines())
            {
                assert!(line.chars().count() <= HELP_WIDTH, "{}: {line}", verb.get_name());
            }
        }
    }

    #[test]
    fn a_pattern_is_not_taken_for_a_verb() {
        let args =
            Args::try_parse_from(["fairlead", "consume", "shop/*", "!shop/pay"]).expect("valid");
        assert!(
            matches!(args.verb, Verb::Consume { verb: None, patterns, .. } if patterns.len() == 2)
        );
        let words = ["fairlead", "consume", "--also", "db.example.net:5432", "--also", "a.b:1"];
        let Verb::Consume { patterns, also, .. } = Args::try_parse_from(words).expect("valid").verb
        else {
            panic!("it consumes");
        };
        let words: Vec<_> = with_hosts(patterns, also).iter().map(ToString::to_string).collect();
        assert_eq!(words, ["+db.example.net:5432", "+a.b:1"]);
        let args = Args::try_parse_from(["fairlead", "consume", "list"]).expect("valid");
        assert!(matches!(args.verb, Verb::Consume { verb: Some(ConsumeVerb::List), .. }));
    }

    #[test]
    fn a_token_is_never_a_word_of_the_command_line() {
        let mut command = Args::command();
        command.build();
        for verb in ["login", "run"] {
            let verb = command.find_subcommand(verb).expect("a verb");
            let of_tokens: Vec<_> = verb
                .get_opts()
                .filter_map(|o| o.get_long())
                .filter(|o| o.contains("token"))
                .collect();
            assert_eq!(of_tokens, ["token-file"], "other users see it there: {}", verb.get_name());
        }
    }

    #[test]
    fn a_malformed_pattern_says_what_to_write() {
        let usage = Args::try_parse_from(["fairlead", "consume", "cart"]).expect_err("malformed");
        assert!(usage.to_string().contains("namespace/service"), "{usage}");
        let usage = Args::try_parse_from(["fairlead", "consume", "shop/ca*"]).expect_err("a glob");
        assert!(usage.to_string().contains("`shop/*`"), "{usage}");
    }
}
