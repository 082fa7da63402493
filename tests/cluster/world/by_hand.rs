//! A laptop that is driven by hand: it signs in with a key of its own as any laptop does, holds a link and asks for
//! carriers. What it then does with them, no daemon ever would.
//!
//! Its deeds run on a thread that is at home on the laptop host of the lab.

use std::{
    fs,
    path::PathBuf,
    sync::mpsc::channel,
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow, bail, ensure};
use fairlead_lab::Host;
use fairlead_model::{Pattern, Patterns, ProxySettings, ServiceRef, SessionId};
use fairlead_tests::{Browser, HUB_URL, TEAMSPACE, World};
use fairlead_tunnel::{
    HandshakeError, OpenFailed, Opener, PeerExpectation, TlsIdentity,
    connect::{Connector, HubTrust, RelayError, dial_hub, dial_relay},
    connection::Connection,
};
use fairlead_wire::{
    challenge,
    identity::thumbprint_of,
    link::v1::{
        CarrierOffer, CarrierRequest, Hello, LaptopDown, LaptopUp, laptop_down::Message as Down,
        laptop_links_client::LaptopLinksClient, laptop_up::Message as Up,
    },
    open::OpenRequest,
    preface::Side,
    ticket::Ticket,
};
use laptop_account::{Accounts, Device, Hub, LoginAttempt, SessionBegun};
use rustls_pki_types::CertificateDer;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// The hub answers at once, or something is wrong.
const ANSWER_MAX: Duration = Duration::from_secs(15);
const KEY: &str = "device.key";

/// A laptop beside the one that the lab's daemon runs on.
#[derive(Debug)]
pub(crate) struct LaptopByHand<'w> {
    world: &'w World,
    accounts: Accounts,
}

impl<'w> LaptopByHand<'w> {
    /// Returns a laptop whose files lie in a folder `name`, signed in by whoever sits at this browser.
    pub(crate) fn of(
        world: &'w World,
        name: &str,
        browser: &Browser<'_>,
    ) -> anyhow::Result<LaptopByHand<'w>> {
        let accounts = Accounts::new(world.folder().join("laptops").join(name));
        let laptop = Self { world, accounts };
        if laptop.accounts.current().is_err() {
            laptop.signs_in(browser)?;
        }
        Ok(laptop)
    }

    fn signs_in(&self, browser: &Browser<'_>) -> anyhow::Result<()> {
        let (accounts, ca) = (self.accounts.clone(), self.world.hub_ca());
        let (url_tx, url_rx) = channel();
        let signing_in = begin(self.world, async move || {
            let hub = HUB_URL.parse()?;
            let attempt =
                LoginAttempt::begin(&accounts, &hub, Some(&ca), ProxySettings::default()).await?;
            url_tx.send(attempt.url().to_string())?;
            attempt.finish(&accounts).await?;
            Ok(())
        })?;
        let Ok(url) = url_rx.recv() else { return finish(signing_in) };
        let page = browser.open(&url)?;
        ensure!(page.status == 200, "the sign-in ended with {}: {}", page.status, page.body);
        finish(signing_in)
    }

    /// Has the device key of another laptop in place of one of its own. Must come before the sign-in.
    pub(crate) fn with_the_key_of(world: &World, name: &str, other: &Self) -> anyhow::Result<()> {
        let folder = |accounts: PathBuf| accounts.join("hubs/hub.fairlead.test_8443");
        let own = folder(world.folder().join("laptops").join(name));
        fs::create_dir_all(&own)?;
        fs::copy(folder(other.accounts.folder().to_owned()).join(KEY), own.join(KEY))?;
        Ok(())
    }

    /// Returns the device's certificate, by which other things than its own key can be shown.
    pub(crate) fn device(&self) -> anyhow::Result<Device> {
        let accounts = self.accounts();
        let device = async move || Ok(Hub::new(accounts.current()?)?.device().await?);
        on_the_laptop(self.world, device)
    }

    /// Returns the folder of its accounts: for `fairlead --config-dir`, and for a story in which two laptops meet.
    pub(crate) fn accounts(&self) -> Accounts {
        self.accounts.clone()
    }

    /// Connects to the hub, does what the story wants, ends what it began, and hangs up.
    pub(crate) fn does<T, D>(&self, deeds: D) -> anyhow::Result<T>
    where
        T: Send + 'static,
        D: AsyncFnOnce(&mut Linked) -> anyhow::Result<T> + Send + 'static,
    {
        let accounts = self.accounts.clone();
        on_the_laptop(self.world, async move || {
            let mut linked = Linked::open(&accounts).await?;
            let done = deeds(&mut linked).await;
            let ended = linked.hangs_up().await;
            let done = done?;
            ended.map(|()| done)
        })
    }
}

/// A laptop whose link the hub has welcomed.
pub(crate) struct Linked {
    pub(crate) hub: Hub,
    pub(crate) device: Device,
    up_tx: mpsc::Sender<LaptopUp>,
    down: Streaming<LaptopDown>,
    requests: u64,
    sessions: Vec<SessionId>,
}

impl Linked {
    pub(crate) async fn open(accounts: &Accounts) -> anyhow::Result<Self> {
        Self::open_with_clock(accounts, 0).await
    }

    /// Says hello as a laptop would whose clock is off by so many seconds.
    pub(crate) async fn open_with_clock(accounts: &Accounts, ahead_s: i64) -> anyhow::Result<Self> {
        let hub = Hub::new(accounts.current()?)?;
        let device = hub.device().await?;
        let trust = HubTrust::new(hub.account().ca_file().as_deref())?;
        let channel = dial_hub(HUB_URL, &Connector::direct(trust)).await?;
        let (up_tx, up_rx) = mpsc::channel(16);
        let mut links = LaptopLinksClient::new(channel.channel());
        let down = links.open(ReceiverStream::new(up_rx)).await?.into_inner();
        let mut linked = Self { hub, device, up_tx, down, requests: 0, sessions: Vec::new() };
        let Down::Challenge(challenge) = linked.hears().await? else { bail!("no challenge") };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let signature = challenge::sign(&linked.device.key, &challenge.nonce, channel.host());
        let hello = Hello {
            certificate_chain: vec![linked.device.certificate.to_vec()],
            signature: signature.to_vec(),
            version: "by hand".to_owned(),
            name: "by hand".to_owned(),
            time_s: i64::try_from(now.as_secs())? + ahead_s,
        };
        linked.says(Up::Hello(hello)).await?;
        let Down::Welcome(_) = linked.hears().await? else { bail!("no welcome") };
        Ok(linked)
    }

    /// Begins a consume of the lab's teamspace.
    pub(crate) async fn consumes(&mut self, patterns: &[&str]) -> anyhow::Result<SessionBegun> {
        let teamspaces = self.hub.teamspaces().await?;
        let lab = teamspaces.iter().find(|teamspace| teamspace.name == TEAMSPACE);
        let lab = lab.context("the lab's teamspace is there")?;
        let patterns: Vec<Pattern> =
            patterns.iter().map(|pattern| pattern.parse()).collect::<Result<_, _>>()?;
        let patterns = Patterns::new(patterns)?;
        let begun = self.hub.begin_consume(lab.id, self.device.id, &patterns).await?;
        self.sessions.push(begun.session.id);
        Ok(begun)
    }

    /// Ends every session that it began.
    pub(crate) async fn hangs_up(self) -> anyhow::Result<()> {
        for session in self.sessions {
            self.hub.end_session(session).await?;
        }
        Ok(())
    }

    /// Asks for a carrier; the inner error is the hub's refusal.
    pub(crate) async fn asks_for_carrier(
        &mut self,
        session: SessionId,
    ) -> anyhow::Result<Result<CarrierOffer, String>> {
        self.requests += 1;
        let (session_id, request_id) = (session.to_string(), self.requests);
        let request = CarrierRequest { session_id, replica: String::new(), request_id };
        self.says(Up::Carrier(request)).await?;
        loop {
            match self.hears().await? {
                Down::Carrier(offer) if offer.request_id == request_id => return Ok(Ok(offer)),
                Down::CarrierRefused(refused) if refused.request_id == request_id => {
                    return Ok(Err(refused.reason));
                }
                _ => {}
            }
        }
    }

    /// Asks for a carrier and brings it up as the daemon does, short of showing a grant.
    pub(crate) async fn carrier(&mut self, session: SessionId) -> anyhow::Result<Opener> {
        let offer = self.offer(session).await?;
        let identity = self.identity()?;
        Ok(self.carrier_as(&offer, &identity).await??)
    }

    pub(crate) async fn offer(&mut self, session: SessionId) -> anyhow::Result<CarrierOffer> {
        self.asks_for_carrier(session).await?.map_err(|reason| anyhow!("no carrier: {reason}"))
    }

    pub(crate) fn identity(&self) -> anyhow::Result<TlsIdentity> {
        Ok(TlsIdentity::new(vec![self.device.certificate.clone()], &self.device.key)?)
    }

    /// Brings up the carrier that was offered, showing this identity inside.
    pub(crate) async fn carrier_as(
        &self,
        offer: &CarrierOffer,
        identity: &TlsIdentity,
    ) -> anyhow::Result<Result<Opener, HandshakeError>> {
        let teamspace = CertificateDer::from(offer.teamspace_certificate.clone());
        let expected = PeerExpectation::replica(teamspace.clone(), &thumbprint_of(&teamspace)?)?;
        let tcp = to_relay(offer, Side::Laptop).await?;
        Ok(handshake(tcp, identity, &expected).await)
    }

    async fn says(&self, message: Up) -> anyhow::Result<()> {
        Ok(self.up_tx.send(LaptopUp { message: Some(message) }).await?)
    }

    async fn hears(&mut self) -> anyhow::Result<Down> {
        let heard = timeout(ANSWER_MAX, self.down.message()).await.context("the hub is silent")?;
        heard?.and_then(|down| down.message).context("the hub ended the link")
    }
}

/// Dials the relay with the ticket of an offer, as one side or the other.
pub(crate) async fn to_relay(offer: &CarrierOffer, side: Side) -> Result<Connection, RelayError> {
    let ticket = Ticket::from_slice(&offer.ticket).expect("the hub's tickets are tickets");
    dial_relay(&offer.relay, &ticket, side, &Connector::default()).await
}

/// Begins a carrier as the end that opens streams.
pub(crate) async fn handshake(
    io: Connection,
    identity: &TlsIdentity,
    expected: &PeerExpectation,
) -> Result<Opener, HandshakeError> {
    let (opener, driver) = Opener::handshake(io, identity, expected).await?;
    tokio::spawn(driver);
    Ok(opener)
}

/// Opens a stream and closes it again; an error is the agent's refusal in its own words.
pub(crate) async fn opens(
    opener: &Opener,
    session: SessionId,
    service: &str,
    port: u16,
) -> anyhow::Result<Result<(), String>> {
    let service: ServiceRef = service.parse()?;
    let port = port.to_string().parse()?;
    let wish = OpenRequest { probe: true, ..OpenRequest::tcp(session, service, port) };
    refused(opener.open(&wish).await.map(drop))
}

/// Shows a grant; an error is the agent's refusal in its own words.
pub(crate) async fn shows(opener: &Opener, grant: &str) -> anyhow::Result<Result<(), String>> {
    refused(opener.present_grant(grant).await)
}

fn refused(outcome: Result<(), OpenFailed>) -> anyhow::Result<Result<(), String>> {
    match outcome {
        Ok(()) => Ok(Ok(())),
        Err(OpenFailed::Refused(refused)) => Ok(Err(refused.reason)),
        Err(lost) => Err(lost.into()),
    }
}

type Working<T> = JoinHandle<anyhow::Result<T>>;

fn begin<T, D>(world: &World, deeds: D) -> anyhow::Result<Working<T>>
where
    T: Send + 'static,
    D: AsyncFnOnce() -> anyhow::Result<T> + Send + 'static,
{
    world.lab().at_home_on(Host::Laptop, || {
        // Once per process; whoever comes second finds it there.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(deeds())
    })
}

/// Does something on the laptop host that needs no sign-in.
pub(crate) fn on_the_laptop<T, D>(world: &World, deeds: D) -> anyhow::Result<T>
where
    T: Send + 'static,
    D: AsyncFnOnce() -> anyhow::Result<T> + Send + 'static,
{
    finish(begin(world, deeds)?)
}

fn finish<T>(working: Working<T>) -> anyhow::Result<T> {
    working.join().map_err(|_| anyhow!("the laptop by hand panicked"))?
}
