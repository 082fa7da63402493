//! The only code that changes a cluster, one file per kind. What to change is decided elsewhere (`intercept/plan.rs`);
//! here it is done, with the preconditions that keep a stale decision from being carried out.

mod claims;
pub(crate) mod events;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod fake_fields;
#[cfg(test)]
mod halfway;
pub(crate) mod identity;
pub(crate) mod info;
mod key;
pub(crate) mod leases;
pub(crate) mod services;
pub(crate) mod slices;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The API's own words are kept: an admission policy says there what it forbids.
    #[error("{what}: {}", said(source))]
    Api { what: String, source: kube::Error },
    #[error("{what}: somebody else changed it at the same moment")]
    Conflict { what: String },
    #[error("{what}: it does not exist any more")]
    Gone { what: String },
    #[error("the cluster's API did not answer in time")]
    NoAnswer,
}

impl ApplyError {
    /// Says whether the API was asked and said no: to this account, or to anybody.
    pub(crate) fn is_refusal(&self) -> bool {
        let refusal = |code: u16| matches!(code, 400..=499) && !matches!(code, 401 | 408 | 429);
        matches!(self, Self::Api { source: kube::Error::Api(status), .. } if refusal(status.code))
    }

    /// Says whether the account lacks the right, or an admission policy denies it.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api { source: kube::Error::Api(status), .. } if status.code == 403)
    }
}

impl ApplyError {
    fn from_api(what: impl Into<String>, source: kube::Error) -> Self {
        let what = what.into();
        match &source {
            kube::Error::Api(status) if status.code == 404 => Self::Gone { what },
            kube::Error::Api(status) if status.code == 409 => Self::Conflict { what },
            _ => Self::Api { what, source },
        }
    }
}

fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// A JSON Patch from its operations. Never server-side apply: a Service's selector is atomic there, and leaving our
/// key out of a later apply would delete the whole selector.
fn json_patch(operations: serde_json::Value) -> kube::api::Patch<()> {
    let patch =
        serde_json::from_value(operations).expect("the operations are written in this crate");
    kube::api::Patch::Json(patch)
}

/// Escapes a map key for a JSON pointer.
fn pointer(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
