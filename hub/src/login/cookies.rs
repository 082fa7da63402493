//! The two cookies: `__Host-fairlead` is a session, `__Host-fairlead-login` ties a browser to its sign-in.
//!
//! The `__Host-` prefix makes browsers refuse them without `Secure`, with a `Domain`, or from a subdomain.

use axum_extra::extract::{
    CookieJar,
    cookie::{Cookie, SameSite},
};
use cookie::time::Duration;
use fairlead_model::{
    Token, TokenKind,
    timers::{LOGIN_ATTEMPT_LIFE, WEB_SESSION_LIFE},
};

const SESSION: &str = "__Host-fairlead";
const LOGIN: &str = "__Host-fairlead-login";

/// Returns the session that a browser presents.
pub(super) fn session(jar: &CookieJar) -> Option<Token> {
    token(jar, SESSION)
}

/// Returns the secret of the sign-in that this browser has begun.
pub(super) fn login(jar: &CookieJar) -> Option<Token> {
    token(jar, LOGIN)
}

pub(super) fn with_session(jar: CookieJar, token: &Token) -> CookieJar {
    jar.add(cookie(SESSION, token.expose(), WEB_SESSION_LIFE))
}

pub(super) fn with_login(jar: CookieJar, token: &Token) -> CookieJar {
    jar.add(cookie(LOGIN, token.expose(), LOGIN_ATTEMPT_LIFE))
}

pub(super) fn without_session(jar: CookieJar) -> CookieJar {
    jar.add(cookie(SESSION, String::new(), std::time::Duration::ZERO))
}

pub(super) fn without_login(jar: CookieJar) -> CookieJar {
    jar.add(cookie(LOGIN, String::new(), std::time::Duration::ZERO))
}

fn token(jar: &CookieJar, name: &str) -> Option<Token> {
    Token::parse_as(TokenKind::WebSession, jar.get(name)?.value()).ok()
}

fn cookie(name: &'static str, value: String, life: std::time::Duration) -> Cookie<'static> {
    Cookie::build((name, value))
        .path("/")
        .secure(true)
        .http_only(true)
        // Lax and not Strict: the way back from the issuer is a navigation from another site.
        .same_site(SameSite::Lax)
        .max_age(Duration::try_from(life).expect("days fit"))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_cookie_is_kept_from_scripts_and_from_other_sites() {
        let token = Token::new(TokenKind::WebSession, [7; 32]);
        let jar = with_session(CookieJar::new(), &token);
        let text = jar.get(SESSION).expect("added").to_string();
        for part in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Max-Age=604800"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("Domain"), "{text}");
        assert_eq!(session(&jar), Some(token));
    }

    #[test]
    fn a_token_of_another_kind_is_no_session() {
        let token = Token::new(TokenKind::Access, [7; 32]);
        let jar = CookieJar::new().add(Cookie::new(SESSION, token.expose()));
        assert_eq!(session(&jar), None);
    }
}
