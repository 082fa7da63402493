//! How a peer proves who it is: it shows its certificates and signs what the hub has drawn.
//!
//! Whom the hub does not know it tells so by NOT_FOUND, and by nothing else: it means that nothing of theirs lives here,
//! so that they give back what they hold.

use std::time::SystemTime;

use fairlead_model::{OrgId, Thumbprint, UserId};
use fairlead_wire::{
    chain, challenge,
    identity::{DeviceIdentity, ReplicaIdentity, thumbprint_of},
    link::v1::Hello,
};
use hub_store::{StoreError, Teamspace};
use rustls_pki_types::CertificateDer;
use tonic::Status;

use crate::{Hub, keys::KeysError};

/// A leaf, its authority, and no more than that.
const CHAIN_MAX: usize = 4;

/// A replica that has proven whose it is.
#[derive(Debug)]
pub(super) struct ReplicaProven {
    pub(super) teamspace: Teamspace,
    /// The teamspace key that it stands on.
    pub(super) key: Thumbprint,
    pub(super) name: String,
    pub(super) version: String,
}

/// A laptop that has proven whose it is.
#[derive(Debug)]
pub(super) struct LaptopProven {
    pub(super) identity: DeviceIdentity,
    pub(super) org: OrgId,
    pub(super) user: UserId,
}

/// Checks a replica's hello: the chain ends in a teamspace key that was enrolled, and the leaf's key signed `nonce`.
pub(super) async fn replica(
    hub: &Hub,
    hello: &Hello,
    nonce: &[u8; challenge::NONCE_BYTES],
) -> Result<ReplicaProven, Status> {
    let chain = read_chain(hello)?;
    let authority = chain.last().ok_or_else(no_certificate)?;
    let key = thumbprint_of(authority).map_err(refused)?;
    let store = hub.store.unscoped("a link comes before its organization is known");
    let teamspace = store.teamspace_by_key(&key).await.map_err(unavailable)?;
    let teamspace = teamspace.ok_or_else(|| {
        Status::not_found(
            "the hub does not know this teamspace key: the teamspace was deleted, its enrolment was reset, or the hub's \
             database is another one",
        )
    })?;
    if let Some(reason) = &teamspace.lock_reason {
        return Err(Status::permission_denied(format!("the teamspace is locked: {reason}")));
    }
    let enrolled = teamspace.enrolment.as_ref().map(|e| e.certificate.clone()).unwrap_or_default();
    let now = SystemTime::from(hub.clock.now());
    let ReplicaIdentity { name, .. } =
        chain::verified_replica(&chain[..1], &CertificateDer::from(enrolled), now)
            .map_err(refused)?;
    proves_its_key(hub, &chain[0], hello, nonce)?;
    Ok(ReplicaProven { teamspace, key, name, version: short(&hello.version) })
}

/// Checks a laptop's hello: the organization signed its certificate, it was neither removed nor signed out, and its key
/// signed `nonce`.
pub(super) async fn laptop(
    hub: &Hub,
    hello: &Hello,
    nonce: &[u8; challenge::NONCE_BYTES],
) -> Result<LaptopProven, Status> {
    let chain = read_chain(hello)?;
    // What the leaf says of itself only chooses the authority it is then held against.
    let claimed = DeviceIdentity::of(chain.first().ok_or_else(no_certificate)?).map_err(refused)?;
    let keys = hub.keys.organization(claimed.organization).await.map_err(|error| match error {
        KeysError::Store(StoreError::NotFound { .. }) => unknown_device(),
        error => without_keys(error),
    })?;
    let now = SystemTime::from(hub.clock.now());
    let identity = chain::verified_device(&chain, &keys.certificate, now).map_err(refused)?;
    proves_its_key(hub, &chain[0], hello, nonce)?;
    let scope = hub.store.scoped(identity.organization);
    let device = scope.device(identity.device).await.map_err(unavailable)?;
    let device = device
        .filter(|d| d.user_id == identity.user && d.thumbprint == identity.thumbprint)
        .ok_or_else(unknown_device)?;
    if !scope.is_signed_in(&device, hub.clock.now()).await.map_err(unavailable)? {
        return Err(Status::not_found(
            "the sign-in of this device has ended: sign in again with `fairlead login`",
        ));
    }
    let member = scope.caller_of(device.user_id).await.map_err(unavailable)?;
    let member = member.ok_or_else(unknown_device)?;
    Ok(LaptopProven { identity, org: member.org, user: device.user_id })
}

fn read_chain(hello: &Hello) -> Result<Vec<CertificateDer<'static>>, Status> {
    if hello.certificate_chain.len() > CHAIN_MAX {
        return Err(Status::invalid_argument("the certificate chain is too long"));
    }
    Ok(hello.certificate_chain.iter().cloned().map(CertificateDer::from).collect())
}

fn proves_its_key(
    hub: &Hub,
    leaf: &CertificateDer<'_>,
    hello: &Hello,
    nonce: &[u8; challenge::NONCE_BYTES],
) -> Result<(), Status> {
    challenge::verify(leaf, nonce, hub.host(), &hello.signature).map_err(refused)
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

fn no_certificate() -> Status {
    Status::unauthenticated("no certificate was presented")
}

fn unknown_device() -> Status {
    Status::not_found("the hub does not know this device: sign in again with `fairlead login`")
}

fn refused(error: impl std::error::Error) -> Status {
    Status::unauthenticated(error.to_string())
}

pub(super) fn without_keys(error: KeysError) -> Status {
    match error {
        KeysError::Store(error) => unavailable(error),
        error => {
            tracing::error!(%error, "A link could not be answered");
            Status::internal("the organization's keys cannot be read")
        }
    }
}

pub(super) fn unavailable(error: StoreError) -> Status {
    tracing::error!(%error, "A link could not be answered");
    Status::unavailable("the hub cannot reach its database")
}
