//! HTTP towards issuers: no redirects, bounded time, bounded answers.

use std::{error::Error, pin::Pin};

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::redirect;

use super::REQUEST_TIMEOUT;

/// Discovery documents and key sets have some kilobytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("the certificates in issuer_ca are not PEM")]
    BadCertificates(#[source] reqwest::Error),
    #[error("{0}")]
    Request(#[from] reqwest::Error),
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
pub(super) struct Transport(reqwest::Client);

impl Transport {
    pub(super) fn new(extra_ca: Option<&[u8]>) -> Result<Self, TransportError> {
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
        Ok(Self(builder.build()?))
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, TransportError> {
        let mut answer = self.0.execute(request.try_into()?).await?;
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
