//! What the fairlead command asks: one request per connection, from this user or from root.

use std::{sync::Arc, time::Duration};

use fairlead_model::{SessionId, SessionKind};
use laptop_ipc::{
    AnyCall, Failure, FailureKind,
    daemon::{Answer, PATIENCE_MAX, Reply, Request},
    peer_of,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    consume, intercept,
    keeper::Keeper,
    program::{self, Wanted},
    proof, trace,
};

const CONVERSATIONS_MAX: usize = 32;
const QUESTION_MAX: Duration = Duration::from_secs(5);

pub(crate) async fn serve(listener: UnixListener, keeper: Arc<Keeper>, uid: u32) {
    let room = Arc::new(Semaphore::new(CONVERSATIONS_MAX));
    loop {
        let slot = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let keeper = Arc::clone(&keeper);
                tokio::spawn(async move {
                    hold(stream, &keeper, uid).await;
                    drop(slot);
                });
            }
            Err(error) => {
                warn!("Could not accept: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn hold(mut stream: UnixStream, keeper: &Arc<Keeper>, uid: u32) {
    let peer = peer_of(&stream).ok().filter(|peer| peer.uid == uid || peer.uid == 0);
    let Some(peer) = peer else { return };
    let Ok(Ok(call)) = timeout(QUESTION_MAX, laptop_ipc::read::<AnyCall>(&mut stream)).await else {
        return;
    };
    let reply = match call.understood() {
        Ok(request) => answer(request, keeper, peer.pid).await,
        Err(failure) => Err(failure),
    };
    deliver(stream, keeper, &reply).await;
}

/// Brings the answer. What nobody hears of, or of what nobody hears how it went, would stand without anybody knowing: a
/// session that a command began goes, and one that it changed is what it was before.
async fn deliver(mut stream: UnixStream, keeper: &Keeper, reply: &Reply) {
    let delivered = laptop_ipc::write(&mut stream, reply).await;
    if let Err(error) = &delivered {
        debug!("The command did not wait for the answer: {error}");
    }
    match (reply, delivered) {
        (Ok(Answer::Awaited { session: Some(session) }), Ok(())) => {
            keeper.sessions().note_heard(session.id);
        }
        (
            Ok(
                Answer::Begun { session, .. }
                | Answer::Running { session, .. }
                | Answer::Awaited { session: Some(session) },
            ),
            Err(_),
        ) => leave_unheard(keeper, session.id).await,
        _ => {}
    }
}

async fn leave_unheard(keeper: &Keeper, id: SessionId) {
    let _acting = keeper.acting.lock().await;
    let (is_heard, before) = match keeper.sessions().live(id) {
        Some(session) => (session.is_heard, session.before.clone()),
        None => return,
    };
    match before {
        Some(before) => consume::take_back(keeper, id, &before).await,
        None if is_heard => {}
        None => {
            if let Err(failure) = keeper.leave(id).await {
                warn!(session = %id, "Left, and the hub was not told: {failure}");
            }
        }
    }
}

async fn answer(request: Request, keeper: &Arc<Keeper>, pid: i32) -> Reply {
    match request {
        Request::Status => {
            // What is said was true a moment ago, not five seconds ago.
            proof::prove_once(keeper).await;
            Ok(Answer::Status(keeper.status()))
        }
        Request::AwaitProven { patience_ms } => {
            let patience = Duration::from_millis(patience_ms).min(PATIENCE_MAX);
            proof::prove_once(keeper).await;
            Ok(Answer::Status(keeper.await_proven(patience).await))
        }
        Request::Consume { hub, teamspace, patterns, may_remap } => {
            consume::begin(keeper, &hub, teamspace, patterns, may_remap).await
        }
        Request::Run { hub, teamspace, patterns, remap } => {
            program::begin(keeper, Wanted { hub, teamspace, patterns, remap }, pid).await
        }
        Request::ConsumeClear { teamspace } => consume::clear(keeper, teamspace).await,
        Request::TeamspaceChosen => keeper.apply().await.map(|()| Answer::Done),
        Request::Intercept { hub, teamspace, service, ports } => {
            intercept::begin(keeper, &hub, teamspace, service, ports).await
        }
        Request::AwaitProof { session, patience_ms } => {
            let patience = Duration::from_millis(patience_ms).min(PATIENCE_MAX);
            Ok(Answer::Awaited { session: keeper.await_proof(session, patience).await })
        }
        Request::Trace(wish) => Ok(Answer::Traced { hops: trace::follow(keeper, &wish).await }),
        Request::Leave { session } => {
            let _acting = keeper.acting.lock().await;
            if keeper.sessions().live(session).is_none() {
                let message = format!("this laptop has no live session {session}");
                return Err(
                    Failure::new(FailureKind::NotFound, message).hint("list them: fairlead list")
                );
            }
            Ok(Answer::Left { sessions: keeper.leave_each(vec![session]).await? })
        }
        Request::GiveUp { session } => {
            leave_unheard(keeper, session).await;
            Ok(Answer::Done)
        }
        Request::LeaveIntercepts => {
            let _acting = keeper.acting.lock().await;
            let intercepts = keeper.sessions().live_of(SessionKind::Intercept);
            Ok(Answer::Left { sessions: keeper.leave_each(intercepts).await? })
        }
        Request::LeaveAll => {
            let _acting = keeper.acting.lock().await;
            Ok(Answer::Left { sessions: keeper.leave_all().await? })
        }
        Request::Stay => {
            keeper.stay();
            Ok(Answer::Done)
        }
        Request::AccountChanged => {
            keeper.ways.forget();
            keeper.link.account_changed();
            Ok(Answer::Done)
        }
        Request::Stop => {
            let _acting = keeper.acting.lock().await;
            let left = keeper.leave_all().await;
            keeper.stop();
            left.map(|_| Answer::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::{Patterns, Phase, TeamspaceId};

    use super::*;
    use crate::{granted::Granted, stage};

    fn begun(keeper: &Keeper) -> Reply {
        let id = stage::consume(keeper, TeamspaceId::generate());
        let session = keeper.sessions().view_of(id).expect("kept");
        Ok(Answer::Begun { session, refused: Vec::new(), warnings: Vec::new(), notes: Vec::new() })
    }

    #[tokio::test]
    async fn a_session_whose_command_went_away_before_it_heard_of_it_is_left() {
        let (_folder, keeper) = stage::keeper();
        let (near, far) = UnixStream::pair().expect("pair");
        deliver(near, &keeper, &begun(&keeper)).await;
        assert_eq!(keeper.sessions().desired().len(), 1, "heard of: it stays");
        drop(far);
        let (near, far) = UnixStream::pair().expect("pair");
        drop(far);
        deliver(near, &keeper, &begun(&keeper)).await;
        assert_eq!(keeper.sessions().desired().len(), 1, "the second one is gone");
        assert_eq!(keeper.before().len(), 1, "on disk, too");
    }

    #[tokio::test]
    async fn a_consume_is_changed_in_place_and_an_interrupted_change_is_taken_back() {
        let (_folder, keeper) = stage::keeper();
        let hub = stage::hub::Hub::of(&keeper);
        let id = stage::consume(&keeper, TeamspaceId::generate());
        keeper.observe(id, Phase::Active, None);
        let teamspace = keeper.sessions().live(id).expect("lives").desired.teamspace.clone();
        let is_about = || {
            let sessions = keeper.sessions();
            let patterns = sessions.live(id).expect("lives").patterns().cloned();
            patterns.expect("a consume").iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let wants = |word: &str| Request::Consume {
            hub: hub.url(),
            teamspace: teamspace.clone(),
            patterns: Patterns::new(vec![word.parse().expect("valid")]).expect("valid"),
            may_remap: false,
        };
        // There is no supervisor, so no name can follow: as good as refused.
        answer(wants("pay/api"), &keeper, 0).await.expect_err("no supervisor");
        assert_eq!(is_about(), ["shop/*"], "what was there before");

        for (answers, is_heard) in [(false, false), (true, true)] {
            let had = keeper.sessions().granted(id);
            let before = keeper.sessions().live(id).expect("lives").patterns().cloned();
            keeper.take(id, granted(&["shop/*", "pay/api"]));
            keeper.sessions().note_change(id, before.expect("a consume"), &had);
            let session = keeper.sessions().view_of(id);
            let (near, far) = UnixStream::pair().expect("pair");
            let far = answers.then_some(far);
            deliver(near, &keeper, &Ok(Answer::Awaited { session })).await;
            drop(far);
            let expected: &[&str] = if is_heard { &["shop/*", "pay/api"] } else { &["shop/*"] };
            assert_eq!(is_about(), expected);
        }
        assert_eq!(keeper.sessions().live_of(SessionKind::Consume), [id], "the same session");
    }

    fn granted(words: &[&str]) -> Granted {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Granted::heard(String::new(), &words)
    }

    #[tokio::test]
    async fn whoever_awaits_a_proof_hears_of_the_change_and_not_later() {
        let (_folder, keeper) = stage::keeper();
        let id = stage::consume(&keeper, TeamspaceId::generate());
        let ask = |patience_ms| Request::AwaitProof { session: id, patience_ms };
        let Ok(Answer::Awaited { session }) = answer(ask(1), &keeper, 0).await else { panic!() };
        assert_eq!(session.expect("there").phase, Phase::Preparing);
        let (awaited, ()) = tokio::join!(answer(ask(u64::MAX), &keeper, 0), async {
            keeper.observe(id, Phase::Preparing, Some("dialling".to_owned()));
            tokio::task::yield_now().await;
            keeper.observe(id, Phase::Active, None);
            tokio::task::yield_now().await;
            // Whoever looks later sees this.
            keeper.observe(id, Phase::Preparing, None);
        });
        let Ok(Answer::Awaited { session }) = awaited else { panic!() };
        assert_eq!(session.expect("there").phase, Phase::Active);
        keeper.forget(id);
        let Ok(Answer::Awaited { session }) = answer(ask(u64::MAX), &keeper, 0).await else {
            panic!()
        };
        assert_eq!(session, None);
    }

    #[tokio::test]
    async fn whoever_awaits_a_proof_hears_why_there_is_none() {
        let (_folder, keeper) = stage::keeper();
        let id = stage::consume(&keeper, TeamspaceId::generate());
        let ask = Request::AwaitProof { session: id, patience_ms: u64::MAX };
        let denied = Failure::new(FailureKind::Denied, "the agent does not accept the grant");
        let (awaited, ()) =
            tokio::join!(answer(ask, &keeper, 0), keeper.refuse(id, denied.clone()));
        let Ok(Answer::Awaited { session: Some(session) }) = awaited else { panic!() };
        assert_eq!((session.phase, session.failure), (Phase::Refused, Some(denied)));
        assert_eq!(keeper.before(), [], "a daemon that comes after this one does not try again");
    }
}
