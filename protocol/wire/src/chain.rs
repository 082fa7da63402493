//! Whether a leaf certificate was signed by the authority it should be: the check behind a link's `Hello`.
//!
//! Carriers make the same check inside TLS (`fairlead-tunnel`, `tls.rs`), on the same verifier.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::identity::{DeviceIdentity, ReplicaIdentity, UnreadableIdentity};

#[derive(Debug, thiserror::Error)]
pub enum ChainRefused {
    #[error("no certificate was presented")]
    Empty,
    #[error("the authority's own certificate cannot be used")]
    Authority(#[source] rustls::Error),
    #[error(
        "the certificate was not signed by the expected authority, or is not valid at this time"
    )]
    NotTrusted(#[source] rustls::Error),
    #[error(transparent)]
    Unreadable(#[from] UnreadableIdentity),
}

/// Returns the device that `chain` (leaf first) names, once it is known to be signed by `organization`.
pub fn verified_device(
    chain: &[CertificateDer<'_>],
    organization: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<DeviceIdentity, ChainRefused> {
    Ok(DeviceIdentity::of(verified_leaf(chain, organization, now)?)?)
}

/// Returns the replica that `chain` (leaf first) names, once it is known to be signed by `teamspace`.
pub fn verified_replica(
    chain: &[CertificateDer<'_>],
    teamspace: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<ReplicaIdentity, ChainRefused> {
    Ok(ReplicaIdentity::of(verified_leaf(chain, teamspace, now)?)?)
}

fn verified_leaf<'a, 'c>(
    chain: &'a [CertificateDer<'c>],
    authority: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<&'a CertificateDer<'c>, ChainRefused> {
    let (leaf, intermediates) = chain.split_first().ok_or(ChainRefused::Empty)?;
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    verifier_for(authority)
        .map_err(ChainRefused::Authority)?
        .verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(since_epoch))
        .map_err(ChainRefused::NotTrusted)?;
    Ok(leaf)
}

/// Returns a verifier that trusts exactly one authority.
pub fn verifier_for(
    authority: &CertificateDer<'_>,
) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::new(aws_lc_rs::default_provider()),
    )
    .build()
    .map_err(|error| rustls::Error::General(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fairlead_model::{
        DeviceId, OrgId, UserId,
        timers::{CLOCK_SKEW, DEVICE_CERTIFICATE_LIFE},
    };

    use super::*;
    use crate::{
        authority::{DeviceRequest, OrganizationAuthority, TeamspaceAuthority},
        identity::{DeviceName, thumbprint_of},
        key::Key,
    };

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn organization() -> OrganizationAuthority {
        let key = Key::generate().expect("made");
        OrganizationAuthority::create(OrgId::generate(), key, now()).expect("made")
    }

    fn name() -> DeviceName {
        DeviceName {
            organization: OrgId::generate(),
            user: UserId::generate(),
            device: DeviceId::generate(),
        }
    }

    fn request(key: &Key) -> DeviceRequest {
        DeviceRequest::parse_pem(&DeviceRequest::make_pem(key).expect("made")).expect("parsed")
    }

    #[test]
    fn a_device_is_who_its_organization_says() {
        let (ca, key, name) = (organization(), Key::generate().expect("made"), name());
        let signed = ca.sign_device(&request(&key), name, now()).expect("signed");
        let device = verified_device(&[signed.certificate], ca.certificate(), now()).expect("ok");
        assert_eq!((device.organization, device.user), (name.organization, name.user));
        assert_eq!(device.device, name.device);
        assert_eq!(device.thumbprint, key.thumbprint());
    }

    #[test]
    fn a_device_of_another_organization_is_refused() {
        let (ours, theirs, key) = (organization(), organization(), Key::generate().expect("made"));
        let signed = theirs.sign_device(&request(&key), name(), now()).expect("signed");
        let refused = verified_device(&[signed.certificate], ours.certificate(), now());
        assert!(matches!(refused, Err(ChainRefused::NotTrusted(_))), "{refused:?}");
    }

    #[test]
    fn a_certificate_is_refused_outside_its_time() {
        let (ca, key) = (organization(), Key::generate().expect("made"));
        let signed = ca.sign_device(&request(&key), name(), now()).expect("signed").certificate;
        let at = |time| verified_device(std::slice::from_ref(&signed), ca.certificate(), time);
        assert!(at(now() - CLOCK_SKEW + Duration::from_secs(1)).is_ok());
        assert!(at(now() - CLOCK_SKEW - Duration::from_secs(1)).is_err());
        assert!(at(now() + DEVICE_CERTIFICATE_LIFE - Duration::from_secs(1)).is_ok());
        assert!(at(now() + DEVICE_CERTIFICATE_LIFE + Duration::from_secs(1)).is_err());
    }

    #[test]
    fn a_replica_is_who_its_teamspace_says_and_never_a_device() {
        let teamspace =
            TeamspaceAuthority::create(Key::generate().expect("made"), now()).expect("made");
        let key = Key::generate().expect("made");
        let leaf = teamspace.sign_replica(&key, "fairlead-agent-0", now()).expect("signed");
        let chain = [leaf, teamspace.certificate().clone()];
        let replica = verified_replica(&chain, teamspace.certificate(), now()).expect("ok");
        assert_eq!(replica.name, "fairlead-agent-0");
        assert_eq!(replica.thumbprint, key.thumbprint());
        assert_eq!(thumbprint_of(teamspace.certificate()).expect("read"), teamspace.thumbprint());
        let refused = verified_device(&chain, teamspace.certificate(), now());
        assert!(matches!(refused, Err(ChainRefused::Unreadable(_))), "{refused:?}");
    }

    #[test]
    fn a_device_cannot_sign_for_another() {
        let (ca, key) = (organization(), Key::generate().expect("made"));
        let device = ca.sign_device(&request(&key), name(), now()).expect("signed").certificate;
        let rogue = OrganizationAuthority::load(key, device.clone()).expect("loaded");
        let leaf = rogue
            .sign_device(&request(&Key::generate().expect("made")), name(), now())
            .expect("signed")
            .certificate;
        assert!(verified_device(&[leaf, device], ca.certificate(), now()).is_err());
    }

    #[test]
    fn an_authority_is_loaded_with_its_own_key_only() {
        let certificate = organization().certificate().clone();
        let other = Key::generate().expect("made");
        assert!(OrganizationAuthority::load(other, certificate).is_err());
    }

    #[test]
    fn a_request_with_a_broken_signature_is_refused() {
        let pem = DeviceRequest::make_pem(&Key::generate().expect("made")).expect("made");
        let mut lines: Vec<&str> = pem.lines().collect();
        let last = lines.len() - 2;
        let broken: String = lines[last]
            .chars()
            .enumerate()
            .map(|(i, c)| match (i, c) {
                (0, 'A') => 'B',
                (0, _) => 'A',
                (_, c) => c,
            })
            .collect();
        lines[last] = &broken;
        assert!(DeviceRequest::parse_pem(&lines.join("\n")).is_err());
    }

    #[test]
    fn a_request_of_another_algorithm_is_refused() {
        let ecdsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("made");
        let pem = rcgen::CertificateParams::default()
            .serialize_request(&ecdsa)
            .and_then(|r| r.pem())
            .expect("made");
        assert!(DeviceRequest::parse_pem(&pem).is_err());
    }
}
