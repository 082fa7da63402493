//! People: signed in with tokens and laptops, as if they had come through their issuer.

use fairlead_model::{DeviceId, Token, TokenKind};
use fairlead_wire::{authority::DeviceRequest, dpop, identity::DeviceName, key::Key};
use hub_policy::Caller;
use hub_store::{AuthorizationCode, Bearer, NewTokens, PresentedKey, Rotated, SignIn, SignedIn};
use reqwest::{Method, StatusCode};
use rustls_pki_types::CertificateDer;
use serde_json::Value;

use crate::world::{Org, World};

pub(crate) struct Person {
    pub(crate) caller: Caller,
    pub(crate) laptop: Laptop,
    token: Token,
    refresh: Token,
    http: reqwest::Client,
}

/// A device: its key and the organization's certificate for it.
pub(crate) struct Laptop {
    pub(crate) id: DeviceId,
    pub(crate) key: Key,
    pub(crate) certificate: CertificateDer<'static>,
}

/// What the hub answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl Answer {
    /// Returns the answer's body when its status is the expected one.
    #[track_caller]
    pub(crate) fn with(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    #[track_caller]
    pub(crate) fn message(&self) -> &str {
        self.body["error"]["message"].as_str().expect("an error")
    }

    pub(crate) fn hint(&self) -> &str {
        self.body["error"]["hint"].as_str().unwrap_or_default()
    }
}

impl World {
    /// Signs somebody in who belongs to `group` of the organization `acme`.
    pub(crate) async fn person(&self, name: &str, group: &str) -> Person {
        self.person_of(&self.acme, name, &[group]).await
    }

    pub(crate) async fn person_of(&self, org: &Org, name: &str, groups: &[&str]) -> Person {
        let sign_in = SignIn {
            org: org.id,
            connection_id: org.connection,
            subject: name.to_owned(),
            email: format!("{name}@example.test"),
            name: name.to_owned(),
            groups: groups.iter().map(ToString::to_string).collect(),
        };
        let store = self.hub.store.unscoped("a test signs somebody in");
        let signed_in = store.sign_in(&sign_in, self.now()).await.expect("signed in");
        let SignedIn::Welcome(bearer) = signed_in else { panic!("{name} is disabled") };
        let caller = self.hub.store.scoped(org.id).caller_of(bearer.user).await;
        let caller = caller.expect("the database answers").expect("a member");
        let key = Key::generate().expect("a key");
        let (token, refresh) = self.tokens(bearer, &key).await;
        let laptop = self.laptop(&caller, key).await;
        Person { caller, laptop, token, refresh, http: reqwest::Client::new() }
    }

    /// Signs a service account of ours in with an API token; nobody when the token does not count.
    pub(crate) async fn service_of(&self, api_token: &str) -> Option<Person> {
        let key = Key::generate().expect("a key");
        let token = Token::new(TokenKind::Access, rand::random());
        let refresh = Token::new(TokenKind::Refresh, rand::random());
        let tokens = NewTokens { access_hash: token.hash(), refresh_hash: refresh.hash() };
        let hash = Token::parse_as(TokenKind::Api, api_token).expect("an API token").hash();
        let store = self.hub.store.unscoped("a test signs a job in");
        let key_jkt = dpop::jkt(&key.public());
        let begun = store.begin_with_api_token(&hash, &key_jkt, &tokens, self.now()).await;
        let bearer = begun.expect("the database answers")?;
        let caller = self.hub.store.scoped(bearer.org).caller_of(bearer.user).await;
        let caller = caller.expect("the database answers").expect("an account");
        let laptop = self.laptop(&caller, key).await;
        Some(Person { caller, laptop, token, refresh, http: reqwest::Client::new() })
    }

    async fn tokens(&self, bearer: Bearer, key: &Key) -> (Token, Token) {
        let token = Token::new(TokenKind::Access, rand::random());
        let refresh = Token::new(TokenKind::Refresh, rand::random());
        let code = self.code_of(bearer, key);
        let code_hash: [u8; 32] = rand::random();
        let tokens = NewTokens { access_hash: token.hash(), refresh_hash: refresh.hash() };
        let store = self.hub.store.unscoped("a test signs somebody in");
        store.keep_code(&code_hash, &code).await.expect("kept");
        let begun = store.begin_family(&code_hash, &code, &tokens, self.now()).await;
        assert!(begun.expect("begun"));
        (token, refresh)
    }

    fn code_of(&self, bearer: Bearer, key: &Key) -> AuthorizationCode {
        AuthorizationCode {
            org_id: bearer.org,
            user_id: bearer.user,
            redirect_uri: "http://127.0.0.1:1/callback".to_owned(),
            code_challenge: "c".repeat(43),
            key_jkt: dpop::jkt(&key.public()),
            expires_at: self.now(),
            family_id: None,
        }
    }

    /// Gives out a code that somebody has not redeemed yet, and returns its hash.
    pub(crate) async fn code(&self, person: &Person) -> [u8; 32] {
        let bearer = Bearer { org: person.caller.org, user: person.caller.actor.user() };
        let code_hash = rand::random();
        let store = self.hub.store.unscoped("a test gives out a code");
        let code = self.code_of(bearer, &person.laptop.key);
        store.keep_code(&code_hash, &code).await.expect("kept");
        code_hash
    }

    /// Signs somebody in once more on the same laptop.
    pub(crate) async fn signs_in_again(&self, person: &Person) {
        let bearer = Bearer { org: person.caller.org, user: person.caller.actor.user() };
        self.tokens(bearer, &person.laptop.key).await;
    }

    async fn laptop(&self, caller: &Caller, key: Key) -> Laptop {
        let request = DeviceRequest::make_pem(&key).expect("a request");
        let request = DeviceRequest::parse_pem(&request).expect("a request");
        let presented = PresentedKey {
            name: "laptop".to_owned(),
            thumbprint: key.thumbprint(),
            key_jkt: dpop::jkt(&key.public()),
            certificate_expires_at: self.now(),
        };
        let kept = self.hub.store.keep_device(caller, &presented, self.now()).await;
        let id = kept.expect("kept");
        let keys = self.hub.keys.organization(caller.org).await.expect("keys");
        let name = DeviceName { organization: caller.org, user: caller.actor.user(), device: id };
        let signed = keys.authority.sign_device(&request, name, self.now().into()).expect("signed");
        Laptop { id, key, certificate: signed.certificate }
    }
}

impl Person {
    pub(crate) async fn get(&self, world: &World, path: &str) -> Answer {
        self.ask(world, Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, world: &World, path: &str, body: Value) -> Answer {
        self.ask(world, Method::POST, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, world: &World, path: &str) -> Answer {
        self.ask(world, Method::DELETE, path, None).await
    }

    /// Refreshes with `token`, or with the first one of the sign-in, and returns what came of it and the next one.
    pub(crate) async fn refreshes(&self, world: &World, token: Option<&Token>) -> (Rotated, Token) {
        let next = Token::new(TokenKind::Refresh, rand::random());
        let tokens = NewTokens { access_hash: rand::random(), refresh_hash: next.hash() };
        let key_jkt = dpop::jkt(&self.laptop.key.public());
        let store = world.hub.store.unscoped("a test refreshes");
        let hash = token.unwrap_or(&self.refresh).hash();
        let rotated = store.rotate(&hash, &key_jkt, &tokens, world.now()).await;
        (rotated.expect("the database answers"), next)
    }

    /// Signs out at the command line.
    pub(crate) async fn signs_out(&self, world: &World) {
        let form = [("token", self.refresh.expose())];
        let request = self.http.post(world.url("/oauth/revoke")).form(&form);
        assert_eq!(request.send().await.expect("the hub answers").status(), StatusCode::OK);
    }

    /// Opens the stream of hints.
    pub(crate) async fn events(&self, world: &World) -> reqwest::Response {
        let request = self.http.get(world.url("/api/v1/events")).bearer_auth(self.token.expose());
        let response = request.send().await.expect("the hub answers");
        assert_eq!(response.status(), StatusCode::OK);
        response
    }

    /// Asks as if a proxy had passed it on for `address`.
    pub(crate) async fn ask_from(
        &self,
        world: &World,
        address: &str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Answer {
        let request = self.http.request(method, world.url(path)).bearer_auth(self.token.expose());
        answer(request.header("x-forwarded-for", address), Some(body.clone())).await
    }

    pub(crate) async fn ask(
        &self,
        world: &World,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let request = self.http.request(method, world.url(path)).bearer_auth(self.token.expose());
        answer(request, body).await
    }
}

/// Asks without any credential.
pub(crate) async fn anonymous(
    world: &World,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Answer {
    answer(reqwest::Client::new().request(method, world.url(path)), body).await
}

async fn answer(request: reqwest::RequestBuilder, body: Option<Value>) -> Answer {
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let response = request.send().await.expect("the hub answers");
    let status = response.status();
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    // A stream of events has no end to wait for.
    if kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
        return Answer { status, body: Value::Null };
    }
    let text = response.text().await.expect("a body");
    Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::Null) }
}
