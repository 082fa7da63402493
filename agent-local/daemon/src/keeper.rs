//! The keeper of sessions: what should be, made to be. Commands, the link and crashes all end in the same two acts:
//! say what the footprint should be, and keep the carriers that the sessions need.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fairlead_model::{Phase, SessionId, SessionKind};
use fairlead_wire::link::v1::{self, CarrierOffer, laptop_down::Message as Down};
use laptop_account::{Account, Accounts, Hub};
use laptop_ipc::{
    Failure, FailureKind,
    daemon::{Answer, Status},
};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use crate::{
    carriers,
    desired::{Desired, DesiredSession, Wish},
    footing::Footing,
    granted, intercept,
    link::{LinkHandle, Said},
    sessions::{Session, Sessions, Task},
};

/// A session this young may be missing from a welcome that was written before it began.
const YOUNG: Duration = Duration::from_secs(10);

/// By then the agent knows that the session is over and opens no more streams.
const AGENT_HEARS: Duration = Duration::from_millis(300);
/// What is under way at the developer's port may take this long, once the session is over.
const FINISH_MAX: Duration = Duration::from_millis(1500);

type OfferReply = Result<CarrierOffer, String>;

#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) accounts: Accounts,
    pub(crate) link: LinkHandle,
    desired: Desired,
    pub(crate) footing: Footing,
    stopping: Arc<Notify>,
    sessions: Mutex<Sessions>,
    /// One command at a time changes what should be.
    pub(crate) acting: AsyncMutex<()>,
    requests: AtomicU64,
    pending: Mutex<HashMap<u64, oneshot::Sender<OfferReply>>>,
    /// Known to this process only: who receives it has reached our listener.
    pub(crate) canary_word: [u8; 16],
}

impl Keeper {
    pub(crate) fn new(
        accounts: Accounts,
        desired: Desired,
        footing: Footing,
        link: LinkHandle,
        stopping: Arc<Notify>,
    ) -> Self {
        Self {
            accounts,
            link,
            desired,
            footing,
            stopping,
            sessions: Mutex::new(Sessions::new()),
            acting: AsyncMutex::new(()),
            requests: AtomicU64::new(1),
            pending: Mutex::default(),
            canary_word: *SessionId::generate().as_uuid().as_bytes(),
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

    pub(crate) fn status(&self) -> Answer {
        let sessions = self.sessions();
        Answer::Status(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            hub: self.link.state(),
            laptop: sessions.laptop.clone(),
            sessions: sessions.views(),
        })
    }

    /// Takes up the sessions that a daemon before this one had. Names come back at once; what no longer lives at the
    /// hub ends with its welcome.
    pub(crate) async fn restore(self: &Arc<Self>) {
        let desired = self.desired.read().unwrap_or_else(|error| {
            warn!("Could not read the sessions of before: {error}");
            Vec::new()
        });
        for session in desired {
            info!(session = %session.id, "Taking up the session again");
            self.keep(session);
        }
        if let Err(failure) = self.apply().await {
            warn!("Names and redirects could not be put back: {failure}");
        }
    }

    /// Adds a session and starts what it needs.
    pub(crate) fn keep(self: &Arc<Self>, desired: DesiredSession) {
        let id = desired.id;
        let mut session = Session::new(desired);
        if session.kind() == SessionKind::Consume {
            let keeping = carriers::keep_for_consume(Arc::clone(self), id);
            session.task = Some(Task(tokio::spawn(keeping)));
        }
        self.sessions().insert(session);
        self.persist();
    }

    /// Makes names and redirects be what the sessions need.
    pub(crate) async fn apply(&self) -> Result<(), Failure> {
        let reached = self.sessions().reached();
        let addresses = self.footing.set(reached.clone()).await?;
        self.sessions().place(reached, &addresses);
        Ok(())
    }

    fn persist(&self) {
        let desired = self.sessions().desired();
        if let Err(error) = self.desired.write(&desired) {
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

    async fn tell_hub_of_end(&self, id: SessionId) -> Result<(), Failure> {
        Ok(self.hub()?.end_session(id).await?)
    }

    async fn finish_streams(&self, id: SessionId) {
        let deadline = Instant::now() + FINISH_MAX;
        sleep(AGENT_HEARS).await;
        while Instant::now() < deadline && self.sessions().streams_of(id) > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn leave_all(self: &Arc<Self>) -> Result<Vec<SessionId>, Failure> {
        let ids = self.sessions().all_live().map(|session| session.desired.id).collect();
        self.leave_each(ids).await
    }

    /// Ends sessions together; those the hub could not be told about end there by themselves.
    pub(crate) async fn leave_each(
        self: &Arc<Self>,
        ids: Vec<SessionId>,
    ) -> Result<Vec<SessionId>, Failure> {
        let mut leaving = JoinSet::new();
        for id in ids.clone() {
            let keeper = Arc::clone(self);
            leaving.spawn(async move { keeper.leave(id).await });
        }
        let told = leaving.join_all().await.into_iter().collect::<Result<(), Failure>>();
        told.map(|()| ids).map_err(|failure| {
            let message = format!("left on this laptop; but {}", failure.message);
            Failure { message, ..failure }.hint(
                "an intercepted service is given back when its agent misses this laptop (15 s)",
            )
        })
    }

    pub(crate) fn stop(&self) {
        self.stopping.notify_one();
    }

    /// Changes what is seen of a live session, and tells the hub about our own consumes.
    pub(crate) fn observe(&self, id: SessionId, phase: Phase, detail: Option<String>) {
        let mut sessions = self.sessions();
        let Some(session) = sessions.live_mut(id) else { return };
        if session.phase == phase && session.detail == detail {
            return;
        }
        info!(session = %id, detail, "Session is {phase}");
        session.phase = phase;
        session.detail.clone_from(&detail);
        if session.kind() == SessionKind::Consume {
            self.link.say(v1::laptop_up::Message::Observed(v1::SessionObserved {
                session_id: id.to_string(),
                phase: wire_phase(phase).into(),
                detail: detail.unwrap_or_default(),
                replica: String::new(),
            }));
        }
    }

    /// Asks the hub for a carrier and waits for its offer.
    pub(crate) async fn request_carrier(
        &self,
        session: SessionId,
        replica: &str,
        patience: Duration,
    ) -> OfferReply {
        let request_id = self.requests.fetch_add(1, Ordering::Relaxed);
        let (reply_tx, reply_rx) = oneshot::channel();
        self.pending().insert(request_id, reply_tx);
        let asked = self.link.say(v1::laptop_up::Message::Carrier(v1::CarrierRequest {
            session_id: session.to_string(),
            replica: replica.to_owned(),
            request_id,
        }));
        let reply = if asked {
            tokio::time::timeout(patience, reply_rx).await
        } else {
            Ok(Ok(Err("the hub is not connected".to_owned())))
        };
        self.pending().remove(&request_id);
        match reply {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) | Err(_) => Err("the hub offered no carrier in time".to_owned()),
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<OfferReply>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears what the hub says, for as long as the daemon lives.
    pub(crate) async fn follow_link(self: Arc<Self>, mut said_rx: mpsc::Receiver<Said>) {
        while let Some(said) = said_rx.recv().await {
            match said {
                Said::Welcome(welcome) => self.end_all_but(&welcome.live_sessions).await,
                Said::Message(message) => self.hear(message).await,
            }
        }
    }

    /// The hub says what lives; the rest has ended while we were away.
    async fn end_all_but(&self, live: &[String]) {
        let is_over = |session: &&Session| {
            session.began.elapsed() > YOUNG && !live.contains(&session.desired.id.to_string())
        };
        let over: Vec<_> =
            self.sessions().all_live().filter(is_over).map(|s| s.desired.id).collect();
        for id in over {
            let detail = "it ended at the hub while this laptop was away".to_owned();
            self.end_here(id, Phase::Ended, Some(detail)).await;
        }
    }

    async fn hear(self: &Arc<Self>, message: Down) {
        match message {
            Down::Carrier(offer) => self.hear_offer(offer),
            Down::CarrierRefused(refused) => {
                if let Some(reply_tx) = self.pending().remove(&refused.request_id) {
                    // Who asked may have given up.
                    drop(reply_tx.send(Err(refused.reason)));
                }
            }
            Down::Grant(grant) => self.hear_grant(grant).await,
            Down::Revoked(revoked) => {
                if let Ok(id) = revoked.session_id.parse()
                    && !self.is_leaving(id)
                {
                    self.end_here(id, Phase::Ended, Some(revoked.reason)).await;
                }
            }
            Down::Observed(observed) => self.hear_observed(observed).await,
            // These belong to the beginning of a link; the link's task has read them.
            Down::Challenge(_) | Down::Welcome(_) | Down::Heartbeat(_) => {}
        }
    }

    fn hear_offer(self: &Arc<Self>, offer: CarrierOffer) {
        if let Some(reply_tx) = self.pending().remove(&offer.request_id) {
            drop(reply_tx.send(Ok(offer)));
        } else if offer.kind() == v1::SessionKind::Intercept {
            tokio::spawn(intercept::take_carrier(Arc::clone(self), offer));
        }
    }

    /// A renewed grant replaces the one before; it may name services that are new, and lack others.
    async fn hear_grant(&self, grant: v1::Grant) {
        let Ok(id) = grant.session_id.parse::<SessionId>() else { return };
        let granted = granted::services_in(&grant.grant);
        let changed = {
            let mut sessions = self.sessions();
            let Some(session) = sessions.live_mut(id) else { return };
            session.desired.grant.clone_from(&grant.grant);
            session.grant.send_replace(grant.grant);
            match (&mut session.desired.wish, granted) {
                (Wish::Consume { services, .. }, Some(granted)) if *services != granted => {
                    *services = granted;
                    true
                }
                _ => false,
            }
        };
        self.persist();
        if changed && let Err(failure) = self.apply().await {
            warn!("Names and redirects could not be changed: {failure}");
        }
    }

    /// Whoever leaves a session ends it; what the hub says about that end comes too late or too early.
    fn is_leaving(&self, id: SessionId) -> bool {
        self.sessions().live(id).is_some_and(|session| session.is_leaving)
    }

    async fn hear_observed(&self, observed: v1::SessionObserved) {
        let Ok(id) = observed.session_id.parse::<SessionId>() else { return };
        let is_intercept =
            self.sessions().live(id).is_some_and(|s| s.kind() == SessionKind::Intercept);
        let Some(phase) = model_phase(observed.phase()) else { return };
        // Of a consume we know more than anybody.
        if !is_intercept {
            return;
        }
        let detail = Some(observed.detail).filter(|detail| !detail.is_empty());
        match phase {
            Phase::Refused | Phase::Ended if self.is_leaving(id) => {}
            Phase::Refused | Phase::Ended => self.end_here(id, phase, detail).await,
            Phase::Preparing | Phase::Active | Phase::Away | Phase::Contested => {
                self.observe(id, phase, detail);
            }
        }
    }
}

const fn wire_phase(phase: Phase) -> v1::Phase {
    match phase {
        Phase::Preparing => v1::Phase::Preparing,
        Phase::Active => v1::Phase::Active,
        Phase::Away => v1::Phase::Away,
        Phase::Contested => v1::Phase::Contested,
        Phase::Refused => v1::Phase::Refused,
        Phase::Ended => v1::Phase::Ended,
    }
}

const fn model_phase(phase: v1::Phase) -> Option<Phase> {
    match phase {
        v1::Phase::Unspecified => None,
        v1::Phase::Preparing => Some(Phase::Preparing),
        v1::Phase::Active => Some(Phase::Active),
        v1::Phase::Away => Some(Phase::Away),
        v1::Phase::Contested => Some(Phase::Contested),
        v1::Phase::Refused => Some(Phase::Refused),
        v1::Phase::Ended => Some(Phase::Ended),
    }
}
