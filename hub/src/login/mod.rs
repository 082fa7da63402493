//! Turning a credential into a caller: sign-in at an issuer, browser sessions, and the tokens of our command line.
//!
//! Nothing here decides what somebody may do. Every path ends at [`caller`], the one place where a cookie or a token
//! becomes a [`hub_policy::Caller`].

pub mod caller;
pub mod claims;
mod cookies;
mod failures;
pub mod issuers;
mod oauth;
mod pages;
mod recover;
mod sign_in;
mod sign_out;

use axum::{
    Router,
    routing::{get, post},
};

pub use caller::{Authenticated, CommandLine};
pub use issuers::{IssuerError, Issuers};
pub use oauth::SeenProofs;
pub(crate) use sign_in::seal_client_secret;

use crate::Hub;

/// The routes that browsers and the command line use to sign in. They are no part of the REST interface.
pub fn routes() -> Router<Hub> {
    Router::new()
        .route("/login", get(sign_in::begin))
        .route("/login/callback", get(sign_in::finish))
        .route("/login/recover", get(recover::ask).post(recover::enter))
        .route("/logout", post(sign_out::sign_out))
        .merge(oauth::routes())
}
