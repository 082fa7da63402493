//! Plans for a Service in every state it can be in, and what comes of following them.

use std::time::Duration;

use fairlead_model::SessionId;
use serde_json::json;

use super::plan::{
    Change, DRAIN_PATIENCE, Observed, Plan, REFILL_PATIENCE, Redirect, WRITE_BACK_PATIENCE, plan,
};
use crate::{
    made_up::{self, replica},
    names::{INTERCEPTED, MANAGED_BY_US, Owner, SENTINEL},
    seen::{OwnSlice, Published, ServiceSeen, SlicePort},
};

fn owner() -> Owner {
    Owner::of("fairlead-system", "a=b")
}

fn session(n: u128) -> SessionId {
    SessionId::from_uuid(uuid::Uuid::from_u128(n))
}

fn service(sentinel: Option<&str>) -> ServiceSeen {
    let mut service = made_up::cart(json!({"selector": {"app": "cart"}}));
    let key = sentinel.map(|value| (SENTINEL.to_owned(), value.to_owned()));
    service.selector.extend(key);
    service
}

fn port(listen: u16) -> SlicePort {
    SlicePort { name: String::new(), protocol: "TCP".to_owned(), app_protocol: None, listen }
}

fn redirect() -> Redirect {
    Redirect {
        sentinel: owner().sentinel(session(1)),
        ports: vec![port(20_001)],
        endpoints: vec![replica(1), replica(2)],
    }
}

fn slice() -> OwnSlice {
    let slice = made_up::slice(MANAGED_BY_US, owner().as_str(), &[]);
    let slice = made_up::slice_seen(slice, owner().as_str());
    let Redirect { ports, endpoints, .. } = redirect();
    OwnSlice { ports, endpoints, ..slice.own().expect("ours").clone() }
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
    let alone = Redirect { endpoints: vec![replica(1)], ..redirect() };
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
        let observed = Observed { service, slice, pods_ready, key_unchanged_for, ..nothing_yet() };
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
        let observed = Observed { service, slice, published, key_unchanged_for, ..nothing_yet() };
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
        let observed = Observed { service, slice, published, key_unchanged_for, ..nothing_yet() };
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
    assert_eq!(planned(None, Some(&slice()), 0, Some(&redirect())).changes, [Change::DeleteSlice]);
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
