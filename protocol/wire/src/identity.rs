//! Who a leaf certificate names: a device of a user, or a replica of a cluster agent.
//!
//! Reading a name proves nothing. Whether the certificate was signed by the right authority is checked by
//! [`crate::chain`] and, on carriers, by TLS.

use std::{fmt, str::FromStr};

use fairlead_model::{DeviceId, OrgId, Thumbprint, UserId};
use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// DNS name in every device certificate, and the SNI when a device is the TLS server.
pub const DEVICE_DNS_NAME: &str = "device.fairlead.internal";
/// DNS name in every replica certificate, and the SNI when a replica is the TLS server.
pub const REPLICA_DNS_NAME: &str = "agent.fairlead.internal";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableIdentity {
    #[error("not an X.509 certificate")]
    NotACertificate,
    #[error("the certificate's key is not Ed25519")]
    NotEd25519,
    #[error("the certificate does not name {0}")]
    Unnamed(&'static str),
}

/// Whom a device certificate is made out to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceName {
    pub organization: OrgId,
    pub user: UserId,
    pub device: DeviceId,
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { organization, user, device } = self;
        write!(f, "fairlead:organization/{organization}/user/{user}/device/{device}")
    }
}

impl FromStr for DeviceName {
    type Err = UnreadableIdentity;

    fn from_str(uri: &str) -> Result<Self, UnreadableIdentity> {
        let unnamed = UnreadableIdentity::Unnamed("a device");
        let words: Vec<&str> = uri.split('/').collect();
        let ["fairlead:organization", organization, "user", user, "device", device] = words[..]
        else {
            return Err(unnamed);
        };
        let (Ok(organization), Ok(user), Ok(device)) =
            (organization.parse(), user.parse(), device.parse())
        else {
            return Err(unnamed);
        };
        Ok(Self { organization, user, device })
    }
}

/// A device as its certificate names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceIdentity {
    pub organization: OrgId,
    pub user: UserId,
    pub device: DeviceId,
    /// Of the device's own key.
    pub thumbprint: Thumbprint,
}

impl DeviceIdentity {
    pub fn of(leaf: &CertificateDer<'_>) -> Result<Self, UnreadableIdentity> {
        let certificate = Leaf::read(leaf)?;
        let [uri] = &certificate.uris[..] else {
            return Err(UnreadableIdentity::Unnamed("exactly one device"));
        };
        let DeviceName { organization, user, device } = uri.parse()?;
        certificate.must_have_dns_name(DEVICE_DNS_NAME, "a device")?;
        Ok(Self { organization, user, device, thumbprint: certificate.thumbprint })
    }
}

/// A replica of a cluster agent as its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReplicaIdentity {
    /// The pod's name.
    pub name: String,
    /// Of the replica's own key, which lives as long as the process; not the teamspace key.
    pub thumbprint: Thumbprint,
}

impl ReplicaIdentity {
    pub fn of(leaf: &CertificateDer<'_>) -> Result<Self, UnreadableIdentity> {
        let certificate = Leaf::read(leaf)?;
        certificate.must_have_dns_name(REPLICA_DNS_NAME, "an agent replica")?;
        let name = certificate.common_name.ok_or(UnreadableIdentity::Unnamed("a pod"))?;
        Ok(Self { name, thumbprint: certificate.thumbprint })
    }
}

/// Returns the thumbprint of the key that a certificate carries.
pub fn thumbprint_of(certificate: &CertificateDer<'_>) -> Result<Thumbprint, UnreadableIdentity> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| UnreadableIdentity::NotACertificate)?;
    Ok(Thumbprint::of_spki(certificate.public_key().raw))
}

/// Returns the raw Ed25519 public key that a certificate carries.
pub fn public_key_of(certificate: &CertificateDer<'_>) -> Result<[u8; 32], UnreadableIdentity> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| UnreadableIdentity::NotACertificate)?;
    let spki = certificate.public_key();
    if spki.algorithm.algorithm != x509_parser::oid_registry::OID_SIG_ED25519 {
        return Err(UnreadableIdentity::NotEd25519);
    }
    spki.subject_public_key.data[..].try_into().map_err(|_| UnreadableIdentity::NotEd25519)
}

/// What this file reads out of a certificate.
struct Leaf {
    common_name: Option<String>,
    dns_names: Vec<String>,
    uris: Vec<String>,
    thumbprint: Thumbprint,
}

impl Leaf {
    fn read(der: &CertificateDer<'_>) -> Result<Self, UnreadableIdentity> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| UnreadableIdentity::NotACertificate)?;
        if !rest.is_empty() {
            return Err(UnreadableIdentity::NotACertificate);
        }
        let mut leaf = Self {
            common_name: None,
            dns_names: Vec::new(),
            uris: Vec::new(),
            thumbprint: Thumbprint::of_spki(certificate.public_key().raw),
        };
        for extension in certificate.extensions() {
            if let x509_parser::extensions::ParsedExtension::SubjectAlternativeName(names) =
                extension.parsed_extension()
            {
                for name in &names.general_names {
                    match name {
                        GeneralName::DNSName(name) => leaf.dns_names.push((*name).to_owned()),
                        GeneralName::URI(uri) => leaf.uris.push((*uri).to_owned()),
                        _ => {}
                    }
                }
            }
        }
        let common_name = certificate.subject().iter_common_name().next();
        leaf.common_name = common_name.and_then(|name| name.as_str().ok()).map(str::to_owned);
        Ok(leaf)
    }

    fn must_have_dns_name(&self, name: &str, noun: &'static str) -> Result<(), UnreadableIdentity> {
        if self.dns_names == [name] { Ok(()) } else { Err(UnreadableIdentity::Unnamed(noun)) }
    }
}
