//! What goes wrong between the hub and an issuer, told apart by what helps.

use openidconnect::{
    ClaimsVerificationError, DiscoveryError, RequestTokenError, StandardErrorResponse,
    core::CoreErrorResponseType,
};

use super::transport::TransportError;

/// How the check of the time of issue says so; the library passes on its words.
pub(super) const FROM_THE_FUTURE: &str = "the ID token was issued in the future";

/// Why an issuer could not tell us who somebody is.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    #[error("`{0}` is not the address of an issuer")]
    BadAddress(String),
    #[error("the issuer {issuer} cannot be reached: {reason}")]
    Unreachable { issuer: String, reason: String },
    #[error("the issuer {issuer} would be asked without TLS ({url})")]
    NotEncrypted { issuer: String, url: String },
    #[error("{issuer} does not answer like an OpenID Connect issuer: {reason}")]
    NotAnIssuer { issuer: String, reason: String },
    #[error("{issuer} calls itself by another name: {reason}")]
    OtherName { issuer: String, reason: String },
    #[error("the issuer refused our request: {code} {description}")]
    Refused { code: String, description: String },
    #[error("the clock of the issuer and the clock of this hub differ")]
    Clock { reason: String },
    #[error("what the issuer signed does not belong to this sign-in: {reason}")]
    BadToken { reason: String },
}

pub(super) fn not_an_issuer(issuer: &str, reason: impl ToString) -> IssuerError {
    IssuerError::NotAnIssuer { issuer: issuer.to_owned(), reason: reason.to_string() }
}

fn unreachable(issuer: &str, error: &TransportError) -> IssuerError {
    let issuer = issuer.to_owned();
    match error {
        TransportError::NotEncrypted(url) => {
            IssuerError::NotEncrypted { issuer, url: url.to_string() }
        }
        _ => IssuerError::Unreachable { issuer, reason: error.root_cause() },
    }
}

pub(super) fn discovery_failed(issuer: &str, error: DiscoveryError<TransportError>) -> IssuerError {
    match error {
        DiscoveryError::Request(error) => unreachable(issuer, &error),
        DiscoveryError::Validation(reason) => {
            IssuerError::OtherName { issuer: issuer.to_owned(), reason }
        }
        DiscoveryError::Response(status, _, _) => {
            not_an_issuer(issuer, format!("{status} for its .well-known/openid-configuration"))
        }
        other => not_an_issuer(issuer, other),
    }
}

type ExchangeError =
    RequestTokenError<TransportError, StandardErrorResponse<CoreErrorResponseType>>;

pub(super) fn exchange_failed(issuer: &str, error: ExchangeError) -> IssuerError {
    match error {
        RequestTokenError::Request(error) => unreachable(issuer, &error),
        RequestTokenError::ServerResponse(response) => IssuerError::Refused {
            code: response.error().as_ref().to_owned(),
            description: response.error_description().cloned().unwrap_or_default(),
        },
        RequestTokenError::Parse(error, _) => not_an_issuer(issuer, error),
        RequestTokenError::Other(reason) => not_an_issuer(issuer, reason),
    }
}

pub(super) fn not_believed(error: ClaimsVerificationError) -> IssuerError {
    match error {
        ClaimsVerificationError::Expired(reason) => IssuerError::Clock { reason },
        ClaimsVerificationError::Other(reason) if reason.contains(FROM_THE_FUTURE) => {
            IssuerError::Clock { reason }
        }
        other => {
            let reason = other.to_string();
            if reason.contains(FROM_THE_FUTURE) {
                IssuerError::Clock { reason }
            } else {
                IssuerError::BadToken { reason }
            }
        }
    }
}
