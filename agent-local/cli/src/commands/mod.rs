//! One file per verb. Each says what happens, in order; how it looks is its view's business.

mod cleanup;
mod completion;
mod consume;
mod daemon;
mod doctor;
pub(crate) mod intercept;
mod leave;
mod list;
mod login;
mod logout;
mod logs;
mod proof;
mod run;
mod service_account;
mod services;
mod start;
mod status;
mod stop;
mod teamspace;
mod trace;
mod version;
mod whoami;

use laptop_account::{Account, Accounts, Hub};
use laptop_ipc::RunFolder;
use login::Way;

use crate::{
    args::{Args, ConsumeVerb, DaemonVerb, InterceptVerb, TeamspaceVerb, Verb, with_hosts},
    config::Folders,
    errors::CliError,
    output::Output,
    parts::Parts,
    reference,
};

/// What every verb works with.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    output: &'a Output,
    folders: Folders,
    accounts: Accounts,
    parts: Parts,
}

impl Context<'_> {
    fn account(&self) -> Result<Account, CliError> {
        Ok(self.accounts.current()?)
    }

    fn hub(&self) -> Result<Hub, CliError> {
        Ok(Hub::new(self.account()?)?)
    }
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), CliError> {
    let folders = Folders::find(args.places.config_dir, args.places.state_dir);
    let context = Context {
        output,
        accounts: Accounts::new(folders.config.clone()),
        parts: Parts::new(RunFolder::new(args.places.run_dir), &folders.state),
        folders,
    };
    let context = &context;
    match args.verb {
        Verb::Login { hub, ca_file, no_browser, device, token_file } => {
            let way = match (no_browser, device, token_file) {
                (_, _, Some(file)) => Way::TokenIn(file),
                (true, ..) => Way::Print,
                (_, true, _) => Way::Elsewhere,
                _ => Way::Open,
            };
            login::run(context, hub, ca_file.as_deref(), way).await
        }
        Verb::Logout => logout::run(context).await,
        Verb::Whoami => whoami::run(context).await,
        Verb::Start => start::run(context).await,
        Verb::Stop => stop::run(context).await,
        Verb::Status { wait: false, .. } => status::run(context).await,
        Verb::Status { wait: true, timeout } => status::wait(context, timeout).await,
        Verb::Teamspace { verb: TeamspaceVerb::List } => teamspace::list(context).await,
        Verb::Teamspace { verb: TeamspaceVerb::Use { name } } => {
            teamspace::choose(context, &name).await
        }
        Verb::Teamspace { verb: TeamspaceVerb::Trust { name, thumbprint } } => {
            teamspace::trust(context, &name, thumbprint).await
        }
        Verb::Services { namespace, of } => services::run(context, namespace, of).await,
        Verb::Consume { verb: Some(ConsumeVerb::List), .. } => consume::list(context).await,
        Verb::Consume { verb: Some(ConsumeVerb::Clear { teamspace }), .. } => {
            consume::clear(context, teamspace).await
        }
        Verb::Consume { verb: None, patterns, also, remap, of } => {
            consume::begin(context, with_hosts(patterns, also), remap, of).await
        }
        Verb::Run(run) => run::run(context, run).await,
        Verb::Intercept { verb: Some(InterceptVerb::List), .. } => list::intercepts(context).await,
        Verb::Intercept { verb: None, target, ports, of } => {
            let target = target.expect("clap requires it without a verb");
            intercept::begin(context, &target, &ports, of).await
        }
        Verb::Trace { traced, of } => trace::run(context, &traced, of).await,
        Verb::List => list::all(context).await,
        Verb::Leave { session, all: _ } => leave::run(context, session.as_deref()).await,
        Verb::Cleanup { dry_run } => cleanup::run(context, dry_run).await,
        Verb::Doctor { fix } => doctor::run(context, fix).await,
        Verb::Logs { bundle: Some(file), .. } => logs::write_bundle(context, &file).await,
        Verb::Logs { bundle: None, follow } => logs::show(context, follow).await,
        Verb::ServiceAccount { verb } => service_account::run(context, verb).await,
        Verb::Daemon { verb: DaemonVerb::Run { .. } } => daemon::run(context).await,
        Verb::Version => version::run(context).await,
        Verb::Completion { shell } => completion::run(context, shell),
        Verb::Inside(_) => unreachable!("main does it before anything else"),
        Verb::Reference => output.raw(reference::markdown().as_bytes()),
    }
}
