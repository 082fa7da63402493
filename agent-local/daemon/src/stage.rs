//! For tests: a keeper without a hub and without a supervisor, and an agent at the other end of a carrier.

pub(crate) mod hub;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use fairlead_model::{DeviceId, OrgId, SessionId, TeamspaceId, UserId};
use fairlead_tunnel::{Acceptor, Incoming, Opener, PeerExpectation, TlsIdentity};
use fairlead_wire::{
    authority::{DeviceRequest, OrganizationAuthority, TeamspaceAuthority},
    identity::DeviceName,
    key::Key,
    open::Refusal,
};
use laptop_account::Accounts;
use laptop_ipc::supervisor::DaemonFolders;
use tokio::sync::{Notify, watch};

use crate::{
    desired::{Desired, Wish},
    footing::Footing,
    intercept,
    keeper::Keeper,
    link,
    listeners::Places,
    moves::Moves,
    session::Origin,
    sessions::tests,
};

/// Returns a keeper that is signed in nowhere.
pub(crate) fn keeper() -> (tempfile::TempDir, Arc<Keeper>) {
    let (folder, keeper, _) = keeper_that_stops();
    (folder, keeper)
}

/// Returns one with what it is told when it shall stop.
pub(crate) fn keeper_that_stops() -> (tempfile::TempDir, Arc<Keeper>, Arc<Notify>) {
    let stopping = Arc::new(Notify::new());
    let (folder, keeper) = keeper_of(Moves::staged().1, Arc::clone(&stopping));
    (folder, keeper, stopping)
}

/// Returns one whose laptop moves when this is changed.
pub(crate) fn keeper_that_moves() -> (tempfile::TempDir, Arc<Keeper>, watch::Sender<u64>) {
    let (moves_tx, moves) = Moves::staged();
    let (folder, keeper) = keeper_of(moves, Arc::default());
    (folder, keeper, moves_tx)
}

fn keeper_of(moves: Moves, stopping: Arc<Notify>) -> (tempfile::TempDir, Arc<Keeper>) {
    let folder = tempfile::tempdir().expect("folder");
    let here = folder.path().to_owned();
    let accounts = Accounts::new(here.clone());
    let folders = DaemonFolders { config: here.clone(), state: here.clone() };
    let (footing, _) = Footing::begin(here.join("no.sock"), folders);
    let (link, _) = link::begin(accounts.clone(), moves.clone());
    let desired = Desired::new(here.join("sessions.json"));
    let places = Places::read(&here.join("addresses.json")).expect("none yet");
    let keeper = Keeper::new(accounts, desired, footing, link, moves, places, stopping);
    (folder, Arc::new(keeper))
}

/// Keeps a consume of `shop/cart` and `shop/frontend`.
pub(crate) fn consume(keeper: &Keeper, teamspace: TeamspaceId) -> SessionId {
    let desired = tests::consume(teamspace).desired;
    let id = desired.id;
    keeper.keep(desired, Origin::Begun);
    id
}

/// Keeps an intercept of `shop/cart:80` by a port of this laptop.
pub(crate) fn intercept(keeper: &Keeper, teamspace: TeamspaceId, laptop_port: u16) -> SessionId {
    let mut desired = tests::intercept(teamspace).desired;
    let Wish::Intercept { ports, .. } = &mut desired.wish else { unreachable!("it is one") };
    *ports = vec![format!("{laptop_port}:80").parse().expect("valid")];
    let id = desired.id;
    keeper.keep(desired, Origin::Begun);
    id
}

/// How long the agent says that its connections to services take.
pub(crate) const CONNECTED_IN: Duration = Duration::from_millis(3);

/// Which service is refused (`None`: each), and how.
type Refusing = Arc<Mutex<(Option<String>, Refusal, &'static str)>>;

/// An agent that refuses streams.
pub(crate) struct Agent {
    refusing: Refusing,
    hanging: watch::Sender<bool>,
    takes_grants: Arc<AtomicBool>,
}

impl Agent {
    pub(crate) fn which_refuses(refusal: Refusal, reason: &'static str) -> Self {
        let refusing = Arc::new(Mutex::new((None, refusal, reason)));
        Self { refusing, hanging: watch::Sender::new(false), takes_grants: Arc::default() }
    }

    /// Takes every grant that it is shown from now on. Until then it refuses each for the moment.
    pub(crate) fn takes_grants(&self) {
        self.takes_grants.store(true, Ordering::SeqCst);
    }

    pub(crate) fn refuses_only(&self, service: &str) {
        self.refusing.lock().expect("unpoisoned").0 = Some(service.to_owned());
    }

    /// Does not hear anything any more, and does not end its carriers either.
    pub(crate) fn hangs(&self) {
        self.hanging.send_replace(true);
    }

    /// Makes a carrier to it.
    pub(crate) async fn opener(&self) -> Opener {
        let now = SystemTime::now();
        let new = || Key::generate().expect("made");
        let teamspace = TeamspaceAuthority::create(new(), now).expect("made");
        let organization =
            OrganizationAuthority::create(OrgId::generate(), new(), now).expect("made");
        let (device, replica) = (new(), new());
        let request = DeviceRequest::make_pem(&device).expect("made");
        let request = DeviceRequest::parse_pem(&request).expect("ours");
        let name = DeviceName {
            organization: OrgId::generate(),
            user: UserId::generate(),
            device: DeviceId::generate(),
        };
        let signed = organization.sign_device(&request, name, now).expect("signed");
        let ours = TlsIdentity::new(vec![signed.certificate], &device).expect("fits");
        let leaf = teamspace.sign_replica(&replica, "agent-0", now).expect("signed");
        let theirs = TlsIdentity::new(vec![leaf], &replica).expect("fits");
        let expects_replica =
            PeerExpectation::replica(teamspace.certificate().clone(), &teamspace.thumbprint());
        let expects_device =
            PeerExpectation::device(organization.certificate().clone(), device.thumbprint());

        let (near, far) = tokio::io::duplex(64 << 10);
        let refusing = Arc::clone(&self.refusing);
        let takes_grants = Arc::clone(&self.takes_grants);
        let mut hanging_rx = self.hanging.subscribe();
        tokio::spawn(async move {
            let accepted = Acceptor::handshake(far, &theirs, &expects_device).await;
            let (mut acceptor, driver) = accepted.expect("the laptop is who it is");
            tokio::spawn(async move {
                let mut driver = std::pin::pin!(driver);
                tokio::select! {
                    _ = &mut driver => return,
                    Ok(_) = hanging_rx.wait_for(|is_hanging| *is_hanging) => {}
                    else => {}
                }
                std::future::pending::<()>().await;
                driver.await;
            });
            while let Some(incoming) = acceptor.next().await {
                match incoming {
                    Incoming::Grant(shown) if takes_grants.load(Ordering::SeqCst) => shown.accept(),
                    incoming => answer(incoming, &refusing),
                }
            }
        });
        let (opener, driver) = Opener::handshake(near, &ours, &expects_replica.expect("fits"))
            .await
            .expect("the agent is who it is");
        tokio::spawn(driver);
        opener
    }
}

fn answer(incoming: Incoming, refusing: &Refusing) {
    let (only, refusal, reason) = refusing.lock().expect("unpoisoned").clone();
    match incoming {
        Incoming::Grant(shown) => shown.refuse_for_now("a clock is wrong"),
        Incoming::Resolve(asked) => asked.refuse(refusal, reason),
        Incoming::Open(offered) => {
            let service = offered.request().callee.to_string();
            if only.is_none_or(|only| only == service) {
                offered.refuse(refusal, reason);
            } else {
                let stream = offered.accept_after(CONNECTED_IN).expect("the laptop waits");
                tokio::spawn(intercept::answer_probe(stream));
            }
        }
    }
}
