//! The way in when no issuer works: the one-time link that `fairlead-hub admin recover` prints.
//!
//! Opening the link changes nothing, so that a preview of it in a chat does not spend it; the button does.

use axum::{
    Form,
    extract::{Query, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Redirect, Response},
};
use axum_extra::extract::CookieJar;
use fairlead_model::{Token, TokenKind};
use hub_store::LinkPurpose;
use serde::Deserialize;

use super::{
    caller::is_from_our_pages,
    failures::SignInFailed,
    pages::{Action, Notice},
    sign_in,
};
use crate::Hub;

#[derive(Debug, Deserialize)]
pub(super) struct Link {
    token: String,
}

/// Asks whether the link is to be used now.
pub(super) async fn ask(
    State(hub): State<Hub>,
    Query(link): Query<Link>,
) -> Result<Notice, SignInFailed> {
    let Ok(token) = Token::parse_as(TokenKind::Setup, &link.token) else { return Ok(spent()) };
    let store = hub.store.unscoped("recover: the link says for whom it is");
    let link_found = store.setup_link(&token.hash(), hub.clock.now()).await?;
    let Some(LinkPurpose::Recover(bearer)) = link_found.map(|found| found.purpose) else {
        return Ok(spent());
    };
    let organization = hub.store.scoped(bearer.org).organization().await?;
    Ok(Notice {
        status: StatusCode::OK,
        title: format!("Recover {}", organization.name),
        what: format!(
            "This link signs you in as an owner of {}, without its sign-in provider. It works once.",
            organization.name
        ),
        remedy: "The audit log records it.".to_owned(),
        detail: None,
        action: Action::Post("/login/recover", link.token, "Sign in as owner"),
        leads_to: None,
    })
}

/// Spends the link and signs its owner in.
pub(super) async fn enter(
    State(hub): State<Hub>,
    headers: HeaderMap,
    jar: CookieJar,
    Form(link): Form<Link>,
) -> Result<Response, SignInFailed> {
    let token = Token::parse_as(TokenKind::Setup, &link.token);
    let (true, Ok(token)) =
        (is_from_our_pages(&Method::POST, &headers, &hub.config.origin()), token)
    else {
        return Ok(spent().into_response());
    };
    let store = hub.store.unscoped("recover: the link says for whom it is");
    let Some(bearer) = store.spend_recover_link(&token.hash(), hub.clock.now()).await? else {
        return Ok(spent().into_response());
    };
    tracing::warn!(user = %bearer.user, organization = %bearer.org, "A recover link was used");
    let jar = sign_in::enter(&hub, jar, bearer).await?;
    Ok((jar, Redirect::to("/")).into_response())
}

fn spent() -> Notice {
    Notice::failed(
        "This link has been used, has expired, or was cut off when it was copied.",
        "On the hub's host, `fairlead-hub admin recover` prints a new one; it works for half an hour.",
    )
    .status(StatusCode::NOT_FOUND)
    .without_action()
}
