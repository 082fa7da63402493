//! Which services and hosts a user reaches, out of all sessions: a pure function.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_model::{
    Callee, Namespace, Pattern, Patterns, ServicePort, ServiceRef, TeamspaceId, TeamspaceLabel,
};
use laptop_ipc::{
    daemon::Teamspace,
    supervisor::{PORTS_MAX, Reached, SERVICES_MAX},
};

/// What names need to know of one consume.
pub(crate) struct Consumed<'a> {
    pub(crate) teamspace: &'a Teamspace,
    pub(crate) patterns: &'a Patterns,
    pub(crate) services: &'a [(Callee, Vec<ServicePort>)],
}

/// Returns what the footprint should be. A service that this laptop itself takes the place of is left out: its name
/// must not lead back here.
///
/// The cluster's names belong to one teamspace, the one `at_home`; the services of the others have names of their own.
pub(crate) fn reached(
    consumes: &[Consumed<'_>],
    at_home: Option<TeamspaceId>,
    intercepted: &BTreeSet<(TeamspaceId, ServiceRef)>,
) -> Vec<Reached> {
    let is_at_home = |teamspace: TeamspaceId| at_home == Some(teamspace);
    let here = consumes.iter().filter(|consume| is_at_home(consume.teamspace.id));
    let homes: BTreeSet<_> = here.filter_map(|consume| home(consume.patterns)).collect();
    // Two homes would fight over the bare names.
    let home = if homes.len() == 1 { homes.first() } else { None };
    let mut ports: BTreeMap<(&Teamspace, &Callee), BTreeSet<ServicePort>> = BTreeMap::new();
    for consume in consumes {
        for (callee, granted) in consume.services {
            let is_mine = |service: &ServiceRef| {
                intercepted.contains(&(consume.teamspace.id, service.clone()))
            };
            if !callee.service().is_some_and(is_mine) {
                ports.entry((consume.teamspace, callee)).or_default().extend(granted);
            }
        }
    }
    let reached = ports.into_iter().filter(|(_, ports)| !ports.is_empty());
    let reached = reached.map(|((teamspace, callee), ports)| Reached {
        teamspace: teamspace.id,
        callee: callee.clone(),
        ports: ports.into_iter().collect(),
        is_home: is_at_home(teamspace.id)
            && callee.service().is_some_and(|service| home == Some(&service.namespace)),
        beside: (!is_at_home(teamspace.id)).then(|| label(teamspace)),
    });
    with_room_for_pods(without_doubles(reached.collect()))
}

/// Leaves out each host that is called as a service is: nobody could say which of the two a name means.
fn without_doubles(mut reached: Vec<Reached>) -> Vec<Reached> {
    let is_host = |reached: &Reached| reached.callee.service().is_none();
    if reached.iter().any(is_host) {
        let services = reached.iter().filter(|reached| !is_host(reached));
        let taken: BTreeSet<String> = services.flat_map(Reached::names).collect();
        reached.retain(|reached| !is_host(reached) || !taken.contains(&reached.short_name()));
    }
    reached
}

/// Leaves out the last pods where there is no room for all: of what a machine can name, Services come first.
fn with_room_for_pods(mut reached: Vec<Reached>) -> Vec<Reached> {
    let services = reached.iter().filter(|reached| !reached.callee.is_pod());
    let (count, ports) = services.fold((0, 0), |(n, ports), r| (n + 1, ports + r.ports.len()));
    let mut names_left = SERVICES_MAX.saturating_sub(count);
    let mut ports_left = PORTS_MAX.saturating_sub(ports);
    reached.retain(|reached| {
        let fits = names_left > 0 && ports_left >= reached.ports.len();
        if reached.callee.is_pod() && fits {
            names_left -= 1;
            ports_left -= reached.ports.len();
        }
        !reached.callee.is_pod() || fits
    });
    reached
}

fn label(teamspace: &Teamspace) -> TeamspaceLabel {
    let name = teamspace.name.parse();
    // Whatever a hub calls it, its id is a label, too.
    name.unwrap_or_else(|_| teamspace.id.to_string().parse().expect("a UUID is a label"))
}

/// Returns the teamspace that has the cluster's names: the one that was chosen, and where none was, the one that was
/// consumed first. So names move only when somebody says so.
pub(crate) fn at_home(
    consumed: impl Iterator<Item = TeamspaceId>,
    chosen: Option<TeamspaceId>,
) -> Option<TeamspaceId> {
    let mut consumed = consumed;
    chosen.or_else(|| consumed.next())
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
    use fairlead_model::HostName;

    use super::*;

    fn patterns(words: &[&str]) -> Patterns {
        Patterns::new(words.iter().map(|word| word.parse().expect("valid")).collect())
            .expect("valid")
    }

    fn service(name: &str) -> ServiceRef {
        name.parse().expect("valid")
    }

    fn granted(names: &[&str]) -> Vec<(Callee, Vec<ServicePort>)> {
        names.iter().map(|name| (service(name).into(), vec![http()])).collect()
    }

    fn http() -> ServicePort {
        ServicePort::tcp("80".parse().expect("a port"))
    }

    fn names(reached: &[Reached]) -> Vec<String> {
        reached
            .iter()
            .map(|r| format!("{}{}", r.callee, if r.is_home { " home" } else { "" }))
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
        let (teamspace, wanted) = (&staging(), patterns(&["shop/*"]));
        let services = granted(&["shop/cart", "shop/frontend"]);
        let consume = [Consumed { teamspace, patterns: &wanted, services: &services }];
        assert_eq!(
            names(&reached(&consume, home_of(&consume), &BTreeSet::new())),
            ["shop/cart home", "shop/frontend home"]
        );
        let mine = BTreeSet::from([(teamspace.id, service("shop/cart"))]);
        assert_eq!(names(&reached(&consume, home_of(&consume), &mine)), ["shop/frontend home"]);
        let elsewhere = BTreeSet::from([(TeamspaceId::generate(), service("shop/cart"))]);
        assert_eq!(reached(&consume, None, &elsewhere).len(), 2);
    }

    #[test]
    fn a_pod_stands_beside_its_service_and_leaves_with_it() {
        let (teamspace, wanted) = (&staging(), patterns(&["shop/*"]));
        let mut services = granted(&["shop/db"]);
        let pod = Callee::pod_of(service("shop/db"), "db-0".parse().expect("valid"));
        services.push((pod, vec![http()]));
        let consume = [Consumed { teamspace, patterns: &wanted, services: &services }];
        let all = reached(&consume, home_of(&consume), &BTreeSet::new());
        assert_eq!(names(&all), ["shop/db home", "shop/db-0.db home"]);
        let mine = BTreeSet::from([(teamspace.id, service("shop/db"))]);
        assert_eq!(reached(&consume, home_of(&consume), &mine), []);
    }

    #[test]
    fn where_there_is_no_room_services_come_before_pods() {
        let (teamspace, wanted) = (&staging(), patterns(&["shop/*"]));
        let mut services: Vec<_> = (1..SERVICES_MAX)
            .map(|n| (Callee::from(service(&format!("shop/s{n}"))), vec![http()]))
            .collect();
        for pod in ["a-0", "a-1"] {
            let pod = Callee::pod_of(service("shop/a"), pod.parse().expect("valid"));
            services.push((pod, vec![http()]));
        }
        let consume = [Consumed { teamspace, patterns: &wanted, services: &services }];
        let all = reached(&consume, home_of(&consume), &BTreeSet::new());
        let pods = all.iter().filter(|reached| reached.callee.is_pod());
        assert_eq!((all.len(), pods.count()), (SERVICES_MAX, 1));
    }

    #[test]
    fn a_host_outside_has_its_own_name_and_one_that_a_service_has_is_left_out() {
        let (first, second) = (staging(), Teamspace { name: "prod".to_owned(), ..staging() });
        let wanted = patterns(&["shop/*", "+db.example.net:5432", "+cart.shop:80"]);
        let mut services = granted(&["shop/cart"]);
        for host in ["db.example.net", "cart.shop"] {
            let host: HostName = host.parse().expect("valid");
            services.push((host.into(), vec![http()]));
        }
        let consumes = [&first, &second].map(|teamspace| Consumed {
            teamspace,
            patterns: &wanted,
            services: &services,
        });
        let all = reached(&consumes, Some(first.id), &BTreeSet::new());
        let called: BTreeSet<_> = all.iter().map(|reached| reached.names().join(" ")).collect();
        let expected = [
            "cart cart.shop cart.shop.svc cart.shop.svc.cluster.local",
            "cart.shop.prod.fairlead",
            "db.example.net",
            "db.example.net.prod.fairlead",
        ];
        assert_eq!(called, expected.map(str::to_owned).into());
    }

    #[test]
    fn two_homes_have_no_bare_names() {
        let teamspace = &staging();
        let (shop, pay) = (patterns(&["shop/*"]), patterns(&["pay/*"]));
        let (of_shop, of_pay) = (granted(&["shop/cart"]), granted(&["pay/api"]));
        let consumes = [
            Consumed { teamspace, patterns: &shop, services: &of_shop },
            Consumed { teamspace, patterns: &pay, services: &of_pay },
        ];
        assert_eq!(
            names(&reached(&consumes, home_of(&consumes), &BTreeSet::new())),
            ["pay/api", "shop/cart"]
        );
    }

    #[test]
    fn one_teamspace_has_the_clusters_names_and_the_other_names_of_its_own() {
        let (first, second) = (staging(), Teamspace { name: "prod".to_owned(), ..staging() });
        let (wanted, services) = (patterns(&["shop/*"]), granted(&["shop/cart"]));
        let consumes = [&first, &second].map(|teamspace| Consumed {
            teamspace,
            patterns: &wanted,
            services: &services,
        });
        let called = |home: &Teamspace| {
            let reached = reached(&consumes, Some(home.id), &BTreeSet::new());
            let of = |teamspace: &Teamspace| {
                let reached = reached.iter().find(|reached| reached.teamspace == teamspace.id);
                reached.expect("reached").names().join(" ")
            };
            [of(&first), of(&second)]
        };
        let cluster = "cart cart.shop cart.shop.svc cart.shop.svc.cluster.local";
        assert_eq!(called(&first), [cluster, "cart.shop.prod.fairlead"]);
        assert_eq!(called(&second), ["cart.shop.staging.fairlead", cluster]);
    }

    #[test]
    fn the_chosen_teamspace_is_at_home_and_where_none_was_chosen_the_first() {
        let (first, second) = (TeamspaceId::generate(), TeamspaceId::generate());
        let home = |chosen| at_home([first, second].into_iter(), chosen);
        assert_eq!(home(None), Some(first));
        assert_eq!(home(Some(second)), Some(second));
        let elsewhere = TeamspaceId::generate();
        assert_eq!(home(Some(elsewhere)), Some(elsewhere), "its names wait for it");
    }

    fn staging() -> Teamspace {
        Teamspace { id: TeamspaceId::generate(), name: "staging".to_owned() }
    }

    fn home_of(consumes: &[Consumed<'_>]) -> Option<TeamspaceId> {
        at_home(consumes.iter().map(|consume| consume.teamspace.id), None)
    }
}
