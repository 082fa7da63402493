//! `fairlead whoami`.

use laptop_account::Me;
use serde::Serialize;

use super::Context;
use crate::{errors::CliError, output::Shown};

#[derive(Serialize)]
struct Whoami {
    hub: String,
    #[serde(flatten)]
    me: Me,
    teamspace: Option<String>,
}

impl Shown for Whoami {
    fn to_text(&self) -> String {
        let listed = |words: &[String]| {
            if words.is_empty() { "none".to_owned() } else { words.join(", ") }
        };
        format!(
            "user          {}\norganization  {}\nroles         {}\ngroups        {}\nhub           {}\n\
             teamspace     {}\n",
            self.me.user.email,
            self.me.organization.name,
            roles(&self.me.roles),
            listed(&self.me.groups),
            self.hub,
            self.teamspace.as_deref().unwrap_or("none chosen"),
        )
    }
}

/// A role may count in single teamspaces only, of which the hub does not speak here.
fn roles(everywhere: &[String]) -> String {
    match everywhere {
        [] => "none everywhere (fairlead services shows what you may do in a teamspace)".to_owned(),
        roles => roles.join(", "),
    }
}

pub(super) async fn run(context: &Context<'_>) -> Result<(), CliError> {
    let hub = context.hub()?;
    let me = hub.me().await?;
    let teamspace = hub.account().teamspace()?.map(|teamspace| teamspace.name);
    context.output.show(&Whoami { hub: hub.account().hub().to_string(), me, teamspace })
}
