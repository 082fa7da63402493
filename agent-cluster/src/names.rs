//! The names Fairlead writes into a cluster: one key, one label, one annotation, and how its own slices are known.
//! Everything else in a cluster belongs to somebody else.

use std::fmt;

use fairlead_model::{ServiceRef, SessionId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The selector key that matches no pod: with it on a Service, the built-in slices are empty.
pub(crate) const SENTINEL: &str = "fairlead.dev/intercept";
/// Copy of the sentinel as a label, so that one cheap LIST finds every intercepted Service.
pub(crate) const INTERCEPTED: &str = "fairlead.dev/intercepted";
/// Annotation for people (who, since when, the line that restores the Service by hand) and for the next writer: who owned
/// the selector.
pub(crate) const INFO: &str = "fairlead.dev/info";
/// Label of our slices that tells one agent installation from another.
pub(crate) const OWNER: &str = "fairlead.dev/owner";

pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const MANAGED_BY_US: &str = "fairlead.dev";
/// What the cluster's own controller writes there, and keeps in line with the selector.
pub(crate) const MANAGED_BY_CLUSTER: &str = "endpointslice-controller.k8s.io";
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const FIELD_MANAGER: &str = "fairlead-agent";
/// Names the one replica that writes slices and keys; the janitor watches its renewal.
pub(crate) const WRITER_LEASE: &str = "fairlead-agent-writer";

/// Holds the writer's Lease while everything is given back; no pod has this name, and replicas let it work.
pub(crate) const RESTORER: &str = "restore";

/// Listen ports of the redirect, the same on every replica. The admission policy of the chart allows no others.
pub(crate) const LISTEN_PORTS: std::ops::RangeInclusive<u16> = 20_000..=29_999;

/// Tells this installation's keys and slices from those of another agent in the same cluster.
///
/// Derived from where the agent is installed, not from its enrolment, so that the janitor and a re-installation
/// recognise what an earlier agent left behind without asking the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner(String);

impl Owner {
    pub(crate) fn of(namespace: &str, agent_selector: &str) -> Self {
        let digest = Sha256::digest(format!("{namespace}\n{agent_selector}"));
        Self(hex(&digest[..6]))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the session when `value` is a sentinel of this installation.
    pub(crate) fn session_of(&self, value: &str) -> Option<SessionId> {
        let (owner, session) = value.split_once('.')?;
        let session = Uuid::try_parse(session).ok()?;
        (owner == self.0).then(|| SessionId::from_uuid(session))
    }

    pub(crate) fn sentinel(&self, session: SessionId) -> Sentinel {
        Sentinel(format!("{}.{}", self.0, session.as_uuid().as_simple()))
    }
}

/// The value of the sentinel key; short enough for a label (45 of 63 characters).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sentinel(String);

impl fmt::Display for Sentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the name of our slice of `service`: one per Service and address family.
pub(crate) fn slice_name(service: &ServiceRef, ipv6: bool) -> String {
    let digest = Sha256::digest(service.to_string());
    format!("fl-{}-{}", hex(&digest[..8]), if ipv6 { "v6" } else { "v4" })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentinel_names_its_session_and_only_its_owner_reads_it() {
        let ours = Owner::of("fairlead-system", "app=a");
        let session = SessionId::generate();
        let value = ours.sentinel(session).to_string();
        assert!(value.len() <= 63, "{value} is no label value");
        assert_eq!(ours.session_of(&value), Some(session));
        assert_eq!(Owner::of("other", "app=a").session_of(&value), None);
        assert_eq!(ours.session_of("something else"), None);
    }

    /// The chart derives the same, for its admission policies: tests/charts/agent.rs expects this very value.
    #[test]
    fn an_owner_follows_from_where_the_agent_is_installed() {
        let selector = "app.kubernetes.io/instance=fairlead,app.kubernetes.io/component=agent";
        assert_eq!(Owner::of("fairlead-system", selector).as_str(), "4fe867a5e26a");
    }
}
