//! EndpointSlices: of a foreign one only what is counted, where its pods are and which of them have a name, of our own
//! everything.

use std::net::IpAddr;

use fairlead_model::{PodName, ServiceRef};
use k8s_openapi::api::{
    core::v1::ObjectReference,
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
};
use kube::ResourceExt;

use super::service_ref;
use crate::names;

/// One EndpointSlice: whose it is, how many of its endpoints are ready, and everything when it is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SliceSeen {
    pub(crate) service: Option<ServiceRef>,
    pub(crate) ipv6: bool,
    pub(crate) ready: usize,
    /// The pods that the cluster's DNS knows by a name of their own, as those of a StatefulSet.
    pub(crate) pods: Vec<NamedPod>,
    /// Where the cluster's own controller has seen pods.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) by: WrittenBy,
}

/// One pod of a headless Service, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedPod {
    pub(crate) name: PodName,
    pub(crate) ip: IpAddr,
    pub(crate) ready: bool,
}

impl NamedPod {
    fn from_object(endpoint: &Endpoint) -> Option<Self> {
        Some(Self {
            name: PodName::parse(endpoint.hostname.clone()?).ok()?,
            ip: endpoint.addresses.first()?.parse().ok()?,
            ready: is_ready(endpoint),
        })
    }
}

fn addresses_of(endpoints: &[Endpoint]) -> Vec<IpAddr> {
    let addresses = endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    addresses.filter_map(|address| address.parse().ok()).collect()
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WrittenBy {
    /// The cluster's own controller, from the selector.
    Cluster,
    ThisAgent(Box<OwnSlice>),
    /// Another installation of Fairlead.
    AnotherAgent,
    Somebody,
}

/// A slice that this installation wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnSlice {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) service: ServiceRef,
    /// The Service that owns it; a Service that was deleted and made again has another one.
    pub(crate) service_uid: String,
    pub(crate) ports: Vec<SlicePort>,
    pub(crate) endpoints: Vec<AgentEndpoint>,
}

impl SliceSeen {
    pub(crate) fn from_object(object: &EndpointSlice, owner: &str) -> Option<Self> {
        let label = |name| object.labels().get(name).map(String::as_str);
        let namespace = object.metadata.namespace.as_deref()?;
        let service = label(names::SERVICE_NAME).and_then(|name| service_ref(namespace, name));
        let by = match (label(names::MANAGED_BY), &service) {
            (Some(names::MANAGED_BY_CLUSTER), _) => WrittenBy::Cluster,
            (Some(names::MANAGED_BY_US), Some(service)) if label(names::OWNER) == Some(owner) => {
                WrittenBy::ThisAgent(Box::new(OwnSlice::from_object(object, namespace, service)))
            }
            (Some(names::MANAGED_BY_US), _) => WrittenBy::AnotherAgent,
            _ => WrittenBy::Somebody,
        };
        Some(Self {
            service,
            ipv6: object.address_type == "IPv6",
            ready: object.endpoints.iter().filter(|endpoint| is_ready(endpoint)).count(),
            pods: match by {
                WrittenBy::Cluster | WrittenBy::Somebody => {
                    object.endpoints.iter().filter_map(NamedPod::from_object).collect()
                }
                WrittenBy::ThisAgent(_) | WrittenBy::AnotherAgent => Vec::new(),
            },
            addresses: match by {
                WrittenBy::Cluster => addresses_of(&object.endpoints),
                WrittenBy::ThisAgent(_) | WrittenBy::AnotherAgent | WrittenBy::Somebody => {
                    Vec::new()
                }
            },
            by,
        })
    }

    pub(crate) fn own(&self) -> Option<&OwnSlice> {
        match &self.by {
            WrittenBy::ThisAgent(own) => Some(own),
            _ => None,
        }
    }
}

impl OwnSlice {
    fn from_object(object: &EndpointSlice, namespace: &str, service: &ServiceRef) -> Self {
        let owner = object.owner_references().first();
        Self {
            namespace: namespace.to_owned(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            service: service.clone(),
            service_uid: owner.map(|owner| owner.uid.clone()).unwrap_or_default(),
            ports: object.ports.iter().flatten().map(SlicePort::from_object).collect(),
            endpoints: object.endpoints.iter().filter_map(AgentEndpoint::from_object).collect(),
        }
    }
}

/// How many ready endpoints are published for one Service, our own left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// From the selector: the originals.
    pub(crate) by_cluster: usize,
    /// By whoever else writes slices: another installation, or an owner by hand.
    pub(crate) by_others: usize,
}

impl Published {
    pub(crate) fn by<'a>(slices: impl IntoIterator<Item = &'a SliceSeen>) -> Self {
        let mut published = Self::default();
        for slice in slices {
            match slice.by {
                WrittenBy::Cluster => published.by_cluster += slice.ready,
                WrittenBy::AnotherAgent | WrittenBy::Somebody => published.by_others += slice.ready,
                WrittenBy::ThisAgent(_) => {}
            }
        }
        published
    }
}

/// One port of our slice: the Service's own port by name, and where the replicas listen for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlicePort {
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) app_protocol: Option<String>,
    pub(crate) listen: u16,
}

impl SlicePort {
    pub(crate) fn from_object(port: &EndpointPort) -> Self {
        Self {
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            app_protocol: port.app_protocol.clone(),
            listen: port.port.and_then(|p| u16::try_from(p).ok()).unwrap_or_default(),
        }
    }

    pub(crate) fn to_object(&self) -> EndpointPort {
        EndpointPort {
            name: Some(self.name.clone()),
            protocol: Some(self.protocol.clone()),
            app_protocol: self.app_protocol.clone(),
            port: Some(i32::from(self.listen)),
        }
    }
}

/// One endpoint of our slice: an agent replica, or an original pod once no agent can answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AgentEndpoint {
    pub(crate) pod: String,
    pub(crate) pod_namespace: String,
    pub(crate) pod_uid: String,
    pub(crate) node: String,
    pub(crate) ip: IpAddr,
}

impl AgentEndpoint {
    pub(crate) fn from_object(endpoint: &Endpoint) -> Option<Self> {
        let target = endpoint.target_ref.clone().unwrap_or_default();
        Some(Self {
            pod: target.name.unwrap_or_default(),
            pod_namespace: target.namespace.unwrap_or_default(),
            pod_uid: target.uid.unwrap_or_default(),
            node: endpoint.node_name.clone().unwrap_or_default(),
            ip: endpoint.addresses.first()?.parse().ok()?,
        })
    }

    pub(crate) fn to_object(&self) -> Endpoint {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        Endpoint {
            addresses: vec![self.ip.to_string()],
            conditions: Some(EndpointConditions {
                ready: Some(true),
                serving: Some(true),
                terminating: Some(false),
            }),
            node_name: some(&self.node),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: some(&self.pod_namespace),
                name: some(&self.pod),
                uid: some(&self.pod_uid),
                ..ObjectReference::default()
            }),
            ..Endpoint::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(labels: Value) -> SliceSeen {
        let object = json!({
            "metadata": {"name": "s", "namespace": "shop", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "hostname": "db-0"},
                {"addresses": ["10.0.0.2"]},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": false}, "hostname": "db-1"},
            ],
        });
        let object: EndpointSlice = serde_json::from_value(object).expect("a slice");
        SliceSeen::from_object(&object, "ours").expect("readable")
    }

    #[test]
    fn a_slice_is_known_by_who_writes_it() {
        let labels = |by: &str, owner: &str| json!({names::SERVICE_NAME: "cart", names::MANAGED_BY: by, names::OWNER: owner});
        let cluster = slice(labels("endpointslice-controller.k8s.io", ""));
        let other = slice(labels("fairlead.dev", "theirs"));
        let by_hand = slice(json!({names::SERVICE_NAME: "cart"}));
        let own = slice(labels("fairlead.dev", "ours"));
        assert!(own.own().is_some() && other.own().is_none());
        assert_eq!((cluster.ready, &cluster.by), (2, &WrittenBy::Cluster));
        let published = Published::by([&cluster, &other, &by_hand, &own]);
        assert_eq!(published, Published { by_cluster: 2, by_others: 4 });
        let named = |slice: &SliceSeen| -> Vec<_> {
            slice.pods.iter().map(|pod| (pod.name.to_string(), pod.ready)).collect()
        };
        assert_eq!(named(&cluster), [("db-0".to_owned(), true), ("db-1".to_owned(), false)]);
        assert!(named(&own).is_empty(), "our replicas are nobody's pods");
    }
}
