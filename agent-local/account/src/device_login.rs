//! Signing in without a browser on this machine: the hub gives letters to type in a browser elsewhere (RFC 8628).

use std::time::Duration;

use fairlead_model::ProxySettings;
use fairlead_wire::dpop;
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use url::Url;

use crate::{
    AccountError, Accounts, Hub, HubUrl, SignedIn,
    device::host_name,
    login::{become_signed_in, hub_to_sign_in_at},
    tokens::{self, CLIENT_ID, Polled, TokenRefusal},
    trust::Authority,
};

/// Between these the hub chooses how often it is asked, and for how long.
const INTERVAL_S: std::ops::RangeInclusive<u64> = 1..=60;
const LIFE_MAX: Duration = Duration::from_secs(3600);
/// How much longer to wait when the hub says that it is asked too often.
const SLOWER_BY: Duration = Duration::from_secs(5);

/// A sign-in that waits for somebody at another machine.
#[derive(Debug)]
pub struct DeviceLogin {
    hub: Hub,
    authority: Option<Authority>,
    proxies: ProxySettings,
    given: Given,
    deadline: Instant,
}

/// What the hub gave. The device code is never shown.
#[derive(Deserialize)]
struct Given {
    device_code: String,
    user_code: String,
    verification_uri: Url,
    verification_uri_complete: Url,
    expires_in: u64,
    interval: u64,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("user_code", &self.user_code).finish_non_exhaustive()
    }
}

impl DeviceLogin {
    /// Asks `hub`, whose certificate may be signed by the authority in `ca_file`, for letters, through `proxies`.
    pub async fn begin(
        accounts: &Accounts,
        hub: &HubUrl,
        ca_file: Option<&std::path::Path>,
        proxies: ProxySettings,
    ) -> Result<Self, AccountError> {
        let (hub, authority) = hub_to_sign_in_at(accounts, hub, ca_file, proxies.clone()).await?;
        hub.greets().await?;
        let url = hub.account().hub().join("/oauth/device_authorization");
        let form = [("client_id", CLIENT_ID), ("device_name", &host_name())];
        let proof = tokens::proof(hub.key(), &url);
        let unreachable = |error| hub.http().explain(hub.account().hub(), &error);
        let asked = hub.http().client().post(url).header("DPoP", proof).form(&form).send().await;
        let answer = asked.map_err(unreachable)?;
        let is_given = answer.status().is_success();
        let body = answer.bytes().await.map_err(unreachable)?;
        if !is_given {
            let why = serde_json::from_slice::<TokenRefusal>(&body).map_or_else(
                |_| "this hub knows no device codes".to_owned(),
                TokenRefusal::in_words,
            );
            return Err(AccountError::LoginFailed { why });
        }
        let given: Given = serde_json::from_slice(&body).map_err(|error| {
            AccountError::NotUnderstood { hub: hub.account().hub().clone(), why: error.to_string() }
        })?;
        let deadline = Instant::now() + Duration::from_secs(given.expires_in).min(LIFE_MAX);
        Ok(Self { hub, authority, proxies, given, deadline })
    }

    /// Returns the page to open, the letters to type there, and the page that has them already.
    #[must_use]
    pub fn where_to_go(&self) -> (&Url, &str, &Url) {
        let Given { verification_uri, user_code, verification_uri_complete, .. } = &self.given;
        (verification_uri, user_code, verification_uri_complete)
    }

    /// Returns the letters that the hub's page must show, as for a sign-in in a browser of this machine.
    #[must_use]
    pub fn code_for_people(&self) -> String {
        dpop::code_for_people(&dpop::jkt(&self.hub.key().public()))
    }

    /// Waits until somebody has answered, and registers this machine.
    pub async fn finish(self, accounts: &Accounts) -> Result<SignedIn, AccountError> {
        let seconds = self.given.interval.clamp(*INTERVAL_S.start(), *INTERVAL_S.end());
        let mut interval = Duration::from_secs(seconds);
        while Instant::now() < self.deadline {
            sleep(interval).await;
            let (http, account) = (self.hub.http(), self.hub.account());
            match tokens::poll(http, account, self.hub.key(), &self.given.device_code).await? {
                Polled::Issued(tokens) => {
                    let authority = self.authority.as_ref();
                    return become_signed_in(
                        &self.hub,
                        authority,
                        &self.proxies,
                        accounts,
                        &tokens,
                    )
                    .await;
                }
                Polled::Pending => {}
                Polled::SlowDown => interval += SLOWER_BY,
                // The network of such machines comes and goes; the hub has its own bound.
                Polled::Unanswered => interval = (interval * 2).min(Duration::from_secs(60)),
            }
        }
        Err(AccountError::LoginTimedOut { minutes: self.given.expires_in / 60 })
    }
}
