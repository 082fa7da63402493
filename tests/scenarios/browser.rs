//! A browser, as far as the hub can tell: cookies, redirects, and the Origin header of its pages.

use std::collections::BTreeMap;

use reqwest::{Client, Method, RequestBuilder, header, redirect};
use serde_json::Value;
use url::Url;

const MAX_REDIRECTS: usize = 20;

/// What is shown after all redirects.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) url: Url,
    pub(crate) body: String,
}

impl Page {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

#[derive(Debug)]
pub(crate) struct Browser {
    client: Client,
    hub: String,
    /// By authority and name.
    cookies: BTreeMap<(String, String), String>,
}

impl Browser {
    pub(crate) fn new(hub: &str, authority: &str) -> Self {
        let trusted = reqwest::Certificate::from_pem(authority.as_bytes()).expect("PEM");
        let client = Client::builder()
            .tls_certs_only([trusted])
            .redirect(redirect::Policy::none())
            .build()
            .expect("built");
        Self { client, hub: hub.to_owned(), cookies: BTreeMap::new() }
    }

    /// Signs in at the identity provider and returns the page on which it ends.
    pub(crate) async fn sign_in(&mut self, person: &str) -> Page {
        let page = self.open("/login").await;
        self.answer_who(page, person).await
    }

    /// Answers the provider's question who one is, if it is asked.
    pub(crate) async fn answer_who(&mut self, page: Page, person: &str) -> Page {
        if !page.body.contains("Who are you?") {
            return page;
        }
        let form = [("user", person)];
        let request = self.client.request(Method::POST, page.url.clone()).form(&form);
        self.follow(request, page.url).await
    }

    /// Opens an address of the hub, or an absolute one, and follows redirects.
    pub(crate) async fn open(&mut self, address: &str) -> Page {
        let url = self.absolute(address);
        let request = self.client.get(url.clone());
        self.follow(request, url).await
    }

    /// Opens an address and returns where it leads, without going there.
    pub(crate) async fn leads_to(&mut self, address: &str) -> Url {
        let url = self.absolute(address);
        let request = self.client.get(url.clone());
        self.once(request, &url).await.1.expect("a redirect")
    }

    /// Returns the member of this address, as whoever is signed in sees them.
    pub(crate) async fn member(&self, email: &str) -> Value {
        let mut page = self.get("/api/v1/members").await.json();
        let members = page["members"].take();
        let found =
            members.as_array().expect("a list").iter().find(|member| member["email"] == email);
        found.expect("a member").clone()
    }

    pub(crate) async fn get(&self, path: &str) -> Page {
        self.write(Method::GET, path, None, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Page {
        self.write(Method::POST, path, Some(body), &self.hub).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Page {
        self.write(Method::PUT, path, Some(body), &self.hub).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Page {
        self.write(Method::DELETE, path, None, &self.hub).await
    }

    /// Sends a write as a page of `origin` would.
    pub(crate) async fn write(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        origin: &str,
    ) -> Page {
        let url = self.absolute(path);
        let mut request = self.client.request(method, url.clone()).header(header::ORIGIN, origin);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = self.with_cookies(request, &url).send().await.expect("the hub answers");
        Page { status: answer.status().as_u16(), url, body: answer.text().await.expect("text") }
    }

    /// Posts a form of a page of the hub and follows redirects.
    pub(crate) async fn submit(&mut self, path: &str, form: &[(&str, &str)]) -> Page {
        let url = self.absolute(path);
        let request = self.client.post(url.clone()).header(header::ORIGIN, &self.hub).form(form);
        self.follow(request, url).await
    }

    /// Presses the button with which somebody lets the command line act as them.
    pub(crate) async fn confirms(&mut self, page: Page) -> Page {
        if page.url.path() != "/oauth/authorize" || page.status != 200 {
            return page;
        }
        let request = self.client.post(page.url.clone()).header(header::ORIGIN, &self.hub);
        self.follow(request, page.url).await
    }

    /// Presses one of the two buttons of a page that asks about a machine.
    pub(crate) async fn decides(&mut self, page: &Page, answer: &str) -> Page {
        let request = self.client.post(page.url.clone()).header(header::ORIGIN, &self.hub);
        self.follow(request.form(&[("answer", answer)]), page.url.clone()).await
    }

    async fn follow(&mut self, request: RequestBuilder, url: Url) -> Page {
        let (mut page, mut next) = self.once(request, &url).await;
        for _ in 0..MAX_REDIRECTS {
            let Some(url) = next else { return page };
            // The loopback listener of a command line is not a page: the test looks at the address.
            if url.path() == "/callback" {
                return Page { url, ..page };
            }
            let request = self.client.get(url.clone());
            (page, next) = self.once(request, &url).await;
        }
        panic!("too many redirects, the last one to {}", page.url);
    }

    async fn once(&mut self, request: RequestBuilder, url: &Url) -> (Page, Option<Url>) {
        let answer = self.with_cookies(request, url).send().await.expect("somebody answers");
        let text = |value: &header::HeaderValue| value.to_str().expect("ASCII").to_owned();
        for cookie in answer.headers().get_all(header::SET_COOKIE).iter().map(text) {
            let (pair, rest) = cookie.split_once(';').unwrap_or((&cookie, ""));
            let (name, value) = pair.split_once('=').expect("a cookie has a name");
            let key = (url.authority().to_owned(), name.to_owned());
            if rest.contains("Max-Age=0") {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
        let next = answer
            .status()
            .is_redirection()
            .then(|| answer.headers().get(header::LOCATION).map(text))
            .flatten()
            .map(|location| url.join(&location).expect("a URL"));
        let status = answer.status().as_u16();
        let page = Page { status, url: url.clone(), body: answer.text().await.expect("text") };
        (page, next)
    }

    fn with_cookies(&self, request: RequestBuilder, url: &Url) -> RequestBuilder {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .filter(|((authority, _), _)| authority == url.authority())
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        if cookies.is_empty() {
            request
        } else {
            request.header(header::COOKIE, cookies.join("; "))
        }
    }

    fn absolute(&self, address: &str) -> Url {
        let address = if address.starts_with('/') {
            format!("{}{address}", self.hub)
        } else {
            address.to_owned()
        };
        Url::parse(&address).expect("a URL")
    }
}
