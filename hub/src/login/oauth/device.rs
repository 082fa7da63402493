//! Signing in a machine without a browser (RFC 8628): it shows a few letters, and somebody who is signed in types them in
//! a browser elsewhere and says whether it may act as them.
//!
//! As with the loopback redirect the tokens are for the key of the device that asked, and the page shows what tells that
//! key from others. Opening a page allows nothing; a button of our own page does.

use axum::{
    Form, Json,
    extract::{FromRequest as _, OriginalUri, Query, Request, State, rejection::FormRejection},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};
use fairlead_model::{
    Token, TokenKind,
    timers::{DEVICE_CODE_LIFE, DEVICE_CODE_POLL},
};
use fairlead_wire::dpop;
use hub_store::{Bearer, NewDeviceCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    CLIENT_ID, DEVICE_PATH,
    authorize::to_sign_in,
    token::{TokenRefused, fresh_proof, no_store},
};
use crate::{
    Hub,
    http::{error::Problem, peer_of},
    login::{
        caller::{is_from_our_pages, signed_in},
        pages::{Action, Notice},
    },
};

/// No vowels, so that no word comes about, and nothing that looks like something else.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LETTERS_SHOWN: usize = 8;
const NAME_MAX_CHARS: usize = 100;

#[derive(Deserialize)]
pub(super) struct DeviceRequest {
    client_id: Option<String>,
    /// What the machine calls itself: no part of the standard, which leaves room for it.
    device_name: Option<String>,
}

#[derive(Serialize)]
struct DeviceAnswer {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: String,
    expires_in: u64,
    interval: u64,
}

/// Gives a machine its code, and the letters that somebody must type.
pub(super) async fn begin(
    State(hub): State<Hub>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, TokenRefused> {
    let (parts, body) = request.into_parts();
    let asked_from = peer_of(&parts).map(|address| address.to_string());
    let request = Request::from_parts(parts, body);
    let unreadable = |_: FormRejection| TokenRefused::InvalidRequest("the form cannot be read");
    let Form(asked): Form<DeviceRequest> =
        Form::from_request(request, &()).await.map_err(unreadable)?;
    if asked.client_id.as_deref() != Some(CLIENT_ID) {
        return Err(TokenRefused::InvalidClient);
    }
    let device_name = name_of(asked.device_name.as_deref().unwrap_or_default())
        .ok_or(TokenRefused::InvalidRequest("`device_name` is missing or too long"))?;
    let now = hub.clock.now();
    let proof = fresh_proof(&hub, &headers, DEVICE_PATH, now)?;
    let code = Token::new(TokenKind::Device, rand::random());
    let letters = letters(rand::random());
    let new = NewDeviceCode {
        code_hash: code.hash(),
        user_code_hash: hash_of(&letters),
        key_jkt: proof.jkt(),
        device_name,
        asked_from,
    };
    let store = hub.store.unscoped("oauth: nobody has answered for the machine yet");
    if !store.keep_device_code(&new, now).await? {
        return Err(TokenRefused::Busy);
    }
    proof.keep();
    let user_code = shown(&letters);
    let answer = DeviceAnswer {
        device_code: code.expose(),
        verification_uri: hub.config.url("/login/device"),
        verification_uri_complete: hub.config.url(&format!("/login/device?user_code={user_code}")),
        user_code,
        expires_in: DEVICE_CODE_LIFE.as_secs(),
        interval: DEVICE_CODE_POLL.as_secs(),
    };
    Ok((no_store(), Json(answer)).into_response())
}

#[derive(Deserialize)]
pub(super) struct Typed {
    user_code: Option<String>,
}

/// Asks for the letters, and whoever has typed some whether that machine may act as them.
pub(super) async fn ask(
    State(hub): State<Hub>,
    OriginalUri(uri): OriginalUri,
    Query(typed): Query<Typed>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some(caller) = signed_in(&headers, &hub).await? else { return Ok(to_sign_in(&uri)) };
    let Some(typed) = typed.user_code else { return Ok(which().into_response()) };
    let store = hub.store.unscoped("oauth: the letters say which machine is meant");
    let asking = store.asking_device(&hash_of(&typed), hub.clock.now()).await?;
    let Some(asking) = asking else { return Ok(unknown().into_response()) };
    let organization = hub.store.scoped(caller.org).organization().await?;
    let from = asking.asked_from.map(|from| format!(" at {from}")).unwrap_or_default();
    let notice = Notice {
        status: StatusCode::OK,
        title: "Sign in another machine?".to_owned(),
        what: format!(
            "A machine{from} that calls itself {} asks to act as {} of {}.",
            asking.device_name,
            caller.actor.email(),
            organization.name,
        ),
        remedy: "Go on only if you have just run `fairlead login` there yourself, and it shows the code below. Nobody \
                 who sends you letters to type here has your good in mind."
            .to_owned(),
        detail: None,
        action: Action::Decide("Sign it in", "Deny", dpop::code_for_people(&asking.key_jkt)),
        leads_to: None,
    };
    Ok(notice.into_response())
}

#[derive(Deserialize)]
pub(super) struct Answer {
    answer: String,
}

/// Takes the answer, on the press of a button of our own page.
pub(super) async fn answer(
    State(hub): State<Hub>,
    OriginalUri(uri): OriginalUri,
    Query(typed): Query<Typed>,
    headers: HeaderMap,
    Form(given): Form<Answer>,
) -> Result<Response, Problem> {
    if !is_from_our_pages(&Method::POST, &headers, &hub.config.origin()) {
        return Err(Problem::foreign_origin());
    }
    let Some(caller) = signed_in(&headers, &hub).await? else { return Ok(to_sign_in(&uri)) };
    let hash = hash_of(typed.user_code.as_deref().unwrap_or_default());
    let is_allowed = given.answer == "allow";
    let bearer = Bearer { org: caller.org, user: caller.actor.user() };
    let store = hub.store.unscoped("oauth: the letters say which machine is meant");
    let is_answered =
        store.answer_device(&hash, is_allowed.then_some(bearer), hub.clock.now()).await?;
    if !is_answered {
        return Ok(unknown().into_response());
    }
    let (title, what) = if is_allowed {
        ("The machine is signed in", "It goes on by itself within some seconds.")
    } else {
        ("The machine was denied", "It hears so within some seconds.")
    };
    let notice = Notice {
        status: StatusCode::OK,
        title: title.to_owned(),
        what: what.to_owned(),
        remedy: "You may close this page. The console shows your machines and can sign each of them out."
            .to_owned(),
        detail: None,
        action: Action::Link("/", "To the console"),
        leads_to: None,
    };
    Ok(notice.into_response())
}

const ENTER: Action =
    Action::Enter("/login/device", "user_code", "The letters that the machine shows", "Go on");

fn which() -> Notice {
    Notice {
        status: StatusCode::OK,
        title: "Sign in another machine".to_owned(),
        what: "`fairlead login --device` on a machine without a browser shows some letters."
            .to_owned(),
        remedy: "Type them here.".to_owned(),
        detail: None,
        action: ENTER,
        leads_to: None,
    }
}

fn unknown() -> Notice {
    let minutes = DEVICE_CODE_LIFE.as_secs() / 60;
    let what = format!(
        "No machine waits under these letters: they are mistyped, older than {minutes} minutes, or answered already."
    );
    let remedy = "Type them again, or run `fairlead login --device` once more.";
    let notice = Notice::failed(what, remedy).status(StatusCode::NOT_FOUND);
    Notice { title: "Which machine?".to_owned(), action: ENTER, ..notice }
}

/// Returns a name that can be shown: of one line, and not too long.
fn name_of(text: &str) -> Option<&str> {
    let text = text.trim();
    let fits = !text.is_empty() && text.chars().count() <= NAME_MAX_CHARS;
    (fits && !text.chars().any(char::is_control)).then_some(text)
}

/// Makes letters out of random numbers. A little of their evenness is lost, which 34 bits can afford.
fn letters(random: [u32; LETTERS_SHOWN]) -> String {
    let letter = |number: u32| char::from(LETTERS[number as usize % LETTERS.len()]);
    random.into_iter().map(letter).collect()
}

fn shown(letters: &str) -> String {
    let (first, second) = letters.split_at(LETTERS_SHOWN / 2);
    format!("{first}-{second}")
}

/// Hashes what somebody typed, in whatever case and with whatever between the letters.
fn hash_of(typed: &str) -> [u8; 32] {
    let letters = typed.chars().filter(char::is_ascii_alphabetic).take(2 * LETTERS_SHOWN);
    let letters: String = letters.map(|letter| letter.to_ascii_uppercase()).collect();
    Sha256::digest(letters).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_however_they_are_typed() {
        let made = letters([0, 1, 2, 3, 20, 21, u32::MAX, 19]);
        assert_eq!(shown(&made), "BCDF-BCTZ");
        for typed in ["BCDF-BCTZ", "bcdfbctz", " bcdf bctz "] {
            assert_eq!(hash_of(typed), hash_of(&made), "{typed}");
        }
        assert_ne!(hash_of("BCDFBCTX"), hash_of(&made));
    }

    #[test]
    fn a_name_is_one_line() {
        assert_eq!(name_of(" build-7 "), Some("build-7"));
        for bad in ["", "  ", "a\nb", &"x".repeat(101)] {
            assert_eq!(name_of(bad), None, "{bad:?}");
        }
    }
}
