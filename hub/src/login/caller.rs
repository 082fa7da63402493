//! The one place where a cookie or a token becomes a caller.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Method, header, request::Parts},
};
use axum_extra::extract::CookieJar;
use fairlead_model::{Token, TokenKind};
use hub_policy::Caller;
use hub_store::Bearer;

use super::cookies;
use crate::{
    Hub,
    http::{error::Problem, peer_of},
};

/// Somebody who proved who they are, by a browser's cookie or by the command line's token.
#[derive(Debug)]
pub struct Authenticated(pub Caller);

/// Somebody at the command line, with the key that their tokens are bound to.
#[derive(Debug)]
pub struct CommandLine {
    pub caller: Caller,
    pub key_jkt: String,
}

/// How somebody proved who they are.
#[derive(Debug)]
enum Credential {
    Browser(Bearer),
    CommandLine { bearer: Bearer, key_jkt: String },
}

impl FromRequestParts<Hub> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self, Problem> {
        let bearer = match credential(parts, hub).await? {
            Credential::Browser(bearer) | Credential::CommandLine { bearer, .. } => bearer,
        };
        Ok(Self(caller(parts, hub, bearer).await?))
    }
}

impl FromRequestParts<Hub> for CommandLine {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self, Problem> {
        match credential(parts, hub).await? {
            Credential::CommandLine { bearer, key_jkt } => {
                Ok(Self { caller: caller(parts, hub, bearer).await?, key_jkt })
            }
            Credential::Browser(_) => Err(Problem::invalid("only a laptop can ask for this")
                .hint("use the command line: fairlead login")),
        }
    }
}

async fn credential(parts: &Parts, hub: &Hub) -> Result<Credential, Problem> {
    if let Some(text) = bearer_text(&parts.headers) {
        return from_access_token(text, hub).await;
    }
    let token = cookies::session(&CookieJar::from_headers(&parts.headers))
        .ok_or_else(Problem::unauthenticated)?;
    if !is_from_our_pages(&parts.method, &parts.headers, &hub.config.origin()) {
        return Err(Problem::foreign_origin());
    }
    let bearer = hub
        .store
        .unscoped("login: the cookie says whose it is")
        .web_session(&token.hash(), hub.clock.now())
        .await?
        .ok_or_else(Problem::unauthenticated)?;
    Ok(Credential::Browser(bearer))
}

async fn from_access_token(text: &str, hub: &Hub) -> Result<Credential, Problem> {
    let token = Token::parse_as(TokenKind::Access, text).map_err(|_| Problem::unauthenticated())?;
    let found = hub
        .store
        .unscoped("login: the token says whose it is")
        .access_token(&token.hash(), hub.clock.now())
        .await?
        .ok_or_else(Problem::unauthenticated)?;
    Ok(Credential::CommandLine { bearer: found.bearer, key_jkt: found.key_jkt })
}

/// Returns whose cookie a browser brings, for the pages that begin a sign-in when there is none.
pub(super) async fn signed_in(headers: &HeaderMap, hub: &Hub) -> Result<Option<Caller>, Problem> {
    let Some(token) = cookies::session(&CookieJar::from_headers(headers)) else {
        return Ok(None);
    };
    let store = hub.store.unscoped("login: the cookie says whose it is");
    match store.web_session(&token.hash(), hub.clock.now()).await? {
        Some(bearer) => Ok(hub.store.scoped(bearer.org).caller_of(bearer.user).await?),
        None => Ok(None),
    }
}

/// Reads the roles as they are at this moment: a change counts from the next request on.
async fn caller(parts: &Parts, hub: &Hub, bearer: Bearer) -> Result<Caller, Problem> {
    let member = hub.store.scoped(bearer.org).caller_of(bearer.user).await?;
    let member = member.ok_or_else(Problem::unauthenticated)?;
    Ok(Caller { from: peer_of(parts), ..member })
}

fn bearer_text(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Says whether a request that brings a cookie may change something: it must come from a page of this hub.
///
/// `SameSite=Lax` keeps the cookie from foreign writes already. This holds as well for a sibling host of the same
/// site, and for a browser that does not know `SameSite`.
pub(super) fn is_from_our_pages(method: &Method, headers: &HeaderMap, origin: &str) -> bool {
    if method.is_safe() {
        return true;
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text(header::ORIGIN.as_str()) {
        Some(theirs) => theirs == origin,
        None => text("sec-fetch-site") == Some("same-origin"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const OURS: &str = "https://hub.example.com";

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            header::HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn a_write_with_a_cookie_comes_from_our_own_pages() {
        let allowed = |headers: &HeaderMap| is_from_our_pages(&Method::POST, headers, OURS);
        assert!(allowed(&headers("origin", OURS)));
        assert!(allowed(&headers("sec-fetch-site", "same-origin")));
        assert!(!allowed(&headers("origin", "https://evil.example.com")));
        assert!(!allowed(&headers("origin", "null")));
        assert!(!allowed(&headers("sec-fetch-site", "same-site")));
        assert!(!allowed(&HeaderMap::new()));
        assert!(is_from_our_pages(&Method::GET, &HeaderMap::new(), OURS));
    }

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        assert_eq!(bearer_text(&headers("authorization", "bearer fla_x")), Some("fla_x"));
        assert_eq!(bearer_text(&headers("authorization", "Basic eDp5")), None);
    }
}
