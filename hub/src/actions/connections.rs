//! Connections to issuers: checked before they are believed, changed by whoever manages the organization.

use fairlead_model::OrgId;
use hub_policy::{Caller, actions::ManageOrganization};
use hub_store::{
    DOMAIN_NEEDED, DOMAIN_TAKEN, LAST_CONNECTION, OTHER_NEEDS_DOMAIN, OWN_CONNECTION,
    OidcConnection, Organization, StoreError,
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::ActionError;
use crate::{
    Hub,
    login::{IssuerError, claims, seal_client_secret},
};

const MAX_LIST: usize = 50;
const MAX_CONNECTIONS: usize = 50;
const MAX_WORD_BYTES: usize = 200;
const MAX_SECRET_BYTES: usize = 4000;

/// A connection as somebody describes it.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub issuer: String,
    pub client_id: String,
    pub groups_claim: String,
    pub scopes: Vec<String>,
    pub email_domains: Vec<String>,
}

/// Returns the organization and its connections, for those who manage it.
pub async fn list(
    hub: &Hub,
    caller: &Caller,
) -> Result<(Organization, Vec<OidcConnection>), ActionError> {
    let facts = hub.facts(caller).await?;
    hub.decide(caller, ManageOrganization, &facts).await?;
    let scope = hub.store.scoped(caller.org);
    Ok((scope.organization().await?, scope.oidc_connections().await?))
}

/// Changes a connection, after its issuer has answered. Without a new secret the old one stays.
pub async fn change(
    hub: &Hub,
    caller: &Caller,
    id: Uuid,
    wanted: Wanted,
    client_secret: Option<SecretString>,
) -> Result<(), ActionError> {
    let facts = hub.facts(caller).await?;
    let permit = hub.decide(caller, ManageOrganization, &facts).await?;
    let found = hub.store.scoped(caller.org).oidc_connection(id).await?;
    let before = found.ok_or(StoreError::NotFound { noun: "connection" })?;
    let wanted = checked(hub, wanted).await?;
    let sealed_client_secret = match client_secret {
        Some(secret) => seal_secret(hub, caller.org, secret.expose_secret())?,
        None => before.sealed_client_secret.clone(),
    };
    let changed = OidcConnection {
        issuer: wanted.issuer,
        client_id: wanted.client_id,
        sealed_client_secret,
        groups_claim: wanted.groups_claim,
        scopes: wanted.scopes,
        email_domains: wanted.email_domains,
        ..before
    };
    hub.store.change_oidc_connection(&permit, &changed, hub.clock.now()).await.map_err(in_words)
}

/// Adds a connection, after its issuer has answered; returns its id.
pub async fn add(
    hub: &Hub,
    caller: &Caller,
    wanted: Wanted,
    client_secret: &SecretString,
) -> Result<Uuid, ActionError> {
    let facts = hub.facts(caller).await?;
    let permit = hub.decide(caller, ManageOrganization, &facts).await?;
    if hub.store.scoped(caller.org).oidc_connections().await?.len() >= MAX_CONNECTIONS {
        return Err(ActionError::invalid(format!("more than {MAX_CONNECTIONS} connections")));
    }
    let wanted = checked(hub, wanted).await?;
    let now = hub.clock.now();
    let new = OidcConnection {
        org_id: caller.org,
        id: Uuid::now_v7(),
        issuer: wanted.issuer,
        client_id: wanted.client_id,
        sealed_client_secret: seal_secret(hub, caller.org, client_secret.expose_secret())?,
        groups_claim: wanted.groups_claim,
        scopes: wanted.scopes,
        email_domains: wanted.email_domains,
        created_at: now,
    };
    hub.store.add_oidc_connection(&permit, &new, now).await.map_err(in_words)?;
    Ok(new.id)
}

/// Removes a connection: whoever signed in by it is signed out.
pub async fn remove(hub: &Hub, caller: &Caller, id: Uuid) -> Result<(), ActionError> {
    let facts = hub.facts(caller).await?;
    let permit = hub.decide(caller, ManageOrganization, &facts).await?;
    hub.store.remove_oidc_connection(&permit, id, hub.clock.now()).await.map_err(in_words)
}

/// Says why addresses would not lead to the right connection, or why one cannot go.
pub(super) fn in_words(error: StoreError) -> ActionError {
    let StoreError::Conflict { constraint } = &error else { return error.into() };
    let (message, hint) = match constraint.as_str() {
        DOMAIN_TAKEN => (
            "one of these e-mail domains leads to another connection of this hub",
            "a domain leads to one connection: take it from the other one first",
        ),
        DOMAIN_NEEDED => (
            "this hub has other connections: the domain of an address decides where somebody signs in",
            "name at least one e-mail domain",
        ),
        OTHER_NEEDS_DOMAIN => (
            "nobody could sign in by the connection that this hub has already: it lists no e-mail domain",
            "an owner of its organization must add one to it first",
        ),
        LAST_CONNECTION => (
            "nobody could sign in any more: this is the only connection",
            "add another one first, or change this one",
        ),
        OWN_CONNECTION => (
            "you have signed in by this connection yourself",
            "sign in by another one first, to see that it works",
        ),
        _ => return error.into(),
    };
    ActionError::Conflict { message: message.to_owned(), hint: Some(hint.to_owned()) }
}

/// Checks a description, and asks the issuer whether it is one.
pub(super) async fn checked(hub: &Hub, mut wanted: Wanted) -> Result<Wanted, ActionError> {
    if wanted.client_id.is_empty() || wanted.client_id.len() > MAX_WORD_BYTES {
        return Err(ActionError::invalid("the client id is missing or too long"));
    }
    if wanted.groups_claim.is_empty() {
        "groups".clone_into(&mut wanted.groups_claim);
    }
    // Every issuer requires it, and whoever leaves it out means it.
    wanted.scopes.retain(|scope| scope != "openid");
    for word in wanted.scopes.iter().chain([&wanted.groups_claim]) {
        if word.is_empty() || word.len() > MAX_WORD_BYTES || word.contains(char::is_whitespace) {
            return Err(ActionError::invalid(format!("`{word}` is not a scope or claim")));
        }
    }
    if wanted.scopes.len() > MAX_LIST || wanted.email_domains.len() > MAX_LIST {
        return Err(ActionError::invalid(format!("more than {MAX_LIST} scopes or domains")));
    }
    for domain in &mut wanted.email_domains {
        *domain = domain.trim().trim_start_matches('@').to_lowercase();
        if domain.is_empty() || domain.len() > MAX_WORD_BYTES || domain.contains('@') {
            return Err(ActionError::invalid(format!("`{domain}` is not an e-mail domain")));
        }
    }
    hub.issuers.probe(&wanted.issuer, hub.clock.now()).await.map_err(not_an_issuer)?;
    Ok(wanted)
}

/// Seals the secret of a client; a public client has an empty one.
pub(super) fn seal_secret(hub: &Hub, org: OrgId, secret: &str) -> Result<Vec<u8>, ActionError> {
    if secret.len() > MAX_SECRET_BYTES {
        return Err(ActionError::invalid("the client secret is too long"));
    }
    Ok(seal_client_secret(hub, org, secret))
}

/// Reads an e-mail address into the form in which the hub keeps them.
pub(super) fn email(text: &str) -> Result<String, ActionError> {
    let text = text.trim().to_lowercase();
    if claims::domain(&text).is_none() || text.len() > 320 || text.contains(char::is_whitespace) {
        return Err(ActionError::invalid(format!("`{text}` is not an e-mail address")));
    }
    Ok(text)
}

fn not_an_issuer(error: IssuerError) -> ActionError {
    let hint = match &error {
        IssuerError::Unreachable { .. } => {
            "can the hub's host reach that address, by name, and does it trust the certificate (issuer_ca)?"
        }
        IssuerError::NotEncrypted { .. } => {
            "use an https:// address; a hub for development can be told to do without (allow_http_issuers)"
        }
        IssuerError::OtherName { .. } => {
            "write the issuer exactly, to the last slash, as its discovery document does"
        }
        _ => "the issuer is the address before /.well-known/openid-configuration",
    };
    ActionError::Invalid { message: error.to_string(), hint: Some(hint.to_owned()) }
}
