//! The authorization server of our own command line (RFC 6749, 7636, 8252, 8414, 9449).
//!
//! There is one client, `fairlead-cli`: public, on a loopback redirect. Its codes are good once within a minute, its
//! refresh tokens rotate, and every request for tokens proves possession of the device key. A machine without a browser asks
//! for a device code instead (RFC 8628), and somebody answers it in a browser elsewhere. A service account brings its API token.

mod authorize;
mod device;
mod proofs;
mod token;

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use serde_json::{Value, json};

pub use proofs::SeenProofs;

use crate::Hub;

const CLIENT_ID: &str = "fairlead-cli";
const TOKEN_PATH: &str = "/oauth/token";
const DEVICE_PATH: &str = "/oauth/device_authorization";
/// Ours: a service account's token, for the key that the request proves.
const API_TOKEN_GRANT: &str = "urn:fairlead:grant-type:api-token";
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

pub(super) fn routes() -> Router<Hub> {
    Router::new()
        .route("/oauth/authorize", get(authorize::ask).post(authorize::confirm))
        .route(DEVICE_PATH, post(device::begin))
        .route("/login/device", get(device::ask).post(device::answer))
        .route(TOKEN_PATH, post(token::token))
        .route("/oauth/revoke", post(token::revoke))
        .route("/.well-known/oauth-authorization-server", get(metadata))
}

/// Describes the server as RFC 8414 has it.
async fn metadata(State(hub): State<Hub>) -> Json<Value> {
    Json(json!({
        "issuer": hub.config.origin(),
        "authorization_endpoint": hub.config.url("/oauth/authorize"),
        "token_endpoint": hub.config.url(TOKEN_PATH),
        "revocation_endpoint": hub.config.url("/oauth/revoke"),
        "device_authorization_endpoint": hub.config.url(DEVICE_PATH),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token", DEVICE_GRANT, API_TOKEN_GRANT],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "dpop_signing_alg_values_supported": ["EdDSA"],
        "authorization_response_iss_parameter_supported": true,
    }))
}
