//! The Lease that names the one replica which writes keys and slices.
#![expect(
    clippy::disallowed_methods,
    reason = "one of the files of apply/, the only place that changes Kubernetes"
)]

use std::time::Duration;

use fairlead_model::timers;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

use tokio::time::timeout;
use tracing::warn;

use super::ApplyError;
use crate::{
    lease,
    names::{FIELD_MANAGER, WRITER_LEASE},
};

/// Annotations by which replicas speak begin with this; the name of the replica follows.
const WORD: &str = "word.fairlead.dev/";
/// Whoever was told to stop does not wait for an API that hangs.
const LEAVE: Duration = Duration::from_millis(1500);

/// Makes `lease` (as it was read, or none) say that `holder` holds it from now on.
///
/// The resource version is carried along, so that of two replicas that read the same Lease only one succeeds.
pub(crate) async fn hold(
    client: &Client,
    namespace: &str,
    lease: Option<&Lease>,
    holder: &str,
) -> Result<Lease, ApplyError> {
    let now = MicroTime(Timestamp::now());
    let was = lease.and_then(|l| l.spec.clone()).unwrap_or_default();
    let held_already = was.holder_identity.as_deref() == Some(holder);
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: i32::try_from(timers::JANITOR_PATIENCE.as_secs()).ok(),
        acquire_time: if held_already { was.acquire_time } else { Some(now.clone()) },
        renew_time: Some(now),
        lease_transitions: Some(was.lease_transitions.unwrap_or(0) + i32::from(!held_already)),
        ..LeaseSpec::default()
    };
    // Words were for the one who did not hear; it has read them on this version of the Lease.
    let mut lease = lease.cloned();
    if let Some(annotations) = lease.as_mut().and_then(|l| l.metadata.annotations.as_mut()) {
        annotations.retain(|name, _| !name.starts_with(WORD));
    }
    write(client, namespace, lease.as_ref(), spec).await
}

/// Says on the Lease that `replica` lives, for a writer that does not hear it. Changes nothing about who holds it.
pub(crate) async fn speak(
    client: &Client,
    namespace: &str,
    lease: &Lease,
    replica: &str,
) -> Result<Lease, ApplyError> {
    let mut lease = lease.clone();
    let words = lease.metadata.annotations.get_or_insert_default();
    words.insert(format!("{WORD}{replica}"), Timestamp::now().to_string());
    let spec = lease.spec.clone().unwrap_or_default();
    write(client, namespace, Some(&lease), spec).await
}

/// Lists who spoke, with what they said.
pub(crate) fn words(lease: &Lease) -> impl Iterator<Item = (&str, &str)> {
    let annotations = lease.metadata.annotations.iter().flatten();
    annotations.filter_map(|(name, word)| Some((name.strip_prefix(WORD)?, word.as_str())))
}

/// Lets go of the Lease at the end of `holder`, should it be the one: whoever comes next need not wait until it expires.
pub(crate) async fn leave(client: &Client, namespace: &str, holder: &str) {
    let left = timeout(LEAVE, release_own(client, namespace, holder)).await;
    match left.unwrap_or(Err(ApplyError::NoAnswer)) {
        // Somebody else has it already.
        Ok(_) | Err(ApplyError::Conflict { .. }) => {}
        Err(error) => warn!(%error, "The Lease was not let go of; it expires by itself"),
    }
}

/// Lets go of the Lease if `holder` has it, and returns it as it then is.
pub(crate) async fn release_own(
    client: &Client,
    namespace: &str,
    holder: &str,
) -> Result<Option<Lease>, ApplyError> {
    let lease = lease::read(client, namespace).await;
    let lease = lease.map_err(|e| ApplyError::from_api("could not read the writer's Lease", e))?;
    match lease.filter(|lease| lease::holder(Some(lease)) == Some(holder)) {
        Some(lease) => release(client, namespace, &lease).await.map(Some),
        None => Ok(None),
    }
}

/// Lets go, so that the other replica need not wait until the Lease expires.
pub(crate) async fn release(
    client: &Client,
    namespace: &str,
    lease: &Lease,
) -> Result<Lease, ApplyError> {
    let was = lease.spec.clone().unwrap_or_default();
    let spec = LeaseSpec { holder_identity: None, ..was };
    write(client, namespace, Some(lease), spec).await
}

async fn write(
    client: &Client,
    namespace: &str,
    lease: Option<&Lease>,
    spec: LeaseSpec,
) -> Result<Lease, ApplyError> {
    let what = "could not write the writer's Lease";
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let params =
        PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let written = match lease {
        Some(lease) => {
            let lease = Lease { spec: Some(spec), ..lease.clone() };
            api.replace(WRITER_LEASE, &params, &lease).await
        }
        None => {
            let metadata =
                ObjectMeta { name: Some(WRITER_LEASE.to_owned()), ..ObjectMeta::default() };
            api.create(&params, &Lease { metadata, spec: Some(spec) }).await
        }
    };
    written.map_err(|e| ApplyError::from_api(what, e))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{apply::fake::FakeCluster, made_up::LEASE};

    const NAMESPACE: &str = "fairlead-system";

    fn held_by(holder: &str) -> FakeCluster {
        let cluster = FakeCluster::default();
        cluster.put(LEASE, json!({"metadata": {}, "spec": {"holderIdentity": holder}}));
        cluster
    }

    #[tokio::test]
    async fn whoever_leaves_lets_go_of_its_own_lease_only() {
        let cluster = held_by("agent-1");
        leave(&cluster.client(), NAMESPACE, "agent-2").await;
        assert_eq!(cluster.get(LEASE)["spec"]["holderIdentity"], "agent-1");
        leave(&cluster.client(), NAMESPACE, "agent-1").await;
        assert_eq!(cluster.get(LEASE)["spec"].get("holderIdentity"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_does_not_wait_for_a_silent_api() {
        for silent_on in ["GET", "PUT"] {
            let cluster = held_by("agent-1");
            cluster.falls_silent_on(silent_on);
            let client = cluster.client();
            // After that anybody has the Lease, whatever this one does.
            let left = timeout(timers::JANITOR_PATIENCE, leave(&client, NAMESPACE, "agent-1"));
            assert!(left.await.is_ok(), "it waits for an answer to {silent_on}");
        }
    }
}
