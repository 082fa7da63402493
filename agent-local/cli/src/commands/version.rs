//! `fairlead version`.

use laptop_ipc::{PROTOCOL, supervisor};
use serde::Serialize;

use super::Context;
use crate::{errors::CliError, output::Shown};

#[derive(Serialize)]
pub(super) struct Versions {
    fairlead: &'static str,
    daemon: Option<String>,
    supervisor: Option<String>,
    ipc: u32,
}

impl Shown for Versions {
    fn to_text(&self) -> String {
        let part =
            |version: &Option<String>| version.clone().unwrap_or_else(|| "not running".to_owned());
        format!(
            "fairlead    {}\ndaemon      {}\nsupervisor  {}\n",
            self.fairlead,
            part(&self.daemon),
            part(&self.supervisor)
        )
    }
}

pub(super) async fn run(context: &Context<'_>) -> Result<(), CliError> {
    context.output.show(&seen(context).await)
}

pub(super) async fn seen(context: &Context<'_>) -> Versions {
    let daemon = context.parts.status().await.ok().map(|status| status.version);
    let supervisor = match context.parts.ask_supervisor(supervisor::Request::Status).await {
        Ok(Some(supervisor::Answer::Status { version, .. })) => Some(version),
        Ok(_) | Err(_) => None,
    };
    let fairlead = env!("CARGO_PKG_VERSION");
    Versions { fairlead, daemon, supervisor, ipc: PROTOCOL }
}
