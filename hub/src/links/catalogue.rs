//! How many services a cluster may report: counted over all of its messages, because each is small by itself.

use std::collections::BTreeSet;

use fairlead_model::ServiceRef;
use hub_store::Service;

/// Most services of one teamspace.
const SERVICES_MAX: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CatalogueRefused {
    #[error("a catalogue of more than {SERVICES_MAX} services: let the agent see fewer namespaces")]
    TooMany,
    #[error("a part of a catalogue before the whole one")]
    PartBeforeWhole,
}

/// One message, read.
pub(super) struct Message<'m> {
    /// It replaces what was known.
    pub(super) full: bool,
    pub(super) changed: &'m [Service],
    pub(super) deleted: &'m [ServiceRef],
}

/// The services that one link has reported; `None` before its first, full catalogue.
#[derive(Debug, Default)]
pub(super) struct Catalogued(Option<BTreeSet<ServiceRef>>);

impl Catalogued {
    /// Says whether there is room for what a message changes.
    pub(super) fn check(&self, message: &Message<'_>) -> Result<(), CatalogueRefused> {
        let none = BTreeSet::new();
        let known = match &self.0 {
            _ if message.full => &none,
            Some(services) => services,
            None => return Err(CatalogueRefused::PartBeforeWhole),
        };
        let changed: BTreeSet<_> = message.changed.iter().map(|entry| &entry.service).collect();
        let more = changed.iter().filter(|service| !known.contains(**service)).count();
        let deleted: BTreeSet<_> = message.deleted.iter().collect();
        let fewer =
            deleted.difference(&changed).filter(|service| known.contains(**service)).count();
        if known.len() + more - fewer > SERVICES_MAX {
            return Err(CatalogueRefused::TooMany);
        }
        Ok(())
    }

    /// Counts what a message has changed.
    pub(super) fn take(&mut self, message: &Message<'_>) {
        let services = self.0.get_or_insert_default();
        if message.full {
            services.clear();
        }
        for service in message.deleted {
            services.remove(service);
        }
        services.extend(message.changed.iter().map(|entry| entry.service.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn named(from: usize, to: usize) -> Vec<ServiceRef> {
        (from..to).map(|n| format!("shop/s{n}").parse().expect("a service")).collect()
    }

    fn services(from: usize, to: usize) -> Vec<Service> {
        let service = |service| Service {
            service,
            kind: "ClusterIP".to_owned(),
            ports: Vec::new(),
            workload: None,
            ready_endpoints: 0,
            labels: BTreeMap::new(),
            intercept_refusal: None,
            pods: Vec::new(),
        };
        named(from, to).into_iter().map(service).collect()
    }

    #[test]
    fn the_bound_is_on_all_parts_together() {
        let all = services(0, SERVICES_MAX);
        let mut catalogued = Catalogued::default();
        let whole = Message { full: true, changed: &all, deleted: &[] };
        assert_eq!(catalogued.check(&whole), Ok(()));
        catalogued.take(&whole);
        let one_more = services(SERVICES_MAX, SERVICES_MAX + 1);
        let part = |changed, deleted| Message { full: false, changed, deleted };
        assert_eq!(catalogued.check(&part(&one_more, &[])), Err(CatalogueRefused::TooMany));
        assert_eq!(catalogued.check(&part(&all[..9], &[])), Ok(()), "what is known may change");
        let gone = named(0, 1);
        assert_eq!(catalogued.check(&part(&one_more, &gone)), Ok(()), "one for another");
        catalogued.take(&part(&one_more, &gone));
        assert_eq!(catalogued.check(&part(&all[..1], &[])), Err(CatalogueRefused::TooMany));
    }

    #[test]
    fn a_link_begins_with_the_whole_catalogue() {
        let part = Message { full: false, changed: &services(0, 1), deleted: &[] };
        assert_eq!(Catalogued::default().check(&part), Err(CatalogueRefused::PartBeforeWhole));
    }
}
