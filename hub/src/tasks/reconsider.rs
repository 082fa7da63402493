//! Decides again about live sessions when something changed that they were decided on: roles, policies, devices, the
//! catalogue. And now and then without any hint: one may get lost, and policies may speak of the time of day.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use fairlead_model::{OrgId, TeamspaceId};
use hub_store::{Filter, Service, StoreError};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

use super::{
    LIVE,
    changes::{ToAnnounce, ToReconsider},
    for_each_organization,
};
use crate::{
    Hub,
    actions::renew::{self, Sent},
};

const LOOK_AGAIN: Duration = Duration::from_secs(30);

pub(super) async fn run(hub: Hub, mut reconsider_rx: mpsc::Receiver<ToReconsider>) {
    let mut again = time::interval(LOOK_AGAIN);
    again.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut catalogues = Catalogues::default();
    loop {
        let first = tokio::select! {
            what = reconsider_rx.recv() => what.unwrap_or(ToReconsider::Everything),
            what = something_settles(&hub) => what,
            _ = again.tick() => ToReconsider::Everything,
        };
        // A burst of hints about the same thing is one look at it.
        let mut pending = HashSet::from([first]);
        while let Ok(next) = reconsider_rx.try_recv() {
            pending.insert(next);
        }
        for what in pending {
            if let Err(error) = look_at(&hub, &mut catalogues, what).await {
                tracing::warn!(%error, "Live sessions could not be decided again; they will be soon");
            }
        }
    }
}

/// Waits until a service that was missing at the last look is gone, unless it is back by then.
async fn something_settles(hub: &Hub) -> ToReconsider {
    let Some((at, of)) = hub.absences.next() else { return std::future::pending().await };
    time::sleep_until(at).await;
    hub.absences.are_told(of, Instant::now());
    ToReconsider::Teamspace(of.0, of.1)
}

async fn look_at(
    hub: &Hub,
    catalogues: &mut Catalogues,
    what: ToReconsider,
) -> Result<(), StoreError> {
    match what {
        ToReconsider::Organization(org) => {
            sessions(hub, org, None).await?;
            // After its sessions: a laptop hears why they ended before its link does.
            hub.changes.announce(ToAnnounce::Laptops(org)).await;
            Ok(())
        }
        ToReconsider::Catalogue(org, teamspace) => {
            let services = hub.store.scoped(org).services(teamspace).await?;
            if catalogues.has_changed(teamspace, &services) {
                sessions(hub, org, Some(teamspace)).await?;
            }
            Ok(())
        }
        ToReconsider::Teamspace(org, teamspace) => sessions(hub, org, Some(teamspace)).await,
        ToReconsider::Everything => {
            let store = hub.store.unscoped("live sessions of every organization are decided again");
            let organizations = store.organizations_with_live_sessions().await?;
            for_each_organization("Deciding again", organizations, &mut hub.clone(), |hub, org| {
                Box::pin(sessions(hub, org, None))
            })
            .await;
            for org in hub.links.organizations() {
                hub.changes.announce(ToAnnounce::Laptops(org)).await;
            }
            Ok(())
        }
    }
}

async fn sessions(hub: &Hub, org: OrgId, teamspace: Option<TeamspaceId>) -> Result<(), StoreError> {
    for session in hub.store.scoped(org).sessions(Filter { teamspace, ..LIVE }).await? {
        renew::and_log(hub, &session, Sent::IfChanged).await;
    }
    Ok(())
}

/// The part of each catalogue that decisions and grants depend on, as it was at the last look. While a workload is
/// rolled out its ready endpoints change every second, and nobody's sessions with them.
#[derive(Debug, Default)]
struct Catalogues(HashMap<TeamspaceId, u64>);

impl Catalogues {
    fn has_changed(&mut self, teamspace: TeamspaceId, services: &[Service]) -> bool {
        let mut hasher = DefaultHasher::new();
        for Service { service, ports, labels, pods, .. } in services {
            service.hash(&mut hasher);
            pods.hash(&mut hasher);
            labels.hash(&mut hasher);
            for port in ports {
                (port.port, port.protocol).hash(&mut hasher);
            }
        }
        let now = hasher.finish();
        self.0.insert(teamspace, now) != Some(now)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fairlead_model::{Port, Protocol};
    use hub_store::PortOfService;

    use super::*;

    #[test]
    fn only_what_decisions_depend_on_is_a_change() {
        let port = PortOfService {
            name: "http".to_owned(),
            port: Port::new(80).expect("not 0"),
            protocol: Protocol::Tcp,
            target_port: "8080".to_owned(),
            app_protocol: String::new(),
        };
        let cart = Service {
            service: "shop/cart".parse().expect("a service"),
            kind: "ClusterIP".to_owned(),
            ports: vec![port.clone()],
            workload: None,
            ready_endpoints: 1,
            labels: BTreeMap::new(),
            intercept_refusal: None,
            pods: Vec::new(),
        };
        let (mut catalogues, teamspace) = (Catalogues::default(), TeamspaceId::generate());
        let mut changed = |services: &[Service]| catalogues.has_changed(teamspace, services);
        assert!(changed(std::slice::from_ref(&cart)), "never looked at");
        assert!(!changed(&[Service { ready_endpoints: 2, ..cart.clone() }]));
        let label = ("team".to_owned(), "a".to_owned());
        assert!(changed(&[Service { labels: [label].into(), ..cart.clone() }]));
        let pod = "cart-0".parse().expect("a pod");
        assert!(changed(&[Service { pods: vec![pod], ..cart.clone() }]), "its name is granted");
        let other = PortOfService { port: Port::new(81).expect("not 0"), ..port };
        assert!(changed(&[Service { ports: vec![other], ..cart }]));
        assert!(changed(&[]));
        assert!(!changed(&[]));
    }
}
