//! The sessions of this laptop as they are right now: which there are, and what is seen of each.
//!
//! Plain data behind one lock that is never held while anything is awaited. What was granted and shown is in
//! `granted.rs`, where names lead in `places.rs`, where a connection belongs in `routes.rs`, and what a person sees in
//! `views.rs`.

mod granted;
mod places;
mod routes;
mod views;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddrV4,
    sync::Arc,
    time::Instant,
};

use fairlead_model::{
    Callee, Phase, Protocol, SessionId, SessionKind, TeamspaceId, timers::LAPTOP_SHOWN,
};
use fairlead_tunnel::CarrierHandle;
use laptop_dns::Zone;
use laptop_ipc::daemon::Laptop;
use tokio::sync::watch;

use self::places::Placed;
use crate::{desired::DesiredSession, early_ends::EarlyEnds, session::Session};

#[derive(Debug)]
pub(crate) struct Sessions {
    by_id: BTreeMap<SessionId, Session>,
    early_ends: EarlyEnds,
    routes: HashMap<(SocketAddrV4, Protocol), (TeamspaceId, Callee)>,
    addresses: BTreeMap<(TeamspaceId, Callee), Placed>,
    /// The teamspace that commands mean.
    chosen: Option<TeamspaceId>,
    /// What DNS answers.
    zone: Arc<Zone>,
    laptop: Laptop,
    /// Where each destination is really listened on; `None` where the kernel redirects.
    doors: Option<BTreeMap<SocketAddrV4, SocketAddrV4>>,
    /// Where datagrams are really received, for those that go to another port.
    moved_datagrams: HashMap<SocketAddrV4, SocketAddrV4>,
    /// Told after everything that a person could see.
    changes_tx: watch::Sender<()>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            by_id: BTreeMap::new(),
            early_ends: EarlyEnds::default(),
            routes: HashMap::new(),
            addresses: BTreeMap::new(),
            chosen: None,
            zone: Arc::default(),
            laptop: Laptop::Unchanged,
            doors: None,
            moved_datagrams: HashMap::new(),
            changes_tx: watch::Sender::new(()),
        }
    }

    /// Returns what changes whenever something that is shown has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes_tx.subscribe()
    }

    /// Adds a session; one that has ended already, by what the hub said earlier, is over at once.
    pub(crate) fn insert(&mut self, session: Session) {
        let id = session.desired.id;
        self.by_id.insert(id, session);
        if let Some((phase, detail)) = self.early_ends.take(id) {
            self.end(id, phase, detail);
        }
        self.changes_tx.send_replace(());
    }

    pub(crate) fn remove(&mut self, id: SessionId) {
        self.by_id.remove(&id);
        self.changes_tx.send_replace(());
    }

    /// Changes what is seen of a live session. Says whether anything changed.
    pub(crate) fn observe(&mut self, id: SessionId, phase: Phase, detail: Option<String>) -> bool {
        let Some(session) = self.live_mut(id) else { return false };
        if session.phase == phase && session.detail == detail {
            return false;
        }
        session.phase = phase;
        session.detail = detail;
        self.changes_tx.send_replace(());
        true
    }

    /// Takes note of how the last connection to somebody went.
    pub(crate) fn note(&mut self, id: SessionId, callee: &Callee, refusal: Option<String>) {
        let Some(session) = self.live_mut(id) else { return };
        match refusal {
            Some(why) => session.refusals.insert(callee.clone(), why),
            None => session.refusals.remove(callee),
        };
    }

    /// Closes everything of a session and keeps it only to be shown. Says whether it was live.
    pub(crate) fn end(&mut self, id: SessionId, phase: Phase, detail: Option<String>) -> bool {
        self.by_id.retain(|_, s| s.ended.is_none_or(|at| at.elapsed() < LAPTOP_SHOWN));
        if !self.by_id.contains_key(&id) {
            self.early_ends.note(id, phase, detail);
            return false;
        }
        let Some(session) = self.live_mut(id) else { return false };
        session.phase = phase;
        session.detail = detail;
        session.ended = Some(Instant::now());
        session.task = None;
        session.program = None;
        for carrier in session.carriers() {
            carrier.close();
        }
        session.openers.send_replace(Vec::new());
        session.taken.clear();
        session.further.clear();
        self.changes_tx.send_replace(());
        true
    }

    /// Returns a session that is not over.
    pub(crate) fn live(&self, id: SessionId) -> Option<&Session> {
        self.by_id.get(&id).filter(|session| session.is_live())
    }

    pub(crate) fn live_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.by_id.get_mut(&id).filter(|session| session.is_live())
    }

    pub(crate) fn all_live(&self) -> impl Iterator<Item = &Session> {
        self.by_id.values().filter(|session| session.is_live())
    }

    pub(crate) fn live_of(&self, kind: SessionKind) -> Vec<SessionId> {
        self.all_live().filter(|s| s.kind() == kind).map(|s| s.desired.id).collect()
    }

    /// Lists the consumes, or those of one teamspace.
    pub(crate) fn consumes_of(&self, teamspace: Option<TeamspaceId>) -> Vec<SessionId> {
        let is_of = |s: &&Session| teamspace.is_none_or(|of| of == s.desired.teamspace.id);
        let consumes = self.all_live().filter(|s| s.is_of_everybody());
        consumes.filter(is_of).map(|s| s.desired.id).collect()
    }

    /// Returns the live sessions that the hub did not name among those that live.
    pub(crate) fn missing_from(&self, live: &[SessionId]) -> Vec<SessionId> {
        let is_over = |session: &&Session| {
            !session.may_be_unheard_of() && !live.contains(&session.desired.id)
        };
        self.all_live().filter(is_over).map(|session| session.desired.id).collect()
    }

    /// Counts the open streams of a session.
    pub(crate) fn streams_of(&self, id: SessionId) -> usize {
        self.live(id).map_or(0, |s| s.carriers().iter().map(CarrierHandle::streams).sum())
    }

    /// Returns what another daemon shall go on with. What a program has ends with this one: its listeners do.
    pub(crate) fn desired(&self) -> Vec<DesiredSession> {
        let kept = self.all_live().filter(|session| session.program.is_none());
        kept.map(|session| session.desired.clone()).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use fairlead_model::{Patterns, Port, ServicePort, ServiceRef};
    use laptop_ipc::daemon::Teamspace;

    use super::*;
    use crate::{desired::Wish, session::Origin};

    pub(super) fn port(number: u16) -> ServicePort {
        ServicePort::tcp(Port::new(number).expect("not 0"))
    }

    pub(super) fn session_of(teamspace: TeamspaceId, wish: Wish) -> Session {
        let teamspace = Teamspace { id: teamspace, name: "staging".to_owned() };
        let id = SessionId::generate();
        let desired =
            DesiredSession { id, teamspace, grant: String::new(), wish, may_remap: false };
        Session::new(desired, Origin::Begun)
    }

    pub(crate) fn consume(teamspace: TeamspaceId) -> Session {
        let service = |name: &str| {
            let service: ServiceRef = name.parse().expect("valid");
            (Callee::from(service), vec![port(80)])
        };
        let patterns = Patterns::new(vec!["shop/*".parse().expect("valid")]).expect("valid");
        let services = vec![service("shop/cart"), service("shop/frontend")];
        session_of(teamspace, Wish::Consume { patterns, services })
    }

    pub(crate) fn intercept(teamspace: TeamspaceId) -> Session {
        let ports = vec!["3000:80".parse().expect("valid")];
        session_of(
            teamspace,
            Wish::Intercept { service: "shop/cart".parse().expect("valid"), ports },
        )
    }

    pub(super) fn place(sessions: &mut Sessions) {
        let reached = sessions.reached();
        let addresses: Vec<_> =
            (0..reached.len()).map(|n| Ipv4Addr::from_bits(0x7f48_0102 + n as u32)).collect();
        sessions.place(reached, &addresses);
    }

    #[test]
    fn what_the_hub_does_not_name_is_over_unless_it_has_just_begun() {
        let mut sessions = Sessions::new();
        let (begun, mut restored) =
            (consume(TeamspaceId::generate()), consume(TeamspaceId::generate()));
        restored.origin = Origin::Restored;
        let (begun_id, restored_id) = (begun.desired.id, restored.desired.id);
        sessions.insert(begun);
        sessions.insert(restored);
        assert_eq!(sessions.missing_from(&[begun_id]), [restored_id]);
        assert_eq!(sessions.missing_from(&[restored_id]), []);
    }
}
