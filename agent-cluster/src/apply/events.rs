//! Events on an intercepted Service: what its owner sees in `kubectl describe`.
#![expect(
    clippy::disallowed_methods,
    reason = "one of the files of apply/, the only place that changes Kubernetes"
)]

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tracing::debug;

use crate::{names::FIELD_MANAGER, seen::ServiceSeen};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Reason {
    Started,
    Ended,
    Contested,
}

/// Tells the owner of `service`. An event that cannot be written is no reason to stop anything.
pub(crate) async fn tell(client: &Client, service: &ServiceSeen, reason: Reason, message: String) {
    let now = Time(Timestamp::now());
    let namespace = service.service.namespace.to_string();
    let event = Event {
        metadata: ObjectMeta {
            generate_name: Some("fairlead-".to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(namespace.clone()),
            name: Some(service.service.name.to_string()),
            uid: Some(service.uid.clone()),
            ..ObjectReference::default()
        },
        reason: Some(format!("Intercept{reason:?}")),
        message: Some(message),
        type_: Some(
            if matches!(reason, Reason::Contested) { "Warning" } else { "Normal" }.to_owned(),
        ),
        source: Some(EventSource { component: Some(FIELD_MANAGER.to_owned()), host: None }),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        debug!(service = %service.service, %error, "An event could not be written");
    }
}
