//! A browser's way to its issuer and back: `/login` and `/login/callback`.

use axum::{
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use axum_extra::extract::CookieJar;
use base64::{Engine, engine::general_purpose::STANDARD};
use fairlead_model::{OrgId, Token, TokenKind, timers::LOGIN_ATTEMPT_LIFE};
use hub_store::{Bearer, LoginAttempt, OidcConnection, SignedIn, StoreError};
use openidconnect::ClientSecret;
use serde::Deserialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::{claims, cookies, failures::SignInFailed, issuers::Registration};
use crate::{Hub, seal::SealError};

/// To what the secret of a connection is sealed.
pub(crate) const CLIENT_SECRET: &str = "oidc client secret";
const PKCE_VERIFIER: &str = "oidc pkce verifier";
const MAX_RETURN_TO: usize = 4000;

#[derive(Debug, Deserialize)]
pub(super) struct Begin {
    email: Option<String>,
    return_to: Option<String>,
}

/// Sends the browser to its issuer.
pub(super) async fn begin(
    State(hub): State<Hub>,
    jar: CookieJar,
    Query(asked): Query<Begin>,
) -> Result<Response, SignInFailed> {
    let return_to = safe_return(asked.return_to.as_deref());
    let email = asked.email.as_deref().map(str::trim).filter(|email| !email.is_empty());
    let connection = match choose(&hub, email).await? {
        Choice::One(connection) => connection,
        Choice::AskEmail => return Ok(to_sign_in_page(None, &return_to)),
        Choice::UnknownEmail => return Ok(to_sign_in_page(Some("unknown_email"), &return_to)),
    };
    let now = hub.clock.now();
    let state = Token::new(TokenKind::WebSession, rand::random());
    let registration = registration(&hub, &connection)?;
    let departure = hub.issuers.depart(&registration, state.expose(), email, now).await?;
    // The same browser may have begun in another tab: both ways back must work.
    let browser =
        cookies::login(&jar).unwrap_or_else(|| Token::new(TokenKind::WebSession, rand::random()));
    let attempt = LoginAttempt {
        org_id: connection.org_id,
        connection_id: connection.id,
        browser_hash: browser.hash().to_vec(),
        nonce: departure.nonce,
        sealed_pkce_verifier: seal_verifier(&hub, connection.org_id, &departure.pkce_verifier),
        return_to,
        expires_at: now + LOGIN_ATTEMPT_LIFE,
    };
    hub.store.unscoped("login: nobody yet").begin_login(&state.hash(), &attempt).await?;
    let jar = cookies::with_login(jar, &browser);
    Ok((jar, Redirect::to(departure.url.as_str())).into_response())
}

#[derive(Debug, Deserialize)]
pub(super) struct Finish {
    state: Option<String>,
    code: Option<String>,
    /// Who answers (RFC 9207): an answer of another issuer than the asked one is refused.
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Takes the browser back from its issuer.
pub(super) async fn finish(
    State(hub): State<Hub>,
    jar: CookieJar,
    Query(answer): Query<Finish>,
) -> Result<Response, SignInFailed> {
    let attempt = take_attempt(&hub, &jar, answer.state.as_deref()).await?;
    if let Some(error) = answer.error {
        let description = answer.error_description.unwrap_or_default();
        return Err(SignInFailed::RefusedByIssuer { error, description });
    }
    let code = answer.code.ok_or(SignInFailed::NotBegunHere)?;
    let connection = hub
        .store
        .scoped(attempt.org_id)
        .oidc_connection(attempt.connection_id)
        .await?
        .ok_or(SignInFailed::NotBegunHere)?;
    if answer.iss.is_some_and(|issuer| issuer != connection.issuer) {
        return Err(SignInFailed::NotBegunHere);
    }
    let now = hub.clock.now();
    let registration = registration(&hub, &connection)?;
    let verifier = open_verifier(&hub, &attempt)?;
    let said = hub.issuers.arrive(&registration, code, verifier, attempt.nonce, now).await?;
    let who = claims::read(&said, &connection)?;
    let signed_in = hub.store.unscoped("login: the issuer vouches").sign_in(&who, now).await?;
    let SignedIn::Welcome(bearer) = signed_in else {
        return Err(SignInFailed::Disabled { email: who.email });
    };
    tracing::info!(user = %bearer.user, organization = %bearer.org, "{} signed in", who.email);
    let jar = cookies::without_login(enter(&hub, jar, bearer).await?);
    Ok((jar, Redirect::to(&attempt.return_to)).into_response())
}

/// Begins a browser session.
pub(super) async fn enter(
    hub: &Hub,
    jar: CookieJar,
    bearer: Bearer,
) -> Result<CookieJar, StoreError> {
    let token = Token::new(TokenKind::WebSession, rand::random());
    hub.store
        .unscoped("login: the session begins")
        .begin_web_session(&token.hash(), bearer, hub.clock.now())
        .await?;
    Ok(cookies::with_session(jar, &token))
}

enum Choice {
    One(OidcConnection),
    AskEmail,
    UnknownEmail,
}

/// Chooses where somebody signs in: by the domain of their address, or the only connection there is.
async fn choose(hub: &Hub, email: Option<&str>) -> Result<Choice, SignInFailed> {
    let store = hub.store.unscoped("login: the organization follows from the address");
    let mut all = store.first_oidc_connections(2).await?;
    match (all.len(), email) {
        (0, _) => Err(SignInFailed::NotSetUp),
        (1, _) => Ok(Choice::One(all.remove(0))),
        (_, None) => Ok(Choice::AskEmail),
        (_, Some(email)) => {
            let Some(domain) = claims::domain(email) else { return Ok(Choice::UnknownEmail) };
            let found = store.oidc_connection_of_domain(&domain).await?;
            Ok(found.map_or(Choice::UnknownEmail, Choice::One))
        }
    }
}

/// Opens the secret of a connection, for one use.
fn registration<'connection>(
    hub: &Hub,
    connection: &'connection OidcConnection,
) -> Result<Registration<'connection>, SealError> {
    let secret = hub.keys.sealer().open(
        connection.org_id,
        CLIENT_SECRET,
        &connection.sealed_client_secret,
    )?;
    let text = Zeroizing::new(String::from_utf8(secret.to_vec()).map_err(|_| SealError::Damaged)?);
    Ok(Registration {
        connection,
        client_secret: (!text.is_empty()).then(|| ClientSecret::new(text.to_string())),
        redirect_url: hub.config.url("/login/callback"),
    })
}

/// Seals the secret of a connection.
pub(crate) fn seal_client_secret(hub: &Hub, org: OrgId, secret: &str) -> Vec<u8> {
    hub.keys.sealer().seal(org, CLIENT_SECRET, secret.as_bytes())
}

/// Seals what proves to the issuer that the code goes back to whoever asked for it. The column is text: base64.
fn seal_verifier(hub: &Hub, org: OrgId, verifier: &str) -> String {
    STANDARD.encode(hub.keys.sealer().seal(org, PKCE_VERIFIER, verifier.as_bytes()))
}

fn open_verifier(hub: &Hub, attempt: &LoginAttempt) -> Result<String, SealError> {
    let sealed = STANDARD.decode(&attempt.sealed_pkce_verifier).map_err(|_| SealError::Damaged)?;
    let opened = hub.keys.sealer().open(attempt.org_id, PKCE_VERIFIER, &sealed)?;
    String::from_utf8(opened.to_vec()).map_err(|_| SealError::Damaged)
}

/// Finds the sign-in that this browser began; its `state` counts once.
async fn take_attempt(
    hub: &Hub,
    jar: &CookieJar,
    state: Option<&str>,
) -> Result<LoginAttempt, SignInFailed> {
    let state = state
        .and_then(|text| Token::parse_as(TokenKind::WebSession, text).ok())
        .ok_or(SignInFailed::NotBegunHere)?;
    let browser = cookies::login(jar).ok_or(SignInFailed::NotBegunHere)?;
    let attempt = hub
        .store
        .unscoped("login: the state names the attempt")
        .take_login(&state.hash(), hub.clock.now())
        .await?
        .ok_or(SignInFailed::NotBegunHere)?;
    // Hashes of 256 random bits: comparing them in variable time tells nothing about the cookie.
    if attempt.browser_hash == browser.hash() {
        Ok(attempt)
    } else {
        Err(SignInFailed::NotBegunHere)
    }
}

/// Returns the path on this hub to which somebody goes on, or `/`.
fn safe_return(asked: Option<&str>) -> String {
    let is_ours = |path: &str| {
        path.starts_with('/')
            && !path.starts_with("//")
            && path.len() <= MAX_RETURN_TO
            && path.chars().all(|c| !c.is_control() && c != '\\')
    };
    asked.filter(|path| is_ours(path)).unwrap_or("/").to_owned()
}

fn to_sign_in_page(error: Option<&str>, return_to: &str) -> Response {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(error) = error {
        query.append_pair("error", error);
    }
    if return_to != "/" {
        query.append_pair("return_to", return_to);
    }
    Redirect::to(&format!("/sign-in?{}", query.finish())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_site_after_signing_in() {
        for path in ["/", "/teamspaces?x=1", "/oauth/authorize?a=b&c=d"] {
            assert_eq!(safe_return(Some(path)), path);
        }
        for path in ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\nb"] {
            assert_eq!(safe_return(Some(path)), "/", "{path}");
        }
        assert_eq!(safe_return(None), "/");
    }
}
