//! The Secret that keeps the teamspace key. Made empty by the chart; filled once, by whichever replica enrols.
#![expect(
    clippy::disallowed_methods,
    reason = "one of the files of apply/, the only place that changes Kubernetes"
)]

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, api::PostParams};

use super::ApplyError;
use crate::names::FIELD_MANAGER;

/// Replaces the contents of `secret` as it was read; a replica that was slower gets `Conflict`.
pub(crate) async fn fill(
    client: &Client,
    namespace: &str,
    secret: &Secret,
    contents: BTreeMap<String, ByteString>,
) -> Result<Secret, ApplyError> {
    let name = secret.metadata.name.clone().unwrap_or_default();
    let what = format!("could not write the Secret {namespace}/{name}");
    let filled = Secret { data: Some(contents), ..secret.clone() };
    let params =
        PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    api.replace(&name, &params, &filled).await.map_err(|e| ApplyError::from_api(what, e))
}
