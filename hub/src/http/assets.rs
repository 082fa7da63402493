//! The console, as it was built into the program: its files, and its one page for every path that is not a file.

use axum::{
    http::{HeaderMap, HeaderValue, Method, Uri, header},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::error::Problem;
use crate::links;

#[derive(RustEmbed)]
#[folder = "../web/dist"]
struct Console;

/// Where the build puts it; beside it stands a page that says how to build it.
const BUILT: &str = "console/";
const PAGE: &str = "index.html";
const NONCE_PLACE: &str = "__CSP_NONCE__";
/// Vite puts the hash of their content into the names of these.
const HASHED: &str = "assets/";

/// Answers whatever no route of ours has taken.
pub(super) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if links::is_call(&headers) {
        return links::unknown_call();
    }
    if ["api/", "oauth/", "."].iter().any(|ours| path.starts_with(ours)) {
        return Problem::not_found("path").into_response();
    }
    if method != Method::GET && method != Method::HEAD {
        return Problem::not_found("path").into_response();
    }
    match Console::get(&format!("{BUILT}{path}")) {
        Some(file) if path != PAGE => asset(path, file),
        None if is_file_name(path) => Problem::not_found("file").into_response(),
        _ => page(),
    }
}

fn is_file_name(path: &str) -> bool {
    path.starts_with(HASHED) || path.rsplit('/').next().is_some_and(|last| last.contains('.'))
}

fn asset(path: &str, file: EmbeddedFile) -> Response {
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let caching =
        if path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers =
        [(header::CONTENT_TYPE, kind.to_string()), (header::CACHE_CONTROL, caching.to_owned())];
    (headers, file.data).into_response()
}

/// Returns the page, with a fresh nonce for its styles.
fn page() -> Response {
    let built = Console::get(&format!("{BUILT}{PAGE}")).or_else(|| Console::get(PAGE));
    let Some(file) = built else { return Problem::not_found("console").into_response() };
    let nonce = STANDARD.encode(rand::random::<[u8; 16]>());
    let text = String::from_utf8_lossy(&file.data).replace(NONCE_PLACE, &nonce);
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; \
         font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'"
    );
    let policy = HeaderValue::from_str(&policy).expect("base64 is visible ASCII");
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Html(text)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    async fn get(path: &str) -> Response {
        serve(Method::GET, path.parse().expect("a path"), HeaderMap::new()).await
    }

    #[tokio::test]
    async fn every_page_of_the_console_is_the_same_file_with_its_own_nonce() {
        let policy = async |path| {
            let response = get(path).await;
            assert_eq!(response.status(), StatusCode::OK);
            response.headers()[header::CONTENT_SECURITY_POLICY].clone()
        };
        let (one, other) = (policy("/teamspaces/1").await, policy("/").await);
        assert_ne!(one, other);
        assert!(one.to_str().expect("text").contains("script-src 'self';"));
    }

    #[tokio::test]
    async fn what_does_not_exist_is_not_the_console() {
        for path in ["/assets/missing.js", "/favicon.ico", "/api/v1/nothing", "/oauth/nothing"] {
            assert_eq!(get(path).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[tokio::test]
    async fn nothing_is_written_to_the_console() {
        let response = serve(Method::POST, Uri::from_static("/teamspaces"), HeaderMap::new()).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
}
