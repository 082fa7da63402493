//! Access and refresh token: kept in one file, renewed under the lock that command and daemon share.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fairlead_wire::{dpop, key::Key};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{Account, AccountError, error::Refusal, files, http::Http};

pub(crate) const CLIENT_ID: &str = "fairlead-cli";
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// A token about to expire may be dead on arrival.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_secs(30);

/// What the hub's token endpoint gave. Never log it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
    expires_at: Timestamp,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    refresh_token: String,
    expires_in: i64,
}

#[derive(Deserialize)]
pub(crate) struct TokenRefusal {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

impl TokenRefusal {
    pub(crate) fn in_words(self) -> String {
        self.error_description.unwrap_or(self.error)
    }
}

impl Tokens {
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.expires_at.duration_since(now) > RENEW_BEFORE
    }
}

/// Returns an access token that is good for a while, renewing it when it is not.
pub(crate) async fn access_token(
    http: &Http,
    account: &Account,
    key: &Key,
) -> Result<String, AccountError> {
    let is_good = |tokens: &Tokens| tokens.is_fresh(Timestamp::now());
    match kept(account)? {
        tokens if is_good(&tokens) => Ok(tokens.access),
        _ => renewed(http, account, key, is_good).await,
    }
}

/// Returns another access token than this one, which the hub does not take any more. By a clock that was set back it looks
/// good for longer than it is.
pub(crate) async fn another_than(
    refused: &str,
    http: &Http,
    account: &Account,
    key: &Key,
) -> Result<String, AccountError> {
    renewed(http, account, key, |tokens| tokens.access != refused).await
}

fn kept(account: &Account) -> Result<Tokens, AccountError> {
    files::read_json(&account.tokens_path())?.ok_or(AccountError::SignedOut)
}

/// Renews the tokens, unless those that are kept by now are good.
async fn renewed(
    http: &Http,
    account: &Account,
    key: &Key,
    is_good: impl Fn(&Tokens) -> bool,
) -> Result<String, AccountError> {
    let _lock = account.lock().await?;
    // Somebody else may have renewed them meanwhile; the old refresh token would end the sign-in.
    let tokens = kept(account)?;
    if is_good(&tokens) {
        return Ok(tokens.access);
    }
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", CLIENT_ID),
        ("refresh_token", &tokens.refresh),
    ];
    let mut answer = ask(http, account, key, &form).await;
    if matches!(answer, Err(AskError::Unanswered(_))) {
        // The hub may have renewed them, and answers whoever asks again soon once more. Later it takes that for a theft.
        answer = ask(http, account, key, &form).await;
    }
    match answer {
        Ok(renewed) => {
            files::write_json(&account.tokens_path(), &renewed)?;
            Ok(renewed.access)
        }
        Err(AskError::Refused(refusal)) => Err(not_renewed(account, refusal)?),
        Err(AskError::Unanswered(error) | AskError::Account(error)) => Err(error),
    }
}

/// Forgets the sign-in only when the hub has ended it. A clock that is an hour off is set right, and the sign-in goes on.
fn not_renewed(account: &Account, refusal: TokenRefusal) -> Result<AccountError, AccountError> {
    let hub = account.hub().clone();
    if refusal.error == "invalid_grant" {
        account.forget_sign_in()?;
        return Ok(AccountError::SignInEnded { hub });
    }
    Ok(AccountError::NotRenewed { hub, why: refusal.in_words() })
}

/// Exchanges an authorization code.
pub(crate) async fn redeem(
    http: &Http,
    account: &Account,
    key: &Key,
    form: &[(&str, &str)],
) -> Result<Tokens, AccountError> {
    ask(http, account, key, form).await.map_err(|error| match error {
        AskError::Refused(refusal) => AccountError::LoginFailed { why: refusal.in_words() },
        AskError::Unanswered(error) | AskError::Account(error) => error,
    })
}

/// What the hub says to a device code.
pub(crate) enum Polled {
    Issued(Tokens),
    Pending,
    SlowDown,
    /// Nobody knows: the answer did not come.
    Unanswered,
}

/// Asks whether somebody has answered for a device code.
pub(crate) async fn poll(
    http: &Http,
    account: &Account,
    key: &Key,
    device_code: &str,
) -> Result<Polled, AccountError> {
    let form =
        [("grant_type", DEVICE_GRANT), ("client_id", CLIENT_ID), ("device_code", device_code)];
    match ask(http, account, key, &form).await {
        Ok(tokens) => Ok(Polled::Issued(tokens)),
        Err(AskError::Refused(refusal)) => match refusal.error.as_str() {
            "authorization_pending" => Ok(Polled::Pending),
            "slow_down" => Ok(Polled::SlowDown),
            _ => Err(AccountError::LoginFailed { why: refusal.in_words() }),
        },
        Err(AskError::Unanswered(_)) => Ok(Polled::Unanswered),
        Err(AskError::Account(error)) => Err(error),
    }
}

/// Makes the proof that a request to `url` brings.
pub(crate) fn proof(key: &Key, url: &Url) -> String {
    let id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
    dpop::prove(key, "POST", url.as_str(), &id, SystemTime::now())
}

/// Tells the hub that the sign-in is over. The tokens are forgotten here in any case.
pub(crate) async fn revoke(http: &Http, account: &Account) -> Result<(), AccountError> {
    let tokens = files::read_json::<Tokens>(&account.tokens_path())?;
    account.forget_sign_in()?;
    let Some(tokens) = tokens else { return Ok(()) };
    let form = [("client_id", CLIENT_ID), ("token", tokens.refresh.as_str())];
    let answer = http.client().post(account.hub().join("/oauth/revoke")).form(&form).send().await;
    let answer = answer.map_err(|error| http.explain(account.hub(), &error))?;
    if answer.status().is_success() {
        return Ok(());
    }
    let status = answer.status().as_u16();
    let body = answer.bytes().await.unwrap_or_default();
    Err(AccountError::Refused(Refusal::read(status, &body)))
}

enum AskError {
    Refused(TokenRefusal),
    /// Whether the hub has done what was asked is not known.
    Unanswered(AccountError),
    Account(AccountError),
}

async fn ask(
    http: &Http,
    account: &Account,
    key: &Key,
    form: &[(&str, &str)],
) -> Result<Tokens, AskError> {
    let url: Url = account.hub().join("/oauth/token");
    let unreachable = |error| AskError::Unanswered(http.explain(account.hub(), &error));
    let proof = proof(key, &url);
    let request = http.client().post(url).header("DPoP", proof).form(form);
    let answer = request.send().await.map_err(unreachable)?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(unreachable)?;
    if status.is_success() {
        return read(account, &body).map_err(AskError::Account);
    }
    match serde_json::from_slice::<TokenRefusal>(&body) {
        Ok(refusal) if status.is_client_error() => Err(AskError::Refused(refusal)),
        Ok(_) | Err(_) => {
            Err(AskError::Account(AccountError::Refused(Refusal::read(status.as_u16(), &body))))
        }
    }
}

fn read(account: &Account, body: &[u8]) -> Result<Tokens, AccountError> {
    let TokenAnswer { access_token, refresh_token, expires_in } = serde_json::from_slice(body)
        .map_err(|error| AccountError::NotUnderstood {
            hub: account.hub().clone(),
            why: error.to_string(),
        })?;
    let expires_at = Timestamp::now()
        .checked_add(SignedDuration::from_secs(expires_in))
        .unwrap_or(Timestamp::MAX);
    Ok(Tokens { access: access_token, refresh: refresh_token, expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Accounts, Hub,
        scripted::{Scripted, says},
    };

    const RENEWED: &str =
        r#"{"access_token":"fla_new","refresh_token":"flr_new","expires_in":600}"#;

    #[tokio::test]
    async fn a_refresh_whose_answer_was_lost_is_asked_for_again() {
        let wanted = "refresh_token=flr_old";
        let hub = Scripted::hub(vec![(wanted, String::new()), (wanted, says("200 OK", RENEWED))]);
        hub.account.has_tokens("fla_old", "flr_old", Timestamp::UNIX_EPOCH);
        let key = Key::generate().expect("made");
        let access = access_token(&hub.http, &hub.account, &key).await.expect("renewed");
        assert_eq!(access, "fla_new");
        let proofs: Vec<_> = hub.was_asked().iter().map(|asked| proof_in(asked)).collect();
        assert_ne!(proofs[0], proofs[1], "a proof is good once");
        assert!(proofs.iter().all(|proof| !proof.is_empty()));
    }

    fn proof_in(asked: &str) -> String {
        asked.lines().map(str::to_lowercase).filter(|line| line.starts_with("dpop:")).collect()
    }

    #[tokio::test]
    async fn a_token_that_looks_good_by_a_wrong_clock_is_renewed_when_the_hub_does_not_take_it() {
        let script = vec![
            ("fla_old", says("401 Unauthorized", "{}")),
            ("refresh_token=flr_old", says("200 OK", RENEWED)),
            ("fla_new", says("200 OK", r#"{"teamspaces":[]}"#)),
        ];
        let scripted = Scripted::hub(script);
        scripted.account.has_tokens("fla_old", "flr_old", Timestamp::MAX);
        let hub = Hub::with(scripted.http.clone(), scripted.account.clone()).expect("a key");
        assert!(hub.teamspaces().await.expect("answered").is_empty());
        assert_eq!(scripted.was_asked().len(), 3);
    }

    impl Account {
        fn has_tokens(&self, access: &str, refresh: &str, expires_at: Timestamp) {
            let (access, refresh) = (access.to_owned(), refresh.to_owned());
            let tokens = Tokens { access, refresh, expires_at };
            files::write_json(&self.tokens_path(), &tokens).expect("written");
        }
    }

    fn refusal(error: &str) -> TokenRefusal {
        TokenRefusal { error: error.to_owned(), error_description: Some("in words".to_owned()) }
    }

    #[test]
    fn only_a_sign_in_that_the_hub_has_ended_is_forgotten() {
        let folder = tempfile::tempdir().expect("folder");
        let accounts = Accounts::new(folder.path().to_owned());
        let account = accounts.at(&"https://hub.example.com".parse().expect("valid"));
        files::write(&account.tokens_path(), b"{}").expect("written");
        for error in ["invalid_dpop_proof", "invalid_request", "invalid_client"] {
            let error = not_renewed(&account, refusal(error)).expect("decided");
            assert!(error.to_string().contains("in words"), "{error}");
            assert!(account.is_signed_in());
        }
        let error = not_renewed(&account, refusal("invalid_grant")).expect("decided");
        assert!(matches!(error, AccountError::SignInEnded { .. }) && !account.is_signed_in());
    }
}
