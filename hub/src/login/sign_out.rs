//! Leaving: `POST /logout` ends this browser's session.

use axum::{
    extract::State,
    http::{HeaderMap, Method},
    response::{IntoResponse, Redirect, Response},
};
use axum_extra::extract::CookieJar;

use super::{caller::is_from_our_pages, cookies};
use crate::{Hub, http::error::Problem};

pub(super) async fn sign_out(
    State(hub): State<Hub>,
    headers: HeaderMap,
    jar: CookieJar,
) -> Result<Response, Problem> {
    if !is_from_our_pages(&Method::POST, &headers, &hub.config.origin()) {
        return Err(Problem::foreign_origin());
    }
    if let Some(token) = cookies::session(&jar) {
        let store = hub.store.unscoped("login: whoever holds the cookie may end it");
        store.end_web_session(&token.hash()).await?;
    }
    Ok((cookies::without_session(jar), Redirect::to("/sign-in")).into_response())
}
