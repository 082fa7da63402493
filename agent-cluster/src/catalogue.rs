//! The catalogue: the inventory in the hub's words, and what has changed in it since the hub was last told.

use std::{collections::BTreeMap, sync::Arc};

use fairlead_model::ServiceRef;
use fairlead_wire::link::v1;

use crate::{
    intercept::{originals::Counts, preflight},
    seen::{PortSeen, ServiceSeen},
    watch::Inventory,
    workload::Workloads,
};

/// Services per message: a large cluster's catalogue stays below the size that gRPC takes at once.
const CHUNK: usize = 500;
/// Labels are shown and matched; a Service with more than this many keeps the first.
const LABELS_MAX: usize = 64;

pub(crate) type Catalogue = BTreeMap<ServiceRef, v1::CatalogueService>;

/// How many endpoints of each Service are ready.
pub(crate) struct Counted {
    pub(crate) ready: Counts,
    /// Nothing is missing: a Service that bears a key selects no pod, and those of its owner may not be known yet.
    pub(crate) complete: bool,
}

/// Counts the ready endpoints as the owner of each Service would see them. Where that cannot be known yet the count
/// stays what it was when it was told `last`.
pub(crate) fn count(inventory: &Inventory, originals: &Counts, last: &Counts) -> Counted {
    let mut counted = Counted { ready: inventory.ready_counts(originals), complete: true };
    let is_unknown =
        |s: &&Arc<ServiceSeen>| s.sentinel().is_some() && !originals.contains_key(&s.service);
    for unknown in inventory.services().filter(is_unknown) {
        match last.get(&unknown.service) {
            Some(ready) => {
                counted.ready.insert(unknown.service.clone(), *ready);
            }
            None => counted.complete = false,
        }
    }
    counted
}

pub(crate) fn catalogue(
    inventory: &Inventory,
    ready: &Counts,
    workloads: &Workloads,
    agent_is_ipv6: bool,
) -> Catalogue {
    let entry = |service: &ServiceSeen| {
        let entry = v1::CatalogueService {
            service: Some((&service.service).into()),
            ports: service.ports.iter().map(port).collect(),
            workload: workloads.owner_of(service).unwrap_or_default(),
            ready_endpoints: ready
                .get(&service.service)
                .map_or(0, |ready| u32::try_from(*ready).unwrap_or(u32::MAX)),
            r#type: service.kind.to_owned(),
            labels: service
                .labels
                .iter()
                .filter(|(key, _)| *key != crate::names::INTERCEPTED)
                .take(LABELS_MAX)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            intercept_refusal: preflight::refusal(service, agent_is_ipv6).unwrap_or_default(),
        };
        (service.service.clone(), entry)
    };
    inventory.services().map(|service| entry(service)).collect()
}

fn port(port: &PortSeen) -> v1::CataloguePort {
    v1::CataloguePort {
        name: port.name.clone(),
        port: port.port.into(),
        protocol: port.protocol.clone(),
        target_port: port.target.to_string(),
        app_protocol: port.app_protocol.clone().unwrap_or_default(),
    }
}

/// Returns the messages that bring a hub from `told` to `now`; with nothing told, the full catalogue.
pub(crate) fn news(told: Option<&Catalogue>, now: &Catalogue) -> Vec<v1::Catalogue> {
    let is_new = |service: &ServiceRef, entry: &v1::CatalogueService| {
        told.is_none_or(|told| told.get(service) != Some(entry))
    };
    let changed: Vec<_> =
        now.iter().filter(|(s, e)| is_new(s, e)).map(|(_, entry)| entry.clone()).collect();
    let gone =
        told.into_iter().flat_map(BTreeMap::keys).filter(|service| !now.contains_key(service));
    let deleted: Vec<_> = gone.map(Into::into).collect();
    let mut messages: Vec<_> = changed
        .chunks(CHUNK)
        .map(|chunk| v1::Catalogue { full: false, changed: chunk.to_vec(), deleted: Vec::new() })
        .collect();
    if messages.is_empty() && (!deleted.is_empty() || told.is_none()) {
        messages.push(v1::Catalogue::default());
    }
    if let Some(first) = messages.first_mut() {
        first.full = told.is_none();
        first.deleted = deleted;
    }
    messages
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        made_up,
        names::{MANAGED_BY_CLUSTER, SENTINEL},
    };

    fn with(services: &[(&str, u32)]) -> Catalogue {
        let entry = |(name, ready): &(&str, u32)| {
            let service: ServiceRef = name.parse().expect("valid");
            let entry = v1::CatalogueService {
                service: Some((&service).into()),
                ready_endpoints: *ready,
                ..v1::CatalogueService::default()
            };
            (service, entry)
        };
        services.iter().map(entry).collect()
    }

    #[test]
    fn a_hub_that_knows_nothing_gets_everything() {
        let messages = news(None, &with(&[("shop/a", 1), ("shop/b", 2)]));
        assert_eq!(messages.len(), 1);
        assert!(messages[0].full);
        assert_eq!(messages[0].changed.len(), 2);
        assert!(news(None, &with(&[]))[0].full, "an empty cluster is said too");
    }

    #[test]
    fn later_only_what_changed_is_said() {
        let told = with(&[("shop/a", 1), ("shop/b", 2), ("shop/c", 3)]);
        let messages = news(Some(&told), &with(&[("shop/a", 1), ("shop/b", 5)]));
        assert_eq!(messages.len(), 1);
        assert!(!messages[0].full);
        assert_eq!(messages[0].changed.len(), 1);
        assert_eq!(messages[0].deleted.len(), 1);
        assert!(news(Some(&told), &told).is_empty());
    }

    const KEY: &str = "000000000000.00000000000000000000000000000001";

    /// `shop/cart`, with a key of ours or without, of which the cluster publishes so many endpoints.
    fn cart(key: Option<&str>, published: usize) -> Inventory {
        cart_in(&[("IPv4", published)], key)
    }

    fn cart_in(slices: &[(&str, usize)], key: Option<&str>) -> Inventory {
        let selector = key.map(|key| json!({SENTINEL: key}));
        let slices = slices.iter().map(|(family, ready)| {
            let mut slice = made_up::slice(MANAGED_BY_CLUSTER, "", &vec!["10.0.0.1"; *ready]);
            slice["addressType"] = (*family).into();
            made_up::slice_seen(slice, "nobody")
        });
        Inventory::of(vec![made_up::cart(json!({"selector": selector}))], slices.collect())
    }

    fn counts(cart: usize) -> Counts {
        Counts::from([("shop/cart".parse().expect("valid"), cart)])
    }

    #[test]
    fn a_changed_number_of_ready_endpoints_is_said() {
        let service = |ready| {
            let (inventory, none) = (cart(None, ready), Counts::new());
            let ready = count(&inventory, &none, &none).ready;
            catalogue(&inventory, &ready, &Workloads::unknown(), false)
        };
        let messages = news(Some(&service(2)), &service(1));
        assert_eq!(messages.len(), 1);
        assert!(!messages[0].full);
        assert_eq!(messages[0].changed[0].ready_endpoints, 1);
        assert!(news(Some(&service(2)), &service(2)).is_empty());
    }

    #[test]
    fn a_pod_of_two_address_families_is_one() {
        // A slice holds a hundred endpoints; one pod has no address of the other family yet.
        let slices = [("IPv4", 100), ("IPv4", 20), ("IPv6", 100), ("IPv6", 19)];
        let none = Counts::new();
        assert_eq!(count(&cart_in(&slices, None), &none, &none).ready, counts(120));
    }

    #[test]
    fn an_intercepted_service_has_the_pods_of_its_owner() {
        let none = Counts::new();
        assert_eq!(count(&cart(Some(KEY), 0), &counts(2), &none).ready, counts(2));
        // Whatever the cluster publishes just before or after is the same pods.
        assert_eq!(count(&cart(Some(KEY), 3), &counts(2), &none).ready, counts(2));
        assert_eq!(count(&cart(None, 0), &counts(2), &none).ready, counts(2));
    }

    #[test]
    fn a_count_stays_until_the_pods_are_known() {
        let none = Counts::new();
        let counted = count(&cart(Some(KEY), 0), &none, &counts(2));
        assert!(counted.complete);
        assert_eq!(counted.ready, counts(2));
        assert!(!count(&cart(Some(KEY), 0), &none, &none).complete, "nobody has counted them");
        let without_key = count(&cart(None, 0), &none, &counts(2));
        assert_eq!(without_key.ready, counts(0), "the cluster says so");
    }

    #[test]
    fn a_large_catalogue_is_said_in_pieces_and_only_the_first_replaces() {
        let names: Vec<_> = (0..1200).map(|n| format!("shop/s{n}")).collect();
        let services: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let messages = news(None, &with(&services));
        assert_eq!(messages.len(), 3);
        assert_eq!(messages.iter().filter(|message| message.full).count(), 1);
    }
}
