//! The catalogue: the inventory in the hub's words, and what has changed in it since the hub was last told.

use std::collections::BTreeMap;

use fairlead_model::ServiceRef;
use fairlead_wire::link::v1;

use crate::{
    intercept::preflight,
    seen::{PortSeen, ServiceSeen},
    watch::Inventory,
    workload::Workloads,
};

/// Services per message: a large cluster's catalogue stays below the size that gRPC takes at once.
const CHUNK: usize = 500;
/// Labels are shown and matched; a Service with more than this many keeps the first.
const LABELS_MAX: usize = 64;

pub(crate) type Catalogue = BTreeMap<ServiceRef, v1::CatalogueService>;

pub(crate) fn catalogue(
    inventory: &Inventory,
    workloads: &Workloads,
    agent_is_ipv6: bool,
) -> Catalogue {
    let entry = |service: &ServiceSeen| {
        let entry = v1::CatalogueService {
            service: Some((&service.service).into()),
            ports: service.ports.iter().map(port).collect(),
            workload: workloads.owner_of(service).unwrap_or_default(),
            ready_endpoints: 0,
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
    let mut catalogue: Catalogue = inventory.services().map(|service| entry(service)).collect();
    for (service, ready) in inventory.ready_counts() {
        if let Some(entry) = catalogue.get_mut(&service) {
            entry.ready_endpoints = u32::try_from(ready).unwrap_or(u32::MAX);
        }
    }
    catalogue
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
    use super::*;
    use crate::seen::{SliceSeen, WrittenBy};

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

    #[test]
    fn a_changed_number_of_ready_endpoints_is_said() {
        let service = |ready| {
            let object = serde_json::json!({"metadata": {"namespace": "shop", "name": "cart"}});
            let object = serde_json::from_value(object).expect("a Service");
            let seen = ServiceSeen::from_object(&object).expect("readable");
            let slice =
                SliceSeen { service: Some(seen.service.clone()), ready, by: WrittenBy::Cluster };
            catalogue(&Inventory::of(vec![seen], vec![slice]), &Workloads::unknown(), false)
        };
        let messages = news(Some(&service(2)), &service(1));
        assert_eq!(messages.len(), 1);
        assert!(!messages[0].full);
        assert_eq!(messages[0].changed[0].ready_endpoints, 1);
        assert!(news(Some(&service(2)), &service(2)).is_empty());
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
