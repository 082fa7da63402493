//! Consume, one connection at a time: accept, see where it was going, open a stream there, move bytes.

use std::{
    fmt::Display,
    net::{SocketAddr, SocketAddrV4},
    sync::Arc,
};

use fairlead_model::{
    Callee, ExternalHost, Pattern, Patterns, Phase, SessionId, TeamspaceId,
    timers::{LAPTOP_PROOF_MAX, LAPTOP_QUEUE},
};
use fairlead_tunnel::{
    Copied, Ending, OpenFailed, Opener, Stream, Untaken, datagrams::Flowed, resets,
    socket::abort_on_close,
};
use fairlead_wire::open::{OpenRequest, Refused as StreamRefused};
use laptop_account::{AccountError, Hub, Refusal, RefusedService, SessionBegun, UnmatchedPattern};
use laptop_ipc::{
    Failure, FailureKind,
    daemon::{Answer, Refused, Teamspace},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};
use tracing::{debug, warn};

use crate::{
    desired::{DesiredSession, Wish},
    footing::{Listeners, Passed},
    granted::{self, Granted},
    keeper::Keeper,
    original, probe, proof,
    session::{Origin, Route},
    tunnel,
};

/// A laptop has fewer connections; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 4096;

/// How many carriers may turn out, one after the other, to end as a connection is given to them.
const TAKEN_WITHIN: usize = 4;

/// Begins a consume, or changes what the one there is of this teamspace is about.
///
/// A change is one of the same session: its carriers stay, and with them every open connection. Whoever interrupts it, or
/// is refused, has what was there before.
pub(crate) async fn begin(
    keeper: &Arc<Keeper>,
    hub: &str,
    teamspace: Teamspace,
    patterns: Patterns,
    may_remap: bool,
) -> Result<Answer, Failure> {
    let _acting = keeper.acting.lock().await;
    let hub = keeper.hub_called(hub)?;
    must_leave_our_way(hub.account().hub().host(), &patterns)?;
    if let Some((id, before)) = before(keeper, &teamspace) {
        // Now: the hub says it over the link as well, which may be faster.
        let had = keeper.sessions().granted(id);
        if may_remap {
            keeper.sessions().let_remap(id);
        }
        match hub.change_consume(id, &joined(&before, patterns.clone())?).await {
            Ok(changed) => return change(keeper, &hub, &Had { id, before, had }, changed).await,
            Err(AccountError::Refused(Refusal { status: 409, message, .. })) => {
                keeper.end_here(id, Phase::Ended, Some(message)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let device = hub.device().await?;
    let mut begun = hub.begin_consume(teamspace.id, device.id, &patterns).await?;
    let (id, grant) = (begun.session.id, begun.grant.clone());
    let services = services_of(&mut begun);
    let wish = Wish::Consume { patterns, services };
    keeper.keep(DesiredSession { id, teamspace, grant, wish, may_remap }, Origin::Begun);

    if let Err(failure) = keeper.apply().await {
        // Nothing half done: the session goes.
        keeper.forget(id);
        if let Err(again) = keeper.apply().await {
            warn!("Names and redirects could not be taken back: {again}");
        }
        if let Err(error) = hub.end_session(id).await {
            warn!("The hub was not told: {error}");
        }
        return Err(failure);
    }
    tunnel::begin(keeper, id);
    answer(keeper, id, begun).await
}

/// Refuses the host by which this laptop reaches its hub: its name would lead into the carriers that need the hub.
fn must_leave_our_way(hub: &str, patterns: &Patterns) -> Result<(), Failure> {
    let our_way = |host: &&ExternalHost| host.name.as_str() == hub;
    let Some(host) = patterns.hosts().into_iter().find(our_way) else { return Ok(()) };
    let message = format!("{} is this laptop's hub, and what is consumed needs it", host.name);
    Err(Failure::new(FailureKind::Input, message)
        .hint("for one program it can be done: fairlead run --also"))
}

/// A consume before it was changed.
struct Had {
    id: SessionId,
    before: Patterns,
    had: Vec<Callee>,
}

/// Follows a change that the hub has made.
async fn change(
    keeper: &Arc<Keeper>,
    hub: &Hub,
    Had { id, before, had }: &Had,
    mut changed: SessionBegun,
) -> Result<Answer, Failure> {
    keeper.take(*id, granted_by(&mut changed));
    keeper.sessions().note_change(*id, before.clone(), had);
    if let Err(failure) = keeper.apply().await {
        put_back(keeper, hub, *id, before).await;
        return Err(failure);
    }
    answer(keeper, *id, changed).await
}

/// Takes back what a command changed and nobody has heard of.
pub(crate) async fn take_back(keeper: &Keeper, id: SessionId, before: &Patterns) {
    match keeper.hub() {
        Ok(hub) => put_back(keeper, &hub, id, before).await,
        Err(failure) => warn!(session = %id, "What it was about could not be put back: {failure}"),
    }
}

async fn put_back(keeper: &Keeper, hub: &Hub, id: SessionId, before: &Patterns) {
    let put_back = async {
        let mut changed = hub.change_consume(id, before).await?;
        keeper.take(id, granted_by(&mut changed));
        keeper.sessions().note_put_back(id);
        keeper.apply().await
    };
    if let Err(failure) = put_back.await {
        warn!(session = %id, "What it was about could not be put back: {failure}");
    }
}

fn services_of(begun: &mut SessionBegun) -> granted::Services {
    granted::services_of(std::mem::take(&mut begun.services), std::mem::take(&mut begun.hosts))
}

fn granted_by(begun: &mut SessionBegun) -> Granted {
    let services = services_of(begun);
    Granted {
        jwt: begun.grant.clone(),
        services: Some(services),
        patterns: begun.session.patterns.take(),
    }
}

async fn answer(
    keeper: &Arc<Keeper>,
    id: SessionId,
    begun: SessionBegun,
) -> Result<Answer, Failure> {
    proof::prove_once(keeper).await;
    let ended = || Failure::new(FailureKind::Conflict, "the consume has just ended");
    let session = keeper.sessions().view_of(id).ok_or_else(ended)?;
    let warnings = begun.unmatched.iter().map(slip).collect();
    let refused = refused_of(begun.refused);
    Ok(Answer::Begun { session, refused, warnings, notes: Vec::new() })
}

pub(crate) fn refused_of(refused: Vec<RefusedService>) -> Vec<Refused> {
    let refused = refused.into_iter().map(|r| Refused {
        service: r.service,
        reason: r.reason,
        policies: r.policies,
    });
    refused.collect()
}

/// Says which words brought nothing, which may be a slip of the pen.
pub(crate) fn slip(word: &UnmatchedPattern) -> String {
    let similar: Vec<_> = word.similar.iter().map(|name| format!("`{name}`")).collect();
    let meant = match similar[..] {
        [] => String::new(),
        _ => format!(" (similar: {})", similar.join(", ")),
    };
    format!("{}{meant}; it is added when it appears", word.reason)
}

/// Ends every consume, or that of one teamspace, but not what single programs have.
pub(crate) async fn clear(
    keeper: &Arc<Keeper>,
    teamspace: Option<TeamspaceId>,
) -> Result<Answer, Failure> {
    let _acting = keeper.acting.lock().await;
    let consumes = keeper.sessions().consumes_of(teamspace);
    keeper.leave_each(consumes).await?;
    Ok(Answer::Done)
}

/// Returns the consume of a teamspace, and what it is about.
fn before(keeper: &Keeper, teamspace: &Teamspace) -> Option<(SessionId, Patterns)> {
    let sessions = keeper.sessions();
    let here = sessions.all_live().filter(|s| s.desired.teamspace.id == teamspace.id);
    let consumes = here.filter(|session| session.is_of_everybody());
    let consume = consumes.max_by_key(|session| session.began)?;
    Some((consume.desired.id, consume.patterns().cloned()?))
}

/// Adds patterns to those there are; a new word takes back an earlier exclusion of the same, and the other way round.
fn joined(before: &Patterns, wanted: Patterns) -> Result<Patterns, Failure> {
    let opposite = |pattern: &Pattern| {
        let text = pattern.to_string();
        text.strip_prefix('!').map_or_else(|| format!("!{text}"), str::to_owned)
    };
    let mut all: Vec<Pattern> = wanted.into();
    let taken_back: Vec<String> = all.iter().map(opposite).collect();
    for pattern in before.iter() {
        if !all.contains(pattern) && !taken_back.contains(&pattern.to_string()) {
            all.push(pattern.clone());
        }
    }
    Patterns::new(all).map_err(|error| Failure::new(FailureKind::Input, error.to_string()))
}

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
    let listener = match passed.listener.try_clone().and_then(TcpListener::from_std) {
        Ok(listener) => listener,
        Err(error) => {
            warn!("The listener cannot be used: {error}");
            return std::future::pending().await;
        }
    };
    loop {
        let slot = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
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
    let destination = original::destination(&tcp);
    if destination == Some(canary) {
        return answer_canary(keeper, tcp).await;
    }
    match destination {
        // A trace, which wants to know only that it arrives here.
        Some(destination)
            if keeper.knocks.is_from_us(from) && keeper.sessions().route(destination).is_some() =>
        {
            answer_canary(keeper, tcp).await;
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
    tcp: &TcpStream,
    whom: &dyn Display,
    reason: &'static str,
    detail: &dyn Display,
) {
    abort_on_close(tcp);
    resets::tell(whom, reason, detail);
}

pub(crate) async fn answer_canary(keeper: Arc<Keeper>, mut tcp: TcpStream) {
    // Whoever asked sees by itself when nothing comes.
    drop(tcp.write_all(&keeper.canary_word).await);
    // And closes first: otherwise the service's port would be in use for a minute after the last listener is gone.
    drop(timeout(LAPTOP_PROOF_MAX, tcp.read(&mut [0])).await);
}

/// Carries one connection. Without a carrier it waits a little and then fails visibly.
pub(crate) async fn carry(keeper: &Keeper, tcp: TcpStream, mut route: Route) {
    let mut untaken = Untaken::from(tcp);
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
        flowed.broken.as_ref().and_then(|error| error.get_ref()?.downcast_ref::<StreamRefused>());
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

    fn patterns(words: &[&str]) -> Patterns {
        Patterns::new(words.iter().map(|word| word.parse().expect("valid")).collect())
            .expect("valid")
    }

    fn join(before: &[&str], wanted: &[&str]) -> Vec<String> {
        let joined = joined(&patterns(before), patterns(wanted)).expect("valid");
        joined.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_word_that_brought_nothing_comes_with_what_may_have_been_meant() {
        let word = |similar: &[&str]| UnmatchedPattern {
            pattern: "shop/crat".to_owned(),
            reason: "no service that you may see matches `shop/crat`".to_owned(),
            similar: similar.iter().map(ToString::to_string).collect(),
        };
        let said = slip(&word(&["shop/cart"]));
        assert!(said.contains("matches `shop/crat` (similar: `shop/cart`); it is"), "{said}");
        assert!(!slip(&word(&[])).contains("similar"));
    }

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

    #[test]
    fn the_hub_is_not_reached_through_itself() {
        let asked =
            |word: &str| must_leave_our_way("hub.example.com", &patterns(&["shop/*", word]));
        asked("+db.example.com:443").expect("another host");
        let refused = asked("+hub.example.com:8443").expect_err("at whichever port");
        assert!(refused.message.contains("hub.example.com is this laptop's hub"), "{refused:?}");
    }

    #[test]
    fn what_is_consumed_already_stays() {
        assert_eq!(join(&["shop/*"], &["pay/api"]), ["pay/api", "shop/*"]);
        assert_eq!(join(&["shop/*"], &["shop/*"]), ["shop/*"]);
    }

    #[test]
    fn the_last_word_about_a_service_counts() {
        assert_eq!(join(&["shop/*", "!shop/pay"], &["shop/pay"]), ["shop/pay", "shop/*"]);
        let words = ["shop/*", "!+a.b:1"];
        assert_eq!(join(&["shop/*", "+a.b:1"], &words), words);
    }
}
