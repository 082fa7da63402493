//! The REST calls, one method each.

use std::sync::Arc;

use fairlead_model::{
    DeviceId, InterceptPort, Patterns, ProxySettings, ServiceRef, SessionId, TeamspaceId,
};
use fairlead_wire::key::Key;
use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    Account, AccountError, ApiTokenMade, Me, ServiceAccountView, ServiceView, SessionBegun,
    SessionView, TeamspaceView,
    device::Certified,
    error::Refusal,
    http::Http,
    tokens,
    trust::Authority,
    views::{BeginConsume, BeginIntercept},
};

/// A catalogue of 5,000 services is far below.
const BODY_MAX_BYTES: usize = 32 << 20;
/// The version of the REST calls that are made here.
const API: &str = "v1";

/// A hub as its signed-in user reaches it.
#[derive(Debug, Clone)]
pub struct Hub {
    http: Http,
    account: Account,
    key: Arc<Key>,
}

/// What a hub says of itself to whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    pub version: String,
    /// By how many seconds its clock is ahead of ours.
    pub ahead_s: i64,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    /// Of its REST calls.
    api: Vec<String>,
}

#[derive(Deserialize)]
struct Teamspaces {
    teamspaces: Vec<TeamspaceView>,
}

/// Lists come bare or under their noun.
#[derive(Deserialize)]
#[serde(untagged)]
enum TeamspaceList {
    Named(Teamspaces),
    Bare(Vec<TeamspaceView>),
}

#[derive(Deserialize)]
struct Services {
    services: Vec<ServiceView>,
}

#[derive(Deserialize)]
struct ServiceAccounts {
    service_accounts: Vec<ServiceAccountView>,
}

impl Hub {
    /// Makes the connections' settings; nothing is sent yet.
    pub fn new(account: Account) -> Result<Self, AccountError> {
        let extra = account.ca_file().as_deref().map(Authority::read).transpose()?;
        let proxies = account.proxies()?;
        Self::reached(account, extra, proxies)
    }

    /// Trusts this authority, and dials through these proxies, in place of the account's own.
    pub(crate) fn reached(
        account: Account,
        extra: Option<Authority>,
        proxies: ProxySettings,
    ) -> Result<Self, AccountError> {
        Self::with(Http::new(extra, proxies), account)
    }

    pub(crate) fn with(http: Http, account: Account) -> Result<Self, AccountError> {
        let key = account.key()?;
        Ok(Self { http, account, key })
    }

    /// Asks the hub which it is and what time it is there, and sees that the two of us understand each other.
    pub async fn greets(&self) -> Result<Greeting, AccountError> {
        let hub = self.account.hub();
        let failed = |error| self.http.explain(hub, &error);
        let asked = Timestamp::now();
        let answer = self.http.client().get(hub.join("/api/v1/version")).send().await;
        let answer = answer.map_err(failed)?;
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
        let theirs = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        // A hub that says no time has none to differ by.
        let ahead_s = theirs.map_or(0, |it| it.timestamp().as_second() - asked.as_second());
        let is_busy = answer.status().is_server_error();
        let (status, body) = (answer.status().as_u16(), answer.bytes().await.map_err(failed)?);
        if is_busy {
            return Err(AccountError::Refused(Refusal::read(status, &body)));
        }
        let said: Version = serde_json::from_slice(&body)
            .map_err(|_| AccountError::NotAHub { hub: hub.clone() })?;
        if !said.api.iter().any(|api| api == API) {
            return Err(AccountError::OtherVersion { hub: hub.clone(), theirs: said.version });
        }
        Ok(Greeting { version: said.version, ahead_s })
    }

    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) const fn key(&self) -> &Arc<Key> {
        &self.key
    }

    pub(crate) const fn http(&self) -> &Http {
        &self.http
    }

    pub async fn me(&self) -> Result<Me, AccountError> {
        self.get("/api/v1/me").await
    }

    pub async fn teamspaces(&self) -> Result<Vec<TeamspaceView>, AccountError> {
        Ok(match self.get("/api/v1/teamspaces").await? {
            TeamspaceList::Named(Teamspaces { teamspaces }) | TeamspaceList::Bare(teamspaces) => {
                teamspaces
            }
        })
    }

    pub async fn services(&self, of: TeamspaceId) -> Result<Vec<ServiceView>, AccountError> {
        let answer: Services = self.get(&format!("/api/v1/teamspaces/{of}/services")).await?;
        Ok(answer.services)
    }

    pub async fn begin_consume(
        &self,
        teamspace_id: TeamspaceId,
        device_id: DeviceId,
        patterns: &Patterns,
    ) -> Result<SessionBegun, AccountError> {
        let body = BeginConsume { kind: "consume", teamspace_id, device_id, patterns };
        self.post("/api/v1/sessions", &body).await
    }

    /// Changes what a consume is about.
    pub async fn change_consume(
        &self,
        id: SessionId,
        patterns: &Patterns,
    ) -> Result<SessionBegun, AccountError> {
        let path = format!("/api/v1/sessions/{id}/patterns");
        let body = json!({ "patterns": patterns });
        self.read(&self.send(Method::PUT, &path, Some(&body)).await?)
    }

    pub async fn begin_intercept(
        &self,
        teamspace_id: TeamspaceId,
        device_id: DeviceId,
        service: &ServiceRef,
        ports: &[InterceptPort],
    ) -> Result<SessionBegun, AccountError> {
        let service = service.to_string();
        let body = BeginIntercept { kind: "intercept", teamspace_id, device_id, service, ports };
        self.post("/api/v1/sessions", &body).await
    }

    pub async fn session(&self, id: SessionId) -> Result<SessionView, AccountError> {
        self.get(&format!("/api/v1/sessions/{id}")).await
    }

    /// Ends a session. One that is over or unknown is as good as ended.
    pub async fn end_session(&self, id: SessionId) -> Result<(), AccountError> {
        let path = format!("/api/v1/sessions/{id}");
        match self.send(Method::DELETE, &path, None::<&()>).await {
            Err(AccountError::Refused(Refusal { status: 404 | 409 | 410, .. })) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn service_accounts(&self) -> Result<Vec<ServiceAccountView>, AccountError> {
        let answer: ServiceAccounts = self.get("/api/v1/service-accounts").await?;
        Ok(answer.service_accounts)
    }

    pub async fn create_service_account(
        &self,
        name: &str,
        roles: &[String],
        teamspaces: Option<&[TeamspaceId]>,
    ) -> Result<(), AccountError> {
        let body = json!({ "name": name, "roles": roles, "teamspaces": teamspaces });
        self.send(Method::POST, "/api/v1/service-accounts", Some(&body)).await.map(drop)
    }

    pub async fn delete_service_account(&self, id: &str) -> Result<(), AccountError> {
        let path = format!("/api/v1/service-accounts/{id}");
        self.send(Method::DELETE, &path, None::<&()>).await.map(drop)
    }

    pub async fn create_api_token(
        &self,
        account: &str,
        name: &str,
        days: Option<u16>,
    ) -> Result<ApiTokenMade, AccountError> {
        let path = format!("/api/v1/service-accounts/{account}/tokens");
        self.post(&path, &json!({ "name": name, "days": days })).await
    }

    pub async fn revoke_api_token(&self, id: &str) -> Result<(), AccountError> {
        let path = format!("/api/v1/api-tokens/{id}");
        self.send(Method::DELETE, &path, None::<&()>).await.map(drop)
    }

    /// Ends the sign-in, here and at the hub.
    pub async fn sign_out(&self) -> Result<(), AccountError> {
        let _lock = self.account.lock().await?;
        tokens::revoke(&self.http, &self.account).await
    }

    pub(crate) async fn register_device(
        &self,
        name: &str,
        csr_pem: &str,
    ) -> Result<Certified, AccountError> {
        self.post("/api/v1/devices", &json!({ "name": name, "csr_pem": csr_pem })).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AccountError> {
        self.read(&self.send(Method::GET, path, None::<&()>).await?)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, AccountError> {
        self.read(&self.send(Method::POST, path, Some(body)).await?)
    }

    async fn send<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Vec<u8>, AccountError> {
        let token = tokens::access_token(&self.http, &self.account, &self.key).await?;
        let (mut status, mut bytes) = self.ask(&method, path, body, &token).await?;
        if status == StatusCode::UNAUTHORIZED {
            let another = tokens::another_than(&token, &self.http, &self.account, &self.key);
            (status, bytes) = self.ask(&method, path, body, &another.await?).await?;
        }
        match status {
            status if status.is_success() => Ok(bytes),
            StatusCode::UNAUTHORIZED => {
                Err(AccountError::SignInEnded { hub: self.account.hub().clone() })
            }
            status => Err(AccountError::Refused(Refusal::read(status.as_u16(), &bytes))),
        }
    }

    async fn ask<B: Serialize + Sync>(
        &self,
        method: &Method,
        path: &str,
        body: Option<&B>,
        token: &str,
    ) -> Result<(StatusCode, Vec<u8>), AccountError> {
        let url = self.account.hub().join(path);
        let mut request = self.http.client().request(method.clone(), url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let failed = |error| self.http.explain(self.account.hub(), &error);
        let mut answer = request.send().await.map_err(failed)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > BODY_MAX_BYTES {
                return Err(self.not_understood("the answer is too long"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((answer.status(), bytes))
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, AccountError> {
        serde_json::from_slice(bytes).map_err(|error| self.not_understood(&error.to_string()))
    }

    fn not_understood(&self, why: &str) -> AccountError {
        AccountError::NotUnderstood { hub: self.account.hub().clone(), why: why.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Scripted, says};

    async fn greeted_with(status: &str, body: &str) -> Result<Greeting, AccountError> {
        let scripted = Scripted::hub(vec![("/api/v1/version", says(status, body))]);
        let hub = Hub::with(scripted.http.clone(), scripted.account.clone()).expect("a key");
        hub.greets().await
    }

    #[tokio::test]
    async fn a_hub_that_says_which_it_is_is_understood_or_told_from_one_that_is_not() {
        let ours = greeted_with("200 OK", r#"{"version":"0.1.0","api":["v1","v2"]}"#).await;
        assert_eq!(ours.expect("understood").version, "0.1.0");
        let newer = greeted_with("200 OK", r#"{"version":"9.0.0","api":["v2"]}"#).await;
        let newer = laptop_ipc::Failure::from(newer.expect_err("it does not speak v1"));
        assert_eq!(newer.kind, laptop_ipc::FailureKind::Version);
        assert!(
            newer.message.contains("9.0.0") && newer.message.contains(env!("CARGO_PKG_VERSION"))
        );
        assert!(newer.hint.expect("a hint").contains("update"));
        for (status, body) in [("200 OK", "<html>"), ("404 Not Found", "{}")] {
            let stranger = greeted_with(status, body).await.expect_err("no hub");
            assert!(matches!(stranger, AccountError::NotAHub { .. }), "{stranger}");
        }
        let busy = greeted_with("503 Service Unavailable", "").await.expect_err("not now");
        assert!(matches!(busy, AccountError::Refused(_)), "{busy}");
    }
}
