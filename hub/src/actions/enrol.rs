//! Enrolment: a join token, once, for a teamspace key that was made in the cluster.

use std::sync::Arc;

use fairlead_model::{InvalidToken, Token, TokenKind};
use fairlead_wire::identity;
use hub_store::{Enrolment, StoreError, Teamspace};
use rustls_pki_types::CertificateDer;

use crate::{Hub, keys::OrganizationKeys};

/// What a cluster agent brings along.
#[derive(Debug)]
pub struct EnrolAsked {
    pub join_token: String,
    /// Self-signed certificate of the teamspace key, DER.
    pub teamspace_certificate: Vec<u8>,
    pub cluster_uid: String,
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
        "teamspace `{name}` is joined by another cluster already: create another teamspace for this one"
    )]
    Taken { name: String },
    #[error(
        "this teamspace key is enrolled from another cluster: one of the two is a copy. Teamspace `{name}` is locked"
    )]
    Copied { name: String },
    #[error("teamspace `{name}` is locked: {reason}")]
    Locked { name: String, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the organization's keys cannot be read")]
    Keys(String),
}

pub async fn enrol(hub: &Hub, asked: EnrolAsked) -> Result<Enrolled, EnrolError> {
    let now = hub.clock.now();
    let token = Token::parse_as(TokenKind::Join, &asked.join_token)?;
    let store = hub.store.unscoped("a join token comes before its organization is known");
    let token = store.join_token_by_secret(&token).await?.ok_or(EnrolError::Unknown)?;
    if token.used_at.is_some() {
        return Err(EnrolError::Used);
    }
    if token.expires_at <= now {
        let minutes = (now.as_second() - token.expires_at.as_second()) / 60;
        return Err(EnrolError::Expired { minutes });
    }
    let enrolment = read(asked)?;
    not_a_copy(hub, &enrolment).await?;
    let teamspace = hub.store.scoped(token.org).teamspace(token.teamspace).await?;
    must_be_free(&teamspace, &enrolment)?;
    let keys = hub
        .keys
        .organization(token.org)
        .await
        .map_err(|error| EnrolError::Keys(error.to_string()))?;
    if !store.enrol(&token, &enrolment, now).await? {
        return Err(EnrolError::Used);
    }
    tracing::info!(teamspace = %teamspace.id, key = %enrolment.key, "Cluster joined teamspace {}", teamspace.name);
    Ok(Enrolled { teamspace, keys })
}

fn read(asked: EnrolAsked) -> Result<Enrolment, EnrolError> {
    if asked.cluster_uid.trim().is_empty() {
        return Err(EnrolError::NoClusterUid);
    }
    let key =
        identity::thumbprint_of(&CertificateDer::from(asked.teamspace_certificate.as_slice()))
            .map_err(EnrolError::UnreadableCertificate)?;
    Ok(Enrolment { certificate: asked.teamspace_certificate, key, cluster_uid: asked.cluster_uid })
}

/// A key that is known from another cluster was copied: everything of its teamspace stops until somebody has looked.
async fn not_a_copy(hub: &Hub, enrolment: &Enrolment) -> Result<(), EnrolError> {
    let store = hub.store.unscoped("a key is unique on the hub, whichever organization it is in");
    let Some(known) = store.teamspace_by_key(&enrolment.key).await? else { return Ok(()) };
    let same_cluster =
        known.enrolment.as_ref().is_some_and(|had| had.cluster_uid == enrolment.cluster_uid);
    if same_cluster {
        return Ok(());
    }
    tracing::warn!(teamspace = %known.id, key = %enrolment.key, "Teamspace key seen in another cluster: locked");
    store.lock_teamspace(&known, "its key was seen in another cluster", hub.clock.now()).await?;
    Err(EnrolError::Copied { name: known.name.to_string() })
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
