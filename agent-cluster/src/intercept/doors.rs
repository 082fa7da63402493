//! The listeners of each intercepted Service on this replica. A replica is listed in the slice only once it says that it
//! listens where it was assigned to, and it says so only once it knows the pods, to whom it may have to lead the very
//! first connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use fairlead_model::{InterceptPort, ServiceRef, SessionId};
use kube::Client;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::{
    assignment::Assignment,
    hold::Hold,
    listener::{Listener, Route},
    originals::{self, Counts},
    preflight,
    traffic::{Connections, Traffic},
};
use crate::{
    seen::{PodsSeen, ServiceSeen},
    watch::pods_behind,
};

/// A listener outlives its redirect by this long: kube-proxy still sends for a second, and connections through the
/// agent may finish. What is left then is cut, so that nothing stays on the agent for ever.
const LINGER: Duration = Duration::from_secs(30);

/// What one replica found out about the pods behind the Service of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reach {
    pub(crate) session: SessionId,
    /// What stands in the way; none when each of them answered.
    pub(crate) obstacle: Option<String>,
}

/// All open doors of this replica.
pub(crate) struct Doors {
    client: Client,
    /// This replica, as a person would look for it.
    me: String,
    connections: Connections,
    doors: BTreeMap<ServiceRef, Door>,
    /// Rung when a door has learned something.
    news: Arc<Notify>,
    /// The ready pods behind each door, for whoever tells them.
    counts: watch::Sender<Counts>,
}

#[derive(Debug)]
struct Door {
    service: Arc<ServiceSeen>,
    pods: watch::Receiver<PodsSeen>,
    /// They were listed once. Those of another selector are waited for by the connections themselves.
    knows_pods: bool,
    /// Counts the pods; ends with the door.
    counting: AbortOnDropHandle<()>,
    listeners: BTreeMap<u16, Listener>,
    /// Whether the pods can be reached, tried once for each session.
    trial: Option<(SessionId, watch::Receiver<Option<Reach>>)>,
    unassigned_since: Option<Instant>,
}

impl Doors {
    pub(crate) fn new(client: Client, me: String, counts: watch::Sender<Counts>) -> Self {
        let (doors, news) = (BTreeMap::new(), Arc::new(Notify::new()));
        Self { client, me, connections: Connections::none(), doors, news, counts }
    }

    /// Waits until a door has learned something.
    pub(crate) async fn changed(&self) {
        self.news.notified().await;
    }

    /// Opens what `assignment` asks for and points it at the laptop of `hold`, or at the pods alone.
    pub(crate) fn keep(
        &mut self,
        assignment: &Assignment,
        service: &Arc<ServiceSeen>,
        hold: Option<(&Hold, &[InterceptPort])>,
        agents: &Arc<BTreeSet<IpAddr>>,
    ) {
        let (client, counts) = (&self.client, &self.counts);
        let door = self
            .doors
            .entry(assignment.service.clone())
            .or_insert_with(|| Door::of(client, service, counts, &self.news));
        door.unassigned_since = None;
        door.follow_owner(client, service, counts);
        door.knows_pods |= door.pods.borrow().synced;
        if let Some(session) = assignment.session {
            door.try_pods(session, service, &self.me, &self.news);
        }
        for assigned in &assignment.ports {
            let Some(port) = service.ports.iter().find(|port| port.name == assigned.name) else {
                continue;
            };
            let mapped =
                |ports: &[InterceptPort]| ports.iter().any(|p| p.service_port.get() == port.port);
            let route = Route {
                service: Arc::clone(service),
                port: port.clone(),
                hold: hold.filter(|(_, ports)| mapped(ports)).map(|(hold, _)| hold.clone()),
                pods: door.pods.clone(),
                agents: Arc::clone(agents),
            };
            door.listen(assigned.listen, route, &self.connections);
        }
        let wanted = assignment.listens_on();
        door.listeners.retain(|listen, _| wanted.contains(listen));
    }

    /// Points every door that is not in `assigned` at the pods, and closes those that have been so for a while.
    pub(crate) fn retain(&mut self, assigned: &BTreeSet<&ServiceRef>) {
        for (service, door) in &mut self.doors {
            if !assigned.contains(service) && door.unassigned_since.is_none() {
                door.unassigned_since = Some(Instant::now());
                door.give_to_pods();
            }
        }
        self.doors
            .retain(|_, door| door.unassigned_since.is_none_or(|since| since.elapsed() < LINGER));
        let doors = &self.doors;
        self.counts.send_if_modified(|counts| {
            let before = counts.len();
            counts.retain(|service, _| doors.contains_key(service));
            counts.len() != before
        });
    }

    /// Returns what was found out for `session`, once it was.
    pub(crate) fn reach(&self, session: SessionId) -> Option<Reach> {
        self.reached().into_iter().find(|found| found.session == session)
    }

    pub(crate) fn reached(&self) -> Vec<Reach> {
        let trials = self.doors.values().filter_map(|door| door.trial.as_ref());
        trials.filter_map(|(_, found)| found.borrow().clone()).collect()
    }

    /// Says whether a door is open only because its last connections may finish.
    pub(crate) fn any_lingers(&self) -> bool {
        self.doors.values().any(|door| door.unassigned_since.is_some())
    }

    pub(crate) fn listening(&self) -> Vec<(ServiceRef, BTreeSet<u16>)> {
        let ports = |door: &Door| door.listeners.keys().copied().collect();
        let open = self.doors.iter().filter(|(_, door)| door.knows_pods);
        open.map(|(service, door)| (service.clone(), ports(door))).collect()
    }

    pub(crate) fn listens(&self, service: &ServiceRef, ports: &BTreeSet<u16>) -> bool {
        let listens = |door: &Door| ports.iter().all(|port| door.listeners.contains_key(port));
        self.doors.get(service).is_some_and(|door| door.knows_pods && listens(door))
    }

    /// Returns the pods behind a Service whose door is open, once they are known.
    pub(crate) fn pods(&self, service: &ServiceRef) -> Option<PodsSeen> {
        let seen = self.doors.get(service)?.pods.borrow().clone();
        seen.synced.then_some(seen)
    }

    /// Ports that other Services use on this replica, those of lingering doors included.
    pub(crate) fn taken_except(&self, service: &ServiceRef) -> BTreeSet<u16> {
        let others = self.doors.iter().filter(|(of, _)| *of != service);
        others.flat_map(|(_, door)| door.listeners.keys().copied()).collect()
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.connections.traffic()
    }
}

impl Door {
    fn of(
        client: &Client,
        service: &Arc<ServiceSeen>,
        counts: &watch::Sender<Counts>,
        news: &Arc<Notify>,
    ) -> Self {
        info!(service = %service.service, "Listening for {}", service.service);
        let pods = pods_behind(client, service);
        let (mut listed, news) = (pods.clone(), Arc::clone(news));
        tokio::spawn(async move {
            if listed.wait_for(|pods| pods.synced).await.is_ok() {
                news.notify_one();
            }
        });
        Self {
            knows_pods: false,
            service: Arc::clone(service),
            counting: counting(service, &pods, counts),
            pods,
            listeners: BTreeMap::new(),
            trial: None,
            unassigned_since: None,
        }
    }

    /// The owner may edit the Service at any time; the originals follow its selector.
    fn follow_owner(
        &mut self,
        client: &Client,
        service: &Arc<ServiceSeen>,
        counts: &watch::Sender<Counts>,
    ) {
        if self.service == *service {
            return;
        }
        if self.service.owners_selector() != service.owners_selector() {
            self.pods = pods_behind(client, service);
        }
        self.service = Arc::clone(service);
        self.counting = counting(service, &self.pods, counts);
    }

    /// Tries each pod once for `session`, from this replica: nodes may differ in whom they let through.
    fn try_pods(
        &mut self,
        session: SessionId,
        service: &Arc<ServiceSeen>,
        me: &str,
        news: &Arc<Notify>,
    ) {
        if self.trial.as_ref().is_some_and(|(of, _)| *of == session) {
            return;
        }
        let (reach_tx, reach_rx) = watch::channel(None);
        let (service, me) = (Arc::clone(service), me.to_owned());
        let (mut pods, news) = (self.pods.clone(), Arc::clone(news));
        tokio::spawn(async move {
            let known = tokio::select! {
                known = pods.wait_for(|pods| pods.synced) => known.map(|pods| pods.clone()),
                () = reach_tx.closed() => return,
            };
            let Ok(pods) = known else { return };
            let obstacle = preflight::obstacle(&me, &service, &pods).await;
            reach_tx.send_replace(Some(Reach { session, obstacle }));
            news.notify_one();
        });
        self.trial = Some((session, reach_rx));
    }

    fn listen(&mut self, listen: u16, route: Route, connections: &Connections) {
        if let Some(listener) = self.listeners.get(&listen) {
            listener.turn(route);
            return;
        }
        match Listener::open(listen, route, connections.clone()) {
            Ok(listener) => {
                self.listeners.insert(listen, listener);
            }
            Err(error) => warn!(listen, %error, "A listen port could not be opened"),
        }
    }

    fn give_to_pods(&self) {
        for listener in self.listeners.values() {
            listener.give_to_pods();
        }
    }
}

fn counting(
    service: &Arc<ServiceSeen>,
    pods: &watch::Receiver<PodsSeen>,
    counts: &watch::Sender<Counts>,
) -> AbortOnDropHandle<()> {
    let count = originals::count(Arc::clone(service), pods.clone(), counts.clone());
    AbortOnDropHandle::new(tokio::spawn(count))
}
