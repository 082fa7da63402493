//! TLS of carriers: version 1.3 only, mutual, and each end checks that the other is exactly who it should be.
//!
//! The chain, the validity and the name are checked by rustls' own webpki verifiers against one single authority; what
//! is added here is only ever one more reason to refuse.

use std::{fmt, sync::Arc};

use fairlead_model::Thumbprint;
use fairlead_wire::{
    chain::verifier_for,
    identity::{
        DEVICE_DNS_NAME, DeviceIdentity, REPLICA_DNS_NAME, ReplicaIdentity, UnreadableIdentity,
        thumbprint_of,
    },
    key::Key,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore,
    ServerConfig, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What both ends of a carrier must agree to speak.
pub const ALPN: &[u8] = b"fairlead/1";

#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    #[error("key and certificate do not fit together")]
    Identity(#[source] rustls::Error),
    #[error("the authority's certificate cannot be used")]
    Authority(#[source] rustls::Error),
    #[error("no TLS 1.3 in the cryptography of this build")]
    Provider(#[source] rustls::Error),
    #[error("the certificate of the teamspace carries the key {found}, but {pinned} is pinned")]
    NotThePinnedKey { pinned: Thumbprint, found: Thumbprint },
    #[error(transparent)]
    Unreadable(#[from] UnreadableIdentity),
}

/// Key and certificates of this end.
#[derive(Clone, Debug)]
pub struct TlsIdentity(Arc<CertifiedKey>);

impl TlsIdentity {
    /// Takes the chain leaf first; the leaf must carry `key`.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: &Key) -> Result<Self, TlsConfigError> {
        CertifiedKey::from_der(chain, key.expose_to_tls(), &provider())
            .map(|certified| Self(Arc::new(certified)))
            .map_err(TlsConfigError::Identity)
    }
}

/// Who must be at the other end.
#[derive(Clone, Debug)]
pub enum PeerExpectation {
    /// Any replica of the agent that holds this teamspace's key.
    Replica { teamspace: CertificateDer<'static> },
    /// The one device with this key, in this organization.
    Device { organization: CertificateDer<'static>, thumbprint: Thumbprint },
}

impl PeerExpectation {
    /// Expects a replica of the teamspace whose key is pinned; refuses a certificate that carries another key.
    pub fn replica(
        teamspace: CertificateDer<'static>,
        pinned: &Thumbprint,
    ) -> Result<Self, TlsConfigError> {
        let found = thumbprint_of(&teamspace)?;
        if found == *pinned {
            Ok(Self::Replica { teamspace })
        } else {
            Err(TlsConfigError::NotThePinnedKey { pinned: *pinned, found })
        }
    }

    /// Expects the device with this key.
    #[must_use]
    pub const fn device(organization: CertificateDer<'static>, thumbprint: Thumbprint) -> Self {
        Self::Device { organization, thumbprint }
    }

    const fn authority(&self) -> &CertificateDer<'static> {
        match self {
            Self::Replica { teamspace } => teamspace,
            Self::Device { organization, .. } => organization,
        }
    }

    /// Returns the name in the certificate of the far end, which is also what is asked for (SNI).
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        let name = match self {
            Self::Replica { .. } => REPLICA_DNS_NAME,
            Self::Device { .. } => DEVICE_DNS_NAME,
        };
        ServerName::try_from(name).expect("the constants are DNS names")
    }

    /// Checks what webpki does not: that the leaf names the right kind of peer, and the very device.
    fn check_leaf(&self, leaf: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let fits = match self {
            Self::Replica { .. } => ReplicaIdentity::of(leaf).is_ok(),
            Self::Device { thumbprint, .. } => {
                DeviceIdentity::of(leaf).is_ok_and(|device| device.thumbprint == *thumbprint)
            }
        };
        if fits { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }
}

/// Returns the configuration of the end that opens streams.
pub(crate) fn opener_config(
    identity: &TlsIdentity,
    expected: &PeerExpectation,
) -> Result<ClientConfig, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    roots.add(expected.authority().clone()).map_err(TlsConfigError::Authority)?;
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| TlsConfigError::Authority(rustls::Error::General(error.to_string())))?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsConfigError::Provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Exactly { chain, expected: expected.clone() }))
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(
            &identity.0,
        ))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the check of certificates that may have been revoked since.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Returns the configuration of the end that takes streams.
pub(crate) fn acceptor_config(
    identity: &TlsIdentity,
    expected: &PeerExpectation,
) -> Result<ServerConfig, TlsConfigError> {
    let chain = verifier_for(expected.authority()).map_err(TlsConfigError::Authority)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsConfigError::Provider)?
        .with_client_cert_verifier(Arc::new(Exactly { chain, expected: expected.clone() }))
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(
            &identity.0,
        ))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Prefers AES-GCM, which costs a third less than ChaCha20 on processors that know it.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}

/// A chain verifier of rustls, and on top of it the expectation.
struct Exactly<V: ?Sized> {
    chain: Arc<V>,
    expected: PeerExpectation,
}

impl<V: ?Sized> fmt::Debug for Exactly<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exactly({:?})", self.expected)
    }
}

impl ServerCertVerifier for Exactly<WebPkiServerVerifier> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.chain.verify_server_cert(leaf, intermediates, name, ocsp, now)?;
        self.expected.check_leaf(leaf)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Exactly<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(leaf, intermediates, now)?;
        self.expected.check_leaf(leaf)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::CipherSuite;

    use super::*;

    #[test]
    fn aes_gcm_is_the_first_choice() {
        let first = provider().cipher_suites[0].suite();
        assert_eq!(first, CipherSuite::TLS13_AES_128_GCM_SHA256);
    }
}
