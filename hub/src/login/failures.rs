//! Why somebody is not signed in, and the page that tells them what to try.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use hub_store::StoreError;

use super::{claims::ClaimsRefused, issuers::IssuerError, pages::Notice};
use crate::seal::SealError;

/// Why somebody is not signed in. Each has a page that says what to try.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignInFailed {
    #[error("the hub has no organization yet")]
    NotSetUp,
    #[error("the answer belongs to no sign-in of this browser")]
    NotBegunHere,
    #[error("the issuer refused: {error} {description}")]
    RefusedByIssuer { error: String, description: String },
    #[error("{email} has been removed")]
    Disabled { email: String },
    #[error(transparent)]
    Claims(#[from] ClaimsRefused),
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl IntoResponse for SignInFailed {
    fn into_response(self) -> Response {
        match &self {
            Self::NotSetUp | Self::NotBegunHere => tracing::debug!(reason = %self, "No sign-in"),
            _ => tracing::warn!(reason = %self, "A sign-in failed"),
        }
        self.notice().into_response()
    }
}

impl SignInFailed {
    fn notice(self) -> Notice {
        match self {
            Self::NotSetUp => Notice::failed(
                "This hub has no organization yet, so nobody can sign in.",
                "Open the setup link that the hub printed when it started. It has expired? On the hub's host, \
                 `fairlead-hub admin setup-url` prints a new one.",
            )
            .status(StatusCode::NOT_FOUND)
            .without_action(),
            Self::NotBegunHere => Notice::failed(
                "This answer belongs to no sign-in that this browser has begun, or the sign-in took more than ten \
                 minutes, or the page was loaded twice.",
                "Sign in again. If it keeps happening, check that this browser accepts cookies from the hub.",
            ),
            Self::RefusedByIssuer { error, description } if error == "access_denied" => {
                Notice::failed(
                    "Your sign-in provider said no, or the sign-in was cancelled there.",
                    "Sign in again; if the provider keeps refusing, ask whoever runs it for access to Fairlead.",
                )
                .detail(description)
                .status(StatusCode::FORBIDDEN)
            }
            Self::RefusedByIssuer { error, description } => Notice::failed(
                "Your sign-in provider refused the sign-in.",
                "Tell whoever runs this hub what the provider says below. Most often its registration of Fairlead \
                 lacks the redirect address of this hub, or one of the scopes.",
            )
            .detail(format!("{error}: {description}")),
            Self::Disabled { email } => Notice::failed(
                format!("{email} has been removed from this organization."),
                "Ask one of its owners or administrators to let you in again.",
            )
            .status(StatusCode::FORBIDDEN),
            Self::Claims(refused) => refused_claims(refused),
            Self::Issuer(error) => issuer_failed(error),
            Self::Store(_) => Notice::failed(
                "The hub cannot reach its database at the moment.",
                "Try again in a moment.",
            )
            .status(StatusCode::SERVICE_UNAVAILABLE),
            Self::Seal(error) => Notice::failed(
                "The hub cannot open the secret of its sign-in provider.",
                "Tell whoever runs this hub.",
            )
            .detail(error.to_string())
            .status(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

fn refused_claims(refused: ClaimsRefused) -> Notice {
    let remedy = match &refused {
        ClaimsRefused::NoSubject => {
            "Tell whoever runs this hub: the provider is not OpenID Connect."
        }
        ClaimsRefused::NoEmail => {
            "Whoever runs this hub should add the scope `email` to the connection, and the provider must release the \
             claim `email` to Fairlead."
        }
        ClaimsRefused::UnverifiedEmail { .. } => {
            "Verify the address at your provider. If the provider does not verify addresses but can be trusted with \
             those of your company, an owner can add the domain to the connection's e-mail domains."
        }
        ClaimsRefused::TooManyGroups => {
            "Whoever runs the provider can limit which groups it names to Fairlead."
        }
    };
    Notice::failed(format!("{}.", sentence(&refused.to_string())), remedy)
        .status(StatusCode::FORBIDDEN)
}

fn issuer_failed(error: IssuerError) -> Notice {
    let detail = error.to_string();
    let (what, remedy) = match error {
        IssuerError::BadAddress(_) => (
            "The address of your sign-in provider is not a URL.",
            "Tell whoever runs this hub: the connection must be corrected.",
        ),
        IssuerError::Unreachable { .. } => (
            "The hub cannot reach your sign-in provider.",
            "Try again in a moment. If it goes on: can the hub's host reach the address below, by name, through its \
             firewall, and does it trust the certificate (`issuer_ca`)?",
        ),
        IssuerError::NotEncrypted { .. } => (
            "Your sign-in provider has an address without TLS, where anybody on the way could sign in as you.",
            "Whoever runs this hub should give the connection the provider's https:// address.",
        ),
        IssuerError::NotAnIssuer { .. } => (
            "What answers at the address of your sign-in provider is not an OpenID Connect issuer.",
            "Whoever runs this hub should compare the issuer of the connection with the provider's own documents; it \
             is the address before `/.well-known/openid-configuration`.",
        ),
        IssuerError::OtherName { .. } => (
            "Your sign-in provider calls itself by another name than the one this hub was given.",
            "The issuer of the connection must be exactly, to the last slash, what the provider's discovery document \
             says under `issuer`.",
        ),
        IssuerError::Refused { .. } => (
            "Your sign-in provider refused to tell the hub who you are.",
            "`invalid_client` means that client id or client secret are wrong; `invalid_grant` that the sign-in was \
             too slow or was sent twice: sign in again.",
        ),
        IssuerError::Clock { .. } => (
            "The clock of your sign-in provider and the clock of this hub differ by more than a minute.",
            "Whoever runs them should synchronise both clocks (NTP). Nobody can sign in until then.",
        ),
        IssuerError::BadToken { .. } => (
            "What your sign-in provider signed could not be verified for this sign-in.",
            "Sign in again. If it goes on, tell whoever runs this hub what it says below.",
        ),
    };
    Notice::failed(what, remedy).detail(detail).status(StatusCode::BAD_GATEWAY)
}

/// Makes the first letter large.
fn sentence(words: &str) -> String {
    let mut characters = words.chars();
    characters
        .next()
        .map(|first| first.to_uppercase().chain(characters).collect())
        .unwrap_or_default()
}
