//! Signing in as a service account: no browser, a token that somebody made for the job.

use fairlead_model::ProxySettings;

use crate::{
    AccountError, Accounts, HubUrl, SignedIn,
    login::{become_signed_in, hub_to_sign_in_at},
    tokens::{self, CLIENT_ID},
};

const API_TOKEN_GRANT: &str = "urn:fairlead:grant-type:api-token";

/// Signs this machine in at `hub`, whose certificate may be signed by the authority in `ca_file`. The token itself is not
/// kept: what it gives is bound to this machine's key, and ends with it.
pub async fn sign_in_with_token(
    accounts: &Accounts,
    hub: &HubUrl,
    ca_file: Option<&std::path::Path>,
    proxies: ProxySettings,
    token: &str,
) -> Result<SignedIn, AccountError> {
    let (hub, authority) = hub_to_sign_in_at(accounts, hub, ca_file, proxies.clone()).await?;
    hub.greets().await?;
    let form =
        [("grant_type", API_TOKEN_GRANT), ("client_id", CLIENT_ID), ("api_token", token.trim())];
    let redeemed = tokens::redeem(hub.http(), hub.account(), hub.key(), &form).await;
    let redeemed = redeemed.map_err(|error| match error {
        AccountError::LoginFailed { why } => AccountError::TokenRefused { why },
        other => other,
    })?;
    become_signed_in(&hub, authority.as_ref(), &proxies, accounts, &redeemed).await
}
