//! One probe through the whole way of a connection, hop by hop: to our own listener, over the link to the hub, over a
//! carrier to the agent, from the agent to the Service; and to the developer's port, where the service is intercepted.
//!
//! Each hop is asked by itself and within a bound, so that the one that fails is named, whatever the others do.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use fairlead_model::{
    Callee, Phase, Port, Protocol,
    timers::{LAPTOP_BEAT_ANSWER, LAPTOP_QUEUE},
};
use fairlead_tunnel::{CarrierHandle, OpenFailed, Opener};
use fairlead_wire::open::{OpenRequest, Refusal};
use laptop_ipc::{
    FailureKind,
    daemon::Link,
    trace::{Hop, Place, Wish},
};
use tokio::time::timeout;

use crate::{
    echoes::NoEcho, intercept, keeper::Keeper, knocks::Unheard, offers::NoOffer, probe,
    session::Route, tunnel,
};

/// The intercept of the service that this laptop itself has.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) phase: Phase,
    pub(crate) detail: Option<String>,
    /// The developer's port, if the one that is asked for is among those that were taken over.
    pub(crate) laptop_port: Option<Port>,
    pub(crate) carriers: Vec<CarrierHandle>,
}

/// Follows the way of one connection to a service.
pub(crate) async fn follow(keeper: &Keeper, wish: &Wish) -> Vec<Hop> {
    let (own, route, entrance) = {
        let sessions = keeper.sessions();
        (sessions.own_intercept(wish), sessions.route_of(wish), sessions.entrance_of(wish))
    };
    let arrives = redirect(keeper, entrance, wish.port.protocol, own.is_some()).await;
    let mut hops = vec![arrives, hub(keeper).await];
    let carrier = best(route.clone()).await;
    let handle = carrier.as_ref().map(Opener::handle).cloned();
    let of_own = || own.as_ref().and_then(|own| own.carriers.first().cloned());
    hops.push(match (&route, &own) {
        (None, None) => Hop::not_tried(Place::Agent, "you do not consume it"),
        (route, _) => {
            let why = route.as_ref().and_then(|route| why_no_carrier(keeper, route));
            agent(handle.or_else(of_own), why).await
        }
    });
    hops.push(service(carrier, route).await);
    if let Some(own) = own {
        hops.push(laptop(wish, &own).await);
    }
    hops
}

/// Connects or sends as a program would, and sees whether that arrives here.
async fn redirect(
    keeper: &Keeper,
    entrance: Option<SocketAddrV4>,
    protocol: Protocol,
    is_own: bool,
) -> Hop {
    let at = Place::Redirect;
    let Some(entrance) = entrance else {
        let message = if is_own {
            "you intercept it: it has no name on this laptop meanwhile"
        } else {
            "it has no address on this laptop"
        };
        return Hop::not_tried(at, message);
    };
    let begun = Instant::now();
    let (what, heard) = match protocol {
        Protocol::Tcp => ("a connection", keeper.knocks.connect(entrance).await),
        Protocol::Udp => ("a datagram", keeper.knocks.send(entrance).await),
    };
    let failed = |message| {
        let advice =
            "see who changes nftables or listens there: fairlead status, then fairlead doctor";
        Hop::failed(at, FailureKind::LaptopNetwork, message, advice)
    };
    match heard {
        Ok(()) => Hop::passed(
            at,
            Some(begun.elapsed()),
            format!("{what} to {entrance} arrives at the daemon"),
        ),
        Err(Unheard::AnotherProgram) => failed(format!("another program answers at {entrance}")),
        Err(Unheard::Nobody) => failed(format!("{what} to {entrance} arrives nowhere")),
        Err(Unheard::Refused(error)) => {
            failed(format!("{what} to {entrance} does not arrive at the daemon ({error})"))
        }
    }
}

async fn hub(keeper: &Keeper) -> Hop {
    let at = Place::Hub;
    let failed =
        |message, advice: &str| Hop::failed(at, FailureKind::HubUnreachable, message, advice);
    match (keeper.echoes.ask(LAPTOP_BEAT_ANSWER).await, keeper.link.state()) {
        (Ok(took), Link::Connected { hub, replica, .. }) => {
            Hop::passed(at, Some(took), format!("{hub} (replica {replica}) answers over the link"))
        }
        (Ok(took), _) => Hop::passed(at, Some(took), "it answers over the link"),
        (Err(NoEcho::Silent), _) => failed(
            format!(
                "the link stands, but the hub does not answer within {} s",
                LAPTOP_BEAT_ANSWER.as_secs()
            ),
            "look at the network and any proxy between; a hub older than this laptop does not know the question",
        ),
        (Err(NoEcho::NotConnected), Link::Connecting { hub, reason }) => failed(
            format!("{hub} is not connected ({reason})"),
            "check the network, and that the hub runs; this laptop goes on trying",
        ),
        (Err(NoEcho::NotConnected), _) => Hop::failed(
            at,
            FailureKind::SignedOut,
            "nobody is signed in to a hub",
            "sign in: fairlead login https://YOUR-HUB",
        ),
    }
}

/// Waits for a carrier as long as a new connection does.
async fn best(route: Option<Route>) -> Option<Opener> {
    let mut openers_rx = route?.openers;
    timeout(LAPTOP_QUEUE, tunnel::best(&mut openers_rx)).await.ok().flatten()
}

fn why_no_carrier(keeper: &Keeper, route: &Route) -> Option<String> {
    if !keeper.link.is_connected() {
        return Some(NoOffer::NotConnected.to_string());
    }
    keeper.sessions().live(route.session)?.detail.clone()
}

async fn agent(carrier: Option<CarrierHandle>, why: Option<String>) -> Hop {
    let at = Place::Agent;
    let failed = |message| {
        let advice = "this laptop goes on trying; if it stays so, ask who operates the cluster whether \
                      Fairlead's agent runs and is connected to the hub";
        Hop::failed(at, FailureKind::Unproven, message, advice)
    };
    let Some(carrier) = carrier else {
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        return failed(format!("there is no carrier to the cluster's agent{why}"));
    };
    let way = carrier.path().map(|path| format!(" ({path})")).unwrap_or_default();
    match carrier.beat(LAPTOP_BEAT_ANSWER).await {
        Ok(took) => Hop::passed(
            at,
            Some(took),
            format!("the cluster's agent answers over the carrier{way}"),
        ),
        Err(_) => failed(format!(
            "the carrier stands, but the cluster's agent does not answer within {} s{way}",
            LAPTOP_BEAT_ANSWER.as_secs()
        )),
    }
}

/// Has the agent connect to the Service, and hears in what time.
async fn service(carrier: Option<Opener>, route: Option<Route>) -> Hop {
    let at = Place::Service;
    let Some(Route { session, callee, port, .. }) = route else {
        return Hop::not_tried(at, "you do not consume it, so the agent connects to it for nobody");
    };
    let Some(carrier) = carrier else {
        return Hop::not_tried(at, "only the agent connects to it");
    };
    let wish = OpenRequest { session, callee: callee.clone(), port, probe: true };
    match carrier.open(&wish).await {
        Ok(stream) => {
            let took = stream.connected_in();
            let message = match port.protocol {
                Protocol::Tcp => format!("the agent has connected to {callee}:{port}"),
                Protocol::Udp => format!(
                    "the agent sends to {callee}:{port}, which has ready pods; UDP itself never says that one listens"
                ),
            };
            Hop::passed(at, took, message)
        }
        Err(error) => {
            let (kind, advice) = remedy(&error, &callee, port.port);
            Hop::failed(at, kind, probe::in_words(&callee, &error), advice)
        }
    }
}

/// Returns what kind of failure it is that the agent opened no stream, and what to do about it.
fn remedy(error: &OpenFailed, callee: &Callee, port: Port) -> (FailureKind, String) {
    let OpenFailed::Refused(refused) = error else {
        return (
            FailureKind::Unproven,
            "try again: a carrier that is lost is made anew by itself".to_owned(),
        );
    };
    let Callee::InCluster { service, .. } = callee else {
        return remedy_outside(refused.refusal, callee, port);
    };
    let namespace = &service.namespace;
    match refused.refusal {
        Refusal::NotAllowed => (
            FailureKind::Denied,
            format!("ask the hub which policy decides: fairlead consume {service}"),
        ),
        Refusal::NotFound => {
            (FailureKind::NotFound, format!("see what there is: fairlead services {namespace}"))
        }
        Refusal::Unreachable => (
            FailureKind::Unproven,
            format!(
                "see whether it has ready pods: fairlead services {namespace}; if it has, ask its owner"
            ),
        ),
        Refusal::Unavailable => (FailureKind::Unproven, "try again in a moment".to_owned()),
    }
}

fn remedy_outside(refusal: Refusal, host: &Callee, port: Port) -> (FailureKind, String) {
    match refusal {
        // What the policies say is asked before there is a way at all; the agent looks at the addresses.
        Refusal::NotAllowed => (
            FailureKind::Denied,
            format!(
                "its addresses decide, whatever the policies permit: consume what is the cluster's own by its service; \
                 of anything else ask whoever runs the DNS of {host}"
            ),
        ),
        Refusal::NotFound | Refusal::Unreachable => (
            FailureKind::Unproven,
            format!(
                "ask who operates the cluster whether its pods resolve {host} and reach port {port} of it"
            ),
        ),
        Refusal::Unavailable => (FailureKind::Unproven, "try again in a moment".to_owned()),
    }
}

/// Says who answers while this laptop has the service.
async fn laptop(wish: &Wish, own: &Own) -> Hop {
    let (at, service, asked) = (Place::Laptop, &wish.callee, wish.port);
    let Some(port) = own.laptop_port else {
        return Hop::not_tried(
            at,
            format!("you intercept other ports of {service}; the pods answer at {asked}"),
        );
    };
    let begun = Instant::now();
    let took: Duration = match intercept::connect(port).await {
        Ok(_) => begun.elapsed(),
        Err(why) => {
            let message = format!("you intercept {service}:{asked}, but {why}, so the pods answer");
            return Hop::failed(
                at,
                FailureKind::Unproven,
                message,
                "start your program on that port",
            );
        }
    };
    if own.phase == Phase::Active {
        let message = format!(
            "you intercept {service}:{asked}: the answer comes from this laptop, localhost:{port}"
        );
        return Hop::passed(at, Some(took), message);
    }
    let why = own.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    let message = format!("the pods answer: your intercept of {service} is {}{why}", own.phase);
    Hop::failed(at, FailureKind::Unproven, message, "see what it waits for: fairlead status --wait")
}

#[cfg(test)]
mod tests {
    use fairlead_model::{ServiceRef, TeamspaceId};
    use laptop_ipc::trace::Outcome;

    use super::*;
    use crate::stage::{self, Agent, CONNECTED_IN};

    fn wish(teamspace: TeamspaceId, service: &str) -> Wish {
        let callee = service.parse::<ServiceRef>().expect("valid").into();
        Wish { teamspace, callee, port: "80".parse().expect("a port") }
    }

    fn outcome_at(hops: &[Hop], at: Place) -> &Outcome {
        &hops.iter().find(|hop| hop.hop == at).expect("on the way").outcome
    }

    fn kind_at(hops: &[Hop], at: Place) -> Option<FailureKind> {
        match outcome_at(hops, at) {
            Outcome::Failed { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    #[tokio::test]
    async fn each_hop_is_tried_whatever_the_others_do() {
        let (_folder, keeper) = stage::keeper();
        let teamspace = TeamspaceId::generate();
        let id = stage::consume(&keeper, teamspace);
        let agent = Agent::which_refuses(Refusal::Unreachable, "it has no pods");
        agent.refuses_only("shop/frontend");
        let openers = vec![agent.opener().await];
        keeper.sessions().live(id).expect("lives").openers.send_replace(openers);

        let hops = follow(&keeper, &wish(teamspace, "shop/cart")).await;
        let places: Vec<_> = hops.iter().map(|hop| hop.hop.as_str()).collect();
        assert_eq!(places, ["redirect", "hub", "agent", "service"]);
        assert_eq!(kind_at(&hops, Place::Hub), Some(FailureKind::SignedOut));
        assert!(matches!(outcome_at(&hops, Place::Agent), Outcome::Passed { took_us: Some(_) }));
        let took_us = u64::try_from(CONNECTED_IN.as_micros()).ok();
        assert_eq!(*outcome_at(&hops, Place::Service), Outcome::Passed { took_us });

        let hops = follow(&keeper, &wish(teamspace, "shop/frontend")).await;
        assert_eq!(kind_at(&hops, Place::Service), Some(FailureKind::Unproven));
        assert!(hops[3].message.contains("it has no pods"), "{}", hops[3].message);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_carrier_the_agent_is_what_fails() {
        let (_folder, keeper) = stage::keeper();
        let teamspace = TeamspaceId::generate();
        stage::consume(&keeper, teamspace);
        let hops = follow(&keeper, &wish(teamspace, "shop/cart")).await;
        assert_eq!(kind_at(&hops, Place::Agent), Some(FailureKind::Unproven));
        assert!(hops[2].message.ends_with("the hub is not connected"), "{}", hops[2].message);
        assert_eq!(*outcome_at(&hops, Place::Service), Outcome::NotTried);
    }

    #[tokio::test]
    async fn what_nobody_consumes_has_no_way() {
        let (_folder, keeper) = stage::keeper();
        let hops = follow(&keeper, &wish(TeamspaceId::generate(), "shop/cart")).await;
        for at in [Place::Redirect, Place::Agent, Place::Service] {
            assert_eq!(*outcome_at(&hops, at), Outcome::NotTried, "{at:?}");
        }
    }

    #[tokio::test]
    async fn of_an_own_intercept_the_way_ends_at_the_developers_port() {
        let (_folder, keeper) = stage::keeper();
        let teamspace = TeamspaceId::generate();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let id = stage::intercept(&keeper, teamspace, port);
        keeper.observe(id, Phase::Active, None);
        let hops = follow(&keeper, &wish(teamspace, "shop/cart")).await;
        assert_eq!(*outcome_at(&hops, Place::Redirect), Outcome::NotTried);
        assert!(hops[4].has_passed() && hops[4].message.contains(&port.to_string()), "{hops:?}");

        drop(listener);
        let hops = follow(&keeper, &wish(teamspace, "shop/cart")).await;
        assert_eq!(kind_at(&hops, Place::Laptop), Some(FailureKind::Unproven));
        assert!(hops[4].message.contains("so the pods answer"), "{}", hops[4].message);
    }
}
