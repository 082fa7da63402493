//! What the daemon is told: flags only. Whoever starts it gives it an empty environment.

use std::path::PathBuf;

use clap::Parser;
use laptop_ipc::RunFolder;

#[derive(Debug, Parser)]
#[command(
    name = "fairlead-daemon",
    version,
    about = "Keeps the sessions of one user of this laptop"
)]
pub(crate) struct Args {
    /// Folder of the sockets
    #[arg(long, value_name = "DIR", default_value = RunFolder::DEFAULT)]
    pub(crate) run_dir: PathBuf,
    /// Folder of accounts
    #[arg(long, value_name = "DIR")]
    pub(crate) config_dir: PathBuf,
    /// Folder of sessions and of the log
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: PathBuf,
    /// Run without a supervisor, for the programs of `fairlead run`, and end after the last of them
    #[arg(long)]
    pub(crate) alone: bool,
    /// Log to stderr, for troubleshooting
    #[arg(long)]
    pub(crate) foreground: bool,
}
