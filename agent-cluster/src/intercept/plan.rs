//! What must change in the cluster so that a Service is redirected, or given back. Pure: it reads what was
//! observed and what is wanted, and names the changes; `apply` makes them.
//!
//! There is no undo. Ending an intercept, losing the laptop and starting after a crash all plan with nothing wanted.
//! Every prefix of the changes leaves a Service that answers: the slice is there before the key, and goes only when
//! the cluster shows the original pods again. A moment with no endpoint at all would cost refused connections for
//! one sync of kube-proxy, and single ones for two minutes more.

use std::time::Duration;

use fairlead_model::ServiceRef;

use crate::{
    names::{INTERCEPTED, Sentinel, slice_name},
    seen::{AgentEndpoint, OwnSlice, Published, ServiceSeen, SlicePort},
};

/// A Service without a ready pod has no original to wait for; after this long its slice goes all the same.
pub(crate) const REFILL_PATIENCE: Duration = Duration::from_secs(5);
/// The cluster's controller has been seen to need 16 s to take a key in. Taking the key off before would leave it in
/// doubt whether the endpoints it shows are those of before, about to go, or those of after.
pub(crate) const DRAIN_PATIENCE: Duration = Duration::from_secs(20);
/// A change and its write-back are two patches; an entry in `managedFields` that is younger may be about to go.
pub(crate) const WRITE_BACK_PATIENCE: Duration = Duration::from_secs(2);

/// What should be: the key's value, where the replicas listen, and which replicas may be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) sentinel: Sentinel,
    pub(crate) ports: Vec<SlicePort>,
    /// Sorted; never empty, or the Service would have nobody to answer.
    pub(crate) endpoints: Vec<AgentEndpoint>,
}

impl Redirect {
    pub(crate) fn is_ipv6(&self) -> bool {
        self.endpoints.first().is_some_and(|endpoint| endpoint.ip.is_ipv6())
    }

    pub(crate) fn slice_name(&self, service: &ServiceRef) -> String {
        slice_name(service, self.is_ipv6())
    }
}

/// What is: the Service, our slice of it, what others publish for it, and the pods behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) service: Option<&'a ServiceSeen>,
    pub(crate) slice: Option<&'a OwnSlice>,
    pub(crate) published: Published,
    /// Pods that the cluster will publish sooner or later; none while they are not known.
    pub(crate) pods_ready: Option<usize>,
    /// Since the key was first seen to be there, or to be gone, as it is.
    pub(crate) key_unchanged_for: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    CreateSlice,
    /// Ports and endpoints, in place: one object is one event for kube-proxy.
    PatchSlice,
    AddKey,
    RemoveKey,
    DeleteSlice,
    /// A patch of ours was not followed by the write-back of `managedFields`: our entry goes, and the owners get back
    /// what it took.
    WriteBack,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// To be made in this order; when one fails the rest must wait for the next look.
    pub(crate) changes: Vec<Change>,
    /// Nothing to do until the cluster's own endpoints have followed the key.
    pub(crate) awaits_cluster: bool,
}

impl Plan {
    fn of(changes: impl Into<Vec<Change>>) -> Self {
        Self { changes: changes.into(), awaits_cluster: false }
    }

    const fn awaiting_cluster() -> Self {
        Self { changes: Vec::new(), awaits_cluster: true }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.changes.is_empty() && !self.awaits_cluster
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
    // A Service that was made again while its slice lived on: the slice has to go before there can be a new one.
    let of_another = observed.slice.is_some_and(|slice| slice.service_uid != service.uid);
    match wanted {
        Some(redirect) if !of_another => begin(service, observed, redirect, is_ours),
        _ => give_back(service, observed, is_ours),
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
    observed: Observed<'_>,
    redirect: &Redirect,
    is_ours: impl Fn(&str) -> bool,
) -> Plan {
    let sentinel = redirect.sentinel.to_string();
    let foreign = service.sentinel().is_some_and(|value| !is_ours(value));
    if foreign || redirect.endpoints.is_empty() {
        return Plan::default();
    }
    let mut changes = Vec::new();
    match observed.slice {
        None => changes.push(Change::CreateSlice),
        Some(slice) if differs(slice, redirect) => changes.push(Change::PatchSlice),
        Some(_) => {}
    }
    if service.sentinel() != Some(sentinel.as_str()) {
        changes.push(Change::AddKey);
    }
    if changes.is_empty() { leftover_entry(service, observed) } else { Plan::of(changes) }
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
    let ours = service.sentinel().is_some_and(&is_ours);
    let may_go = match (observed.slice, service.sentinel()) {
        (None, _) if ours => return Plan::of([Change::RemoveKey]),
        (None, _) => return leftover_marks(service, observed, is_ours),
        (Some(_), Some(_)) if ours => {
            let drained =
                observed.published.by_cluster == 0 || observed.key_unchanged_for >= DRAIN_PATIENCE;
            return if drained { Plan::of([Change::RemoveKey]) } else { Plan::awaiting_cluster() };
        }
        // A foreign key: whoever set it has put a slice there before, or means it to match nothing.
        (Some(_), Some(_)) => {
            observed.published.by_others > 0 || observed.key_unchanged_for >= REFILL_PATIENCE
        }
        (Some(_), None) => {
            let nothing_to_wait_for = observed.pods_ready == Some(0);
            observed.published.by_cluster > 0
                || (nothing_to_wait_for && observed.key_unchanged_for >= REFILL_PATIENCE)
        }
    };
    if may_go { Plan::of([Change::DeleteSlice]) } else { Plan::awaiting_cluster() }
}

/// What stays when slice and key are gone: marks whose key somebody took away (a forced apply) or a writer that died
/// then, and our entry in `managedFields`.
fn leftover_marks(
    service: &ServiceSeen,
    observed: Observed<'_>,
    is_ours: impl Fn(&str) -> bool,
) -> Plan {
    let label = service.labels.get(INTERCEPTED);
    match (service.sentinel(), label) {
        (None, Some(value)) if is_ours(value) => Plan::of([Change::RemoveKey]),
        _ => leftover_entry(service, observed),
    }
}

/// Another installation writes under the same name, so an entry is not touched before its writer has had its time.
fn leftover_entry(service: &ServiceSeen, observed: Observed<'_>) -> Plan {
    match service.bears_our_manager {
        true if observed.key_unchanged_for >= WRITE_BACK_PATIENCE => Plan::of([Change::WriteBack]),
        true => Plan::awaiting_cluster(),
        false => Plan::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr};

    use fairlead_model::SessionId;

    use super::*;
    use crate::names::{Owner, SENTINEL};

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
            external_traffic_local: false,
            publish_not_ready: false,
            bears_our_manager: false,
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
        let published = Published { by_cluster: originals_ready, by_others: 0 };
        planned_for(Observed { service, slice, published, ..nothing_yet() }, wanted)
    }

    fn planned_for(observed: Observed<'_>, wanted: Option<&Redirect>) -> Plan {
        plan(observed, wanted, |value| owner().session_of(value).is_some())
    }

    fn nothing_yet() -> Observed<'static> {
        Observed {
            service: None,
            slice: None,
            published: Published::default(),
            pods_ready: Some(2),
            key_unchanged_for: Duration::ZERO,
        }
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
        assert!(plan.awaits_cluster && plan.changes.is_empty());
        let plan = planned(Some(&service(None)), Some(&slice()), 1, None);
        assert_eq!(plan.changes, [Change::DeleteSlice]);
    }

    #[test]
    fn a_service_without_ready_pods_is_given_back_after_a_while() {
        let (service, slice) = (service(None), slice());
        let after = |key_unchanged_for, pods_ready| {
            let (service, slice) = (Some(&service), Some(&slice));
            let observed =
                Observed { service, slice, pods_ready, key_unchanged_for, ..nothing_yet() };
            planned_for(observed, None).changes
        };
        assert_eq!(after(REFILL_PATIENCE, Some(0)), [Change::DeleteSlice]);
        assert_eq!(after(Duration::ZERO, Some(0)), []);
        // Ready pods that are not published yet, and pods that are not known, are waited for however long it takes.
        assert_eq!(after(REFILL_PATIENCE * 100, Some(1)), []);
        assert_eq!(after(REFILL_PATIENCE * 100, None), []);
    }

    #[test]
    fn endpoints_that_were_never_seen_to_go_are_no_refill() {
        let (keyed, slice) = (service(Some(&ours())), slice());
        let after = |key_unchanged_for, by_cluster| {
            let published = Published { by_cluster, by_others: 0 };
            let (service, slice) = (Some(&keyed), Some(&slice));
            let observed =
                Observed { service, slice, published, key_unchanged_for, ..nothing_yet() };
            planned_for(observed, None)
        };
        assert!(after(Duration::ZERO, 2).awaits_cluster, "the cluster has not taken the key in");
        assert_eq!(after(Duration::ZERO, 0).changes, [Change::RemoveKey]);
        assert_eq!(after(DRAIN_PATIENCE, 2).changes, [Change::RemoveKey], "not for ever");
    }

    #[test]
    fn our_slice_goes_from_under_a_foreign_key_when_somebody_else_serves() {
        let foreign = service(Some("ffffffffffff.00000000000000000000000000000001"));
        let slice = slice();
        let after = |key_unchanged_for, by_cluster, by_others| {
            let published = Published { by_cluster, by_others };
            let (service, slice) = (Some(&foreign), Some(&slice));
            let observed =
                Observed { service, slice, published, key_unchanged_for, ..nothing_yet() };
            planned_for(observed, None)
        };
        assert!(after(Duration::ZERO, 2, 0).awaits_cluster, "the pods are about to go");
        assert_eq!(after(Duration::ZERO, 0, 1).changes, [Change::DeleteSlice]);
        assert_eq!(after(REFILL_PATIENCE, 0, 0).changes, [Change::DeleteSlice]);
    }

    #[test]
    fn our_entry_in_managed_fields_goes_whenever_it_was_left() {
        let left = |sentinel: Option<&str>| {
            let service = service(sentinel);
            ServiceSeen { bears_our_manager: true, ..service }
        };
        let (free, keyed, slice) = (left(None), left(Some(&ours())), slice());
        let after = |service, slice, key_unchanged_for, wanted| {
            let service = Some(service);
            planned_for(Observed { service, slice, key_unchanged_for, ..nothing_yet() }, wanted)
        };
        let (patience, redirect) = (WRITE_BACK_PATIENCE, redirect());
        assert_eq!(after(&free, None, patience, None).changes, [Change::WriteBack]);
        let stands = after(&keyed, Some(&slice), patience, Some(&redirect));
        assert_eq!(stands.changes, [Change::WriteBack]);
        assert!(after(&free, None, Duration::ZERO, None).awaits_cluster, "it may be about to go");
        let begins = after(&free, Some(&slice), patience, Some(&redirect));
        assert_eq!(begins.changes, [Change::AddKey], "which writes back by itself");
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
        let recreated =
            |sentinel: Option<&str>| ServiceSeen { uid: "u2".to_owned(), ..service(sentinel) };
        let plan = planned(Some(&recreated(None)), Some(&slice()), 2, Some(&redirect()));
        assert_eq!(plan.changes, [Change::DeleteSlice]);
        let plan = planned(Some(&recreated(Some(&ours()))), Some(&slice()), 0, Some(&redirect()));
        assert_eq!(plan.changes, [Change::RemoveKey], "it was made again key and all");
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
                    Change::PatchSlice | Change::WriteBack => {}
                }
                assert!(has_slice || !has_key, "no endpoint after {change:?}");
            }
        }
        panic!("the plan never settles");
    }
}
