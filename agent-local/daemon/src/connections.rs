//! Consume, one connection at a time: accept, see where it was going, open a stream there, move bytes.

use std::{
    fmt::Display,
    net::{SocketAddr, SocketAddrV4, TcpStream},
    os::fd::AsFd,
    sync::Arc,
};

use fairlead_model::{
    Protocol,
    timers::{LAPTOP_PROOF_MAX, LAPTOP_QUEUE},
};
use fairlead_tunnel::{
    Copied, Ending, OpenFailed, Opener, Stream, Untaken, datagrams::Flowed, resets,
    socket::abort_on_close,
};
use fairlead_wire::open::{OpenRequest, Refused};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};
use tracing::{debug, warn};

use crate::{
    arrivals::Arrivals,
    footing::{Listeners, Passed},
    keeper::Keeper,
    original, probe,
    session::Route,
    tunnel,
};

/// A laptop has fewer connections; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 4096;

/// How many carriers may turn out, one after the other, to end as a connection is given to them.
const TAKEN_WITHIN: usize = 4;

/// Returns the room for all connections, however they come.
pub(crate) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CONNECTIONS_MAX))
}

/// Accepts redirected connections on whichever listener the supervisor passed last.
pub(crate) async fn accept_each(
    keeper: Arc<Keeper>,
    mut listeners: Listeners,
    room: Arc<Semaphore>,
) {
    loop {
        let passed = listeners.borrow_and_update().clone();
        let Some(passed) = passed else {
            if listeners.changed().await.is_err() {
                return;
            }
            continue;
        };
        let accepting = accept_on(&keeper, &passed, &room);
        tokio::select! {
            () = accepting => {}
            changed = listeners.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

async fn accept_on(keeper: &Arc<Keeper>, passed: &Passed, room: &Arc<Semaphore>) {
    let arrivals = match passed.listener.try_clone().and_then(Arrivals::at) {
        Ok(arrivals) => arrivals,
        Err(error) => {
            warn!("The listener cannot be used: {error}");
            return std::future::pending().await;
        }
    };
    loop {
        let slot = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
        match arrivals.next().await {
            Ok((tcp, from)) => {
                tokio::spawn(receive(Arc::clone(keeper), tcp, from, passed.canary, slot));
            }
            Err(error) => {
                warn!("Could not accept: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn receive(
    keeper: Arc<Keeper>,
    tcp: TcpStream,
    from: SocketAddr,
    canary: SocketAddrV4,
    slot: OwnedSemaphorePermit,
) {
    let is_answered = |destination| {
        keeper.knocks.is_from_us(Protocol::Tcp, from)
            && (destination == canary || keeper.sessions().route(destination).is_some())
    };
    match original::destination(&tcp) {
        // A proof or a trace, which want to know only that it arrives here.
        Some(destination) if is_answered(destination) => {
            answer_knock(keeper, tcp).await;
        }
        Some(destination) => receive_for(keeper, tcp, destination, slot).await,
        // Somebody has found the listener's own port; nothing is offered there.
        None => reset(&tcp, &"the listener itself", "it was not redirected", &from),
    }
}

/// Carries a connection to where it was going.
pub(crate) async fn receive_for(
    keeper: Arc<Keeper>,
    tcp: TcpStream,
    destination: SocketAddrV4,
    slot: OwnedSemaphorePermit,
) {
    let route = keeper.sessions().route(destination);
    match route {
        Some(route) => carry(&keeper, tcp, route).await,
        None => {
            reset(&tcp, &destination, "no session here leads there", &"one may just have ended")
        }
    }
    drop(slot);
}

/// Resets a connection and has the log say why: its application does not hear it.
pub(crate) fn reset(
    tcp: &impl AsFd,
    whom: &dyn Display,
    reason: &'static str,
    detail: &dyn Display,
) {
    abort_on_close(tcp);
    resets::tell(whom, reason, detail);
}

pub(crate) async fn answer_knock(keeper: Arc<Keeper>, tcp: TcpStream) {
    let Ok(mut tcp) = tokio::net::TcpStream::from_std(tcp) else { return };
    // Whoever asked sees by itself when nothing comes.
    drop(tcp.write_all(keeper.knocks.answer()).await);
    // And closes first: otherwise the service's port would be in use for a minute after the last listener is gone.
    drop(timeout(LAPTOP_PROOF_MAX, tcp.read(&mut [0])).await);
}

/// Carries one connection. Without a carrier it waits a little and then fails visibly.
pub(crate) async fn carry(keeper: &Keeper, tcp: TcpStream, mut route: Route) {
    let mut untaken = match Untaken::accepted(tcp) {
        Ok(untaken) => untaken,
        Err(error) => {
            return debug!(callee = %route.callee, "It ended as it was taken: {error}");
        }
    };
    for _ in 0..TAKEN_WITHIN {
        match open(&mut route).await {
            Ok(stream) => match untaken.over(stream).await {
                Ok(copied) => {
                    debug!(callee = %route.callee, up = copied.up, down = copied.down, "{:?}", copied.ending);
                    return take_note(keeper, &route, copied);
                }
                // Its agent left in this very moment, and takes no more of them.
                Err(again) => untaken = again,
            },
            Err(error) => return give_up(&untaken, &route, &error),
        }
    }
    give_up(&untaken, &route, &"one agent after the other stopped");
}

fn give_up(untaken: &Untaken, route: &Route, detail: &dyn Display) {
    let whom = format_args!("{}:{}", route.callee, route.port);
    reset(untaken.tcp(), &whom, "no stream could be opened", detail);
}

/// Keeps why the far end refused: the application only sees a reset.
fn take_note(keeper: &Keeper, route: &Route, copied: Copied) {
    copied.tell_reset(&format_args!("{}:{}", route.callee, route.port));
    let refusal = match copied.ending {
        Ending::Refused(refused) => Some(probe::in_words(&route.callee, &refused.into())),
        _ if copied.down > 0 => None,
        _ => return,
    };
    keeper.sessions().note(route.session, &route.callee, refusal);
}

/// Keeps how a flow went: its application hears nothing.
pub(crate) fn note_flow(keeper: &Keeper, route: &Route, flowed: &Flowed) {
    let refused =
        flowed.broken.as_ref().and_then(|error| error.get_ref()?.downcast_ref::<Refused>());
    let refusal = match refused {
        Some(refused) => Some(probe::in_words(&route.callee, &refused.clone().into())),
        None if flowed.down > 0 => None,
        None => return,
    };
    keeper.sessions().note(route.session, &route.callee, refusal);
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum NotOpened {
    #[error("no carrier")]
    NoCarrier,
    #[error(transparent)]
    Failed(#[from] OpenFailed),
}

pub(crate) async fn open(route: &mut Route) -> Result<Stream, NotOpened> {
    let wish = OpenRequest {
        session: route.session,
        callee: route.callee.clone(),
        port: route.port,
        probe: false,
    };
    let deadline = Instant::now() + LAPTOP_QUEUE;
    loop {
        let opener =
            timeout_at(deadline, usable(route)).await.map_err(|_| NotOpened::NoCarrier)??;
        match opener.open_early(&wish).await {
            Ok(stream) => return Ok(stream),
            // Lost between looking and asking: there may be another one in time.
            Err(_) if !opener.takes_streams() && Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for a carrier that lives, and chooses the best place.
pub(crate) async fn usable(route: &mut Route) -> Result<Opener, NotOpened> {
    tunnel::best(&mut route.openers).await.ok_or(NotOpened::NoCarrier)
}

#[cfg(test)]
mod tests {
    use fairlead_model::{ServiceRef, TeamspaceId};
    use fairlead_wire::open::Refusal;

    use super::*;
    use crate::stage::{self, Agent};

    #[tokio::test]
    async fn a_connection_takes_the_carrier_with_the_least_on_it_and_none_that_ends() {
        let (_folder, keeper) = stage::keeper();
        let id = stage::consume(&keeper, TeamspaceId::generate());
        let agent = Agent::which_refuses(Refusal::Unreachable, "not of interest");
        agent.refuses_only("shop/none");
        let (one, two) = (agent.opener().await, agent.opener().await);
        let mut route = {
            let sessions = keeper.sessions();
            let session = sessions.live(id).expect("kept");
            session.openers.send_replace(vec![one.clone(), two.clone()]);
            Route {
                session: id,
                callee: "shop/cart".parse::<ServiceRef>().expect("valid").into(),
                port: "80".parse().expect("a port"),
                openers: session.openers.subscribe(),
            }
        };
        let _first = open(&mut route).await.expect("opened");
        let _second = open(&mut route).await.expect("opened");
        let streams = || [one.handle().streams(), two.handle().streams()];
        assert_eq!(streams(), [1, 1]);
        one.handle().drain();
        let _third = open(&mut route).await.expect("opened");
        assert_eq!(streams(), [1, 2]);
    }
}
