//! `fairlead status`: what is connected, and what has been proven to work.

use laptop_ipc::daemon::{Laptop, Link, Status};
use serde::Serialize;

use super::{Context, list};
use crate::{errors::CliError, output::Shown};

#[derive(Serialize)]
struct StatusView {
    user: Option<String>,
    #[serde(flatten)]
    status: Status,
}

impl Shown for StatusView {
    fn to_text(&self) -> String {
        let user = self.user.as_deref().unwrap_or("nobody");
        let mut text = format!(
            "daemon  running (pid {}, version {})\nhub     {}\nlaptop  {}\n",
            self.status.pid,
            self.status.version,
            link(&self.status.hub, user),
            laptop(&self.status.laptop),
        );
        text.push('\n');
        text.push_str(&list::sessions_text(&self.status.sessions));
        text
    }
}

fn link(link: &Link, user: &str) -> String {
    match link {
        Link::SignedOut => "not signed in".to_owned(),
        Link::Connecting { hub, reason } => format!("{hub}: connecting ({reason})"),
        Link::Connected { hub, replica } => {
            format!("{hub}: connected as {user} (replica {replica})")
        }
    }
}

fn laptop(laptop: &Laptop) -> String {
    match laptop {
        Laptop::Unchanged => "unchanged: no names, no redirects".to_owned(),
        Laptop::Proven => "names and redirects proven to work".to_owned(),
        Laptop::Broken { reason } => format!("broken: {reason}"),
    }
}

pub(super) async fn run(context: &Context<'_>) -> Result<(), CliError> {
    let status = context.parts.status().await?;
    let account = context.accounts.current().ok();
    let profile = account.and_then(|account| account.profile().ok().flatten());
    context.output.show(&StatusView { user: profile.map(|profile| profile.email), status })
}
