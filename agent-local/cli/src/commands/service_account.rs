//! `fairlead service-account list|create|delete|token|revoke`: what CI jobs sign in with, for those who administer it.

use fairlead_model::TeamspaceId;
use laptop_account::{Hub, ServiceAccountView};
use laptop_ipc::FailureKind;
use serde::Serialize;

use super::{Context, teamspace};
use crate::{args::ServiceAccountVerb, errors::CliError, output::Shown, table::table};

#[derive(Serialize)]
#[serde(transparent)]
struct Accounts(Vec<ServiceAccountView>);

impl Shown for Accounts {
    fn to_text(&self) -> String {
        let rows = self.0.iter().flat_map(|account| {
            let places = account.teamspaces.as_ref();
            let places = places.map_or_else(|| "every".to_owned(), |names| names.join(","));
            let row = |token: Option<[String; 4]>| {
                let [id, name, expires, used] = token.unwrap_or_default();
                let (account, roles) = (account.name.clone(), account.roles.join(","));
                [account, roles, places.clone(), id, name, expires, used]
            };
            let day = |time: &str| time.split('T').next().unwrap_or_default().to_owned();
            let tokens = account.tokens.iter().map(|token| {
                let used = token.last_used_at.as_deref().map_or_else(|| "never".to_owned(), day);
                [token.id.clone(), token.name.clone(), day(&token.expires_at), used]
            });
            let rows: Vec<_> = tokens.map(|token| row(Some(token))).collect();
            if rows.is_empty() { vec![row(None)] } else { rows }
        });
        let headings = ["ACCOUNT", "ROLES", "TEAMSPACES", "TOKEN", "FOR", "EXPIRES", "USED"];
        table(headings, rows, "There are no service accounts.")
    }
}

pub(super) async fn run(context: &Context<'_>, verb: ServiceAccountVerb) -> Result<(), CliError> {
    let hub = context.hub()?;
    match verb {
        ServiceAccountVerb::List => context.output.show(&Accounts(hub.service_accounts().await?)),
        ServiceAccountVerb::Create { name, roles, teamspaces } => {
            let teamspaces = ids_of(&hub, &teamspaces).await?;
            hub.create_service_account(&name, &roles, teamspaces.as_deref()).await?;
            context.output.say(format!(
                "Service account `{name}` was made. Next: fairlead service-account token {name} --for PURPOSE"
            ));
            Ok(())
        }
        ServiceAccountVerb::Delete { name } => {
            let account = named(&hub, &name).await?;
            hub.delete_service_account(&account.id).await?;
            context.output.say(format!("Service account `{name}` is gone, with its tokens."));
            Ok(())
        }
        ServiceAccountVerb::Token { name, purpose, days } => {
            let account = named(&hub, &name).await?;
            let made = hub.create_api_token(&account.id, &purpose, days).await?;
            context.output.say(format!(
                "It expires at {} and is shown this once; keep it as a secret:",
                to_the_minute(&made.expires_at)
            ));
            context.output.raw(format!("{}\n", made.token).as_bytes())
        }
        ServiceAccountVerb::Revoke { token } => {
            hub.revoke_api_token(&token).await?;
            context.output.say("The token is revoked; whatever signed in with it is out.");
            Ok(())
        }
    }
}

/// Returns a time of the hub as people read it; one that is written in another way as it is.
fn to_the_minute(time: &str) -> String {
    match time.split_once('T') {
        Some((day, clock)) if time.ends_with('Z') && clock.len() > 5 => {
            format!("{day} {} UTC", &clock[..5])
        }
        _ => time.to_owned(),
    }
}

/// Returns the teamspaces of these names; `None`, which is every one, for none.
async fn ids_of(hub: &Hub, names: &[String]) -> Result<Option<Vec<TeamspaceId>>, CliError> {
    if names.is_empty() {
        return Ok(None);
    }
    let seen = hub.teamspaces().await?;
    names
        .iter()
        .map(|name| Ok(teamspace::named(&seen, name)?.id))
        .collect::<Result<_, _>>()
        .map(Some)
}

async fn named(hub: &Hub, name: &str) -> Result<ServiceAccountView, CliError> {
    let accounts = hub.service_accounts().await?;
    accounts.into_iter().find(|account| account.name == name).ok_or_else(|| {
        CliError::new(
            FailureKind::NotFound,
            format!("there is no service account `{name}`"),
            "list them: fairlead service-account list",
        )
    })
}

#[cfg(test)]
mod tests {
    use laptop_account::ApiTokenView;

    use super::*;

    #[test]
    fn people_read_a_time_to_the_minute() {
        assert_eq!(to_the_minute("2026-12-30T03:35:39.027612837Z"), "2026-12-30 03:35 UTC");
        for other in ["soon", "2026-12-30T03:35:39+01:00"] {
            assert_eq!(to_the_minute(other), other);
        }
    }

    #[test]
    fn an_account_without_tokens_is_listed_too() {
        let account = |name: &str, tokens| ServiceAccountView {
            id: "1".to_owned(),
            name: name.to_owned(),
            roles: vec!["developer".to_owned()],
            teamspaces: Some(vec!["staging".to_owned()]),
            tokens,
        };
        let token = ApiTokenView {
            id: "0198".to_owned(),
            name: "github".to_owned(),
            expires_at: "2027-01-01T00:00:00Z".to_owned(),
            last_used_at: None,
        };
        let text = Accounts(vec![account("ci", vec![token]), account("idle", vec![])]).to_text();
        assert!(text.contains("github") && text.contains("2027-01-01") && text.contains("never"));
        assert!(text.lines().any(|line| line.starts_with("idle")), "{text}");
    }
}
