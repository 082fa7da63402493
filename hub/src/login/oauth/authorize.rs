//! `/oauth/authorize`: somebody who is signed in, and says so, sends a code to the command line on their own machine.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::{
    extract::{OriginalUri, RawQuery, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Redirect, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use fairlead_model::{Token, TokenKind, timers::AUTHORIZATION_CODE_LIFE};
use fairlead_wire::dpop;
use hub_policy::Caller;
use hub_store::AuthorizationCode;
use url::{Host, Url, form_urlencoded};

use super::CLIENT_ID;
use crate::{
    Hub,
    http::error::Problem,
    login::{
        caller::{is_from_our_pages, signed_in},
        pages::{Action, Notice},
    },
};

/// The `state` of a client may be this long.
const MAX_STATE_BYTES: usize = 1000;

/// An authorization request whose every part has been checked.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    redirect: Url,
    state: String,
    code_challenge: String,
    key_jkt: String,
}

/// Why a request is not answered with a code.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// Shown to the person: nobody knows yet whether the redirect can be trusted.
    Here(&'static str),
    /// Told to the client.
    Redirect(Box<Told>),
}

/// What a client is told at its redirect.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    redirect: Url,
    state: String,
    error: &'static str,
    description: &'static str,
}

/// Asks whoever is signed in whether it was they who ran `fairlead login`.
///
/// Every time: any program on the laptop can listen on loopback and lead the browser here, and whether somebody has just
/// answered the issuer, or the issuer remembered them, cannot be told.
pub(super) async fn ask(
    State(hub): State<Hub>,
    OriginalUri(uri): OriginalUri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let request = match read(query.as_deref().unwrap_or_default()) {
        Ok(request) => request,
        Err(refused) => return Ok(refuse(&hub, refused)),
    };
    let Some(caller) = signed_in(&headers, &hub).await? else { return Ok(to_sign_in(&uri)) };
    let organization = hub.store.scoped(caller.org).organization().await?;
    let notice = Notice {
        status: StatusCode::OK,
        title: "Sign in at the command line?".to_owned(),
        what: format!(
            "A program on this computer asks to act as {} of {} at {}.",
            caller.actor.email(),
            organization.name,
            hub.config.public_url.host_str().unwrap_or_default()
        ),
        remedy: "Go on only if you have just run `fairlead login`, and it shows the code below. \
                 Otherwise close this page."
            .to_owned(),
        detail: None,
        action: Action::Confirm("Sign in", dpop::code_for_people(&request.key_jkt)),
        leads_to: Some(request.redirect),
    };
    Ok(notice.into_response())
}

/// Gives the code, on the press of the button of our own page.
pub(super) async fn confirm(
    State(hub): State<Hub>,
    OriginalUri(uri): OriginalUri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !is_from_our_pages(&Method::POST, &headers, &hub.config.origin()) {
        return Err(Problem::foreign_origin());
    }
    let request = match read(query.as_deref().unwrap_or_default()) {
        Ok(request) => request,
        Err(refused) => return Ok(refuse(&hub, refused)),
    };
    let Some(caller) = signed_in(&headers, &hub).await? else { return Ok(to_sign_in(&uri)) };
    let code = give_code(&hub, &caller, &request).await?;
    let answer = [("code", code.expose()), ("state", request.state)];
    Ok(answer_to(&hub, request.redirect, answer))
}

/// Sends somebody to their issuer, and back to the question.
pub(super) fn to_sign_in(uri: &Uri) -> Response {
    let here = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("return_to", here);
    Redirect::to(&format!("/login?{}", query.finish())).into_response()
}

async fn give_code(hub: &Hub, caller: &Caller, request: &Request) -> Result<Token, Problem> {
    let token = Token::new(TokenKind::Code, rand::random());
    let code = AuthorizationCode {
        org_id: caller.org,
        user_id: caller.actor.user(),
        redirect_uri: request.redirect.to_string(),
        code_challenge: request.code_challenge.clone(),
        key_jkt: request.key_jkt.clone(),
        expires_at: hub.clock.now() + AUTHORIZATION_CODE_LIFE,
        family_id: None,
    };
    let store = hub.store.unscoped("oauth: a code for whoever is signed in");
    store.keep_code(&token.hash(), &code).await?;
    Ok(token)
}

fn answer_to<const N: usize>(
    hub: &Hub,
    mut redirect: Url,
    answer: [(&str, String); N],
) -> Response {
    redirect.query_pairs_mut().extend_pairs(answer).append_pair("iss", &hub.config.origin());
    Redirect::to(redirect.as_str()).into_response()
}

fn refuse(hub: &Hub, refused: Refused) -> Response {
    match refused {
        Refused::Here(what) => Notice::failed(
            what,
            "Run `fairlead login` again. If it goes on, the command line and this hub are of versions too far apart.",
        )
        .status(StatusCode::BAD_REQUEST)
        .without_action()
        .into_response(),
        Refused::Redirect(told) => {
            let Told { redirect, state, error, description } = *told;
            let answer = [
                ("error", error.to_owned()),
                ("error_description", description.to_owned()),
                ("state", state),
            ];
            answer_to(hub, redirect, answer)
        }
    }
}

fn read(query: &str) -> Result<Request, Refused> {
    let value = |name: &str| -> Option<String> {
        let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
        let value = values.next()?.1.into_owned();
        // A parameter that stands twice means whatever its reader takes it for: neither counts.
        values.next().is_none().then_some(value)
    };
    if value("client_id").as_deref() != Some(CLIENT_ID) {
        return Err(Refused::Here(
            "This sign-in was begun by a program that this hub does not know.",
        ));
    }
    let redirect = value("redirect_uri").and_then(|text| loopback(&text)).ok_or(Refused::Here(
        "This sign-in would lead to an address that is not on your own machine.",
    ))?;
    let state = value("state").unwrap_or_default();
    let refused = |error, description| {
        let (redirect, state) = (redirect.clone(), state.clone());
        Err(Refused::Redirect(Box::new(Told { redirect, state, error, description })))
    };
    if state.is_empty() || state.len() > MAX_STATE_BYTES {
        return Err(Refused::Here("This sign-in carries no `state`, or one that is too long."));
    }
    if value("response_type").as_deref() != Some("code") {
        return refused("unsupported_response_type", "only `code` is supported");
    }
    if value("code_challenge_method").as_deref() != Some("S256") {
        return refused("invalid_request", "PKCE with S256 is required");
    }
    let Some(code_challenge) = value("code_challenge").filter(|text| is_sha256(text)) else {
        return refused("invalid_request", "`code_challenge` must be a SHA-256 in base64url");
    };
    let Some(key_jkt) = value("dpop_jkt").filter(|text| is_sha256(text)) else {
        return refused("invalid_request", "`dpop_jkt` must name the device key");
    };
    Ok(Request { redirect, state, code_challenge, key_jkt })
}

/// Reads a redirect to this very machine: any port, by number, and one path.
///
/// `localhost` is refused (RFC 8252, 8.3): what it resolves to is not ours to know.
fn loopback(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_loopback = match url.host()? {
        Host::Ipv4(address) => address == Ipv4Addr::LOCALHOST,
        Host::Ipv6(address) => address == Ipv6Addr::LOCALHOST,
        Host::Domain(_) => false,
    };
    let plain = url.scheme() == "http"
        && url.path() == "/callback"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    (is_loopback && plain).then_some(url)
}

fn is_sha256(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";

    fn query(changes: &[(&str, &str)]) -> String {
        let mut pairs = vec![
            ("client_id", CLIENT_ID),
            ("redirect_uri", "http://127.0.0.1:40123/callback"),
            ("response_type", "code"),
            ("state", "xyz"),
            ("code_challenge", SHA),
            ("code_challenge_method", "S256"),
            ("dpop_jkt", SHA),
        ];
        for (name, value) in changes {
            pairs.retain(|(known, _)| known != name);
            pairs.push((name, value));
        }
        form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
    }

    #[test]
    fn a_complete_request_is_read() {
        let request = read(&query(&[])).expect("complete");
        assert_eq!(request.redirect.as_str(), "http://127.0.0.1:40123/callback");
        assert!(read(&query(&[("redirect_uri", "http://[::1]:9/callback")])).is_ok());
    }

    #[test]
    fn a_code_goes_to_the_own_machine_only() {
        for address in [
            "http://localhost:9/callback",
            "https://127.0.0.1:9/callback",
            "http://127.0.0.1:9/callback/",
            "http://127.0.0.1:9/callback?x=1",
            "http://127.0.0.1@evil.example/callback",
            "http://x@127.0.0.1:9/callback",
            "http://127.0.0.1.evil.example/callback",
            "http://192.168.0.1:9/callback",
            "",
        ] {
            let refused = read(&query(&[("redirect_uri", address)])).expect_err(address);
            assert!(matches!(refused, Refused::Here(_)), "{address}: {refused:?}");
        }
    }

    #[test]
    fn pkce_and_the_device_key_are_required() {
        for (name, value) in [
            ("code_challenge_method", "plain"),
            ("code_challenge", "short"),
            ("dpop_jkt", ""),
            ("response_type", "token"),
        ] {
            let refused = read(&query(&[(name, value)])).expect_err(name);
            assert!(matches!(refused, Refused::Redirect(_)), "{name}: {refused:?}");
        }
    }

    #[test]
    fn a_parameter_that_stands_twice_counts_for_nothing() {
        let twice = format!("{}&client_id=fairlead-cli", query(&[]));
        assert!(matches!(read(&twice), Err(Refused::Here(_))));
    }
}
