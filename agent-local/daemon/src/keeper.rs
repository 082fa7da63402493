//! The keeper of sessions: what should be, made to be. Commands, the link and crashes all end in the same two acts:
//! say what should be, and let names and redirects follow.
//!
//! It begins no carriers and hears no link; both use it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use fairlead_model::{
    Phase, SessionId, SessionKind,
    timers::{AGENT_HEARS, LEAVE_WAY_OPEN},
};
use fairlead_wire::link::v1;
use laptop_account::{Account, Accounts, Hub};
use laptop_ipc::{
    Failure, FailureKind,
    daemon::{self, Status},
};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    task::JoinSet,
    time::{Duration, Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    desired::{Desired, DesiredSession},
    echoes::Echoes,
    footing::Footing,
    footprint::Footprint,
    granted::Granted,
    knocks::Knocks,
    link::LinkHandle,
    listeners::Places,
    moves::Moves,
    offers::Offers,
    session::{Origin, Session},
    sessions::Sessions,
    ways::KnownWays,
};

#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) accounts: Accounts,
    pub(crate) link: LinkHandle,
    pub(crate) offers: Offers,
    pub(crate) echoes: Echoes,
    pub(crate) ways: KnownWays,
    pub(crate) moves: Moves,
    desired: Desired,
    pub(crate) footing: Arc<Footing>,
    footprint: Footprint,
    stopping: Arc<Notify>,
    sessions: Arc<Mutex<Sessions>>,
    /// Where services are for single programs.
    pub(crate) places: Places,
    stays: AtomicBool,
    /// One command at a time changes what should be.
    pub(crate) acting: AsyncMutex<()>,
    pub(crate) knocks: Knocks,
}

impl Keeper {
    pub(crate) fn new(
        accounts: Accounts,
        desired: Desired,
        footing: Footing,
        link: LinkHandle,
        moves: Moves,
        places: Places,
        stopping: Arc<Notify>,
    ) -> Self {
        let sessions = Arc::new(Mutex::new(Sessions::new()));
        let footing = Arc::new(footing);
        Self {
            accounts,
            offers: Offers::new(link.clone()),
            echoes: Echoes::new(link.clone()),
            ways: KnownWays::default(),
            moves,
            link,
            desired,
            footprint: Footprint::begin(Arc::clone(&sessions), Arc::clone(&footing)),
            footing,
            stopping,
            sessions,
            places,
            stays: AtomicBool::new(false),
            acting: AsyncMutex::new(()),
            knocks: Knocks::new(),
        }
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the hub, when the command means the one that is signed in to.
    pub(crate) fn hub_called(&self, url: &str) -> Result<Hub, Failure> {
        let hub = self.hub()?;
        let ours = hub.account().hub().to_string();
        if ours == url {
            return Ok(hub);
        }
        Err(Failure::new(FailureKind::Conflict, format!("the daemon serves {ours}, not {url}"))
            .hint("leave its sessions and sign in to the other hub: fairlead leave --all"))
    }

    pub(crate) fn hub(&self) -> Result<Hub, Failure> {
        Ok(Hub::new(self.account()?)?)
    }

    pub(crate) fn account(&self) -> Result<Account, Failure> {
        Ok(self.accounts.current()?)
    }

    pub(crate) fn status(&self) -> Status {
        let sessions = self.sessions();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            hub: self.link.state(),
            laptop: sessions.laptop().clone(),
            way: sessions.way(),
            dns_refusal: self.footing.dns_refusal(),
            split_dns: self.footing.split_dns(),
            sessions: sessions.views(),
        }
    }

    /// Waits until nothing is pending any more, or patience ends; returns what there is then.
    pub(crate) async fn await_proven(&self, patience: Duration) -> Status {
        let (mut changes_rx, mut link_rx) = (self.sessions().changes(), self.link.changes());
        let proven = async {
            while !self.status().pending().is_empty() {
                // Both senders live as long as the daemon.
                tokio::select! {
                    changed = changes_rx.changed() => drop(changed),
                    changed = link_rx.changed() => drop(changed),
                }
            }
        };
        // Whether it was in time shows in the status.
        drop(timeout(patience, proven).await);
        self.status()
    }

    /// Returns the sessions that a daemon before this one had.
    pub(crate) fn before(&self) -> Vec<DesiredSession> {
        self.desired.read().unwrap_or_else(|error| {
            warn!("Could not read the sessions of before: {error}");
            Vec::new()
        })
    }

    /// Adds a session to what should be.
    pub(crate) fn keep(&self, desired: DesiredSession, origin: Origin) {
        self.sessions().insert(Session::new(desired, origin));
        self.persist();
    }

    /// Takes a grant for a session that is kept. Says whether names have to follow.
    pub(crate) fn take(&self, id: SessionId, granted: Granted) -> bool {
        let is_changed = self.sessions().take(id, granted);
        self.persist();
        is_changed
    }

    /// Takes a session out of what should be, as if it had never been kept.
    pub(crate) fn forget(&self, id: SessionId) {
        self.sessions().remove(id);
        self.persist();
    }

    /// Makes names and redirects be what the sessions need.
    pub(crate) async fn apply(&self) -> Result<(), Failure> {
        let chosen = self.account().ok().and_then(|account| account.teamspace().ok().flatten());
        self.sessions().choose(chosen.map(|teamspace| teamspace.id));
        self.footprint.follow_sessions().await
    }

    pub(crate) fn persist(&self) {
        if let Err(error) = self.desired.write(|| self.sessions().desired()) {
            // Only a crash of this daemon would miss it.
            warn!("Could not write down the sessions: {error}");
        }
    }

    /// Ends a session on this laptop: carriers, streams, names.
    pub(crate) async fn end_here(&self, id: SessionId, phase: Phase, detail: Option<String>) {
        if !self.sessions().end(id, phase, detail.clone()) {
            return;
        }
        info!(session = %id, detail, "Session ended ({phase})");
        self.persist();
        if let Err(failure) = self.apply().await {
            warn!("Names and redirects could not be changed: {failure}");
        }
    }

    /// Ends a session here and at the hub.
    ///
    /// Of an intercept the hub hears first, and what is under way at the developer's port may finish: nobody who calls
    /// the service shall notice that it was given back.
    pub(crate) async fn leave(&self, id: SessionId) -> Result<(), Failure> {
        let is_intercept = {
            let mut sessions = self.sessions();
            let Some(session) = sessions.live_mut(id) else { return Ok(()) };
            session.is_leaving = true;
            session.kind() == SessionKind::Intercept
        };
        let told = self.tell_hub_of_end(id).await;
        if is_intercept && told.is_ok() {
            self.finish_streams(id).await;
        }
        self.end_here(id, Phase::Ended, Some("left".to_owned())).await;
        // Whoever left it knows why it is over.
        self.sessions().remove(id);
        told
    }

    pub(crate) async fn tell_hub_of_end(&self, id: SessionId) -> Result<(), Failure> {
        Ok(self.hub()?.end_session(id).await?)
    }

    async fn finish_streams(&self, id: SessionId) {
        let deadline = Instant::now() + LEAVE_WAY_OPEN;
        sleep(AGENT_HEARS).await;
        while Instant::now() < deadline && self.sessions().streams_of(id) > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn leave_all(self: &Arc<Self>) -> Result<Vec<SessionId>, Failure> {
        let ids = self.sessions().all_live().map(|session| session.desired.id).collect();
        self.leave_each(ids).await
    }

    /// Ends sessions together; those the hub could not be told about are orphans when it names them again.
    pub(crate) async fn leave_each(
        self: &Arc<Self>,
        ids: Vec<SessionId>,
    ) -> Result<Vec<SessionId>, Failure> {
        let intercepts = self.sessions().live_of(SessionKind::Intercept);
        let mut leaving = JoinSet::new();
        for id in ids.clone() {
            let keeper = Arc::clone(self);
            leaving.spawn(async move { keeper.leave(id).await });
        }
        let told = leaving.join_all().await.into_iter().collect::<Result<(), Failure>>();
        let Err(failure) = told else { return self.nothing_stands().map(|()| ids) };
        let what_follows = if ids.iter().any(|id| intercepts.contains(id)) {
            "an intercepted service is given back when its agent misses this laptop (15 s)"
        } else {
            "the hub shows it until this laptop is connected again, or away for 15 minutes"
        };
        let message = format!("left on this laptop; but {}", failure.message);
        Err(Failure { message, ..failure }.hint(what_follows))
    }

    /// Whoever ends something hears what the laptop still has of it.
    fn nothing_stands(&self) -> Result<(), Failure> {
        match self.footprint.outcome() {
            // With a supervisor, its changes go; the next one sees to the rest.
            Err(failure) if failure.kind != FailureKind::Supervisor => {
                let message = format!(
                    "it is over, but not everything could be taken back: {}",
                    failure.message
                );
                Err(Failure { kind: FailureKind::Cleanup, message, ..failure })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn stop(&self) {
        self.stopping.notify_one();
    }

    /// Takes note that somebody wants this daemon though no session lives.
    pub(crate) fn stay(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stays(&self) -> bool {
        self.stays.load(Ordering::Relaxed)
    }

    /// Changes what is seen of a live session, and tells the hub about our own consumes.
    pub(crate) fn observe(&self, id: SessionId, phase: Phase, detail: Option<String>) {
        let mut sessions = self.sessions();
        if !sessions.observe(id, phase, detail.clone()) {
            return;
        }
        info!(session = %id, detail, "Session is {phase}");
        if sessions.live(id).is_some_and(|session| session.kind() == SessionKind::Consume) {
            self.link.say(v1::laptop_up::Message::Observed(v1::SessionObserved {
                session_id: id.to_string(),
                phase: v1::Phase::from(phase).into(),
                detail: detail.unwrap_or_default(),
                replica: String::new(),
            }));
        }
    }

    /// Waits until a session is kept here; `false` when patience ends first.
    pub(crate) async fn comes_to_keep(&self, id: SessionId, patience: Duration) -> bool {
        let mut changes_rx = self.sessions().changes();
        let kept = async {
            while self.sessions().live(id).is_none() {
                // The sender lives as long as the sessions.
                drop(changes_rx.changed().await);
            }
        };
        timeout(patience, kept).await.is_ok()
    }

    /// Waits until a session is proven or over, or patience ends; returns what it is then.
    pub(crate) async fn await_proof(
        &self,
        id: SessionId,
        patience: Duration,
    ) -> Option<daemon::Session> {
        let mut changes_rx = self.sessions().changes();
        let decided = async {
            loop {
                // What is shown has thousands of services in it: it is made once.
                let phase = self.sessions().phase_of(id);
                if !matches!(phase, Some(Phase::Preparing | Phase::Away)) {
                    return self.sessions().view_of(id);
                }
                // The sender lives as long as the sessions.
                drop(changes_rx.changed().await);
            }
        };
        match timeout(patience, decided).await {
            Ok(view) => view,
            Err(_) => self.sessions().view_of(id),
        }
    }

    /// Ends a session that cannot come about, here and at the hub, and keeps why for whoever asks.
    pub(crate) async fn refuse(&self, id: SessionId, failure: Failure) {
        let detail = failure.message.clone();
        if let Some(session) = self.sessions().live_mut(id) {
            session.failure = Some(failure);
        }
        self.end_here(id, Phase::Refused, Some(detail)).await;
        if let Err(failure) = self.tell_hub_of_end(id).await {
            warn!(session = %id, "The hub was not told: {failure}");
        }
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::TeamspaceId;

    use super::*;
    use crate::{sessions::tests, stage};

    #[tokio::test]
    async fn a_link_that_comes_up_ends_the_wait_for_it() {
        let (_folder, keeper) = stage::keeper();
        let status = keeper.await_proven(Duration::from_millis(1)).await;
        assert_eq!(status.pending(), ["nobody is signed in to a hub"]);
        let id = stage::consume(&keeper, TeamspaceId::generate());
        let before = keeper.status().pending().len();
        keeper.observe(id, Phase::Active, None);
        assert_eq!(keeper.status().pending().len(), before - 1);
    }

    #[tokio::test]
    async fn what_is_said_of_a_session_too_early_waits_until_it_is_kept() {
        let (_folder, keeper) = stage::keeper();
        let desired = tests::consume(TeamspaceId::generate()).desired;
        let id = desired.id;
        assert!(!keeper.comes_to_keep(id, Duration::ZERO).await);
        let (kept, ()) = tokio::join!(keeper.comes_to_keep(id, Duration::from_secs(60)), async {
            tokio::task::yield_now().await;
            keeper.keep(desired, Origin::Begun);
        });
        assert!(kept);
    }
}
