//! Looks of a whole replica that holds the Lease, without a cluster: what it decides when others change things.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use fairlead_model::{InterceptPort, Phase, Port, SessionId, Thumbprint};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Intercepts, Wires,
    hold::{HoldSeen, Sight},
    holds::Holds,
};
use crate::{
    apply::fake::FakeCluster,
    config::Run,
    made_up,
    names::{MANAGED_BY_US, SENTINEL},
    peers::{PeerState, PeersSeen, Replica},
    report::Observed,
    seen::SliceSeen,
    wanted::{Wanted, WantedIntercept},
    watch::Inventory,
};

const FOREIGN: &str = "ffffffffffff.00000000000000000000000000000001";

/// A replica that writes, another one that has the laptop, and `shop/cart`, which a session wants.
struct World {
    intercepts: Intercepts,
    session: SessionId,
    inventory: watch::Sender<Inventory>,
    peers: watch::Sender<PeersSeen>,
    linked: watch::Sender<bool>,
    observed: watch::Receiver<Observed>,
    state: watch::Receiver<PeerState>,
    wanted: watch::Sender<Option<Arc<Wanted>>>,
}

fn world() -> World {
    let (session, run) = (SessionId::generate(), Arc::new(Run::any()));
    let port = |number| Port::new(number).expect("a port");
    let intercept = WantedIntercept {
        device: Thumbprint::from_bytes([7; 32]),
        email: "ada@example.test".to_owned(),
        service: "shop/cart".parse().expect("valid"),
        ports: vec![InterceptPort { service_port: port(80), laptop_port: port(3000) }],
        grace: Duration::from_secs(15),
    };
    let wanted = Wanted { intercepts: [(session, intercept)].into(), ..Wanted::default() };
    let (wanted_tx, wanted_rx) = watch::channel(Some(Arc::new(wanted)));
    let (inventory_tx, inventory_rx) = watch::channel(Inventory::of(Vec::new(), Vec::new()));
    let (peers_tx, peers_rx) = watch::channel(PeersSeen::default());
    let (linked_tx, linked_rx) = watch::channel(true);
    let (state_tx, state_rx) = watch::channel(PeerState::default());
    let (observed_tx, observed_rx) = watch::channel(Observed::new());
    let wires = Wires {
        inventory: inventory_rx,
        wanted: wanted_rx,
        peers: peers_rx,
        holds: Holds::default(),
        state: state_tx,
        observed: observed_tx,
        originals: watch::Sender::default(),
        linked: linked_rx,
        stopping: CancellationToken::new(),
    };
    let client = FakeCluster::default().client();
    let world = World {
        intercepts: Intercepts::new(client, run, wires, watch::Sender::default()),
        session,
        inventory: inventory_tx,
        peers: peers_tx,
        linked: linked_tx,
        observed: observed_rx,
        state: state_rx,
        wanted: wanted_tx,
    };
    world.peer_says(|_| {});
    world
}

impl World {
    /// Sets what the other replica says: by default that the laptop is there, and the path proven.
    fn peer_says(&self, change: impl FnOnce(&mut PeerState)) {
        let (sight, proven) = (Sight::Live, BTreeSet::from([80]));
        let holds = vec![(self.session, HoldSeen { sight, proven, refusal: None })];
        let mut state = PeerState { holds, linked: true, ..PeerState::default() };
        change(&mut state);
        let endpoint = made_up::replica(2);
        let alive = BTreeMap::from([("agent-2".to_owned(), Replica { endpoint, state })]);
        self.peers.send_replace(PeersSeen { is_writer: true, writer: None, alive });
    }

    /// Sets the Service as `change` leaves it, with our slice or without.
    fn cart_is(&self, with_slice: bool, change: impl FnOnce(&mut Value)) {
        let mut service = json!({
            "metadata": {"namespace": "shop", "name": "cart", "uid": "u1"},
            "spec": {
                "clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"],
                "selector": {"app": "cart", SENTINEL: self.sentinel()},
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            },
        });
        change(&mut service);
        let service = made_up::seen(service);
        let slices = with_slice.then(|| self.slice()).into_iter().collect();
        self.inventory.send_replace(Inventory::of(vec![service], slices));
    }

    fn slice(&self) -> SliceSeen {
        let owner = self.intercepts.owner.as_str();
        made_up::slice_seen(made_up::slice(MANAGED_BY_US, owner, &[]), owner)
    }

    fn sentinel(&self) -> String {
        self.intercepts.owner.sentinel(self.session).to_string()
    }

    /// Has the replica look, and returns what it then says about the session.
    fn sees(&mut self) -> (Phase, String) {
        self.intercepts.look();
        self.observed.borrow().get(&self.session).cloned().expect("it is spoken of")
    }
}

#[tokio::test]
async fn a_port_that_cannot_be_served_ends_an_intercept_that_stands() {
    let mut world = world();
    world.cart_is(true, |_| {});
    assert_eq!(world.sees().0, Phase::Active);
    world.cart_is(true, |cart| {
        let ports = cart["spec"]["ports"].as_array_mut().expect("ports");
        ports.push(json!({"name": "dns", "port": 53, "protocol": "UDP"}));
    });
    let (phase, detail) = world.sees();
    assert!(detail.contains("UDP"), "{phase:?}: {detail}");
    assert_eq!(world.state.borrow().ended, [world.session]);
}

#[tokio::test]
async fn a_wanted_port_that_is_taken_away_ends_an_intercept_that_stands() {
    let mut world = world();
    world.cart_is(true, |_| {});
    world.sees();
    world.cart_is(true, |cart| cart["spec"]["ports"][0]["port"] = 81.into());
    assert!(world.sees().1.contains("has no port 80"));
}

#[tokio::test]
async fn a_foreign_key_during_an_intercept_is_contested_and_then_the_end() {
    let mut world = world();
    world.cart_is(true, |_| {});
    assert_eq!(world.sees().0, Phase::Active);
    let taken = |cart: &mut Value| cart["spec"]["selector"][SENTINEL] = FOREIGN.into();
    world.cart_is(true, taken);
    let (phase, detail) = world.sees();
    assert_eq!(phase, Phase::Contested, "{detail}");
    assert!(detail.contains(FOREIGN), "{detail}");
    world.cart_is(false, taken);
    assert_eq!(world.sees(), (Phase::Ended, detail));
}

#[tokio::test]
async fn a_foreign_key_that_was_there_before_is_a_refusal() {
    let mut world = world();
    world.cart_is(false, |cart| cart["spec"]["selector"][SENTINEL] = FOREIGN.into());
    assert_eq!(world.sees().0, Phase::Refused);
}

#[tokio::test]
async fn a_replica_without_the_hub_ends_nothing_for_one_that_has_it() {
    let mut world = world();
    world.cart_is(true, |_| {});
    let session = world.session;
    let forgot = |linked| {
        move |state: &mut PeerState| {
            state.ended = vec![session];
            state.linked = linked;
        }
    };
    world.peer_says(forgot(false));
    assert_eq!(world.sees().0, Phase::Active);
    world.peer_says(forgot(true));
    assert_ne!(world.sees().0, Phase::Active);
}

#[tokio::test]
async fn replicas_without_the_hub_believe_each_other() {
    let mut world = world();
    world.cart_is(true, |_| {});
    world.linked.send_replace(false);
    let session = world.session;
    world.peer_says(|state| {
        state.ended = vec![session];
        state.linked = false;
    });
    assert_ne!(world.sees().0, Phase::Active);
}

#[tokio::test]
async fn a_laptop_is_not_missed_while_no_replica_hears_the_hub() {
    const GRACE: Duration = Duration::from_millis(1);
    let mut world = world();
    let mut wanted = Wanted::clone(world.wanted.borrow().as_ref().expect("wanted"));
    wanted.intercepts.values_mut().for_each(|intercept| intercept.grace = GRACE);
    world.wanted.send_replace(Some(Arc::new(wanted)));
    world.cart_is(true, |_| {});
    assert_eq!(world.sees().0, Phase::Active);
    let session = world.session;
    let away = |linked| {
        move |state: &mut PeerState| {
            let seen = HoldSeen { sight: Sight::Away, proven: BTreeSet::new(), refusal: None };
            state.holds = vec![(session, seen)];
            state.linked = linked;
        }
    };
    world.linked.send_replace(false);
    world.peer_says(away(false));
    let since = Instant::now();
    while since.elapsed() < 5 * GRACE {
        assert_eq!(world.sees().0, Phase::Away);
        assert_eq!(world.state.borrow().ended, []);
    }
    world.peer_says(away(true));
    let since = Instant::now();
    while world.state.borrow().ended != [session] {
        assert!(since.elapsed() < Duration::from_secs(10), "one replica hears the hub again");
        world.intercepts.look();
    }
}

#[tokio::test]
async fn a_port_at_which_another_replica_still_listens_is_not_assigned() {
    let free = |cart: &mut Value| cart["spec"]["selector"] = json!({"app": "cart"});
    let mut world_before = world();
    world_before.cart_is(false, free);
    world_before.sees();
    let port = world_before.state.borrow().assignments[0].ports[0].listen;

    let mut world = world();
    world.cart_is(false, free);
    let other = "shop/payment".parse().expect("valid");
    world.peer_says(|state| state.listening = vec![(other, BTreeSet::from([port]))]);
    world.sees();
    assert_ne!(world.state.borrow().assignments[0].ports[0].listen, port);
}

#[tokio::test]
async fn what_keeps_a_change_from_being_made_is_told() {
    let mut world = world();
    world.cart_is(false, |cart| cart["spec"]["selector"] = json!({"app": "cart"}));
    let session = world.session;
    world.peer_says(|state| {
        state.holds = vec![(
            session,
            HoldSeen { sight: Sight::Live, proven: BTreeSet::new(), refusal: None },
        )];
    });
    assert_eq!(world.sees(), (Phase::Preparing, String::new()));
    let case = world.intercepts.cases.values_mut().next().expect("it is worked on");
    case.failed("the API is away".to_owned(), Instant::now());
    let (phase, detail) = world.sees();
    assert_eq!(phase, Phase::Preparing);
    assert!(detail.contains("the API is away"), "{detail}");
}

#[tokio::test]
async fn a_replica_that_has_let_go_writes_nothing_more() {
    let mut world = world();
    world.cart_is(false, |_| {});
    world.sees();
    assert!(!world.intercepts.cases.is_empty(), "it is the writer");
    world.intercepts.has_let_go = true;
    world.intercepts.look();
    assert!(world.intercepts.cases.is_empty(), "somebody else is");
    assert!(world.observed.borrow().is_empty());
}

#[tokio::test]
async fn a_replica_says_that_it_listens_once_it_knows_the_pods() {
    let mut world = world();
    world.cart_is(true, |_| {});
    world.sees();
    assert_eq!(world.state.borrow().listening, [], "nobody has listed them yet");
    world.intercepts.doors.changed().await;
    world.sees();
    assert_eq!(world.state.borrow().listening.len(), 1);
}
