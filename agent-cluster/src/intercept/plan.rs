//! What must change in the cluster so that a Service is redirected, or given back. Pure: it reads what was
//! observed and what is wanted, and names the changes; `apply` makes them.
//!
//! There is no undo. Ending an intercept, losing the laptop and starting after a crash all plan with nothing wanted.
//! Every prefix of the changes leaves a Service that answers: the slice is there before the key, and goes only when
//! the cluster shows the original pods again. A moment with no endpoint at all would cost refused connections for
//! one sync of kube-proxy, and single ones for two minutes more.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::{
    core::v1::ObjectReference,
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort},
};

use crate::{
    names::Sentinel,
    watch::{OwnSlice, ServiceSeen},
};

/// Restoring waits this long for the original pods to be published; a Service without ready pods has none to wait for.
pub(crate) const REFILL_PATIENCE: Duration = Duration::from_secs(5);

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

/// What should be: the key's value, where the replicas listen, and which replicas may be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) sentinel: Sentinel,
    pub(crate) ports: Vec<SlicePort>,
    /// Sorted; never empty, or the Service would have nobody to answer.
    pub(crate) endpoints: Vec<AgentEndpoint>,
}

/// What is: the Service, our slice of it, and how many originals the cluster publishes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) service: Option<&'a ServiceSeen>,
    pub(crate) slice: Option<&'a OwnSlice>,
    pub(crate) originals_ready: usize,
    /// Since the key was seen to be gone while our slice is still there.
    pub(crate) without_key_for: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    CreateSlice,
    /// Ports and endpoints, in place: one object is one event for kube-proxy.
    PatchSlice,
    AddKey,
    RemoveKey,
    DeleteSlice,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// To be made in this order; when one fails the rest must wait for the next look.
    pub(crate) changes: Vec<Change>,
    /// Nothing to do until the cluster publishes the originals again.
    pub(crate) awaits_refill: bool,
}

impl Plan {
    fn of(changes: impl Into<Vec<Change>>) -> Self {
        Self { changes: changes.into(), awaits_refill: false }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.changes.is_empty() && !self.awaits_refill
    }
}

/// Lists the changes that turn `observed` into `wanted`. No redirect wanted means: give the Service back.
///
/// `is_ours` tells a sentinel of this installation from a foreign one, which is never touched.
pub(crate) fn plan(
    observed: Observed<'_>,
    wanted: Option<&Redirect>,
    is_ours: impl Fn(&str) -> bool,
) -> Plan {
    let Some(service) = observed.service.filter(|s| !s.deleting) else {
        return orphaned(observed);
    };
    if observed.slice.is_some_and(|slice| slice.service_uid != service.uid) {
        return Plan::of([Change::DeleteSlice]);
    }
    match wanted {
        Some(redirect) => begin(service, observed.slice, redirect, is_ours),
        None => give_back(service, observed, is_ours),
    }
}

/// A slice whose Service is gone would wait for a namesake and poison it.
fn orphaned(observed: Observed<'_>) -> Plan {
    match observed.slice {
        Some(_) => Plan::of([Change::DeleteSlice]),
        None => Plan::default(),
    }
}

fn begin(
    service: &ServiceSeen,
    slice: Option<&OwnSlice>,
    redirect: &Redirect,
    is_ours: impl Fn(&str) -> bool,
) -> Plan {
    let sentinel = redirect.sentinel.to_string();
    let foreign = service.sentinel().is_some_and(|value| !is_ours(value));
    if foreign || redirect.endpoints.is_empty() {
        return Plan::default();
    }
    let mut changes = Vec::new();
    match slice {
        None => changes.push(Change::CreateSlice),
        Some(slice) if differs(slice, redirect) => changes.push(Change::PatchSlice),
        Some(_) => {}
    }
    if service.sentinel() != Some(sentinel.as_str()) {
        changes.push(Change::AddKey);
    }
    Plan::of(changes)
}

fn differs(slice: &OwnSlice, redirect: &Redirect) -> bool {
    let mut listed = slice.endpoints.clone();
    listed.sort();
    listed != redirect.endpoints || slice.ports != redirect.ports
}

fn give_back(
    service: &ServiceSeen,
    observed: Observed<'_>,
    is_ours: impl Fn(&str) -> bool,
) -> Plan {
    match service.sentinel() {
        Some(value) if is_ours(value) => Plan::of([Change::RemoveKey]),
        Some(_) | None if observed.slice.is_none() => leftover_marks(service, is_ours),
        Some(_) => Plan::of([Change::DeleteSlice]),
        None => {
            if observed.originals_ready > 0 || observed.without_key_for >= REFILL_PATIENCE {
                Plan::of([Change::DeleteSlice])
            } else {
                Plan { changes: Vec::new(), awaits_refill: true }
            }
        }
    }
}

/// Somebody took the key away (a forced apply) and left our label: the marks go as the key would have.
fn leftover_marks(service: &ServiceSeen, is_ours: impl Fn(&str) -> bool) -> Plan {
    let label = service.labels.get(crate::names::INTERCEPTED);
    match (service.sentinel(), label) {
        (None, Some(value)) if is_ours(value) => Plan::of([Change::RemoveKey]),
        _ => Plan::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fairlead_model::SessionId;

    use super::*;
    use crate::names::{INTERCEPTED, Owner, SENTINEL};

    fn owner() -> Owner {
        Owner::of("fairlead-system", "a=b")
    }

    fn session(n: u128) -> SessionId {
        SessionId::from_uuid(uuid::Uuid::from_u128(n))
    }

    fn service(sentinel: Option<&str>) -> ServiceSeen {
        let mut selector = BTreeMap::from([("app".to_owned(), "cart".to_owned())]);
        if let Some(value) = sentinel {
            selector.insert(SENTINEL.to_owned(), value.to_owned());
        }
        ServiceSeen {
            service: "shop/cart".parse().expect("valid"),
            uid: "u1".to_owned(),
            kind: "ClusterIP",
            cluster_ip: None,
            ip_families: vec!["IPv4".to_owned()],
            selector,
            ports: Vec::new(),
            labels: BTreeMap::new(),
            internal_traffic_local: false,
            publish_not_ready: false,
            deleting: false,
        }
    }

    fn endpoint(last: u8) -> AgentEndpoint {
        AgentEndpoint {
            pod: format!("agent-{last}"),
            pod_namespace: "fairlead-system".to_owned(),
            pod_uid: String::new(),
            node: "node1".to_owned(),
            ip: IpAddr::from([10, 244, 1, last]),
        }
    }

    fn port(listen: u16) -> SlicePort {
        SlicePort { name: String::new(), protocol: "TCP".to_owned(), app_protocol: None, listen }
    }

    fn redirect() -> Redirect {
        Redirect {
            sentinel: owner().sentinel(session(1)),
            ports: vec![port(20_001)],
            endpoints: vec![endpoint(1), endpoint(2)],
        }
    }

    fn slice() -> OwnSlice {
        OwnSlice {
            namespace: "shop".to_owned(),
            name: "fl-x-v4".to_owned(),
            uid: "s1".to_owned(),
            service: "shop/cart".parse().expect("valid"),
            service_uid: "u1".to_owned(),
            ports: redirect().ports,
            endpoints: redirect().endpoints,
        }
    }

    fn planned(
        service: Option<&ServiceSeen>,
        slice: Option<&OwnSlice>,
        originals_ready: usize,
        wanted: Option<&Redirect>,
    ) -> Plan {
        let observed =
            Observed { service, slice, originals_ready, without_key_for: Duration::ZERO };
        plan(observed, wanted, |value| owner().session_of(value).is_some())
    }

    fn ours() -> String {
        owner().sentinel(session(1)).to_string()
    }

    #[test]
    fn the_slice_comes_before_the_key() {
        let plan = planned(Some(&service(None)), None, 2, Some(&redirect()));
        assert_eq!(plan.changes, [Change::CreateSlice, Change::AddKey]);
    }

    #[test]
    fn a_redirect_that_stands_needs_nothing() {
        let plan = planned(Some(&service(Some(&ours()))), Some(&slice()), 0, Some(&redirect()));
        assert!(plan.is_settled());
    }

    #[test]
    fn the_order_of_endpoints_in_the_slice_does_not_matter() {
        let mut turned = slice();
        turned.endpoints.reverse();
        let plan = planned(Some(&service(Some(&ours()))), Some(&turned), 0, Some(&redirect()));
        assert!(plan.is_settled());
    }

    #[test]
    fn a_dead_replica_leaves_the_one_slice_in_place() {
        let alone = Redirect { endpoints: vec![endpoint(1)], ..redirect() };
        let plan = planned(Some(&service(Some(&ours()))), Some(&slice()), 0, Some(&alone));
        assert_eq!(plan.changes, [Change::PatchSlice]);
    }

    #[test]
    fn a_key_that_somebody_removed_is_added_again() {
        let plan = planned(Some(&service(None)), Some(&slice()), 2, Some(&redirect()));
        assert_eq!(plan.changes, [Change::AddKey]);
    }

    #[test]
    fn a_changed_port_rewrites_the_slice() {
        let moved = Redirect { ports: vec![port(20_002)], ..redirect() };
        let plan = planned(Some(&service(Some(&ours()))), Some(&slice()), 0, Some(&moved));
        assert_eq!(plan.changes, [Change::PatchSlice]);
    }

    #[test]
    fn another_session_of_ours_takes_the_key_over() {
        let other = owner().sentinel(session(9)).to_string();
        let plan = planned(Some(&service(Some(&other))), Some(&slice()), 0, Some(&redirect()));
        assert_eq!(plan.changes, [Change::AddKey]);
    }

    #[test]
    fn a_foreign_key_is_never_touched() {
        let foreign = service(Some("ffffffffffff.00000000000000000000000000000001"));
        assert!(planned(Some(&foreign), None, 0, Some(&redirect())).is_settled());
        assert!(planned(Some(&foreign), None, 0, None).is_settled());
    }

    #[test]
    fn nobody_to_answer_means_no_redirect() {
        let nobody = Redirect { endpoints: Vec::new(), ..redirect() };
        assert!(planned(Some(&service(None)), None, 2, Some(&nobody)).is_settled());
    }

    #[test]
    fn restoring_takes_the_key_off_and_keeps_the_slice() {
        let plan = planned(Some(&service(Some(&ours()))), Some(&slice()), 0, None);
        assert_eq!(plan.changes, [Change::RemoveKey]);
    }

    #[test]
    fn the_slice_goes_only_when_the_originals_are_published() {
        let plan = planned(Some(&service(None)), Some(&slice()), 0, None);
        assert!(plan.awaits_refill && plan.changes.is_empty());
        let plan = planned(Some(&service(None)), Some(&slice()), 1, None);
        assert_eq!(plan.changes, [Change::DeleteSlice]);
    }

    #[test]
    fn a_service_without_ready_pods_is_given_back_after_a_while() {
        let service = service(None);
        let slice = slice();
        let observed = Observed {
            service: Some(&service),
            slice: Some(&slice),
            originals_ready: 0,
            without_key_for: REFILL_PATIENCE,
        };
        assert_eq!(plan(observed, None, |_| true).changes, [Change::DeleteSlice]);
    }

    #[test]
    fn a_service_nobody_intercepts_is_left_alone() {
        assert!(planned(Some(&service(None)), None, 2, None).is_settled());
        assert!(planned(None, None, 0, None).is_settled());
    }

    #[test]
    fn marks_that_outlived_their_key_are_removed() {
        let mut marked = service(None);
        marked.labels.insert(INTERCEPTED.to_owned(), ours());
        assert_eq!(planned(Some(&marked), None, 2, None).changes, [Change::RemoveKey]);
    }

    #[test]
    fn a_slice_without_its_service_is_removed() {
        assert_eq!(
            planned(None, Some(&slice()), 0, Some(&redirect())).changes,
            [Change::DeleteSlice]
        );
        let mut recreated = service(None);
        recreated.uid = "u2".to_owned();
        let plan = planned(Some(&recreated), Some(&slice()), 2, Some(&redirect()));
        assert_eq!(plan.changes, [Change::DeleteSlice]);
    }

    /// Every state a Service can be in, every wish: following the plan step by step never shows a Service without
    /// an endpoint, and always arrives.
    #[test]
    fn following_any_plan_never_leaves_a_service_without_endpoints() {
        for has_key in [false, true] {
            for has_slice in [false, true] {
                for wanted in [None, Some(redirect())] {
                    let published = if has_key { 0 } else { 2 };
                    if published == 0 && !has_slice {
                        continue;
                    }
                    walk(has_key, has_slice, wanted.as_ref());
                }
            }
        }
    }

    fn walk(mut has_key: bool, mut has_slice: bool, wanted: Option<&Redirect>) {
        for _ in 0..10 {
            let service = service(has_key.then(ours).as_deref());
            let slice = slice();
            let originals = if has_key { 0 } else { 2 };
            let plan = planned(Some(&service), has_slice.then_some(&slice), originals, wanted);
            if plan.is_settled() {
                assert_eq!((has_key, has_slice), (wanted.is_some(), wanted.is_some()));
                return;
            }
            for change in plan.changes {
                match change {
                    Change::CreateSlice => has_slice = true,
                    Change::DeleteSlice => has_slice = false,
                    Change::AddKey => has_key = true,
                    Change::RemoveKey => has_key = false,
                    Change::PatchSlice => {}
                }
                assert!(has_slice || !has_key, "no endpoint after {change:?}");
            }
        }
        panic!("the plan never settles");
    }
}
