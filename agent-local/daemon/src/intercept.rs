//! Intercept on the laptop: carriers on which the cluster opens streams, each led to the developer's port.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use fairlead_model::{
    InterceptPort, Port, ServicePort, ServiceRef, SessionId,
    timers::{INTERCEPT_CONNECT, LAPTOP_BEAT_ANSWER, STREAM_OPEN, TICKET_LIFE},
};
use fairlead_tunnel::{
    Acceptor, CarrierHandle, Incoming, Stream, StreamOffered, both_ways, socket,
};
use fairlead_wire::{
    link::v1::CarrierOffer,
    open::{OpenRequest, Refusal},
};
use laptop_account::SessionBegun;
use laptop_ipc::{
    Failure,
    daemon::{Answer, Teamspace},
    sockets::{Holder, Process, listener_on},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};
use tracing::{debug, info, warn};

use crate::{
    attempts::Attempts,
    carriers::{CarrierError, dial, give_up},
    desired::{DesiredSession, Wish},
    keeper::Keeper,
    link::with_causes,
    moves::Moves,
    session::{Further, Origin, Session, Task},
};

const STREAMS_MAX: usize = 4096;

/// Begins an intercept. Carriers come from the hub by themselves.
pub(crate) async fn begin(
    keeper: &Arc<Keeper>,
    hub: &str,
    teamspace: Teamspace,
    service: ServiceRef,
    ports: Vec<InterceptPort>,
) -> Result<Answer, Failure> {
    let _acting = keeper.acting.lock().await;
    let hub = keeper.hub_called(hub)?;
    let (mut warnings, mut notes) = (Vec::new(), Vec::new());
    for port in &ports {
        match who_listens(port.laptop_port) {
            Ok(note) => notes.push(note),
            Err(warning) => warnings.push(warning),
        }
    }
    let device = hub.device().await?;
    let SessionBegun { session, grant, .. } =
        hub.begin_intercept(teamspace.id, device.id, &service, &ports).await?;
    let id = session.id;
    let wish = Wish::Intercept { service, ports };
    keeper.keep(DesiredSession { id, teamspace, grant, wish, may_remap: false }, Origin::Begun);
    // The service leaves my own consume: its name must not lead back here.
    if let Err(failure) = keeper.apply().await {
        if let Err(again) = keeper.leave(id).await {
            warn!("The hub was not told: {again}");
        }
        return Err(failure);
    }
    let session = keeper.sessions().view_of(id).expect("kept a moment ago");
    Ok(Answer::Begun { session, refused: Vec::new(), warnings, notes })
}

/// Names the program that gets the requests, since the port may be in use by another one than the developer thinks; or
/// warns that there is none.
fn who_listens(port: Port) -> Result<String, String> {
    match listener_on(port) {
        None => Err(format!("nothing listens on localhost:{port} yet; until then the pods answer")),
        Some(Holder { process: Some(Process { pid, program }), .. }) => {
            Ok(format!("On localhost:{port} listens `{program}` (process {pid})."))
        }
        Some(Holder { process: None, .. }) => {
            Ok(format!("On localhost:{port} listens a program of another user."))
        }
    }
}

/// Takes the carrier that the hub offers, and asks for another one when it is lost or could not be had: for as long as
/// the session lives, unless the hub says that the replica is gone.
pub(crate) async fn take_carrier(keeper: Arc<Keeper>, offer: CarrierOffer) {
    let (Ok(id), replica) = (offer.session_id.parse::<SessionId>(), offer.replica.clone()) else {
        return;
    };
    if offer.further {
        return take_further(&keeper, id, offer).await;
    }
    // The link may overtake the answer that names the session.
    if !keeper.comes_to_keep(id, TICKET_LIFE).await {
        return debug!(session = %id, replica, "A carrier was offered for no session of ours");
    }
    let Some(turn) = keeper.sessions().live_mut(id).map(|s| s.next_turn(&replica)) else { return };
    let mut offer = Some(offer);
    let mut attempts = Attempts::default();
    let mut moves = keeper.moves.anew();
    while !attempts.are_used_up() {
        if let Some(offer) = offer.take() {
            match serve_carrier(&keeper, id, offer).await {
                Ok(()) => attempts.succeeded(),
                Err(error) if attempts.failed(error.tries()) => return give_up(keeper, id, error),
                Err(error) => warn!(session = %id, replica, "Carrier: {}", with_causes(&error)),
            }
        }
        if moves.or_after(attempts.next_delay()).await {
            attempts.hurry();
        }
        keeper.link.connected().await;
        if !wants_carrier(&keeper, id, &replica, turn) {
            return;
        }
        match keeper.offers.ask(id, &replica).await {
            Ok(answer) => offer = Some(answer),
            Err(reason) => {
                attempts.not_offered(&reason);
                debug!(session = %id, replica, "No carrier: {reason}");
            }
        }
    }
}

/// Takes one more carrier, which the replica wanted for its bulk. It asks again when it wants another.
async fn take_further(keeper: &Arc<Keeper>, id: SessionId, offer: CarrierOffer) {
    let replica = offer.replica.clone();
    if let Err(error) = serve_carrier(keeper, id, offer).await {
        debug!(session = %id, replica, "No further carrier: {}", with_causes(&error));
    }
}

/// The session may be over, or the hub may have offered another carrier by itself.
fn wants_carrier(keeper: &Keeper, id: SessionId, replica: &str, turn: u64) -> bool {
    let sessions = keeper.sessions();
    let is_lost = |s: &Session| s.taken.get(replica).is_none_or(|carrier| carrier.is_closed());
    let is_mine = |s: &Session| s.turns.get(replica) == Some(&turn);
    sessions.live(id).is_some_and(|s| !s.is_leaving && is_mine(s) && is_lost(s))
}

async fn serve_carrier(
    keeper: &Arc<Keeper>,
    id: SessionId,
    offer: CarrierOffer,
) -> Result<(), CarrierError> {
    let (replica, is_further) = (offer.replica.clone(), offer.further);
    let half = dial(keeper, id, offer).await?;
    let (mut acceptor, driver) =
        Acceptor::handshake(half.io, &half.identity, &half.expectation).await?;
    tokio::spawn(driver);
    let handle = acceptor.handle().clone();
    handle.came_by(half.path.clone());
    {
        let mut sessions = keeper.sessions();
        let Some(session) = sessions.live_mut(id) else { return Ok(()) };
        if !is_further {
            session.taken.insert(replica.clone(), handle);
        } else if !session.keep_further(&replica, handle) {
            return Err(CarrierError::BadOffer("there are as many carriers as there may be"));
        }
    }
    info!(session = %id, replica, path = %half.path, "Carrier is up");
    let room = Arc::new(Semaphore::new(STREAMS_MAX));
    let _looked_after =
        Task(tokio::spawn(end_if_left_behind(acceptor.handle().clone(), keeper.moves.anew())));
    while let Some(incoming) = acceptor.next().await {
        match incoming {
            Incoming::Grant(grant) => grant.refuse("a laptop takes no grants"),
            Incoming::Resolve(asked) => {
                asked.refuse(Refusal::NotAllowed, "a laptop answers no names for the cluster");
            }
            Incoming::Open(offered) => match Arc::clone(&room).try_acquire_owned() {
                Ok(slot) => {
                    let keeper = Arc::clone(keeper);
                    tokio::spawn(async move {
                        serve_stream(&keeper, id, offered).await;
                        drop(slot);
                    });
                }
                Err(_) => offered.refuse(Refusal::Unavailable, "too many streams on this laptop"),
            },
        }
    }
    info!(session = %id, replica, "Carrier ended");
    if let Some(session) = keeper.sessions().live_mut(id) {
        session.taken.retain(|_, carrier| !carrier.is_closed());
        session.further.retain(Further::is_live);
    }
    Ok(())
}

/// Ends a carrier that does not answer any more after a move of this laptop. Without a move the agent's beats tell.
async fn end_if_left_behind(carrier: CarrierHandle, mut moves: Moves) {
    loop {
        moves.next().await;
        if carrier.beat(LAPTOP_BEAT_ANSWER).await.is_err() {
            return carrier.close();
        }
    }
}

/// Leads one stream to the developer's port, or refuses quickly so that the pods answer.
async fn serve_stream(keeper: &Keeper, id: SessionId, offered: StreamOffered) {
    let wish = offered.request().clone();
    let Some(port) = port_for(keeper, id, &wish) else {
        return offered.refuse(Refusal::NotAllowed, "not a port of this laptop's intercept");
    };
    let tcp = match connect(port).await {
        Ok(tcp) => tcp,
        Err(reason) => return offered.refuse(Refusal::Unreachable, reason),
    };
    let stream = match offered.accept() {
        Ok(stream) => stream,
        Err(error) => {
            debug!("The agent gave up meanwhile: {error}");
            return;
        }
    };
    if wish.probe {
        return answer_probe(stream).await;
    }
    let copied = both_ways(stream, tcp).await;
    debug!(service = %wish.callee, up = copied.up, down = copied.down, "{:?}", copied.ending);
    copied.tell_abort_of(&format_args!("localhost:{port}"));
}

/// Waits until the answer has been heard: it is the proof, and dropping the stream would take it back.
pub(crate) async fn answer_probe(mut stream: Stream) {
    let heard = async {
        stream.shutdown().await?;
        stream.read(&mut [0]).await
    };
    // Whoever probes says nothing; it ends the stream, or goes away.
    drop(timeout(STREAM_OPEN, heard).await);
}

/// Streams are for the live session of this carrier, for its service, and for the ports it mapped.
fn port_for(keeper: &Keeper, id: SessionId, wish: &OpenRequest) -> Option<Port> {
    let sessions = keeper.sessions();
    match &sessions.live(id)?.desired.wish {
        Wish::Intercept { service, ports }
            if wish.session == id && wish.callee == service.clone().into() =>
        {
            let is_it = |port: &&InterceptPort| ServicePort::tcp(port.service_port) == wish.port;
            let mapped = ports.iter().find(is_it);
            mapped.map(|port| port.laptop_port)
        }
        Wish::Intercept { .. } | Wish::Consume { .. } => None,
    }
}

/// Development servers listen on one of the two loopbacks, and say so seldom.
pub(crate) async fn connect(port: Port) -> Result<TcpStream, String> {
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let address = SocketAddr::new(ip, port.get());
        match timeout(INTERCEPT_CONNECT, socket::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(_)) => {}
            Err(_) => return Err(format!("localhost:{port} does not answer")),
        }
    }
    Err(format!("nothing listens on localhost:{port}"))
}

#[cfg(test)]
mod tests {
    use fairlead_model::TeamspaceId;

    use super::*;
    use crate::{sessions::tests, stage};

    #[tokio::test(start_paused = true)]
    async fn a_carrier_that_a_move_left_behind_is_ended_and_one_that_answers_is_not() {
        let (moves_tx, moves) = Moves::staged();
        let agent = stage::Agent::which_refuses(Refusal::Unreachable, "not of interest");
        let opener = agent.opener().await;
        let looked_after = end_if_left_behind(opener.handle().clone(), moves);
        let story = async {
            moves_tx.send_modify(|moves| *moves += 1);
            tokio::time::sleep(2 * LAPTOP_BEAT_ANSWER).await;
            assert!(!opener.is_closed(), "it answers");
            agent.hangs();
            moves_tx.send_modify(|moves| *moves += 1);
            opener.closed().await
        };
        tokio::join!(looked_after, story);
    }

    #[tokio::test]
    async fn only_whoever_heard_the_last_offer_asks_for_another_carrier() {
        let (_folder, keeper) = stage::keeper();
        let desired = tests::intercept(TeamspaceId::generate()).desired;
        let id = desired.id;
        keeper.keep(desired, Origin::Begun);
        let next_turn = || keeper.sessions().live_mut(id).expect("kept").next_turn("a");
        let first = next_turn();
        assert!(wants_carrier(&keeper, id, "a", first));
        let second = next_turn();
        assert!(!wants_carrier(&keeper, id, "a", first));
        assert!(wants_carrier(&keeper, id, "a", second));
        keeper.forget(id);
        assert!(!wants_carrier(&keeper, id, "a", second), "the session is over");
    }

    #[test]
    fn the_program_that_gets_the_requests_is_named_and_its_absence_is_a_warning() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = Port::new(listener.local_addr().expect("bound").port()).expect("not 0");
        let note = who_listens(port).expect("it listens");
        assert!(note.contains(&format!("(process {})", std::process::id())), "{note}");
        drop(listener);
        let warning = who_listens(port).expect_err("nobody");
        assert!(warning.contains("nothing listens"), "{warning}");
    }
}
