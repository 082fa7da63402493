//! Whom we trust to be the hub: the system's authorities, and one more if the developer named one.

use std::path::Path;

use fairlead_trust::{HubTrust, why_not_trusted};
use reqwest::ClientBuilder;
use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::{AccountError, error::Untrusted};

/// The extra authority of a hub, as the developer named it: its file's bytes, which hold a certificate.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    pub(crate) pem: Vec<u8>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Authority {
    pub(crate) fn read(path: &Path) -> Result<Self, AccountError> {
        let unreadable =
            |source| AccountError::UnreadableAuthority { path: path.to_owned(), source };
        let pem = std::fs::read(path).map_err(unreadable)?;
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
        if certificates.is_empty() {
            return Err(AccountError::NoCertificate { path: path.to_owned() });
        }
        Ok(Self { pem, certificates })
    }
}

/// Returns a builder whose connections trust the system's authorities and one more.
pub(crate) fn http_builder(extra: Option<Authority>) -> ClientBuilder {
    let trust = HubTrust::with(extra.map(|extra| extra.certificates).unwrap_or_default());
    let tls = trust.tls_config(&[]).expect("this build's cryptography has TLS");
    reqwest::Client::builder().tls_backend_preconfigured(tls)
}

/// Returns what was wrong with the certificate, where that is why a request failed.
pub(crate) fn certificate_error(error: &reqwest::Error) -> Option<Untrusted> {
    why_not_trusted(error).map(untrusted)
}

fn untrusted(why: &CertificateError) -> Untrusted {
    match why {
        // A bad signature is what an authority looks like that has the name of a trusted one and another key, as when
        // a hub was set up anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            Untrusted::UnknownAuthority
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Untrusted::OtherHost
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Untrusted::NotAtThisTime,
        other => Untrusted::Otherwise(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_of_the_same_name_and_another_key_is_an_unknown_one() {
        assert_eq!(untrusted(&CertificateError::BadSignature), Untrusted::UnknownAuthority);
        assert_eq!(untrusted(&CertificateError::UnknownIssuer), Untrusted::UnknownAuthority);
        assert_eq!(untrusted(&CertificateError::Expired), Untrusted::NotAtThisTime);
    }
}
