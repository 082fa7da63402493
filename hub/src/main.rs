//! The program: read what is asked, do it, say how it went.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fairlead_hub::{admin, config, dev, http, output, serve};

/// The Fairlead hub: who may reach and take over which service of which cluster
#[derive(Parser)]
#[command(name = "fairlead-hub", version, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve people, laptops and clusters
    Serve(config::ServeFlags),
    /// Bring the database's schema up to date, and end
    Migrate(config::DatabaseFlags),
    /// Try Fairlead on this machine: everything that `serve` wants is made here
    Dev(dev::DevFlags),
    /// Print the description of the REST interface
    Openapi,
    /// What only the operator of this hub can do
    Admin(admin::AdminFlags),
}

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing has installed a provider before");
    let runtime = tokio::runtime::Runtime::new().expect("the system gives us threads");
    match runtime.block_on(run(Program::parse().command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::say_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(flags) => {
            let config = config::Config::load(flags)?;
            output::start_log(config.log);
            serve::run(config).await
        }
        Command::Migrate(flags) => admin::migrate(flags).await,
        Command::Dev(flags) => {
            output::start_log(config::LogFormat::Text);
            dev::run(flags).await
        }
        Command::Openapi => output::say(&http::document()),
        Command::Admin(flags) => admin::run(flags).await,
    }
}
