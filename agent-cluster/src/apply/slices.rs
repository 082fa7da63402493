//! Our EndpointSlices: one per redirected Service, holding every replica that listens for it.
#![expect(
    clippy::disallowed_methods,
    reason = "one of the files of apply/, the only place that changes Kubernetes"
)]

use std::collections::BTreeMap;

use fairlead_model::ServiceRef;
use k8s_openapi::{
    api::discovery::v1::{EndpointPort, EndpointSlice},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use super::{ApplyError, json_patch};
use crate::{
    intercept::plan::Redirect,
    names::{self, FIELD_MANAGER, Owner},
    seen::{AgentEndpoint, OwnSlice, ServiceSeen},
};

pub(crate) async fn create(
    client: &Client,
    owner: &Owner,
    service: &ServiceSeen,
    redirect: &Redirect,
) -> Result<(), ApplyError> {
    let what = format!("could not create the EndpointSlice of {}", service.service);
    let slice = object(owner, service, redirect);
    let params =
        PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let api: Api<EndpointSlice> =
        Api::namespaced(client.clone(), service.service.namespace.as_str());
    api.create(&params, &slice).await.map_err(|e| ApplyError::from_api(what, e))?;
    Ok(())
}

/// Fails when the slice `name` of `service` is not there.
pub(crate) async fn must_stand(
    client: &Client,
    service: &ServiceRef,
    name: &str,
    what: &str,
) -> Result<(), ApplyError> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), service.namespace.as_str());
    let what = format!("{what}: its EndpointSlice {name}");
    slices.get(name).await.map(drop).map_err(|e| ApplyError::from_api(what, e))
}

/// Replaces ports and endpoints in place.
pub(crate) async fn patch(
    client: &Client,
    slice: &OwnSlice,
    ports: &[EndpointPort],
    endpoints: &[AgentEndpoint],
) -> Result<(), ApplyError> {
    let what = format!("could not change the EndpointSlice of {}", slice.service);
    let endpoints: Vec<_> = endpoints.iter().map(AgentEndpoint::to_object).collect();
    let patch = json_patch(json!([
        {"op": "test", "path": "/metadata/uid", "value": slice.uid},
        {"op": "add", "path": "/ports", "value": ports},
        {"op": "add", "path": "/endpoints", "value": endpoints},
    ]));
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api(client, slice)
        .patch(&slice.name, &params, &patch)
        .await
        .map_err(|e| ApplyError::from_api(what, e))?;
    Ok(())
}

/// Deletes the slice that was seen, not one that took its name since. Already gone is what was wanted.
pub(crate) async fn delete(client: &Client, slice: &OwnSlice) -> Result<(), ApplyError> {
    let what = format!("could not delete the EndpointSlice of {}", slice.service);
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(slice.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api(client, slice).delete(&slice.name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(ApplyError::from_api(what, error)),
    }
}

fn api(client: &Client, slice: &OwnSlice) -> Api<EndpointSlice> {
    Api::namespaced(client.clone(), &slice.namespace)
}

fn object(owner: &Owner, service: &ServiceSeen, redirect: &Redirect) -> EndpointSlice {
    let ipv6 = redirect.is_ipv6();
    let labels = [
        (names::SERVICE_NAME, service.service.name.as_str()),
        (names::MANAGED_BY, names::MANAGED_BY_US),
        (names::OWNER, owner.as_str()),
    ];
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(redirect.slice_name(&service.service)),
            namespace: Some(service.service.namespace.to_string()),
            labels: Some(
                labels
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .into_iter()
                    .collect::<BTreeMap<_, _>>(),
            ),
            // Neither controller nor blockOwnerDeletion: those would ask for rights on finalizers of Services.
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Service".to_owned(),
                name: service.service.name.to_string(),
                uid: service.uid.clone(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        address_type: if ipv6 { "IPv6" } else { "IPv4" }.to_owned(),
        endpoints: redirect.endpoints.iter().map(AgentEndpoint::to_object).collect(),
        ports: Some(redirect.ports.iter().map(|port| port.to_object()).collect()),
    }
}
