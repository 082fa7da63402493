//! Those who sign certificates: an organization signs its devices, a teamspace its agent replicas.

use std::time::{Duration, SystemTime};

use fairlead_model::{
    OrgId, Thumbprint,
    timers::{CLOCK_SKEW, DEVICE_CERTIFICATE_LIFE, REPLICA_CERTIFICATE_LIFE},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData,
    SanType,
};
use rustls_pki_types::CertificateDer;

use crate::{
    identity::{
        DEVICE_DNS_NAME, DeviceIdentity, DeviceName, REPLICA_DNS_NAME, UnreadableIdentity,
        thumbprint_of,
    },
    key::{Key, PUBLIC_KEY_BYTES},
};

/// Rotation of an authority is a decision, not a date: its certificate outlives any installation.
const AUTHORITY_LIFE: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("the certificate belongs to another key")]
    OtherKey,
    #[error(transparent)]
    Unreadable(#[from] UnreadableIdentity),
    #[error("not a certificate request whose own signature holds")]
    BadRequest(#[source] rcgen::Error),
    #[error("the request's key is not Ed25519")]
    NotEd25519,
    #[error("`{0}` cannot be put into a certificate")]
    BadName(String),
    #[error("could not sign the certificate")]
    Sign(#[source] rcgen::Error),
}

/// Key and self-signed certificate of one signer.
#[derive(Debug)]
struct Authority {
    key: Key,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn create(key: Key, common_name: &str, now: SystemTime) -> Result<Self, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        valid_for(&mut params, AUTHORITY_LIFE, now);
        let certificate = params.self_signed(key.pair()).map_err(AuthorityError::Sign)?;
        Ok(Self { certificate: certificate.der().clone(), key })
    }

    fn load(key: Key, certificate: CertificateDer<'static>) -> Result<Self, AuthorityError> {
        if thumbprint_of(&certificate)? == key.thumbprint() {
            Ok(Self { key, certificate })
        } else {
            Err(AuthorityError::OtherKey)
        }
    }

    fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, AuthorityError> {
        Issuer::from_ca_cert_der(&self.certificate, self.key.pair()).map_err(AuthorityError::Sign)
    }
}

/// Signs device certificates. Lives in the hub.
#[derive(Debug)]
pub struct OrganizationAuthority(Authority);

impl OrganizationAuthority {
    /// Makes the self-signed certificate of a new organization.
    pub fn create(organization: OrgId, key: Key, now: SystemTime) -> Result<Self, AuthorityError> {
        Authority::create(key, &format!("organization {organization}"), now).map(Self)
    }

    pub fn load(key: Key, certificate: CertificateDer<'static>) -> Result<Self, AuthorityError> {
        Authority::load(key, certificate).map(Self)
    }

    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.0.key
    }

    /// Signs a device's certificate. Nothing of the request but its key is taken over.
    pub fn sign_device(
        &self,
        request: &DeviceRequest,
        name: DeviceName,
        now: SystemTime,
    ) -> Result<DeviceCertificate, AuthorityError> {
        let uri = name.to_string();
        let mut params = leaf_params(DEVICE_DNS_NAME, DEVICE_CERTIFICATE_LIFE, now)?;
        params.distinguished_name.push(DnType::CommonName, format!("device {}", name.device));
        let uri = uri.as_str().try_into().map_err(|_| AuthorityError::BadName(uri.clone()))?;
        params.subject_alt_names.push(SanType::URI(uri));
        let signed = params
            .signed_by(&request.0.public_key, &self.0.issuer()?)
            .map_err(AuthorityError::Sign)?;
        let certificate = signed.der().clone();
        Ok(DeviceCertificate {
            identity: DeviceIdentity::of(&certificate)?,
            pem: signed.pem(),
            certificate,
            expires_at: now + DEVICE_CERTIFICATE_LIFE,
        })
    }
}

/// A device certificate fresh from its authority.
#[derive(Clone, Debug)]
pub struct DeviceCertificate {
    pub identity: DeviceIdentity,
    pub certificate: CertificateDer<'static>,
    pub pem: String,
    pub expires_at: SystemTime,
}

/// A PKCS#10 request whose own signature holds, so that whoever sent it has the private key.
#[derive(Debug)]
pub struct DeviceRequest(CertificateSigningRequestParams);

impl DeviceRequest {
    pub fn parse_pem(pem: &str) -> Result<Self, AuthorityError> {
        let request =
            CertificateSigningRequestParams::from_pem(pem).map_err(AuthorityError::BadRequest)?;
        if *request.public_key.algorithm() == PKCS_ED25519 {
            Ok(Self(request))
        } else {
            Err(AuthorityError::NotEd25519)
        }
    }

    /// Makes the request for `key`, as PEM.
    pub fn make_pem(key: &Key) -> Result<String, AuthorityError> {
        CertificateParams::default()
            .serialize_request(key.pair())
            .and_then(|request| request.pem())
            .map_err(AuthorityError::Sign)
    }

    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        Thumbprint::of_spki(&self.0.public_key.subject_public_key_info())
    }

    /// Returns the raw public key that asks for the certificate.
    #[must_use]
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_BYTES] {
        self.0.public_key.der_bytes().try_into().expect("an Ed25519 public key has 32 bytes")
    }
}

/// Signs replica certificates. Made in the cluster and never leaves it.
#[derive(Debug)]
pub struct TeamspaceAuthority(Authority);

impl TeamspaceAuthority {
    pub fn create(key: Key, now: SystemTime) -> Result<Self, AuthorityError> {
        Authority::create(key, "teamspace", now).map(Self)
    }

    pub fn load(key: Key, certificate: CertificateDer<'static>) -> Result<Self, AuthorityError> {
        Authority::load(key, certificate).map(Self)
    }

    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.0.certificate
    }

    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.0.key
    }

    /// Returns what laptops pin and people compare.
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.0.key.thumbprint()
    }

    /// Signs the certificate of one replica's key.
    pub fn sign_replica(
        &self,
        replica: &Key,
        pod: &str,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let mut params = leaf_params(REPLICA_DNS_NAME, REPLICA_CERTIFICATE_LIFE, now)?;
        params.distinguished_name.push(DnType::CommonName, pod);
        let signed =
            params.signed_by(replica.pair(), &self.0.issuer()?).map_err(AuthorityError::Sign)?;
        Ok(signed.der().clone())
    }
}

fn leaf_params(
    dns_name: &str,
    life: Duration,
    now: SystemTime,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(vec![dns_name.to_owned()])
        .map_err(|_| AuthorityError::BadName(dns_name.to_owned()))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Either end of a carrier may be the one that opens streams, and so the TLS client.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    valid_for(&mut params, life, now);
    Ok(params)
}

/// Begins a little in the past, for the sake of peers whose clocks are behind.
fn valid_for(params: &mut CertificateParams, life: Duration, now: SystemTime) {
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + life).into();
}
