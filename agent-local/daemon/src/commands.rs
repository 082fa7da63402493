//! What the fairlead command asks: one request per connection, from this user or from root.

use std::{sync::Arc, time::Duration};

use fairlead_model::SessionKind;
use laptop_ipc::{
    AnyCall, Failure, FailureKind,
    daemon::{Answer, Reply, Request},
    peer_of,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{consume, intercept, keeper::Keeper, proof};

const CONVERSATIONS_MAX: usize = 32;
const QUESTION_MAX: Duration = Duration::from_secs(5);

pub(crate) async fn serve(listener: UnixListener, keeper: Arc<Keeper>, uid: u32) {
    let room = Arc::new(Semaphore::new(CONVERSATIONS_MAX));
    loop {
        let permit =
            Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let keeper = Arc::clone(&keeper);
                tokio::spawn(async move {
                    hold(stream, &keeper, uid).await;
                    drop(permit);
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
    let is_ours = peer_of(&stream).is_ok_and(|peer| peer.uid == uid || peer.uid == 0);
    if !is_ours {
        return;
    }
    let Ok(Ok(call)) = timeout(QUESTION_MAX, laptop_ipc::read::<AnyCall>(&mut stream)).await else {
        return;
    };
    let reply = match call.understood() {
        Ok(request) => answer(request, keeper).await,
        Err(failure) => Err(failure),
    };
    if let Err(error) = laptop_ipc::write(&mut stream, &reply).await {
        debug!("The command did not wait for the answer: {error}");
    }
}

async fn answer(request: Request, keeper: &Arc<Keeper>) -> Reply {
    match request {
        Request::Status => {
            // What is said was true a moment ago, not five seconds ago.
            proof::prove_once(keeper).await;
            Ok(keeper.status())
        }
        Request::Consume { hub, teamspace, patterns } => {
            consume::begin(keeper, &hub, teamspace, patterns).await
        }
        Request::ConsumeClear => consume::clear(keeper).await,
        Request::Intercept { hub, teamspace, service, ports } => {
            intercept::begin(keeper, &hub, teamspace, service, ports).await
        }
        Request::Leave { session } => {
            let _acting = keeper.acting.lock().await;
            if keeper.sessions().live(session).is_none() {
                let message = format!("this laptop has no live session {session}");
                return Err(Failure::new(FailureKind::NotFound, message));
            }
            keeper.leave(session).await?;
            Ok(Answer::Left { sessions: vec![session] })
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
        Request::AccountChanged => {
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
