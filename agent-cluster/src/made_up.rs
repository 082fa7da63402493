//! Objects of a cluster for tests: `shop/cart` and what stands behind it, as the API writes them and as we read them.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    names::{MANAGED_BY, OWNER, SERVICE_NAME},
    seen::{AgentEndpoint, PodsSeen, ServiceSeen, SliceSeen},
};

/// Where the API has the cart.
pub(crate) const CART: &str = "/api/v1/namespaces/shop/services/cart";
/// Where it has the writer's Lease.
pub(crate) const LEASE: &str =
    "/apis/coordination.k8s.io/v1/namespaces/fairlead-system/leases/fairlead-agent-writer";

pub(crate) fn cart(spec: Value) -> ServiceSeen {
    service("cart", spec)
}

pub(crate) fn service(name: &str, spec: Value) -> ServiceSeen {
    let metadata = json!({"namespace": "shop", "name": name, "uid": "u1"});
    seen(json!({"metadata": metadata, "spec": spec}))
}

/// Reads a Service as the API shows it.
pub(crate) fn seen(service: Value) -> ServiceSeen {
    let service = serde_json::from_value(service).expect("a Service");
    ServiceSeen::from_object(&service).expect("readable")
}

/// A slice of the cart as `by` writes it, for the installation `owner` where that is an agent.
pub(crate) fn slice(by: &str, owner: &str, ready: &[&str]) -> Value {
    let endpoint = |ip: &&str| json!({"addresses": [ip], "conditions": {"ready": true}});
    json!({
        "metadata": {
            "namespace": "shop", "name": "fl-1-v4", "uid": "s1",
            "labels": {SERVICE_NAME: "cart", MANAGED_BY: by, OWNER: owner},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "cart", "uid": "u1"}],
        },
        "addressType": "IPv4", "ports": [],
        "endpoints": ready.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// Reads a slice as the installation `owner` sees it.
pub(crate) fn slice_seen(slice: Value, owner: &str) -> SliceSeen {
    SliceSeen::from_object(&serde_json::from_value(slice).expect("a slice"), owner)
        .expect("readable")
}

/// A replica of the agent, on the node of the same number.
pub(crate) fn replica(number: u8) -> AgentEndpoint {
    AgentEndpoint {
        pod: format!("agent-{number}"),
        pod_namespace: "fairlead-system".to_owned(),
        pod_uid: String::new(),
        node: format!("node{number}"),
        ip: [10, 244, number, 7].into(),
    }
}

/// A pod that runs and is ready.
pub(crate) fn pod(name: &str, ip: &str) -> Pod {
    Pod(json!({
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": "cart"}},
        "spec": {"containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}, {"ip": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }))
}

pub(crate) struct Pod(pub(crate) Value);

impl Pod {
    pub(crate) fn not_ready(self) -> Self {
        self.with("/status/conditions/0/status", "False".into())
    }

    pub(crate) fn terminating(mut self) -> Self {
        self.0["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        self
    }

    pub(crate) fn with(mut self, path: &str, value: Value) -> Self {
        *self.0.pointer_mut(path).expect("a path of the pod") = value;
        self
    }
}

pub(crate) fn listed(pods: impl IntoIterator<Item = Pod>) -> PodsSeen {
    let pods = pods.into_iter().map(|pod| {
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod.0).expect("a pod");
        (pod.metadata.name.clone().expect("named"), Arc::new(pod))
    });
    PodsSeen { synced: true, pods: pods.collect() }
}
