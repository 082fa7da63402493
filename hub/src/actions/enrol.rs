//! Enrolment: a join token, once, for a teamspace key that was made in the cluster.

use std::sync::Arc;

use fairlead_model::{InvalidToken, Token, TokenKind};
use fairlead_wire::{enrolment, identity};
use hub_store::{Enrolment, JoinToken, StoreError, Teamspace};
use rustls_pki_types::CertificateDer;

use crate::{Hub, keys::OrganizationKeys};

/// What a cluster agent brings along.
#[derive(Debug)]
pub struct EnrolAsked {
    pub join_token: String,
    /// Self-signed certificate of the teamspace key, DER.
    pub teamspace_certificate: Vec<u8>,
    pub cluster_uid: String,
    /// By the teamspace key: anybody can have its certificate.
    pub signature: Vec<u8>,
}

#[derive(Debug)]
pub struct Enrolled {
    pub teamspace: Teamspace,
    pub keys: Arc<OrganizationKeys>,
}

/// Why a cluster did not join: each case with its own sentence, because each has its own remedy.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error("this is not a join token: {0}")]
    NotAJoinToken(#[from] InvalidToken),
    #[error("the hub does not know this join token: it was withdrawn, or comes from another hub")]
    Unknown,
    #[error("this join token was used already, and each is good for one cluster: make another one")]
    Used,
    #[error("this join token expired {minutes} min ago: make another one")]
    Expired { minutes: i64 },
    #[error("the teamspace certificate cannot be read")]
    UnreadableCertificate(#[source] identity::UnreadableIdentity),
    #[error("no cluster UID was given")]
    NoClusterUid,
    #[error(
        "the request is not signed by the teamspace key for this hub, whose name is `{host}`: set hub.url to that \
         name, and use an agent as new as the hub"
    )]
    NotTheKey { host: String },
    #[error(
        "teamspace `{name}` is joined by another cluster already: create another teamspace for this one, or reset \
         the enrolment of `{name}` when that cluster is gone"
    )]
    Taken { name: String },
    #[error(
        "this cluster has joined another teamspace with the same key: uninstall its agent first"
    )]
    Elsewhere,
    #[error(
        "this teamspace key is enrolled from another cluster: one of the two is a copy. The teamspace is locked"
    )]
    Copied,
    #[error("teamspace `{name}` is locked: {reason}")]
    Locked { name: String, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the organization's keys cannot be read")]
    Keys(String),
}

pub async fn enrol(hub: &Hub, asked: EnrolAsked) -> Result<Enrolled, EnrolError> {
    let now = hub.clock.now();
    let secret = Token::parse_as(TokenKind::Join, &asked.join_token)?;
    let store = hub.store.unscoped("a join token comes before its organization is known");
    let token = store.join_token_by_secret(&secret).await?.ok_or(EnrolError::Unknown)?;
    let enrolment = proven(hub, &secret, asked)?;
    let teamspace = hub.store.scoped(token.org).teamspace(token.teamspace).await?;
    if token.used_at.is_some() {
        return again(hub, teamspace, &enrolment).await;
    }
    if token.expires_at <= now {
        let minutes = (now.as_second() - token.expires_at.as_second()) / 60;
        return Err(EnrolError::Expired { minutes });
    }
    must_be_no_copy(hub, &token, &enrolment).await?;
    must_be_free(&teamspace, &enrolment)?;
    if !store.enrol(&token, &enrolment, now).await? {
        let teamspace = hub.store.scoped(token.org).teamspace(token.teamspace).await?;
        must_be_free(&teamspace, &enrolment)?;
        return again(hub, teamspace, &enrolment).await;
    }
    tracing::info!(teamspace = %teamspace.id, key = %enrolment.key, "Cluster joined teamspace {}", teamspace.name);
    with_keys(hub, teamspace).await
}

/// Answers once more whoever holds the key that the token has enrolled: the first answer may have been lost.
async fn again(
    hub: &Hub,
    teamspace: Teamspace,
    enrolment: &Enrolment,
) -> Result<Enrolled, EnrolError> {
    if teamspace.enrolment.as_ref() != Some(enrolment) {
        return Err(EnrolError::Used);
    }
    must_be_free(&teamspace, enrolment)?;
    with_keys(hub, teamspace).await
}

async fn with_keys(hub: &Hub, teamspace: Teamspace) -> Result<Enrolled, EnrolError> {
    let keys = hub.keys.organization(teamspace.org).await;
    let keys = keys.map_err(|error| EnrolError::Keys(error.to_string()))?;
    Ok(Enrolled { teamspace, keys })
}

/// Reads what is to be enrolled, from somebody who holds the key. Nothing else of a request is believed before.
fn proven(hub: &Hub, token: &Token, asked: EnrolAsked) -> Result<Enrolment, EnrolError> {
    if asked.cluster_uid.trim().is_empty() {
        return Err(EnrolError::NoClusterUid);
    }
    let certificate = CertificateDer::from(asked.teamspace_certificate.as_slice());
    let key = identity::thumbprint_of(&certificate).map_err(EnrolError::UnreadableCertificate)?;
    let host = hub.config.public_url.host_str().unwrap_or_default();
    enrolment::verify(&certificate, token, &asked.cluster_uid, host, &asked.signature)
        .map_err(|_| EnrolError::NotTheKey { host: host.to_owned() })?;
    Ok(Enrolment { certificate: asked.teamspace_certificate, key, cluster_uid: asked.cluster_uid })
}

/// A key that is known from another cluster was copied: everything of its teamspace stops until somebody has looked, and
/// the token that the copy was enrolled with is spent.
async fn must_be_no_copy(
    hub: &Hub,
    token: &JoinToken,
    enrolment: &Enrolment,
) -> Result<(), EnrolError> {
    let store = hub.store.unscoped("a key is unique on the hub, whichever organization it is in");
    let Some(known) = store.teamspace_by_key(&enrolment.key).await? else { return Ok(()) };
    let from = known.enrolment.as_ref().map(|had| had.cluster_uid.as_str());
    if from != Some(enrolment.cluster_uid.as_str()) {
        tracing::warn!(teamspace = %known.id, key = %enrolment.key, "Teamspace key seen in another cluster: locked");
        store.lock_copied(&known, token, &enrolment.cluster_uid, hub.clock.now()).await?;
        return Err(EnrolError::Copied);
    }
    if known.id != token.teamspace {
        return Err(EnrolError::Elsewhere);
    }
    Ok(())
}

fn must_be_free(teamspace: &Teamspace, enrolment: &Enrolment) -> Result<(), EnrolError> {
    let name = teamspace.name.to_string();
    if let Some(reason) = &teamspace.lock_reason {
        return Err(EnrolError::Locked { name, reason: reason.clone() });
    }
    match &teamspace.enrolment {
        Some(had) if had.key != enrolment.key => Err(EnrolError::Taken { name }),
        _ => Ok(()),
    }
}
