//! HTTP towards issuers: no redirects, bounded time, bounded answers.

use std::{error::Error, pin::Pin};

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::redirect;
use url::{Host, Url};

use super::REQUEST_TIMEOUT;

/// Discovery documents and key sets have some kilobytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("the certificates in issuer_ca are not PEM")]
    BadCertificates(#[source] reqwest::Error),
    #[error("{0}")]
    Request(#[from] reqwest::Error),
    #[error("{0} is not encrypted on its way")]
    NotEncrypted(Url),
    #[error("the answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    #[error("the answer is not HTTP")]
    Malformed(#[from] http::Error),
}

impl TransportError {
    /// Returns the words of the innermost cause: "connection refused" rather than "error sending request".
    pub(super) fn root_cause(&self) -> String {
        let mut cause: &dyn Error = self;
        while let Some(source) = cause.source() {
            cause = source;
        }
        cause.to_string()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Transport {
    client: reqwest::Client,
    allow_http: bool,
}

impl Transport {
    pub(super) fn new(extra_ca: Option<&[u8]>, allow_http: bool) -> Result<Self, TransportError> {
        let mut builder = reqwest::Client::builder()
            // A redirect could lead into the network of the hub.
            .redirect(redirect::Policy::none())
            .timeout(REQUEST_TIMEOUT)
            .user_agent(concat!("fairlead-hub/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = extra_ca {
            let certificates = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(TransportError::BadCertificates)?;
            builder = builder.tls_certs_merge(certificates);
        }
        Ok(Self { client: builder.build()?, allow_http })
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, TransportError> {
        let request: reqwest::Request = request.try_into()?;
        if !self.allow_http && !is_safe_on_its_way(request.url()) {
            return Err(TransportError::NotEncrypted(request.url().clone()));
        }
        let mut answer = self.client.execute(request).await?;
        let mut head = http::Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            head = head.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(TransportError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(head.body(body)?)
    }
}

impl<'client> AsyncHttpClient<'client> for Transport {
    type Error = TransportError;
    type Future =
        Pin<Box<dyn Future<Output = Result<HttpResponse, TransportError>> + Send + 'client>>;

    fn call(&'client self, request: HttpRequest) -> Self::Future {
        let transport = self.clone();
        Box::pin(async move { transport.send(request).await })
    }
}

/// Says whether nobody but the two ends can read or change what is said with an address: client secrets and the answers
/// that say who somebody is.
fn is_safe_on_its_way(url: &Url) -> bool {
    let is_this_machine = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" || is_this_machine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_without_tls() {
        let safe = |url: &str| is_safe_on_its_way(&url.parse().expect("a URL"));
        for url in [
            "https://idp.example.com/x",
            "http://127.0.0.1:9/x",
            "http://[::1]/",
            "http://localhost:9",
        ] {
            assert!(safe(url), "{url}");
        }
        for url in [
            "http://idp.example.com/",
            "http://10.0.0.1/",
            "http://localhost.example.com/",
            "ftp://a",
        ] {
            assert!(!safe(url), "{url}");
        }
    }
}
