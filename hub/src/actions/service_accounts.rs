//! Service accounts and their tokens: made, listed and taken away.

use fairlead_model::{
    ApiTokenId, TeamspaceId, Token, TokenKind, UserId,
    timers::{API_TOKEN_LIFE, API_TOKEN_LIFE_MAX},
};
use hub_policy::{
    Caller, Role,
    actions::{
        CreateApiToken, CreateServiceAccount, DeleteServiceAccount, ListServiceAccounts,
        RevokeApiToken,
    },
    decide,
};
use hub_store::{ServiceAccount, StoreError, TOO_MANY};
use jiff::{SignedDuration, Timestamp};

use super::ActionError;
use crate::Hub;

/// What a program may be: it uses services and administers nothing.
const ROLES: [Role; 2] = [Role::Developer, Role::Viewer];
const NAME_MAX_CHARS: usize = 100;
const TEAMSPACES_MAX: usize = 100;
const DAY_S: i64 = 24 * 3600;

/// Says whether the caller would be shown service accounts; nobody has asked for them, so a no is no refusal.
pub async fn may_manage(hub: &Hub, caller: &Caller) -> Result<bool, ActionError> {
    Ok(decide(caller, ListServiceAccounts, &hub.facts(caller).await?).is_ok())
}

pub async fn list(hub: &Hub, caller: &Caller) -> Result<Vec<ServiceAccount>, ActionError> {
    let facts = hub.facts(caller).await?;
    let permit = hub.decide(caller, ListServiceAccounts, &facts).await?;
    Ok(hub.store.service_accounts(&permit, hub.clock.now()).await?)
}

/// Makes a service account with these roles, everywhere or in some teamspaces only. They stay as they are: another account
/// has others.
pub async fn create(
    hub: &Hub,
    caller: &Caller,
    name: String,
    mut roles: Vec<Role>,
    teamspaces: Option<Vec<TeamspaceId>>,
) -> Result<UserId, ActionError> {
    if !is_name(&name) {
        return Err(ActionError::invalid(format!(
            "`{name}` is not a name: 1 to 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit"
        )));
    }
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() || roles.iter().any(|role| !ROLES.contains(role)) {
        return Err(ActionError::invalid(
            "a service account has the roles `developer` or `viewer`, or both",
        ));
    }
    let facts = hub.facts(caller).await?;
    let action = CreateServiceAccount { name, roles, teamspaces };
    let permit = hub.decide(caller, action, &facts).await?;
    expect_teamspaces(hub, caller, permit.action().teamspaces.as_deref()).await?;
    hub.store.create_service_account(&permit, hub.clock.now()).await.map_err(in_words)
}

pub async fn delete(hub: &Hub, caller: &Caller, account: UserId) -> Result<(), ActionError> {
    let facts = hub.facts(caller).await?;
    expect(hub.store.scoped(caller.org).has_service_account(account).await?, "service account")?;
    let permit = hub.decide(caller, DeleteServiceAccount { account }, &facts).await?;
    Ok(hub.store.delete_service_account(&permit, hub.clock.now()).await?)
}

/// Makes a token. Its secret is in the answer and nowhere else.
pub async fn create_token(
    hub: &Hub,
    caller: &Caller,
    account: UserId,
    name: String,
    days: Option<u16>,
) -> Result<(ApiTokenId, Token, Timestamp), ActionError> {
    let length = name.chars().count();
    if length == 0 || length > NAME_MAX_CHARS || name.chars().any(char::is_control) {
        return Err(ActionError::invalid(
            "a token has a name of at most 100 characters in one line",
        ));
    }
    let life = life_of(days)?;
    let facts = hub.facts(caller).await?;
    expect(hub.store.scoped(caller.org).has_service_account(account).await?, "service account")?;
    let permit = hub.decide(caller, CreateApiToken { account, name }, &facts).await?;
    let token = Token::new(TokenKind::Api, rand::random());
    let now = hub.clock.now();
    let expires_at = now + life;
    let made = hub.store.create_api_token(&permit, &token, expires_at, now).await;
    Ok((made.map_err(in_words)?, token, expires_at))
}

/// Revokes a token: whatever signed in with it is out at once.
pub async fn revoke_token(hub: &Hub, caller: &Caller, id: ApiTokenId) -> Result<(), ActionError> {
    let facts = hub.facts(caller).await?;
    expect(hub.store.scoped(caller.org).has_api_token(id).await?, "API token")?;
    let permit = hub.decide(caller, RevokeApiToken { id }, &facts).await?;
    Ok(hub.store.revoke_api_token(&permit, hub.clock.now()).await?)
}

async fn expect_teamspaces(
    hub: &Hub,
    caller: &Caller,
    teamspaces: Option<&[TeamspaceId]>,
) -> Result<(), ActionError> {
    let Some(teamspaces) = teamspaces else { return Ok(()) };
    if teamspaces.is_empty() || teamspaces.len() > TEAMSPACES_MAX {
        return Err(ActionError::invalid(format!(
            "name 1 to {TEAMSPACES_MAX} teamspaces, or leave them out for every one"
        )));
    }
    let known = hub.store.scoped(caller.org).teamspaces().await?;
    let is_known = |id: &TeamspaceId| known.iter().any(|teamspace| teamspace.id == *id);
    expect(teamspaces.iter().all(is_known), "teamspace").map_err(Into::into)
}

fn life_of(days: Option<u16>) -> Result<SignedDuration, ActionError> {
    let longest = SignedDuration::try_from(API_TOKEN_LIFE_MAX).expect("some days");
    let Some(days) = days else {
        return Ok(SignedDuration::try_from(API_TOKEN_LIFE).expect("some days"));
    };
    let life = SignedDuration::from_secs(i64::from(days) * DAY_S);
    if days == 0 || life > longest {
        let most = longest.as_secs() / DAY_S;
        return Err(ActionError::invalid(format!("a token lives for 1 to {most} days")));
    }
    Ok(life)
}

fn expect(is_there: bool, noun: &'static str) -> Result<(), StoreError> {
    is_there.then_some(()).ok_or(StoreError::NotFound { noun })
}

/// A DNS label, so that it is no address of anybody.
fn is_name(text: &str) -> bool {
    let of_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(of_label)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn in_words(error: StoreError) -> ActionError {
    let StoreError::Conflict { constraint } = &error else { return error.into() };
    let (message, hint) = if constraint == TOO_MANY {
        ("there are as many as there may be", "delete or revoke those that nobody needs")
    } else {
        ("a service account of this name exists already", "give it another name")
    };
    ActionError::Conflict { message: message.to_owned(), hint: Some(hint.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_address() {
        for good in ["ci", "build-7", "0"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "ada@example.test", "-ci", "ci-", "CI", "a b", &"x".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_token_lives_for_some_days_and_never_for_ever() {
        let days = |days| life_of(days).map(|life| life.as_secs() / DAY_S);
        assert!(matches!(days(None), Ok(30)));
        assert!(matches!(days(Some(90)), Ok(90)));
        assert!(days(Some(0)).is_err() && days(Some(91)).is_err());
    }
}
