//! The owner's hand on the hub's API: one client with one connection, on a host of its own, so that what is measured
//! begins when a request is sent and not when a program starts.

use std::{fs, net::SocketAddr, time::Instant};

use anyhow::{Context as _, ensure};
use fairlead_lab::Host;
use fairlead_tests::{HUB_PORTS, HUB_URL, Line};
use reqwest::{
    Certificate, Client, Method,
    header::{COOKIE, HeaderMap, HeaderValue, ORIGIN},
};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// Where neither the laptop's nor the agent's links are cut.
const HOST: Host = Host::Api;
const HUB: &str = "hub.fairlead.test";

#[derive(Debug)]
pub(super) struct Admin {
    client: Client,
    /// Its thread stands in the host's network.
    runtime: Runtime,
}

impl Admin {
    /// Goes on as olga, who has signed in with her browser.
    pub(super) fn sits_down(line: &Line) -> anyhow::Result<Self> {
        let runtime = line
            .world()
            .lab()
            .on(HOST, || Builder::new_multi_thread().worker_threads(1).enable_all().build())?;
        let runtime = runtime.join().expect("making a runtime does not panic")?;
        let authority = Certificate::from_pem(&fs::read(line.world().hub_ca())?)?;
        let [port, _] = HUB_PORTS;
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(&line.olga().cookies()?)?);
        headers.insert(ORIGIN, HeaderValue::from_static(HUB_URL));
        let client = Client::builder()
            .tls_certs_only([authority])
            .resolve(HUB, SocketAddr::from((Host::Hub.address(), port)))
            .default_headers(headers)
            .no_proxy()
            .build()?;
        Ok(Self { client, runtime })
    }

    /// Asks the hub for something that it has to do, and returns the moment of asking with what it answered.
    pub(super) fn asks(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(Instant, Value)> {
        let mut request = self.client.request(method, format!("{HUB_URL}{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let asked = self.runtime.spawn(async move {
            let sent = Instant::now();
            let answer = request.send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((sent, status, answer.text().await?))
        });
        let (sent, status, text) = self.runtime.block_on(asked)??;
        ensure!(status.is_success(), "{path}: {status} {text}");
        if text.is_empty() {
            return Ok((sent, Value::Null));
        }
        let answer = serde_json::from_str(&text).with_context(|| format!("{path}: {text}"))?;
        Ok((sent, answer))
    }

    pub(super) fn reads(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.asks(Method::GET, path, None)?.1)
    }
}
