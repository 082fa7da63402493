//! Founding an organization through a one-time link: everything or nothing.

use fairlead_model::{OrgId, Token};
use hub_policy::Role;
use hub_store::{Founding, LinkPurpose, OidcConnection, Organization, StoreError};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{ActionError, connections, organization};
use crate::{Hub, keys};

const MAX_GROUPS: usize = 100;

/// What somebody with the link asks for.
#[derive(Debug)]
pub struct Wanted {
    pub slug: String,
    pub name: String,
    pub owner_email: String,
    pub connection: connections::Wanted,
    pub client_secret: SecretString,
    pub group_roles: Vec<(String, Role)>,
}

/// Founds the organization, after its issuer has answered.
pub async fn found(hub: &Hub, link: &Token, wanted: Wanted) -> Result<Organization, ActionError> {
    let now = hub.clock.now();
    expect_link(hub, link).await?;
    let organization = Organization {
        id: OrgId::generate(),
        slug: organization::slug(&wanted.slug)?,
        name: organization::name(&wanted.name)?,
        created_at: now,
    };
    let owner_email = connections::email(&wanted.owner_email)?;
    if wanted.group_roles.len() > MAX_GROUPS {
        return Err(ActionError::invalid(format!("more than {MAX_GROUPS} groups")));
    }
    let described = connections::checked(hub, wanted.connection).await?;
    let sealed_client_secret =
        connections::seal_secret(hub, organization.id, wanted.client_secret.expose_secret())?;
    let connection = OidcConnection {
        org_id: organization.id,
        id: Uuid::now_v7(),
        issuer: described.issuer,
        client_id: described.client_id,
        sealed_client_secret,
        groups_claim: described.groups_claim,
        scopes: described.scopes,
        email_domains: described.email_domains,
        created_at: now,
    };
    let keys = keys::make_keys(hub.keys.sealer(), organization.id, now)
        .map_err(|error| ActionError::Internal(error.to_string()))?;
    let founding = Founding {
        organization: organization.clone(),
        owner_email,
        keys,
        connection,
        group_roles: wanted.group_roles,
    };
    let store = hub.store.unscoped("setup: the link stands for the operator");
    store.found(&link.hash(), &founding, now).await.map_err(in_words)?;
    tracing::info!(organization = %organization.id, "Organization {} founded", organization.slug);
    Ok(organization)
}

/// Comes before anything else: only the operator may make this hub ask an address what it is.
async fn expect_link(hub: &Hub, link: &Token) -> Result<(), ActionError> {
    let store = hub.store.unscoped("setup: the link stands for the operator");
    match store.setup_link(&link.hash(), hub.clock.now()).await? {
        Some(found) if found.purpose == LinkPurpose::Setup => Ok(()),
        _ => Err(in_words(StoreError::NotFound { noun: "setup link" })),
    }
}

fn in_words(error: StoreError) -> ActionError {
    match error {
        StoreError::Conflict { constraint } if constraint == "organizations_slug_key" => {
            ActionError::Conflict {
                message: "an organization of this short name exists already".to_owned(),
                hint: Some("choose another one".to_owned()),
            }
        }
        StoreError::NotFound { .. } => ActionError::NotFound {
            message: "this setup link has been used or has expired".to_owned(),
            hint: Some("on the hub's host: fairlead-hub admin setup-url".to_owned()),
        },
        other => connections::in_words(other),
    }
}
