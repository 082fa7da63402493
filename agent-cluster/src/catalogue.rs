//! The catalogue: the inventory in the hub's words, and what has changed in it since the hub was last told.

use std::{collections::BTreeMap, sync::Arc};

use fairlead_model::ServiceRef;
use fairlead_wire::link::v1;

use crate::{
    intercept::{originals::Counts, preflight},
    seen::{PortSeen, ServiceSeen, Target},
    watch::Inventory,
    workload::Workloads,
};

/// Services per message: a large cluster's catalogue stays below the size that gRPC takes at once.
const CHUNK: usize = 500;
/// Labels are shown and matched; a Service with more than this many keeps the first.
const LABELS_MAX: usize = 64;
/// Pods that are called by name; of a larger StatefulSet the first.
const PODS_MAX: usize = 100;
/// Ports; a headless Service has those that its pods declare besides its own.
const PORTS_MAX: usize = 100;

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
    let named = inventory.named_pods();
    let entry = |service: &ServiceSeen| {
        let pods = named.get(&service.service).into_iter().flatten().take(PODS_MAX);
        let entry = v1::CatalogueService {
            service: Some((&service.service).into()),
            pods: pods.map(ToString::to_string).collect(),
            ports: ports(service, &workloads.declared_by(service)),
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

/// Lists the ports at which a Service is called. Nothing translates those of a headless one: whoever calls it reaches its
/// pods, so what they declare counts as well, and a port that it maps to another is reached at that other.
fn ports(service: &ServiceSeen, declared: &[PortSeen]) -> Vec<v1::CataloguePort> {
    let mut ports: Vec<_> = service.ports.iter().map(port).collect();
    if service.kind == "Headless" {
        let behind = service.ports.iter().filter_map(|port| match port.target {
            Target::Number(number) => Some(PortSeen { port: number, ..port.clone() }),
            Target::Name(_) => None,
        });
        for more in behind.chain(declared.iter().cloned()) {
            let is_known =
                ports.iter().any(|p| p.port == u32::from(more.port) && p.protocol == more.protocol);
            if !is_known {
                ports.push(port(&more));
            }
        }
    }
    ports.truncate(PORTS_MAX);
    ports
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
        .map(|chunk| v1::Catalogue { changed: chunk.to_vec(), ..v1::Catalogue::default() })
        .collect();
    if messages.is_empty() && (!deleted.is_empty() || told.is_none()) {
        messages.push(v1::Catalogue::default());
    }
    if let Some(first) = messages.first_mut() {
        first.full = told.is_none();
        first.deleted = deleted;
    }
    if let (None, [unfinished @ .., _]) = (told, messages.as_mut_slice()) {
        unfinished.iter_mut().for_each(|message| message.more = true);
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
    fn a_headless_service_has_its_pods_by_name_and_the_ports_they_declare() {
        let inventory = |kind: serde_json::Value| {
            let mut slice = made_up::slice(MANAGED_BY_CLUSTER, "", &["10.0.0.1", "10.0.0.2"]);
            slice["endpoints"][0]["hostname"] = "cart-10".into();
            slice["endpoints"][1]["hostname"] = "cart-9".into();
            slice["endpoints"][1]["conditions"]["ready"] = false.into();
            let slice = made_up::slice_seen(slice, "nobody");
            let ports = json!([{"name": "db", "port": 80, "targetPort": 5432}]);
            let cart = made_up::cart(json!({"clusterIP": kind, "ports": ports}));
            Inventory::of(vec![cart], vec![slice])
        };
        let metrics = PortSeen {
            name: "metrics".to_owned(),
            port: 9187,
            protocol: "TCP".to_owned(),
            target: Target::Number(9187),
            app_protocol: None,
        };
        let known = |kind: &str| {
            let inventory = inventory(kind.into());
            let workloads =
                Workloads::declaring("shop/cart", vec![metrics.clone(), metrics.clone()]);
            let mut all = catalogue(&inventory, &Counts::new(), &workloads, false);
            let entry = all.pop_first().expect("the cart").1;
            (entry.pods, entry.ports.iter().map(|port| port.port).collect::<Vec<_>>())
        };
        let pods = vec!["cart-9".to_owned(), "cart-10".to_owned()];
        assert_eq!(
            known("None"),
            (pods, vec![80, 5432, 9187]),
            "one that is not ready has its name"
        );
        assert_eq!(known("10.96.0.9"), (Vec::new(), vec![80]));
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
    fn a_large_catalogue_is_said_in_pieces_of_which_the_last_one_replaces() {
        let names: Vec<_> = (0..1200).map(|n| format!("shop/s{n}")).collect();
        let services: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let said = |told: Option<&Catalogue>, now: &Catalogue| {
            let messages = news(told, now);
            messages.iter().map(|message| (message.full, message.more)).collect::<Vec<_>>()
        };
        let (all, none) = (with(&services), with(&[]));
        assert_eq!(said(None, &all), [(true, true), (false, true), (false, false)]);
        assert_eq!(said(Some(&none), &all), [(false, false); 3], "nothing is replaced");
        assert_eq!(said(None, &none), [(true, false)]);
    }
}
