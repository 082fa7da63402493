//! `/oauth/token` and `/oauth/revoke`.

use axum::{
    Form, Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use fairlead_model::{
    Token, TokenKind,
    timers::{ACCESS_TOKEN_LIFE, CLOCK_SKEW},
};
use fairlead_wire::dpop;
use hub_store::{AuthorizationCode, FamilyEnd, NewTokens, Polled, Rotated, StoreError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    API_TOKEN_GRANT, CLIENT_ID, DEVICE_GRANT, TOKEN_PATH,
    proofs::{Reserved, Unusable},
};
use crate::Hub;

#[derive(Deserialize)]
pub(super) struct TokenRequest {
    grant_type: String,
    client_id: Option<String>,
    code: Option<String>,
    redirect_uri: Option<String>,
    code_verifier: Option<String>,
    refresh_token: Option<String>,
    device_code: Option<String>,
    api_token: Option<String>,
}

#[derive(Serialize)]
struct TokenAnswer {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    refresh_token: String,
}

/// Why no tokens are given, in the words of RFC 6749 and 9449.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenRefused {
    #[error("{0}")]
    InvalidRequest(&'static str),
    #[error("`client_id` must be `{CLIENT_ID}`")]
    InvalidClient,
    #[error(
        "only `authorization_code`, `refresh_token`, `{DEVICE_GRANT}` and `{API_TOKEN_GRANT}` are supported"
    )]
    UnsupportedGrantType,
    #[error("{0}")]
    InvalidGrant(&'static str),
    #[error("{0}")]
    InvalidProof(String),
    #[error("nobody has answered yet")]
    Pending,
    #[error("ask less often")]
    SlowDown,
    #[error("it was denied in the browser")]
    Denied,
    #[error("nobody answered in time: run `fairlead login --device` again")]
    Expired,
    #[error("too many requests")]
    Busy,
    #[error("the hub cannot reach its database")]
    Store(#[from] StoreError),
}

/// A new pair, as its bearer gets it.
struct Pair {
    access: Token,
    refresh: Token,
}

/// Gives tokens for a code or for a refresh token, to whoever proves to hold the device key.
pub(super) async fn token(
    State(hub): State<Hub>,
    headers: HeaderMap,
    Form(request): Form<TokenRequest>,
) -> Result<Response, TokenRefused> {
    if request.client_id.as_deref() != Some(CLIENT_ID) {
        return Err(TokenRefused::InvalidClient);
    }
    let now = hub.clock.now();
    let proof = fresh_proof(&hub, &headers, TOKEN_PATH, now)?;
    let pair = match request.grant_type.as_str() {
        "authorization_code" => redeem(&hub, &request, proof.jkt(), now).await?,
        "refresh_token" => rotate(&hub, &request, proof.jkt(), now).await?,
        API_TOKEN_GRANT => of_service_account(&hub, &request, proof.jkt(), now).await?,
        DEVICE_GRANT => poll(&hub, &request, proof.jkt(), now).await?,
        _ => return Err(TokenRefused::UnsupportedGrantType),
    };
    proof.keep();
    let answer = TokenAnswer {
        access_token: pair.access.expose(),
        token_type: "Bearer",
        expires_in: ACCESS_TOKEN_LIFE.as_secs(),
        refresh_token: pair.refresh.expose(),
    };
    Ok((no_store(), Json(answer)).into_response())
}

#[derive(Deserialize)]
pub(super) struct RevokeRequest {
    token: String,
}

/// Ends the sign-in to which a token belongs. Says the same for a token that is unknown (RFC 7009).
pub(super) async fn revoke(
    State(hub): State<Hub>,
    Form(request): Form<RevokeRequest>,
) -> Result<StatusCode, TokenRefused> {
    if let Ok(token) = request.token.parse::<Token>() {
        let store = hub.store.unscoped("oauth: whoever holds a token may end it");
        store.end_family_of_token(&token.hash(), hub.clock.now()).await?;
    }
    Ok(StatusCode::OK)
}

/// Takes the proof that a request for `path` brings.
pub(super) fn fresh_proof<'h>(
    hub: &'h Hub,
    headers: &HeaderMap,
    path: &str,
    now: Timestamp,
) -> Result<Reserved<'h>, TokenRefused> {
    let mut proofs = headers.get_all("dpop").iter();
    let (Some(proof), None) = (proofs.next(), proofs.next()) else {
        return Err(TokenRefused::InvalidProof("exactly one DPoP proof is required".to_owned()));
    };
    let text = proof.to_str().unwrap_or_default();
    let proof = dpop::verify(text, "POST", &hub.config.url(path), now.into(), CLOCK_SKEW)
        .map_err(|refused| TokenRefused::InvalidProof(refused.to_string()))?;
    hub.seen_proofs.reserve(proof, now).map_err(|unusable| match unusable {
        Unusable::UsedBefore => TokenRefused::InvalidProof("this proof was used before".to_owned()),
        Unusable::TooMany => TokenRefused::Busy,
    })
}

async fn redeem(
    hub: &Hub,
    request: &TokenRequest,
    key_jkt: &str,
    now: Timestamp,
) -> Result<Pair, TokenRefused> {
    const UNKNOWN: TokenRefused =
        TokenRefused::InvalidGrant("the code is unknown, was used, or is older than a minute");
    let code = request.code.as_deref().ok_or(TokenRefused::InvalidRequest("`code` is missing"))?;
    let hash = Token::parse_as(TokenKind::Code, code).map_err(|_| UNKNOWN)?.hash();
    let store = hub.store.unscoped("oauth: the code says whose it is");
    let code = store.code(&hash).await?.ok_or(UNKNOWN)?;
    if let Some(family) = code.family_id {
        tracing::warn!(user = %code.user_id, "A code was used twice: its sign-in has been ended");
        store.end_family(code.org_id, family, FamilyEnd::Reuse, now).await?;
        return Err(UNKNOWN);
    }
    check_code(&code, request, key_jkt, now)?;
    let pair = Pair::draw();
    if store.begin_family(&hash, &code, &pair.hashes(), now).await? {
        Ok(pair)
    } else {
        Err(UNKNOWN)
    }
}

/// Checks that a code is redeemed by whoever asked for it.
fn check_code(
    code: &AuthorizationCode,
    request: &TokenRequest,
    key_jkt: &str,
    now: Timestamp,
) -> Result<(), TokenRefused> {
    if code.expires_at <= now {
        return Err(TokenRefused::InvalidGrant("the code is older than a minute"));
    }
    if request.redirect_uri.as_deref() != Some(code.redirect_uri.as_str()) {
        return Err(TokenRefused::InvalidGrant("`redirect_uri` is not that of the request"));
    }
    let verifier = request
        .code_verifier
        .as_deref()
        .ok_or(TokenRefused::InvalidRequest("`code_verifier` is missing"))?;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    if !bool::from(challenge.as_bytes().ct_eq(code.code_challenge.as_bytes())) {
        return Err(TokenRefused::InvalidGrant("`code_verifier` does not fit the challenge"));
    }
    if key_jkt != code.key_jkt {
        return Err(TokenRefused::InvalidProof(
            "the code belongs to another device key".to_owned(),
        ));
    }
    Ok(())
}

async fn rotate(
    hub: &Hub,
    request: &TokenRequest,
    key_jkt: &str,
    now: Timestamp,
) -> Result<Pair, TokenRefused> {
    const ENDED: TokenRefused =
        TokenRefused::InvalidGrant("this sign-in has ended: sign in again with `fairlead login`");
    let text = request
        .refresh_token
        .as_deref()
        .ok_or(TokenRefused::InvalidRequest("`refresh_token` is missing"))?;
    let token = Token::parse_as(TokenKind::Refresh, text).map_err(|_| ENDED)?;
    let pair = Pair::draw();
    let store = hub.store.unscoped("oauth: the token says whose it is");
    match store.rotate(&token.hash(), key_jkt, &pair.hashes(), now).await? {
        Rotated::Issued(_) => Ok(pair),
        Rotated::Unknown => Err(ENDED),
        Rotated::OtherKey => Err(TokenRefused::InvalidProof(
            "the refresh token belongs to another device key".to_owned(),
        )),
        Rotated::Reused(bearer) => {
            tracing::warn!(user = %bearer.user, "A refresh token was used twice: its sign-in has been ended");
            Err(ENDED)
        }
    }
}

/// Gives tokens to a machine without a browser, once somebody has allowed it.
async fn poll(
    hub: &Hub,
    request: &TokenRequest,
    key_jkt: &str,
    now: Timestamp,
) -> Result<Pair, TokenRefused> {
    const UNKNOWN: TokenRefused =
        TokenRefused::InvalidGrant("the device code is unknown or was used");
    let code = request
        .device_code
        .as_deref()
        .ok_or(TokenRefused::InvalidRequest("`device_code` is missing"))?;
    let hash = Token::parse_as(TokenKind::Device, code).map_err(|_| UNKNOWN)?.hash();
    let pair = Pair::draw();
    let store = hub.store.unscoped("oauth: the code says who has allowed it");
    match store.poll_device(&hash, key_jkt, &pair.hashes(), now).await? {
        Polled::Issued(bearer) => {
            tracing::info!(user = %bearer.user, "A machine without a browser was signed in");
            Ok(pair)
        }
        Polled::Pending => Err(TokenRefused::Pending),
        Polled::TooSoon => Err(TokenRefused::SlowDown),
        Polled::Denied => Err(TokenRefused::Denied),
        Polled::Expired => Err(TokenRefused::Expired),
        Polled::Unknown => Err(UNKNOWN),
        Polled::OtherKey => Err(TokenRefused::InvalidProof(
            "the device code belongs to another device key".to_owned(),
        )),
    }
}

/// Gives tokens to whoever brings the API token of a service account.
async fn of_service_account(
    hub: &Hub,
    request: &TokenRequest,
    key_jkt: &str,
    now: Timestamp,
) -> Result<Pair, TokenRefused> {
    const UNKNOWN: TokenRefused = TokenRefused::InvalidGrant(
        "the API token is unknown, was revoked, or has expired: ask an admin for another one",
    );
    let text = request
        .api_token
        .as_deref()
        .ok_or(TokenRefused::InvalidRequest("`api_token` is missing"))?;
    let hash = Token::parse_as(TokenKind::Api, text).map_err(|_| UNKNOWN)?.hash();
    let pair = Pair::draw();
    let store = hub.store.unscoped("oauth: the token says whose it is");
    let bearer = store.begin_with_api_token(&hash, key_jkt, &pair.hashes(), now).await?;
    let bearer = bearer.ok_or(UNKNOWN)?;
    tracing::info!(service_account = %bearer.user, "A service account has signed in");
    Ok(pair)
}

impl Pair {
    fn draw() -> Self {
        Self {
            access: Token::new(TokenKind::Access, rand::random()),
            refresh: Token::new(TokenKind::Refresh, rand::random()),
        }
    }

    fn hashes(&self) -> NewTokens {
        NewTokens { access_hash: self.access.hash(), refresh_hash: self.refresh.hash() }
    }
}

pub(super) const fn no_store() -> [(header::HeaderName, HeaderValue); 1] {
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]
}

impl IntoResponse for TokenRefused {
    fn into_response(self) -> Response {
        let (status, error) = match &self {
            Self::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::InvalidClient => (StatusCode::BAD_REQUEST, "invalid_client"),
            Self::UnsupportedGrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
            Self::InvalidGrant(_) => (StatusCode::BAD_REQUEST, "invalid_grant"),
            Self::InvalidProof(_) => (StatusCode::BAD_REQUEST, "invalid_dpop_proof"),
            Self::Pending => (StatusCode::BAD_REQUEST, "authorization_pending"),
            Self::SlowDown => (StatusCode::BAD_REQUEST, "slow_down"),
            Self::Denied => (StatusCode::BAD_REQUEST, "access_denied"),
            Self::Expired => (StatusCode::BAD_REQUEST, "expired_token"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
            Self::Store(error) => {
                tracing::error!(%error, "Tokens could not be given");
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
            }
        };
        let body = serde_json::json!({ "error": error, "error_description": self.to_string() });
        (status, no_store(), Json(body)).into_response()
    }
}
