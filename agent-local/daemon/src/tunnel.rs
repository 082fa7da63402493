//! The tunnel of one consume: a carrier to a replica of the agent, further ones beside it while there is bulk, and a new
//! beginning when all of them are lost.
//!
//! Each carrier is shown the session's grant before streams use it, and each renewed one. A carrier that is lost takes
//! its streams along and nothing else: the session is what it was while another one lives.

use std::{future::pending, pin::pin, sync::Arc};

use fairlead_model::{
    Phase, SessionId, SessionKind,
    timers::{LAPTOP_BEAT, LAPTOP_BEAT_ANSWER, LAPTOP_MOVED_ANSWER},
};
use fairlead_tunnel::{
    OpenFailed, Opener,
    pool::{self, GROW_AGAIN},
};
use fairlead_wire::open::Refused;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{interval, sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    attempts::Attempts,
    carriers::{CarrierError, dial, give_up},
    keeper::Keeper,
    link::with_causes,
    offers::NoOffer,
    probe,
    session::Task,
};

/// Keeps a tunnel for a session if it is a consume; carriers of an intercept are offered by the hub.
pub(crate) fn begin(keeper: &Arc<Keeper>, id: SessionId) {
    let mut sessions = keeper.sessions();
    let session = sessions.live_mut(id).filter(|session| session.kind() == SessionKind::Consume);
    if let Some(session) = session {
        session.task = Some(Task(tokio::spawn(keep(Arc::clone(keeper), id))));
    }
}

/// Keeps the tunnel for as long as the session lives.
async fn keep(keeper: Arc<Keeper>, id: SessionId) {
    let mut attempts = Attempts::default();
    let mut moves = keeper.moves.anew();
    loop {
        if !keeper.link.is_connected() {
            let reason = "the hub is not connected: fairlead status says why".to_owned();
            keeper.observe(id, Phase::Preparing, Some(reason));
        }
        keeper.link.connected().await;
        let opened = tokio::select! {
            opened = open(&keeper, id, "") => opened,
            // What was begun elsewhere leads nowhere here.
            () = moves.next() => {
                attempts.hurry();
                continue;
            }
        };
        match opened {
            Ok((shown, replica)) => {
                attempts.succeeded();
                carry(&keeper, id, shown, || grown(&keeper, id, &replica)).await;
                keeper.observe(id, Phase::Preparing, Some("the carrier was lost".to_owned()));
            }
            // The next link is waited for above.
            Err(CarrierError::NotOffered(NoOffer::NotConnected)) => continue,
            Err(error) if attempts.failed(error.tries()) => return give_up(keeper, id, error),
            Err(error) => keeper.observe(id, Phase::Preparing, Some(with_causes(&error))),
        }
        if moves.or_after(attempts.next_look()).await {
            attempts.hurry();
        }
    }
}

/// A carrier to whose agent a grant was shown, and what tells of the next one.
struct Shown {
    opener: Opener,
    grant_rx: watch::Receiver<String>,
}

/// Makes a carrier to a replica (to any, when it is not named), shows it the grant, and says which replica it is.
async fn open(
    keeper: &Keeper,
    id: SessionId,
    replica: &str,
) -> Result<(Shown, String), CarrierError> {
    let offer = keeper.offers.ask(id, replica).await?;
    let replica = offer.replica.clone();
    let half = dial(keeper, id, offer).await?;
    let (opener, driver) = Opener::handshake(half.io, &half.identity, &half.expectation).await?;
    tokio::spawn(driver);
    opener.handle().came_by(half.path);
    let grant_rx = keeper.sessions().live(id).map(|session| session.grant.subscribe());
    let mut grant_rx = grant_rx.ok_or(CarrierError::BadOffer("its session is over"))?;
    let grant = grant_rx.borrow_and_update().clone();
    opener.present_grant(&grant).await.map_err(CarrierError::Grant)?;
    keeper.sessions().note_accepted(id, opener.handle(), grant);
    info!(session = %id, replica, "Carrier is up");
    Ok((Shown { opener, grant_rx }, replica))
}

/// Holds the first carrier and those that bulk asks for, until none is left, and has the tunnel prove itself.
async fn carry<Grown: Future<Output = Shown>>(
    keeper: &Arc<Keeper>,
    id: SessionId,
    first: Shown,
    grown: impl Fn() -> Grown,
) {
    let mut held = JoinSet::new();
    let mut proving = std::pin::pin!(probe::keep_proving(keeper, id));
    let mut next = Some((first, Kind::First));
    loop {
        if let Some((shown, kind)) = next.take() {
            if !publish(keeper, id, &shown.opener) {
                return;
            }
            held.spawn(hold(Arc::clone(keeper), id, shown, kind));
        }
        tokio::select! {
            _ = held.join_next() => if held.is_empty() {
                return;
            },
            further = grown() => next = Some((further, Kind::Further)),
            () = &mut proving => {}
        }
    }
}

/// Returns the next further carrier, when there is bulk enough for one. A tunnel that cannot have it goes on as it is.
async fn grown(keeper: &Keeper, id: SessionId, replica: &str) -> Shown {
    loop {
        let Some(mut openers_rx) = openers_of(keeper, id) else { return pending().await };
        pool::full(&mut openers_rx).await;
        match open(keeper, id, replica).await {
            Ok((shown, _)) => return shown,
            Err(error) => debug!(session = %id, "No further carrier: {}", with_causes(&error)),
        }
        sleep(GROW_AGAIN).await;
    }
}

/// Returns the carriers that new connections may take.
pub(crate) fn openers_of(keeper: &Keeper, id: SessionId) -> Option<watch::Receiver<Vec<Opener>>> {
    keeper.sessions().live(id).map(|session| session.openers.subscribe())
}

/// Waits for a carrier that lives, and chooses the best place for a new stream; `None` when the session is over.
pub(crate) async fn best(openers_rx: &mut watch::Receiver<Vec<Opener>>) -> Option<Opener> {
    let lives = |openers: &Vec<Opener>| openers.iter().any(Opener::takes_streams);
    loop {
        // The sender goes when the session ends.
        let openers = openers_rx.wait_for(lives).await.ok()?;
        // Another task may have ended the last one between the two looks.
        if let Some(opener) = pool::place(openers.iter()) {
            return Some(opener.clone());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    First,
    /// Goes when it is not needed any more.
    Further,
}

/// Offers a carrier to new connections.
fn publish(keeper: &Keeper, id: SessionId, opener: &Opener) -> bool {
    let mut sessions = keeper.sessions();
    let Some(session) = sessions.live(id) else { return false };
    session.openers.send_modify(|openers| openers.push(opener.clone()));
    sessions.note_shown_everywhere(id);
    true
}

/// Holds a carrier until new connections have to take another one.
async fn hold(keeper: Arc<Keeper>, id: SessionId, shown: Shown, kind: Kind) {
    let handle = shown.opener.handle().clone();
    let mut used = JoinSet::new();
    used.spawn(serve(Arc::clone(&keeper), id, shown, kind));
    tokio::select! {
        _ = used.join_next() => {}
        () = handle.draining() => {
            info!(session = %id, "A carrier takes no more streams; those that are open go on");
            // Ends with them, or with the session.
            used.detach_all();
            leave_out(&keeper, id, |opener| !opener.takes_streams());
        }
    }
}

/// Serves a carrier until it is lost or of no more use.
async fn serve(keeper: Arc<Keeper>, id: SessionId, Shown { opener, grant_rx }: Shown, kind: Kind) {
    tokio::select! {
        () = look_after(&keeper, id, &opener, grant_rx) => {}
        () = spare(&keeper, id, &opener), if kind == Kind::Further => {
            info!(session = %id, "A further carrier is not needed any more");
        }
    }
    opener.close();
    leave_out(&keeper, id, Opener::is_closed);
}

/// Offers some carriers to no new connection any more.
fn leave_out(keeper: &Keeper, id: SessionId, which: impl Fn(&Opener) -> bool) {
    let mut sessions = keeper.sessions();
    if let Some(session) = sessions.live(id) {
        session.openers.send_modify(|openers| openers.retain(|opener| !which(opener)));
    }
    sessions.note_shown_everywhere(id);
}

/// Returns when the carrier is of no more use.
///
/// A grant that the agent refuses costs nothing that the one before it allows: the agent reckons when that is over, and
/// hangs up. Until then it is shown again at each beat, as the refusal may be about a clock that is set right meanwhile.
async fn look_after(
    keeper: &Keeper,
    id: SessionId,
    opener: &Opener,
    mut grant_rx: watch::Receiver<String>,
) {
    let mut beat = interval(LAPTOP_BEAT);
    let mut moves = keeper.moves.anew();
    let mut refused = None::<String>;
    loop {
        let is_owed = tokio::select! {
            () = moves.next() => {
                if !is_found_again(keeper, id, opener).await {
                    return info!(session = %id, "Carrier does not answer after a move");
                }
                false
            }
            end = opener.closed() => return info!(session = %id, "Carrier lost: {end}"),
            _ = beat.tick() => {
                if opener.beat(LAPTOP_BEAT_ANSWER).await.is_err() {
                    return info!(session = %id, "Carrier does not answer");
                }
                refused.is_some()
            }
            changed = grant_rx.changed() => {
                if changed.is_err() {
                    return;
                }
                true
            }
        };
        if !is_owed {
            continue;
        }
        let grant = grant_rx.borrow_and_update().clone();
        refused = match opener.present_grant(&grant).await {
            Ok(()) => {
                keeper.sessions().note_accepted(id, opener.handle(), grant);
                None
            }
            Err(OpenFailed::Refused(Refused { reason, .. })) => {
                if refused.as_ref() != Some(&reason) {
                    warn!(session = %id, "The agent does not take the renewed grant: {reason}");
                }
                Some(reason)
            }
            // Its agent leaves; what is open on it may end, by the grant before this one.
            Err(_) if !opener.takes_streams() => None,
            Err(error) => return info!(session = %id, "Renewed grant: {error}"),
        };
    }
}

/// Says whether a carrier still answers after a move. Until it does it is offered to no new connection: those wait for
/// it, or for another one if that takes too long. What is open on it is given as much time as always.
async fn is_found_again(keeper: &Keeper, id: SessionId, opener: &Opener) -> bool {
    leave_out(keeper, id, |other| other.handle().is_same(opener.handle()));
    let mut answer = pin!(opener.beat(LAPTOP_BEAT_ANSWER));
    if let Ok(answer) = timeout(LAPTOP_MOVED_ANSWER, &mut answer).await {
        return answer.is_ok() && publish(keeper, id, opener);
    }
    opener.handle().drain();
    answer.await.is_ok()
}

/// Returns when a further carrier has had no bulk for a while and what was open on it has ended.
async fn spare(keeper: &Keeper, id: SessionId, opener: &Opener) {
    let Some(mut openers_rx) = openers_of(keeper, id) else { return };
    loop {
        opener.handle().quiet().await;
        openers_rx.mark_unchanged();
        if retired(keeper, id, opener) {
            return opener.handle().unused().await;
        }
        // It is the only one that is left, and stays until there is another.
        if openers_rx.changed().await.is_err() {
            return;
        }
    }
}

fn retired(keeper: &Keeper, id: SessionId, opener: &Opener) -> bool {
    let sessions = keeper.sessions();
    sessions.live(id).is_none_or(|s| pool::retire(&s.openers.borrow(), opener.handle()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fairlead_model::TeamspaceId;
    use fairlead_tunnel::pool::FURTHER_QUIET;
    use fairlead_wire::open::Refusal;
    use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

    use super::*;
    use crate::stage::{self, Agent};

    /// A consume whose tunnel grows when the test says so.
    struct Grows {
        _folder: tempfile::TempDir,
        keeper: Arc<Keeper>,
        id: SessionId,
        agent: Agent,
        moves_tx: watch::Sender<u64>,
        grown_tx: mpsc::Sender<Shown>,
        carrying: JoinHandle<()>,
    }

    impl Grows {
        async fn from(first: impl AsyncFnOnce(&Agent) -> Opener) -> Self {
            let (_folder, keeper, moves_tx) = stage::keeper_that_moves();
            let id = stage::consume(&keeper, TeamspaceId::generate());
            let agent = Agent::which_refuses(Refusal::Unreachable, "not of interest");
            let (grown_tx, grown_rx) = mpsc::channel(1);
            let grown_rx = Arc::new(tokio::sync::Mutex::new(grown_rx));
            let (first, held) = (shown(&keeper, id, first(&agent).await), Arc::clone(&keeper));
            let carrying = tokio::spawn(async move {
                let grown = || async { grown_rx.lock().await.recv().await.expect("it grows") };
                carry(&held, id, first, grown).await;
            });
            Self { _folder, keeper, id, agent, moves_tx, grown_tx, carrying }
        }

        fn moves(&self) {
            self.moves_tx.send_modify(|moves| *moves += 1);
        }

        async fn grows(&self) -> Opener {
            let further = self.agent.opener().await;
            let has = self.carriers();
            let shown = shown(&self.keeper, self.id, further.clone());
            assert!(self.grown_tx.send(shown).await.is_ok(), "it is carried");
            self.has(has + 1).await;
            further
        }

        fn carriers(&self) -> usize {
            self.keeper.sessions().view_of(self.id).expect("kept").carriers
        }

        async fn has(&self, carriers: usize) {
            let mut openers_rx = openers_of(&self.keeper, self.id).expect("lives");
            openers_rx.wait_for(|openers| openers.len() == carriers).await.expect("lives");
            assert_eq!(self.carriers(), carriers, "as status shows it");
        }
    }

    fn shown(keeper: &Keeper, id: SessionId, opener: Opener) -> Shown {
        let sessions = keeper.sessions();
        Shown { opener, grant_rx: sessions.live(id).expect("lives").grant.subscribe() }
    }

    #[tokio::test]
    async fn a_grant_is_shown_when_each_carrier_has_accepted_it() {
        let mut first = None;
        let grows = Grows::from(async |agent| first.insert(agent.opener().await).clone()).await;
        grows.has(1).await;
        let (first, further) = (first.take().expect("made"), grows.grows().await);
        let mut sessions = grows.keeper.sessions();
        let mut accepts = |carrier: &Opener, grant: &str| {
            sessions.note_accepted(grows.id, carrier.handle(), grant.to_owned());
            sessions.live(grows.id).expect("lives").shown.clone()
        };
        accepts(&first, "one");
        assert_eq!(accepts(&further, "one"), "one");
        assert_eq!(accepts(&further, "two"), "one", "the first one knows only that");
        assert_eq!(accepts(&first, "two"), "two");
        assert_eq!(accepts(&first, "three"), "two");
        further.close();
        sessions.note_shown_everywhere(grows.id);
        assert_eq!(sessions.live(grows.id).expect("lives").shown, "three", "the only one left");
    }

    #[tokio::test]
    async fn a_tunnel_lives_until_its_last_carrier_is_lost() {
        let mut first = None;
        let grows = Grows::from(async |agent| first.insert(agent.opener().await).clone()).await;
        grows.has(1).await;
        let further = grows.grows().await;
        first.take().expect("made").close();
        grows.has(1).await;
        assert!(!grows.carrying.is_finished(), "a further one is enough");
        further.close();
        grows.carrying.await.expect("no panic");
        assert_eq!(grows.keeper.sessions().view_of(grows.id).expect("kept").carriers, 0);
    }

    #[tokio::test]
    async fn a_carrier_that_takes_no_more_streams_makes_room_for_another_and_lives_on() {
        let mut first = None;
        let grows = Grows::from(async |agent| first.insert(agent.opener().await).clone()).await;
        grows.has(1).await;
        let first = first.take().expect("made");
        first.handle().drain();
        grows.has(0).await;
        grows.carrying.await.expect("no panic");
        assert!(!first.is_closed(), "what is open on it goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_that_is_refused_cuts_nothing_and_is_shown_until_it_is_taken() {
        let mut first = None;
        let grows = Grows::from(async |agent| first.insert(agent.opener().await).clone()).await;
        grows.has(1).await;
        let (first, id) = (first.take().expect("made"), grows.id);
        let mut changes = grows.keeper.sessions().changes();
        grows.keeper.sessions().live(id).expect("lives").grant.send_replace("renewed".to_owned());
        sleep(LAPTOP_BEAT * 3).await;
        let is_taken = || grows.keeper.sessions().live(id).expect("lives").shown == "renewed";
        assert!(!is_taken() && !first.is_closed() && !grows.carrying.is_finished());
        grows.agent.takes_grants();
        while !is_taken() {
            changes.changed().await.expect("kept");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_move_a_carrier_is_asked_at_once_whether_it_answers() {
        let (_folder, keeper, moves_tx) = stage::keeper_that_moves();
        let id = stage::consume(&keeper, TeamspaceId::generate());
        let agent = Agent::which_refuses(Refusal::Unreachable, "not of interest");
        let opener = agent.opener().await;
        let Shown { grant_rx, .. } = shown(&keeper, id, opener.clone());
        let story = async {
            // The first beat is answered; the next one is seconds away.
            sleep(LAPTOP_BEAT / 5).await;
            agent.hangs();
            moves_tx.send_modify(|moves| *moves += 1);
            Instant::now()
        };
        let ended = async {
            look_after(&keeper, id, &opener, grant_rx).await;
            Instant::now()
        };
        let (moved, ended) = tokio::join!(story, ended);
        assert_eq!(ended - moved, LAPTOP_BEAT_ANSWER, "what is open on it is given time");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_move_new_connections_take_no_carrier_that_has_not_answered() {
        let mut first = None;
        let grows = Grows::from(async |agent| first.insert(agent.opener().await).clone()).await;
        grows.has(1).await;
        let first = first.take().expect("made");
        let mut openers_rx = openers_of(&grows.keeper, grows.id).expect("lives");
        grows.moves();
        openers_rx.changed().await.expect("lives");
        grows.has(1).await;
        assert!(first.takes_streams(), "it answers");
        grows.agent.hangs();
        sleep(LAPTOP_BEAT / 5).await;
        grows.moves();
        let moved = Instant::now();
        grows.has(0).await;
        assert_eq!(moved.elapsed(), Duration::ZERO);
        grows.carrying.await.expect("no panic");
        assert_eq!(moved.elapsed(), LAPTOP_MOVED_ANSWER, "another one is asked for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_further_carrier_goes_when_it_is_quiet_unless_it_is_the_only_one() {
        let mut first = None;
        let grows = Grows::from(async |agent| first.insert(agent.opener().await).clone()).await;
        grows.has(1).await;
        let first = first.take().expect("made");
        let (gone, stays) = (grows.grows().await, grows.grows().await);
        first.close();
        tokio::time::sleep(FURTHER_QUIET * 3).await;
        grows.has(1).await;
        assert_ne!(gone.is_closed(), stays.is_closed(), "one of the two stays");
        let last = if gone.is_closed() { stays } else { gone };
        grows.grows().await;
        last.closed().await;
        grows.has(1).await;
    }
}
