//! The few pages that the hub draws itself: what happened, and what to try. They need no script.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use url::{Host, Url};

/// A page that tells somebody why they are not signed in.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) status: StatusCode,
    pub(super) title: String,
    /// What happened.
    pub(super) what: String,
    /// What to try.
    pub(super) remedy: String,
    /// For whoever runs the hub, in small type.
    pub(super) detail: Option<String>,
    pub(super) action: Action,
    /// Where the form of the page leads in the end, when that is not this hub.
    pub(super) leads_to: Option<Url>,
}

/// The one thing to do on a page.
#[derive(Debug)]
pub(super) enum Action {
    None,
    /// A link: the address and its words.
    Link(&'static str, &'static str),
    /// A form that posts one hidden token to an address: the address, the token and the words of its button.
    Post(&'static str, String, &'static str),
    /// A form that posts to the page's own address: the words of its button, and the code to compare before.
    Confirm(&'static str, String),
    /// A form that leads to an address with what somebody typed: the address, the name of the field, its label and the
    /// words of its button.
    Enter(&'static str, &'static str, &'static str, &'static str),
    /// A form that posts an answer to the page's own address: the words of its two buttons, which send `allow` and
    /// `deny`, and the code to compare before.
    Decide(&'static str, &'static str, String),
}

impl Notice {
    /// A sign-in that failed for the reason `what`, and can be tried again.
    pub(super) fn failed(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            title: "You are not signed in".to_owned(),
            what: what.into(),
            remedy: remedy.into(),
            detail: None,
            action: Action::Link("/login", "Sign in again"),
            leads_to: None,
        }
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(super) const fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(super) fn without_action(mut self) -> Self {
        self.action = Action::None;
        self
    }

    fn body(&self) -> String {
        let detail = self.detail.as_ref().map_or_else(String::new, |detail| {
            format!("<p class=\"detail\">{}</p>", escape(detail))
        });
        let action = match &self.action {
            Action::None => String::new(),
            Action::Link(address, words) => {
                format!("<p><a class=\"button\" href=\"{address}\">{words}</a></p>")
            }
            Action::Post(address, token, words) => format!(
                "<form method=\"post\" action=\"{address}\">\
                 <input type=\"hidden\" name=\"token\" value=\"{}\">\
                 <button class=\"button\">{words}</button></form>",
                escape(token)
            ),
            Action::Enter(address, name, label, words) => format!(
                "<form action=\"{address}\"><label>{label} <input name=\"{name}\" required autofocus \
                 autocomplete=\"off\" autocapitalize=\"characters\" spellcheck=\"false\" maxlength=\"20\"></label> \
                 <button class=\"button\">{words}</button></form>"
            ),
            Action::Decide(allow, deny, code) => format!(
                "<p class=\"code\">{}</p><form method=\"post\"><button class=\"button\" name=\"answer\" value=\"allow\">{allow}</button> \
                 <button class=\"button other\" name=\"answer\" value=\"deny\">{deny}</button></form>",
                escape(code)
            ),
            Action::Confirm(words, code) => format!(
                "<p class=\"code\">{}</p><form method=\"post\"><button class=\"button\">{words}</button></form>",
                escape(code)
            ),
        };
        format!(
            "<h1>{}</h1><p>{}</p><p>{}</p>{detail}{action}",
            escape(&self.title),
            escape(&self.what),
            escape(&self.remedy)
        )
    }
}

impl IntoResponse for Notice {
    fn into_response(self) -> Response {
        let nonce = STANDARD.encode(rand::random::<[u8; 16]>());
        let html = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{} · Fairlead</title><style nonce=\"{nonce}\">{STYLE}</style></head>\
             <body><main><p class=\"brand\">Fairlead</p>{}</main></body></html>",
            escape(&self.title),
            self.body()
        );
        let policy = format!(
            "default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; \
             form-action 'self'{}; frame-ancestors 'none'",
            self.leads_to.as_ref().map(form_target).unwrap_or_default()
        );
        let headers = [
            (
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_str(&policy).expect("base64 and ASCII"),
            ),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            // Under `no-referrer` browsers say `Origin: null` with a form, and we could not tell whose page it was.
            (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        ];
        (self.status, headers, Html(html)).into_response()
    }
}

/// Returns the address as a source of the policy. Browsers hold every redirect after a form against it.
fn form_target(url: &Url) -> String {
    match url.host() {
        // The policy has no words for an IPv6 address.
        Some(Host::Ipv6(_)) | None => format!(" {}:", url.scheme()),
        Some(_) => format!(" {}", url.origin().ascii_serialization()),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1a1f2b;--soft:#5b6577;--page:#f4f6f9;--card:#fff;--line:#dde2ea;--accent:#0b7285}\
@media(prefers-color-scheme:dark){:root{--ink:#e8ebf1;--soft:#9aa5b8;--page:#11151d;--card:#1a202c;--line:#2c3546;--accent:#3bc9db}}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--page);color:var(--ink);\
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
main{width:100%;min-width:0;max-width:34rem;padding:2.25rem;background:var(--card);border:1px solid var(--line);border-radius:12px}\
.brand{margin:0 0 1.5rem;font-weight:650;letter-spacing:.02em;color:var(--accent)}\
h1{margin:0 0 .75rem;font-size:1.4rem;line-height:1.25}\
p{margin:0 0 .9rem;overflow-wrap:anywhere}\
.detail{padding:.7rem .9rem;border-radius:8px;background:var(--page);color:var(--soft);font:13px/1.5 ui-monospace,Menlo,Consolas,monospace}\
.code{padding:.6rem .9rem;border-radius:8px;background:var(--page);font:600 1.3rem/1.5 ui-monospace,Menlo,Consolas,monospace;letter-spacing:.08em}\
.button{display:inline-block;margin-top:.5rem;padding:.6rem 1.1rem;border:0;border-radius:8px;background:var(--accent);\
color:var(--card);font:inherit;font-weight:600;text-decoration:none;cursor:pointer}\
.other{background:var(--page);color:var(--ink);border:1px solid var(--line)}\
label{display:block}\
input{display:block;width:100%;max-width:17rem;margin:.3rem 0 .5rem;padding:.5rem .7rem;border:1px solid var(--line);border-radius:8px;background:var(--page);\
color:var(--ink);font:1.2rem ui-monospace,Menlo,Consolas,monospace;letter-spacing:.1em;text-transform:uppercase}\
.button:focus-visible{outline:3px solid var(--accent);outline-offset:3px}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_said_cannot_become_markup() {
        let notice = Notice::failed("<script>alert(1)</script>", "\"'&").detail("<b>");
        let body = notice.body();
        assert!(!body.contains("<script>") && !body.contains("<b>"), "{body}");
        assert!(body.contains("&lt;script&gt;"), "{body}");
    }

    #[test]
    fn a_form_may_lead_to_the_program_that_asked_and_nowhere_else() {
        let policy = |leads_to: &str| {
            let leads_to = Some(leads_to.parse().expect("a URL"));
            let response = Notice { leads_to, ..Notice::failed("a", "b") }.into_response();
            response.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("ASCII").to_owned()
        };
        let policy_of_v4 = policy("http://127.0.0.1:40123/callback");
        assert!(
            policy_of_v4.contains("form-action 'self' http://127.0.0.1:40123;"),
            "{policy_of_v4}"
        );
        assert!(policy("http://[::1]:9/callback").contains("form-action 'self' http:;"));
    }

    #[test]
    fn a_page_allows_its_own_style_and_nothing_else() {
        let response = Notice::failed("a", "b").into_response();
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("ASCII");
        assert!(policy.starts_with("default-src 'none'; style-src 'nonce-"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
