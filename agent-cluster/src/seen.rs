//! What the cluster shows, in our words: Services, pods and slices, reduced to what somebody here asks about, and the
//! one place where Kubernetes' objects are turned into them and back. How they are kept current is in `watch.rs`.

mod slices;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use fairlead_model::{Namespace, ServiceName, ServiceRef};
use k8s_openapi::{
    api::core::v1::{ContainerPort, Pod, Service, ServicePort},
    apimachinery::pkg::{apis::meta::v1::ManagedFieldsEntry, util::intstr::IntOrString},
};
use kube::{Resource, ResourceExt};

use crate::names;

pub(crate) use slices::{
    AgentEndpoint, NamedPod, OwnSlice, Published, SlicePort, SliceSeen, WrittenBy,
};

/// One Service, reduced to what consumes, intercepts and the catalogue need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceSeen {
    pub(crate) service: ServiceRef,
    pub(crate) uid: String,
    /// "ClusterIP", "NodePort", "LoadBalancer", "Headless" or "ExternalName".
    pub(crate) kind: &'static str,
    pub(crate) cluster_ip: Option<IpAddr>,
    /// Where the cluster answers for it besides: of the other family, external ones, those of a load balancer.
    pub(crate) further_ips: Vec<IpAddr>,
    pub(crate) ip_families: Vec<String>,
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) ports: Vec<PortSeen>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) internal_traffic_local: bool,
    pub(crate) external_traffic_local: bool,
    pub(crate) publish_not_ready: bool,
    /// Our entry stands in `managedFields`: a change of ours was not cleaned up after.
    pub(crate) bears_our_manager: bool,
    pub(crate) deleting: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortSeen {
    /// Empty where the Service has a single unnamed port.
    pub(crate) name: String,
    pub(crate) port: u16,
    /// "TCP", "UDP" or "SCTP".
    pub(crate) protocol: String,
    pub(crate) target: Target,
    pub(crate) app_protocol: Option<String>,
}

/// Which port of a pod stands behind a port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Number(u16),
    Name(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl ServiceSeen {
    /// Returns the selector as its owner wrote it.
    pub(crate) fn owners_selector(&self) -> BTreeMap<String, String> {
        let owners = self.selector.iter().filter(|(key, _)| *key != names::SENTINEL);
        owners.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    pub(crate) fn sentinel(&self) -> Option<&str> {
        self.selector.get(names::SENTINEL).map(String::as_str)
    }

    pub(crate) fn from_object(object: &Service) -> Option<Self> {
        let service =
            service_ref(object.metadata.namespace.as_deref()?, object.metadata.name.as_deref()?)?;
        let further_ips = further_ips(object);
        let spec = object.spec.clone().unwrap_or_default();
        let declared = spec.type_.as_deref().unwrap_or("ClusterIP");
        let headless = spec.cluster_ip.as_deref() == Some("None");
        let kind = match declared {
            "ExternalName" => "ExternalName",
            _ if headless => "Headless",
            "NodePort" => "NodePort",
            "LoadBalancer" => "LoadBalancer",
            _ => "ClusterIP",
        };
        Some(Self {
            service,
            uid: object.uid().unwrap_or_default(),
            kind,
            cluster_ip: spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok()),
            further_ips,
            ip_families: spec.ip_families.unwrap_or_default(),
            selector: spec.selector.unwrap_or_default(),
            ports: spec
                .ports
                .unwrap_or_default()
                .iter()
                .filter_map(PortSeen::from_object)
                .collect(),
            labels: object.labels().clone(),
            internal_traffic_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_traffic_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            publish_not_ready: spec.publish_not_ready_addresses == Some(true),
            bears_our_manager: object.managed_fields().iter().any(is_our_entry),
            deleting: object.metadata.deletion_timestamp.is_some(),
        })
    }
}

fn further_ips(object: &Service) -> Vec<IpAddr> {
    let spec = object.spec.as_ref();
    let own = spec.and_then(|spec| spec.cluster_ips.as_ref()).into_iter().flatten();
    let external = spec.and_then(|spec| spec.external_ips.as_ref()).into_iter().flatten();
    let balancer = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    let all = own.chain(external).chain(ingress.filter_map(|ingress| ingress.ip.as_ref()));
    let first = spec.and_then(|spec| spec.cluster_ip.as_ref());
    all.filter(|ip| Some(*ip) != first).filter_map(|ip| ip.parse().ok()).collect()
}

/// Says whether an entry of `managedFields` was made by a change of ours.
pub(crate) fn is_our_entry(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(names::FIELD_MANAGER)
}

impl PortSeen {
    fn from_object(port: &ServicePort) -> Option<Self> {
        let number = u16::try_from(port.port).ok()?;
        let target = match &port.target_port {
            Some(IntOrString::String(name)) => Target::Name(name.clone()),
            Some(IntOrString::Int(0)) | None => Target::Number(number),
            Some(IntOrString::Int(target)) => Target::Number(u16::try_from(*target).ok()?),
        };
        Some(Self {
            name: port.name.clone().unwrap_or_default(),
            port: number,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            target,
            app_protocol: port.app_protocol.clone(),
        })
    }

    /// Reads a port that a container declares: there it is called by the number it has.
    pub(crate) fn of_container(port: &ContainerPort) -> Option<Self> {
        let number = u16::try_from(port.container_port).ok()?;
        Some(Self {
            name: port.name.clone().unwrap_or_default(),
            port: number,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            target: Target::Number(number),
            app_protocol: None,
        })
    }

    pub(crate) fn is_tcp(&self) -> bool {
        self.protocol == "TCP"
    }
}

/// Pods by name; `synced` tells an empty set from one that was not listed yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodsSeen {
    pub(crate) synced: bool,
    pub(crate) pods: BTreeMap<String, Arc<Pod>>,
}

/// Returns namespace and name of an object, by which a watch keeps it.
pub(crate) fn key<K: Resource>(object: &K) -> (String, String) {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

pub(crate) fn service_ref(namespace: &str, name: &str) -> Option<ServiceRef> {
    Some(ServiceRef::new(Namespace::parse(namespace).ok()?, ServiceName::parse(name).ok()?))
}

/// Writes a selector as the API wants it in a query. An empty selector selects no pod; an empty query would select
/// every pod of the namespace, so there is none.
pub(crate) fn label_query(selector: &BTreeMap<String, String>) -> Option<String> {
    let labels: Vec<_> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    (!labels.is_empty()).then(|| labels.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::made_up;

    #[test]
    fn an_empty_selector_asks_for_no_pod_rather_than_for_all() {
        assert_eq!(label_query(&BTreeMap::new()), None);
        let selector = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert_eq!(label_query(&selector).as_deref(), Some("a=b"));
    }

    #[test]
    fn our_entry_in_managed_fields_is_noticed() {
        let seen = |manager: &str| {
            let object = json!({"metadata": {
                "name": "cart", "namespace": "shop",
                "managedFields": [{"manager": "helm"}, {"manager": manager}],
            }});
            made_up::seen(object).bears_our_manager
        };
        assert!(seen("fairlead-agent"));
        assert!(!seen("kubectl"));
    }
}
