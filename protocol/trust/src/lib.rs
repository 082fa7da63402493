//! Whose certificates a hub may have: the system's authorities, and one more that the user names. Links, carriers and
//! questions to the hub's API have it from here; what a refusal means to a person is for whoever connects to say.

mod system;

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{CertificateError, ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject};

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("could not read the certificate authority in {}", path.display())]
    Read { path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("there is no certificate in {}", path.display())]
    Empty { path: PathBuf },
    #[error("{} holds something that is no usable certificate authority", path.display())]
    Unusable { path: PathBuf, source: rustls::Error },
    #[error("no TLS in the cryptography of this build")]
    Provider(#[source] rustls::Error),
}

/// The authorities that may sign a hub's certificate; by default none.
#[derive(Clone, Debug)]
pub struct HubTrust(Arc<RootCertStore>);

impl Default for HubTrust {
    fn default() -> Self {
        Self(Arc::new(RootCertStore::empty()))
    }
}

impl HubTrust {
    /// Trusts the system's authorities, and those in the PEM file `extra` where one is given.
    pub fn new(extra: Option<&Path>) -> Result<Self, TrustError> {
        let mut roots = system::authorities();
        if let Some(path) = extra {
            add_file(&mut roots, path)?;
        }
        Ok(Self(Arc::new(roots)))
    }

    /// Trusts the system's authorities and these certificates. One that cannot be an authority is left out.
    #[must_use]
    pub fn with(extra: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        let mut roots = system::authorities();
        roots.add_parsable_certificates(extra);
        Self(Arc::new(roots))
    }

    /// Returns how to speak TLS to the hub, offering `protocols` (ALPN).
    pub fn tls_config(&self, protocols: &[&[u8]]) -> Result<ClientConfig, TrustError> {
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(TrustError::Provider)?
                .with_root_certificates(Arc::clone(&self.0))
                .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Ok(config)
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TrustError> {
    let read = |source| TrustError::Read { path: path.to_owned(), source };
    let mut found = false;
    for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
        roots
            .add(certificate.map_err(read)?)
            .map_err(|source| TrustError::Unusable { path: path.to_owned(), source })?;
        found = true;
    }
    if found { Ok(()) } else { Err(TrustError::Empty { path: path.to_owned() }) }
}

/// Finds the reason why a certificate was refused, however deep it lies in `error`; for errors of other HTTP libraries
/// that used [`HubTrust::tls_config`].
#[must_use]
pub fn why_not_trusted<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e CertificateError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(reason)) = error.downcast_ref() {
            return Some(reason);
        }
        // An `io::Error` hides what it carries from `source`.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
