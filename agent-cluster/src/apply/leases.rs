//! The Lease that names the one replica which writes keys and slices.
#![expect(
    clippy::disallowed_methods,
    reason = "one of the files of apply/, the only place that changes Kubernetes"
)]

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

use super::ApplyError;
use crate::names::{FIELD_MANAGER, WRITER_LEASE};

/// Annotations by which replicas speak begin with this; the name of the replica follows.
const WORD: &str = "word.fairlead.dev/";

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
