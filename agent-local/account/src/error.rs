//! What can go wrong between this laptop and its hub, and how a person is told.

use std::{io, path::PathBuf};

use laptop_ipc::{Failure, FailureKind};
use serde::Deserialize;

use crate::{HubUrl, InvalidHubUrl, account::PinChanged};

#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    #[error("you are not signed in")]
    SignedOut,
    #[error("your sign-in at {hub} has ended")]
    SignInEnded { hub: HubUrl },
    #[error("{hub} does not renew your sign-in: {why}")]
    NotRenewed { hub: HubUrl, why: String },
    #[error("the certificate of {hub} is not trusted: {why}")]
    NotTrusted { hub: HubUrl, why: Untrusted },
    #[error("could not reach {hub}: {why}")]
    Unreachable { hub: HubUrl, why: String },
    #[error("could not reach {hub} through the proxy {why}")]
    Proxy { hub: HubUrl, why: String },
    #[error("{}", .0.message)]
    Refused(Refusal),
    #[error("{hub} answered in a way that this version does not understand: {why}")]
    NotUnderstood { hub: HubUrl, why: String },
    #[error("what answers at {hub} is no Fairlead hub")]
    NotAHub { hub: HubUrl },
    #[error(
        "the hub at {hub} is {theirs} and this is {}: they do not understand each other",
        env!("CARGO_PKG_VERSION")
    )]
    OtherVersion { hub: HubUrl, theirs: String },
    #[error("could not read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("could not write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} is damaged: {why}")]
    Damaged { path: PathBuf, why: String },
    #[error("could not read the authority in {path}: {source}")]
    UnreadableAuthority { path: PathBuf, source: io::Error },
    #[error("{path} holds no certificate in PEM form")]
    NoCertificate { path: PathBuf },
    #[error("another fairlead command has held {path} for too long")]
    Locked { path: PathBuf },
    #[error("the sign-in did not succeed: {why}")]
    LoginFailed { why: String },
    #[error("the token of the service account was not accepted: {why}")]
    TokenRefused { why: String },
    #[error("nobody signed in within {minutes} minutes")]
    LoginTimedOut { minutes: u64 },
    #[error(transparent)]
    HubUrl(#[from] InvalidHubUrl),
    #[error(transparent)]
    PinChanged(#[from] PinChanged),
}

/// Why a hub's certificate is not trusted, as far as the remedies differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    #[error("it was signed by an authority that this machine does not know")]
    UnknownAuthority,
    #[error("it was made out to another host")]
    OtherHost,
    #[error("it is not valid at this time")]
    NotAtThisTime,
    #[error("{0}")]
    Otherwise(String),
}

impl Untrusted {
    fn remedy(&self, hub: &HubUrl) -> String {
        match self {
            Self::UnknownAuthority => format!(
                "when your organization's own authority signed it, or that of a proxy which opens TLS on the way, \
                 name it: fairlead login {hub} --ca-file FILE (a job with a token: fairlead run --ca-file FILE)"
            ),
            Self::OtherHost => {
                "use the name that the hub's operator gave you, not an address".to_owned()
            }
            Self::NotAtThisTime => {
                "look at the clock of this machine; if it is right, the hub needs a new certificate"
                    .to_owned()
            }
            Self::Otherwise(_) => "ask the hub's operator to look at its certificate".to_owned(),
        }
    }
}

/// A refusal of the hub, in its own words.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    pub message: String,
    pub hint: Option<String>,
    pub policies: Vec<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorView,
}

#[derive(Deserialize)]
struct ErrorView {
    message: String,
    #[serde(default)]
    hint: Option<String>,
    #[serde(default)]
    policies: Vec<String>,
}

impl Refusal {
    /// Reads the body of an answer that is no success.
    pub(crate) fn read(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(ErrorBody { error: ErrorView { message, hint, policies } }) => {
                Self { status, message, hint, policies }
            }
            Err(_) => Self {
                status,
                message: format!("the hub answered with status {status}"),
                hint: None,
                policies: Vec::new(),
            },
        }
    }

    const fn kind(&self) -> FailureKind {
        match self.status {
            400 | 422 => FailureKind::Input,
            401 => FailureKind::SignedOut,
            403 => FailureKind::Denied,
            404 => FailureKind::NotFound,
            409 => FailureKind::Conflict,
            429 | 500..=599 => FailureKind::HubUnreachable,
            _ => FailureKind::HubFaulty,
        }
    }

    fn into_failure(self) -> Failure {
        let mut message = self.message.clone();
        let hint = self.hint.as_deref().unwrap_or_default();
        // The hub's own words mostly name the policies; whoever asks an admin needs the names in any case.
        for policy in self.policies.iter().filter(|p| !message_names(&self.message, hint, p)) {
            message.push_str(&format!("\n  see policy `{policy}`"));
        }
        Failure { kind: self.kind(), message, hint: self.hint }
    }
}

fn message_names(message: &str, hint: &str, policy: &str) -> bool {
    message.contains(policy) || hint.contains(policy)
}

impl From<AccountError> for Failure {
    fn from(error: AccountError) -> Self {
        use AccountError as E;
        use FailureKind as K;
        let message = error.to_string();
        let failure = |kind| Self::new(kind, message);
        match error {
            E::SignedOut => failure(K::SignedOut).hint("sign in: fairlead login https://YOUR-HUB"),
            E::SignInEnded { hub } => {
                failure(K::SignedOut).hint(format!("sign in again: fairlead login {hub}"))
            }
            E::NotRenewed { hub, .. } => failure(K::SignedOut).hint(format!(
                "look at the clock of this machine (timedatectl); if it is right, sign in again: fairlead login {hub}"
            )),
            E::NotTrusted { hub, why } => failure(K::HubUntrusted).hint(why.remedy(&hub)),
            E::Unreachable { .. } => failure(K::HubUnreachable)
                .hint("check the address and your network, then try again"),
            E::Proxy { .. } => failure(K::HubUnreachable).hint(
                "it comes from HTTPS_PROXY or ALL_PROXY of the shell in which you ran `fairlead login` or `start` last; \
                 hosts in NO_PROXY are reached without it",
            ),
            E::Refused(refusal) => refusal.into_failure(),
            E::NotUnderstood { .. } => failure(K::HubFaulty)
                .hint("compare `fairlead version` with the hub's: one of them may need an update"),
            E::NotAHub { .. } => failure(K::HubFaulty)
                .hint("check the address; a proxy or a sign-in page of the network may have answered in its place"),
            E::OtherVersion { .. } => failure(K::Version)
                .hint("update whichever of the two is older; a newer fairlead also restarts its daemon: fairlead stop, fairlead start"),
            E::HubUrl(_) => failure(K::Input).hint("for example: fairlead login https://hub.example.com"),
            E::UnreadableAuthority { .. } | E::NoCertificate { .. } => failure(K::Input)
                .hint("name a PEM file of your organization's authority: `-----BEGIN CERTIFICATE-----`"),
            E::Damaged { .. } => failure(K::Internal).hint("remove the file and sign in again"),
            E::LoginFailed { .. } => failure(K::SignedOut)
                .hint("try again: fairlead login; when it speaks of clocks, set this one right first"),
            E::TokenRefused { .. } => failure(K::SignedOut).hint(
                "admins see it, and make another: fairlead service-account list, fairlead service-account token",
            ),
            E::LoginTimedOut { .. } => failure(K::SignedOut).hint("try again: fairlead login"),
            E::PinChanged(_) => failure(K::HubUntrusted).hint(
                "ask who operates the cluster whether its agent was installed anew, and compare the thumbprint in \
                 the agent's log; if it is right: fairlead teamspace trust NAME THUMBPRINT",
            ),
            E::Read { .. } => failure(K::Internal).hint("does the file exist, and may you read it?"),
            E::Write { .. } => failure(K::Internal)
                .hint("is the disk full, or does another user own the folder?"),
            E::Locked { .. } => failure(K::Internal).hint("see which one hangs: ps -C fairlead,fairlead-daemon"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(message: &str, hint: &str) -> Failure {
        let body = serde_json::json!({ "error": {
            "code": "forbidden", "message": message, "hint": hint, "policies": ["payments-owners"],
        }});
        AccountError::Refused(Refusal::read(403, body.to_string().as_bytes())).into()
    }

    #[test]
    fn a_denial_names_its_policies_once() {
        let named = failure("you may not", "`payments-owners` allows it to group payments");
        assert_eq!((named.kind, named.message.as_str()), (FailureKind::Denied, "you may not"));
        let unnamed = failure("you may not", "ask an owner");
        assert_eq!(unnamed.message, "you may not\n  see policy `payments-owners`");
    }

    #[test]
    fn an_answer_that_is_no_json_still_has_a_kind() {
        let failure = Failure::from(AccountError::Refused(Refusal::read(503, b"<html>")));
        assert_eq!(failure.kind, FailureKind::HubUnreachable);
    }
}
