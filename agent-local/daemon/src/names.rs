//! Which services a user reaches, out of all sessions: a pure function.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_model::{Namespace, Pattern, Patterns, Port, ServiceRef, TeamspaceId};
use laptop_ipc::supervisor::Reached;

/// What names need to know of one consume.
pub(crate) struct Consumed<'a> {
    pub(crate) teamspace: TeamspaceId,
    pub(crate) patterns: &'a Patterns,
    pub(crate) services: &'a [(ServiceRef, Vec<Port>)],
}

/// Returns what the footprint should be. A service that this laptop itself takes the place of is left out: its name
/// must not lead back here.
pub(crate) fn reached(
    consumes: &[Consumed<'_>],
    intercepted: &BTreeSet<(TeamspaceId, ServiceRef)>,
) -> Vec<Reached> {
    let homes: BTreeSet<_> = consumes.iter().filter_map(|consume| home(consume.patterns)).collect();
    // Two homes would fight over the bare names.
    let home = if homes.len() == 1 { homes.first() } else { None };
    let mut ports: BTreeMap<(TeamspaceId, &ServiceRef), BTreeSet<Port>> = BTreeMap::new();
    for consume in consumes {
        for (service, granted) in consume.services {
            if !intercepted.contains(&(consume.teamspace, service.clone())) {
                ports.entry((consume.teamspace, service)).or_default().extend(granted);
            }
        }
    }
    let reached = ports.into_iter().filter(|(_, ports)| !ports.is_empty());
    reached
        .map(|((teamspace, service), ports)| Reached {
            teamspace,
            service: service.clone(),
            ports: ports.into_iter().collect(),
            is_home: home == Some(&service.namespace),
        })
        .collect()
}

/// Returns the only namespace that is named, whose services may be called by their bare names. `*/cart` names none: its
/// bare name would be that of several services.
pub(crate) fn home(patterns: &Patterns) -> Option<Namespace> {
    let wanted = patterns.iter().filter(|pattern| !pattern.excludes());
    let named: BTreeSet<_> = wanted.filter_map(Pattern::namespace).collect();
    if named.len() == 1 { named.into_iter().next().cloned() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(words: &[&str]) -> Patterns {
        Patterns::new(words.iter().map(|word| word.parse().expect("valid")).collect())
            .expect("valid")
    }

    fn service(name: &str) -> ServiceRef {
        name.parse().expect("valid")
    }

    fn granted(names: &[&str]) -> Vec<(ServiceRef, Vec<Port>)> {
        names.iter().map(|name| (service(name), vec![Port::new(80).expect("not 0")])).collect()
    }

    fn names(reached: &[Reached]) -> Vec<String> {
        reached
            .iter()
            .map(|r| format!("{}{}", r.service, if r.is_home { " home" } else { "" }))
            .collect()
    }

    #[test]
    fn one_namespace_is_home() {
        assert_eq!(
            home(&patterns(&["shop/*", "shop/cart:80", "!pay/api"])),
            Some("shop".parse().expect("valid"))
        );
        assert_eq!(home(&patterns(&["shop/*", "pay/api"])), None);
        assert_eq!(home(&patterns(&["*/*"])), None);
        assert_eq!(
            home(&patterns(&["shop/*", "*/otel"])),
            Some("shop".parse().expect("valid")),
            "what is wanted everywhere is at home where the only named namespace is"
        );
    }

    #[test]
    fn what_i_intercept_leaves_my_own_consume() {
        let (teamspace, wanted) = (TeamspaceId::generate(), patterns(&["shop/*"]));
        let services = granted(&["shop/cart", "shop/frontend"]);
        let consume = [Consumed { teamspace, patterns: &wanted, services: &services }];
        assert_eq!(
            names(&reached(&consume, &BTreeSet::new())),
            ["shop/cart home", "shop/frontend home"]
        );
        let mine = BTreeSet::from([(teamspace, service("shop/cart"))]);
        assert_eq!(names(&reached(&consume, &mine)), ["shop/frontend home"]);
        let elsewhere = BTreeSet::from([(TeamspaceId::generate(), service("shop/cart"))]);
        assert_eq!(reached(&consume, &elsewhere).len(), 2);
    }

    #[test]
    fn two_homes_have_no_bare_names() {
        let teamspace = TeamspaceId::generate();
        let (shop, pay) = (patterns(&["shop/*"]), patterns(&["pay/*"]));
        let (of_shop, of_pay) = (granted(&["shop/cart"]), granted(&["pay/api"]));
        let consumes = [
            Consumed { teamspace, patterns: &shop, services: &of_shop },
            Consumed { teamspace, patterns: &pay, services: &of_pay },
        ];
        assert_eq!(names(&reached(&consumes, &BTreeSet::new())), ["pay/api", "shop/cart"]);
    }
}
