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
