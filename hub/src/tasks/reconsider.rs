//! Decides again about live sessions when something changed that they were decided on: roles, policies, devices, the
//! catalogue. And now and then without any hint: one may get lost, and policies may speak of the time of day.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use fairlead_model::{OrgId, TeamspaceId, UserId, timers::GRANT_LIFE};
use futures_util::{StreamExt as _, stream};
use hub_store::{Filter, Service, Session, StoreError};
use tokio::{
    sync::mpsc,
    task::yield_now,
    time::{self, Instant},
};

use super::{
    LIVE,
    changes::{ToAnnounce, ToReconsider},
    for_each_organization,
};
use crate::{
    Hub,
    actions::{
        pass::{HeldBy, Pass},
        renew::{self, Sent},
        turns::Watch,
    },
};

const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Where a session could not be decided again: it may be one that is to end.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Sessions of which it is read in one statement what they may reach: each may have thousands of services.
const READ_AT_ONCE: usize = 32;
/// Sessions that are decided again side by side. Each waits for the database most of the time, and others need it, too.
const AT_ONCE: usize = 4;

pub(super) async fn run(hub: Hub, mut reconsider_rx: mpsc::Receiver<ToReconsider>) {
    let mut again = time::interval(LOOK_AGAIN);
    again.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    let mut catalogues = Catalogues::default();
    // What could not be looked at as a whole.
    let mut missed = HashSet::new();
    loop {
        let mut pending = std::mem::take(&mut missed);
        let first = tokio::select! {
            what = reconsider_rx.recv() => Some(what.unwrap_or(ToReconsider::Everything)),
            what = something_settles(&hub) => Some(what),
            _ = again.tick() => Some(ToReconsider::Everything),
            () = time::sleep(TRY_AGAIN), if !pending.is_empty() => None,
        };
        pending.extend(first);
        // A burst of hints about the same thing is one look at it.
        while let Ok(next) = reconsider_rx.try_recv() {
            pending.insert(next);
        }
        for what in pending {
            let looked = look_at(&hub, &mut catalogues, what).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "Live sessions could not be decided again; they will be soon");
                Looked::InPart
            });
            if looked == Looked::InPart {
                missed.insert(what);
            }
        }
    }
}

/// Whether every session of a look could be decided again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    Whole,
    InPart,
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
) -> Result<Looked, StoreError> {
    match what {
        ToReconsider::Organization(org) => of_people(hub, org, None).await,
        ToReconsider::Member(org, who) => {
            let member = match hub.store.scoped(org).name_of(who).await {
                Err(StoreError::NotFound { .. }) => None,
                found => found.map(|_| Some(who))?,
            };
            of_people(hub, org, member).await
        }
        ToReconsider::Catalogue(org, teamspace) => {
            let services = hub.store.scoped(org).services(teamspace).await?;
            if !catalogues.has_changed(teamspace, &services) {
                return Ok(Looked::Whole);
            }
            sessions(hub, org, Filter { teamspace: Some(teamspace), ..LIVE }).await
        }
        ToReconsider::Teamspace(org, teamspace) => {
            sessions(hub, org, Filter { teamspace: Some(teamspace), ..LIVE }).await
        }
        ToReconsider::Everything => {
            let store = hub.store.unscoped("live sessions of every organization are decided again");
            let organizations = store.organizations_with_live_sessions().await?;
            for_each_organization("Deciding again", organizations, &mut hub.clone(), |hub, org| {
                Box::pin(async move { sessions(hub, org, LIVE).await.map(drop) })
            })
            .await;
            for org in hub.links.organizations() {
                hub.changes.announce(ToAnnounce::Laptops(org)).await;
            }
            Ok(Looked::Whole)
        }
    }
}

/// Looks at the sessions of one member, or of all.
async fn of_people(hub: &Hub, org: OrgId, user: Option<UserId>) -> Result<Looked, StoreError> {
    let looked = sessions(hub, org, Filter { user, ..LIVE }).await?;
    // After the sessions: a laptop hears why they ended before its link does.
    hub.changes.announce(ToAnnounce::Laptops(org)).await;
    Ok(looked)
}

/// Looks at sessions, those of one teamspace after those of another: no more than one catalogue is held at a time.
async fn sessions(hub: &Hub, org: OrgId, filter: Filter) -> Result<Looked, StoreError> {
    // Before they are read.
    let watch = hub.turns.watch();
    let mut by_teamspace = BTreeMap::<_, Vec<_>>::new();
    for session in hub.store.scoped(org).sessions(filter).await? {
        by_teamspace.entry(session.teamspace).or_default().push(session);
    }
    let mut all = Looked::Whole;
    for (teamspace, sessions) in by_teamspace {
        let looked = at_each(hub, org, teamspace, sessions, &watch).await;
        if looked == Looked::InPart {
            all = Looked::InPart;
        }
    }
    Ok(all)
}

/// Looks at sessions of one teamspace. Those that may have to end do not wait for those that stand.
async fn at_each(
    hub: &Hub,
    org: OrgId,
    teamspace: TeamspaceId,
    sessions: Vec<Session>,
    watch: &Watch,
) -> Looked {
    let pass = pass_over(hub, org, teamspace, &sessions, watch).await;
    let decided = stream::iter(sessions)
        .chunks(READ_AT_ONCE)
        .then(|some| to_decide(hub.clone(), pass.clone(), some))
        .flat_map(stream::iter)
        .map(|session| {
            let hub = hub.clone();
            async move { renew::and_log(&hub, &session, Sent::IfChanged).await }
        })
        .buffer_unordered(AT_ONCE)
        // To the end, whatever became of those before.
        .fold(
            Looked::Whole,
            async |looked, is_decided| {
                if is_decided { looked } else { Looked::InPart }
            },
        );
    decided.await
}

/// Leaves those of some sessions that are not seen to stand as they are.
async fn to_decide(hub: Hub, pass: Option<Arc<Pass>>, sessions: Vec<Session>) -> Vec<Session> {
    let Some(pass) = pass else { return sessions };
    let held = held_by(&hub, &sessions).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "Each of these sessions reads for itself");
        HeldBy::new()
    });
    let mut rest = Vec::new();
    for session in sessions {
        if !pass.sees_stand(&hub, &session, &held) {
            rest.push(session);
        }
        // Deciding takes the processor and waits for nothing.
        yield_now().await;
    }
    rest
}

/// Reads what each of some sessions of one organization may reach.
async fn held_by(hub: &Hub, sessions: &[Session]) -> Result<HeldBy, StoreError> {
    let Some(first) = sessions.first() else { return Ok(HeldBy::new()) };
    let ids: Vec<_> = sessions.iter().map(|session| session.id).collect();
    hub.store.scoped(first.org).held_by(&ids, hub.clock.now() - GRANT_LIFE).await
}

/// Reads what the sessions have in common. A single one has nothing, and where a row is damaged that only some of them
/// need, each reads for itself.
async fn pass_over(
    hub: &Hub,
    org: OrgId,
    teamspace: TeamspaceId,
    sessions: &[Session],
    watch: &Watch,
) -> Option<Arc<Pass>> {
    if sessions.len() < 2 {
        return None;
    }
    let pass = Pass::begin(hub, org, teamspace, sessions, watch.clone()).await;
    pass.inspect_err(|error| tracing::debug!(%error, %teamspace, "Each session reads for itself"))
        .ok()
        .map(Arc::new)
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
