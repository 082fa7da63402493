//! How the hub is asked: one client with its trust, its proxies and its patience, and why it got no answer.

use std::{error::Error, time::Duration};

use fairlead_model::{ProxySettings, ProxyUrl};
use reqwest::{Client, Proxy, Url};

use crate::{
    AccountError, HubUrl,
    trust::{Authority, certificate_error, http_builder},
};

/// The way to the hub stands within this time, what a proxy has to say included.
const CONNECT_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client,
    proxies: ProxySettings,
}

impl Http {
    pub(crate) fn new(extra: Option<Authority>, proxies: ProxySettings) -> Self {
        let by = proxies.clone();
        // The environment is not asked again: whoever made the settings has read it.
        let proxy = Proxy::custom(move |url: &Url| {
            let proxy = by.towards(url.host_str()?, url.port_or_known_default()?)?;
            Some(proxy.expose().to_owned())
        });
        let client = http_builder(extra)
            .proxy(proxy)
            .connect_timeout(CONNECT_MAX)
            .timeout(ANSWER_MAX)
            .user_agent(concat!("fairlead/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("the TLS settings are ours");
        Self { client, proxies }
    }

    #[cfg(test)]
    pub(crate) fn of(client: Client) -> Self {
        Self { client, proxies: ProxySettings::default() }
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// Says whether a request failed because of the certificate, because of the proxy, or because nothing answered.
    pub(crate) fn explain(&self, hub: &HubUrl, error: &reqwest::Error) -> AccountError {
        let hub = hub.clone();
        if let Some(why) = certificate_error(error) {
            return AccountError::NotTrusted { hub, why };
        }
        let base = hub.join("/");
        let port = base.port_or_known_default().unwrap_or_default();
        let why = match error.is_timeout() {
            true => "no answer in time".to_owned(),
            false => innermost(error),
        };
        match self.proxies.towards(hub.host(), port) {
            Some(proxy) => {
                let why = format!("{}: {}", proxy.place(), in_words(proxy, why));
                AccountError::Proxy { hub, why }
            }
            None => AccountError::Unreachable { hub, why },
        }
    }
}

/// Returns the last word of a chain of causes, which is the one that tells a person something.
fn innermost(error: &reqwest::Error) -> String {
    let mut last: &dyn Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// Says in our words what the HTTP library says of a proxy.
fn in_words(proxy: &ProxyUrl, why: String) -> String {
    let has_credentials = proxy.credentials().is_some();
    let words = match why.as_str() {
        "tunnel error: proxy authorization required" if has_credentials => {
            "it does not accept the user and the password in its address"
        }
        "tunnel error: proxy authorization required" => {
            "it asks who you are; write user and password into its address, http://USER:PASSWORD@HOST:PORT"
        }
        "tunnel error: unsuccessful" => "it opens no way there, or is no proxy",
        "tunnel error: unexpected end of file" => "it ended the connection before it had answered",
        "tunnel error: proxy response headers too long" => "it answers without end",
        _ => return why,
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{SocketAddr, TcpListener, TcpStream},
        thread,
    };

    use super::*;

    const HUB: &str = "https://hub.corp.invalid";

    /// Hands the head of each question, and the connection, to `act`.
    fn proxy(act: impl Fn(String, TcpStream) + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        // Ends with the test's process.
        thread::spawn(move || {
            for mut tcp in listener.incoming().flatten() {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    tcp.read_exact(&mut byte).expect("a question");
                    head.push(byte[0]);
                }
                act(String::from_utf8(head).expect("text").to_lowercase(), tcp);
            }
        });
        address
    }

    fn saying(answer: &'static str) -> SocketAddr {
        proxy(move |_, mut tcp| drop(tcp.write_all(answer.as_bytes())))
    }

    /// Asks the hub through a proxy and returns what a person reads.
    async fn asks(proxy: SocketAddr) -> String {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let said =
            |name: &str| (name == "HTTPS_PROXY").then(|| format!("http://ada:p%40ss@{proxy}"));
        let http = Http::new(None, ProxySettings::read(said).expect("valid"));
        let hub: HubUrl = HUB.parse().expect("valid");
        let failed = http.client().get(hub.join("/")).send().await.expect_err("no hub is there");
        let said = http.explain(&hub, &failed).to_string();
        assert!(said.contains(&proxy.to_string()) && !said.contains("p@ss"), "{said}");
        said
    }

    #[tokio::test]
    async fn a_proxy_is_told_who_asks_and_for_whom() {
        let proxy = proxy(|head, mut tcp| {
            let asked = head.starts_with("connect hub.corp.invalid:443 http/1.1\r\n")
                && head.contains("proxy-authorization: basic ywrhonbac3m=\r\n");
            let answer = if asked { "HTTP/1.1 407 Who?\r\n\r\n" } else { "?" };
            drop(tcp.write_all(answer.as_bytes()));
        });
        let said = asks(proxy).await;
        assert!(said.contains("does not accept the user and the password"), "{said}");
    }

    #[tokio::test]
    async fn each_fault_of_a_proxy_is_said_in_words() {
        let refusing = saying("HTTP/1.1 502 Bad Gateway\r\n\r\n");
        assert!(asks(refusing).await.contains("opens no way there"));
        let cut = saying("HTTP/1.1 200 Connection establ");
        assert!(asks(cut).await.contains("ended the connection before it had answered"));
        let endless = proxy(|_, mut tcp| {
            drop(tcp.write_all(b"HTTP/1.1 200 OK\r\nX-More: "));
            while tcp.write_all(b"and more ").is_ok() {}
        });
        assert!(asks(endless).await.contains("answers without end"));
    }

    #[tokio::test]
    async fn a_proxy_that_hangs_is_not_waited_for() {
        let asked = std::sync::Arc::new(tokio::sync::Notify::new());
        let was_asked = std::sync::Arc::clone(&asked);
        let held = std::sync::Mutex::new(Vec::new());
        let proxy = proxy(move |_, tcp| {
            held.lock().expect("unpoisoned").push(tcp);
            was_asked.notify_one();
        });
        let (said, ()) = tokio::join!(asks(proxy), async {
            asked.notified().await;
            tokio::time::pause();
            tokio::time::advance(CONNECT_MAX * 2).await;
            tokio::time::resume();
        });
        assert!(said.contains("no answer in time"), "{said}");
    }
}
