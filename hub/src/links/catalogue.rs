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
    /// It begins what replaces all that was known.
    pub(super) full: bool,
    /// That goes on in the next one.
    pub(super) more: bool,
    pub(super) changed: &'m [Service],
    pub(super) deleted: &'m [ServiceRef],
}

/// The services that one link has reported.
#[derive(Debug, Default)]
pub(super) struct Catalogued {
    /// `None` before its first, full catalogue.
    services: Option<BTreeSet<ServiceRef>>,
    /// The full catalogue is being said.
    is_beginning: bool,
}

impl Catalogued {
    /// Says whether there is room for what a message changes.
    pub(super) fn check(&self, message: &Message<'_>) -> Result<(), CatalogueRefused> {
        let none = BTreeSet::new();
        let known = match &self.services {
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

    /// Counts what a message changes. Returns all services there are where it was the last of a full catalogue: only then
    /// it is known which others are gone.
    pub(super) fn take(&mut self, message: &Message<'_>) -> Option<&BTreeSet<ServiceRef>> {
        let services = self.services.get_or_insert_default();
        if message.full {
            services.clear();
        }
        let was_whole = (message.full || self.is_beginning) && !message.more;
        self.is_beginning = message.more;
        for service in message.deleted {
            services.remove(service);
        }
        services.extend(message.changed.iter().map(|entry| entry.service.clone()));
        was_whole.then_some(services)
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
        let whole = Message { full: true, more: false, changed: &all, deleted: &[] };
        assert_eq!(catalogued.check(&whole), Ok(()));
        catalogued.take(&whole);
        let one_more = services(SERVICES_MAX, SERVICES_MAX + 1);
        let part = |changed, deleted| Message { full: false, more: false, changed, deleted };
        assert_eq!(catalogued.check(&part(&one_more, &[])), Err(CatalogueRefused::TooMany));
        assert_eq!(catalogued.check(&part(&all[..9], &[])), Ok(()), "what is known may change");
        let gone = named(0, 1);
        assert_eq!(catalogued.check(&part(&one_more, &gone)), Ok(()), "one for another");
        catalogued.take(&part(&one_more, &gone));
        assert_eq!(catalogued.check(&part(&all[..1], &[])), Err(CatalogueRefused::TooMany));
    }

    #[test]
    fn what_is_gone_is_known_when_the_whole_catalogue_was_said() {
        let mut catalogued = Catalogued::default();
        let mut whole = |full, more, from| {
            let changed = services(from, from + 1);
            let message = Message { full, more, changed: &changed, deleted: &[] };
            catalogued.take(&message).map(BTreeSet::len)
        };
        for _ in 0..2 {
            assert_eq!(whole(true, true, 0), None);
            assert_eq!(whole(false, true, 1), None);
            assert_eq!(whole(false, false, 2), Some(3));
            assert_eq!(whole(false, false, 3), None, "a change");
            assert_eq!(whole(true, false, 4), Some(1));
        }
    }

    #[test]
    fn a_link_begins_with_the_whole_catalogue() {
        let part = Message { full: false, more: false, changed: &services(0, 1), deleted: &[] };
        assert_eq!(Catalogued::default().check(&part), Err(CatalogueRefused::PartBeforeWhole));
    }
}
