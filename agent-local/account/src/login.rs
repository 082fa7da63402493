//! Signing in: authorization code with PKCE, answered on a loopback port that exists only for this.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fairlead_model::{ProxySettings, timers::LOGIN_ATTEMPT_LIFE};
use fairlead_wire::dpop;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout, timeout_at},
};
use url::Url;

use crate::{
    AccountError, Accounts, Device, Hub, HubUrl, Me, Profile, files, tokens,
    tokens::{CLIENT_ID, Tokens},
    trust::Authority,
};

const REQUEST_MAX_BYTES: usize = 16 << 10;
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// A sign-in that waits for the browser to come back.
#[derive(Debug)]
pub struct LoginAttempt {
    hub: Hub,
    /// Kept for the account only once it has led to a sign-in: an account that works must not lose its own.
    authority: Option<Authority>,
    /// Kept likewise.
    proxies: ProxySettings,
    listener: TcpListener,
    redirect: String,
    state: String,
    verifier: String,
    deadline: Instant,
}

#[derive(Debug)]
pub struct SignedIn {
    pub me: Me,
    pub device: Device,
}

impl LoginAttempt {
    /// Prepares a sign-in at `hub`, whose certificate may be signed by the authority in `ca_file`, through `proxies`.
    pub async fn begin(
        accounts: &Accounts,
        hub: &HubUrl,
        ca_file: Option<&std::path::Path>,
        proxies: ProxySettings,
    ) -> Result<Self, AccountError> {
        let (hub, authority) = hub_to_sign_in_at(accounts, hub, ca_file, proxies.clone()).await?;
        let no_port = |error: std::io::Error| AccountError::LoginFailed {
            why: format!("no port for the browser's answer: {error}"),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(no_port)?;
        let port = listener.local_addr().as_ref().map_or(0, SocketAddr::port);
        Ok(Self {
            hub,
            authority,
            proxies,
            listener,
            redirect: format!("http://127.0.0.1:{port}/callback"),
            state: random(),
            verifier: random(),
            deadline: Instant::now() + LOGIN_ATTEMPT_LIFE,
        })
    }

    /// Asks the hub whether it is there, trusted and understood, before a browser shows a worse message.
    pub async fn check_hub(&self) -> Result<(), AccountError> {
        self.hub.greets().await.map(drop)
    }

    /// Returns what the browser must open.
    #[must_use]
    pub fn url(&self) -> Url {
        let mut url = self.hub.account().hub().join("/oauth/authorize");
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&self.verifier));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("redirect_uri", &self.redirect)
            .append_pair("state", &self.state)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("dpop_jkt", &dpop::jkt(&self.hub.key().public()));
        url
    }

    /// Returns the letters that the hub's page must show: it asks about this attempt and no other program's.
    #[must_use]
    pub fn code_for_people(&self) -> String {
        dpop::code_for_people(&dpop::jkt(&self.hub.key().public()))
    }

    /// Waits for the browser, redeems the code, and registers this laptop.
    pub async fn finish(self, accounts: &Accounts) -> Result<SignedIn, AccountError> {
        let (mut browser, code) = self.wait_for_code().await?;
        let signed_in = match code {
            Ok(code) => self.redeem(accounts, &code).await,
            Err(why) => Err(AccountError::LoginFailed { why }),
        };
        let said = match &signed_in {
            Ok(signed_in) => page(
                "You are signed in",
                &format!(
                    "as {}. You may close this page and go back to the terminal.",
                    signed_in.me.user.email
                ),
            ),
            Err(error) => page("The sign-in did not succeed", &error.to_string()),
        };
        // Whether the browser hears it changes nothing.
        drop(browser.write_all(said.as_bytes()).await);
        drop(browser.shutdown().await);
        signed_in
    }

    async fn wait_for_code(&self) -> Result<(TcpStream, Result<String, String>), AccountError> {
        loop {
            let accepted = timeout_at(self.deadline, self.listener.accept()).await;
            let Ok(accepted) = accepted else {
                return Err(AccountError::LoginTimedOut {
                    minutes: LOGIN_ATTEMPT_LIFE.as_secs() / 60,
                });
            };
            let Ok((mut browser, _)) = accepted else { continue };
            let target = timeout(REQUEST_PATIENCE, request_target(&mut browser)).await;
            if let Ok(Some(target)) = target
                && let Some(code) = self.code_in(&target)
            {
                return Ok((browser, code));
            }
            // A favicon, a port scanner, a stale tab.
            let lost = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            drop(browser.write_all(lost.as_bytes()).await);
        }
    }

    /// Reads the answer out of a request; `None` when the request is not the answer to this attempt.
    fn code_in(&self, target: &str) -> Option<Result<String, String>> {
        let url = Url::parse("http://127.0.0.1").ok()?.join(target).ok()?;
        let pairs: HashMap<_, _> = url.query_pairs().into_owned().collect();
        if url.path() != "/callback" || pairs.get("state") != Some(&self.state) {
            return None;
        }
        if let Some(code) = pairs.get("code") {
            return Some(Ok(code.clone()));
        }
        let why = pairs.get("error_description").or_else(|| pairs.get("error"))?;
        Some(Err(why.clone()))
    }

    async fn redeem(&self, accounts: &Accounts, code: &str) -> Result<SignedIn, AccountError> {
        let account = self.hub.account();
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT_ID),
            ("code", code),
            ("redirect_uri", &self.redirect),
            ("code_verifier", &self.verifier),
        ];
        let redeemed = tokens::redeem(self.hub.http(), account, self.hub.key(), &form).await?;
        become_signed_in(&self.hub, self.authority.as_ref(), &self.proxies, accounts, &redeemed)
            .await
    }
}

/// Returns the hub as whoever signs in reaches it, through `proxies`; its certificate may be signed by the authority in
/// `ca_file`.
pub(crate) async fn hub_to_sign_in_at(
    accounts: &Accounts,
    hub: &HubUrl,
    ca_file: Option<&std::path::Path>,
    proxies: ProxySettings,
) -> Result<(Hub, Option<Authority>), AccountError> {
    let account = accounts.at(hub);
    let authority = ca_file.map(Authority::read).transpose()?;
    let _lock = account.lock().await?;
    let kept = || account.ca_file().as_deref().map(Authority::read).transpose();
    let trusted = authority.clone().map_or_else(kept, |authority| Ok(Some(authority)))?;
    Ok((Hub::reached(account, trusted, proxies)?, authority))
}

/// Keeps the tokens, registers this laptop, and makes the account the one that commands mean.
pub(crate) async fn become_signed_in(
    hub: &Hub,
    authority: Option<&Authority>,
    proxies: &ProxySettings,
    accounts: &Accounts,
    tokens: &Tokens,
) -> Result<SignedIn, AccountError> {
    let account = hub.account();
    {
        let _lock = account.lock().await?;
        files::write_json(&account.tokens_path(), tokens)?;
    }
    let me = hub.me().await?;
    let profile =
        Profile { email: me.user.email.clone(), organization: me.organization.name.clone() };
    account.keep_profile(&profile)?;
    hub.renew_certificate().await?;
    let device = hub.device().await?;
    if let Some(authority) = authority {
        account.keep_ca(&authority.pem)?;
    }
    accounts.keep_proxies(proxies)?;
    accounts.select(account.hub())?;
    Ok(SignedIn { me, device })
}

fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// Reads a request's head and returns what its first line asks for.
async fn request_target(browser: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut chunk = [0; 2048];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = browser.read(&mut chunk).await.ok()?;
        head.extend_from_slice(&chunk[..read]);
        if read == 0 || head.len() > REQUEST_MAX_BYTES {
            return None;
        }
    }
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    (words.next()? == "GET").then_some(())?;
    words.next().map(str::to_owned)
}

fn page(title: &str, text: &str) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
    let body = format!(
        "<!doctype html><meta charset=utf-8><title>Fairlead</title>\
         <style>body{{font:16px/1.5 system-ui;max-width:32rem;margin:20vh auto;padding:0 1rem;color:#1a1f2b}}\
         h1{{font-size:1.4rem}}</style><h1>{}</h1><p>{}</p>",
        escape(title),
        escape(text)
    );
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn attempt() -> (tempfile::TempDir, LoginAttempt) {
        // Installed once per process; a second test finds it there.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let folder = tempfile::tempdir().expect("folder");
        let accounts = Accounts::new(folder.path().to_owned());
        let hub = "https://hub.example.com".parse().expect("valid");
        let attempt = LoginAttempt::begin(&accounts, &hub, None, ProxySettings::default())
            .await
            .expect("begun");
        (folder, attempt)
    }

    async fn browser_asks(attempt: &LoginAttempt, target: &str) -> TcpStream {
        let address = attempt.listener.local_addr().expect("bound");
        let mut browser = TcpStream::connect(address).await.expect("listening");
        let request = format!("GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        browser.write_all(request.as_bytes()).await.expect("sent");
        browser
    }

    #[tokio::test]
    async fn an_attempt_leaves_the_authority_that_the_account_trusts() {
        let (folder, attempt) = attempt().await;
        let account = attempt.hub.account().clone();
        account.keep_ca(b"the right one").expect("kept");
        let key = rcgen::KeyPair::generate().expect("made");
        let params = rcgen::CertificateParams::new(["other".to_owned()]).expect("a name");
        let other = folder.path().join("other.pem");
        std::fs::write(&other, params.self_signed(&key).expect("signed").pem()).expect("written");
        let accounts = Accounts::new(folder.path().to_owned());
        let direct = ProxySettings::default();
        let attempt = LoginAttempt::begin(&accounts, account.hub(), Some(&other), direct).await;
        attempt.expect("begun").check_hub().await.expect_err("there is no such hub");
        let kept = std::fs::read(account.ca_file().expect("kept")).expect("read");
        assert_eq!(kept, b"the right one");
    }

    #[tokio::test]
    async fn the_url_asks_for_a_code_bound_to_our_key() {
        let (_folder, attempt) = attempt().await;
        let url = attempt.url();
        let pairs: HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(pairs["code_challenge_method"], "S256");
        assert_eq!(pairs["dpop_jkt"], dpop::jkt(&attempt.hub.key().public()));
        assert!(pairs["redirect_uri"].starts_with("http://127.0.0.1:"));
    }

    #[tokio::test]
    async fn only_the_answer_to_this_attempt_counts() {
        let (_folder, attempt) = attempt().await;
        let _favicon = browser_asks(&attempt, "/favicon.ico").await;
        let _forged = browser_asks(&attempt, "/callback?state=guessed&code=stolen").await;
        let answer = format!("/callback?state={}&code=flc_1", attempt.state);
        let _browser = browser_asks(&attempt, &answer).await;
        let (_, code) = attempt.wait_for_code().await.expect("answered");
        assert_eq!(code.as_deref(), Ok("flc_1"));
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_hubs_words() {
        let (_folder, attempt) = attempt().await;
        let answer = format!(
            "/callback?state={}&error=access_denied&error_description=no+member",
            attempt.state
        );
        let _browser = browser_asks(&attempt, &answer).await;
        let (_, code) = attempt.wait_for_code().await.expect("answered");
        assert_eq!(code, Err("no member".to_owned()));
    }
}
