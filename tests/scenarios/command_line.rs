//! A command line that signs in: by hand, so that a test can do each step wrongly.

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use fairlead_wire::{authority::DeviceRequest, dpop, key::Key};
use reqwest::{Client, Method, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use crate::{
    browser::{Browser, Page},
    world::World,
};

const REDIRECT: &str = "http://127.0.0.1:49152/callback";
const VERIFIER: &str = "a-verifier-of-forty-three-characters-at-least";

#[derive(Debug)]
pub(crate) struct CommandLine {
    client: Client,
    hub: String,
    pub(crate) key: Key,
}

/// A pair of tokens.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl CommandLine {
    pub(crate) fn new(world: &World) -> Self {
        let trusted = reqwest::Certificate::from_pem(world.authority.as_bytes()).expect("PEM");
        let client = Client::builder().tls_certs_only([trusted]).build().expect("built");
        Self { client, hub: world.url(), key: Key::generate().expect("made") }
    }

    /// Returns the address that `fairlead login` would open.
    pub(crate) fn authorize_url(&self) -> String {
        let mut url = Url::parse(&format!("{}/oauth/authorize", self.hub)).expect("a URL");
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", "fairlead-cli")
            .append_pair("redirect_uri", REDIRECT)
            .append_pair("state", "a state")
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER)))
            .append_pair("code_challenge_method", "S256")
            .append_pair("dpop_jkt", &dpop::jkt(&self.key.public()));
        url.into()
    }

    /// Lets a browser walk to the loopback redirect and returns the code it brings.
    pub(crate) async fn code_by(&self, browser: &mut Browser, person: &str) -> String {
        let page = browser.open(&self.authorize_url()).await;
        let page = browser.answer_who(page, person).await;
        let page = browser.confirms(page).await;
        assert_eq!(page.url.path(), "/callback", "{}", page.body);
        let value = |name: &str| {
            let found = page.url.query_pairs().find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned())
        };
        assert_eq!(value("state").as_deref(), Some("a state"));
        assert_eq!(value("iss").as_deref(), Some(self.hub.as_str()));
        value("code").expect("a code")
    }

    /// Asks to be signed in as a machine without a browser.
    pub(crate) async fn asks_for_letters(&self) -> Value {
        let url = format!("{}/oauth/device_authorization", self.hub);
        let form = [("client_id", "fairlead-cli"), ("device_name", "build-7")];
        let proof = self.proof_for(&self.key, "/oauth/device_authorization", 0);
        let page = self.send(self.client.post(url).form(&form).header("DPoP", proof)).await;
        assert_eq!(page.status, 200, "{}", page.body);
        page.json()
    }

    /// Asks whether somebody has answered.
    pub(crate) async fn polls(&self, device_code: &str) -> Page {
        self.polls_with(&self.key, device_code, 0).await
    }

    /// Asks with a key, on a clock that is this much ahead.
    pub(crate) async fn polls_with(&self, key: &Key, device_code: &str, ahead_s: u64) -> Page {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", "fairlead-cli"),
            ("device_code", device_code),
        ];
        let proof = self.proof_for(key, "/oauth/token", ahead_s);
        self.ask_for_tokens(&form, Some(proof)).await
    }

    /// Brings the API token of a service account.
    pub(crate) async fn brings(&self, api_token: &str) -> Page {
        let form = [
            ("grant_type", "urn:fairlead:grant-type:api-token"),
            ("client_id", "fairlead-cli"),
            ("api_token", api_token),
        ];
        self.ask_for_tokens(&form, Some(self.proof(&self.key))).await
    }

    /// Signs in as `person`.
    pub(crate) async fn signs_in(&self, browser: &mut Browser, person: &str) -> Tokens {
        let code = self.code_by(browser, person).await;
        tokens(&self.redeem(&code, VERIFIER).await)
    }

    pub(crate) async fn redeem(&self, code: &str, verifier: &str) -> Page {
        self.redeem_with(&self.key, code, verifier).await
    }

    pub(crate) async fn redeem_with(&self, key: &Key, code: &str, verifier: &str) -> Page {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", "fairlead-cli"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", verifier),
        ];
        self.ask_for_tokens(&form, Some(self.proof(key))).await
    }

    pub(crate) async fn redeem_rightly(&self, code: &str) -> Page {
        self.redeem(code, VERIFIER).await
    }

    pub(crate) async fn refresh(&self, token: &str) -> Page {
        self.refresh_with(Some(self.proof(&self.key)), token).await
    }

    pub(crate) async fn refresh_with(&self, proof: Option<String>, token: &str) -> Page {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "fairlead-cli"),
            ("refresh_token", token),
        ];
        self.ask_for_tokens(&form, proof).await
    }

    /// Makes a proof for the token endpoint.
    pub(crate) fn proof(&self, key: &Key) -> String {
        self.proof_for(key, "/oauth/token", 0)
    }

    fn proof_for(&self, key: &Key, path: &str, ahead_s: u64) -> String {
        let id = URL_SAFE_NO_PAD.encode(Key::generate().expect("made").public());
        let now = SystemTime::now() + Duration::from_secs(ahead_s);
        dpop::prove(key, "POST", &format!("{}{path}", self.hub), &id, now)
    }

    pub(crate) async fn revoke(&self, token: &str) -> Page {
        let url = format!("{}/oauth/revoke", self.hub);
        self.send(self.client.post(url).form(&[("token", token)])).await
    }

    /// Asks for the certificate of this device.
    pub(crate) async fn certify(&self, access: &str) -> Page {
        self.certify_key(access, &self.key).await
    }

    pub(crate) async fn certify_key(&self, access: &str, key: &Key) -> Page {
        let csr = DeviceRequest::make_pem(key).expect("made");
        let body = json!({ "name": "ada's laptop", "csr_pem": csr });
        self.call(Method::POST, "/api/v1/devices", access, Some(&body)).await
    }

    pub(crate) async fn get(&self, path: &str, access: &str) -> Page {
        self.call(Method::GET, path, access, None).await
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        access: &str,
        body: Option<&Value>,
    ) -> Page {
        let mut request =
            self.client.request(method, format!("{}{path}", self.hub)).bearer_auth(access);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    async fn ask_for_tokens(&self, form: &[(&str, &str)], proof: Option<String>) -> Page {
        let mut request = self.client.post(format!("{}/oauth/token", self.hub)).form(form);
        if let Some(proof) = proof {
            request = request.header("DPoP", proof);
        }
        self.send(request).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Page {
        let request = request.header(header::ACCEPT, "application/json");
        let answer = request.send().await.expect("the hub answers");
        Page {
            status: answer.status().as_u16(),
            url: answer.url().clone(),
            body: answer.text().await.expect("text"),
        }
    }
}

/// Reads tokens from an answer that must hold them.
pub(crate) fn tokens(page: &Page) -> Tokens {
    assert_eq!(page.status, 200, "{}", page.body);
    let json = page.json();
    assert_eq!(json["token_type"], "Bearer");
    let text = |name: &str| json[name].as_str().expect("a token").to_owned();
    Tokens { access: text("access_token"), refresh: text("refresh_token") }
}

/// Returns the code of a refusal of the token endpoint.
pub(crate) fn refused(page: &Page) -> String {
    assert_eq!(page.status, 400, "{}", page.body);
    page.json()["error"].as_str().expect("an error code").to_owned()
}
