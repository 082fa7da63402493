//! The link to the hub: challenge, heartbeat, and back again when it is lost, or when this laptop may be elsewhere.
//!
//! One task. It says what it hears to the keeper over a bounded queue and takes what the keeper says; nothing said
//! on a lost link is remembered, since both sides converge again after the next welcome.

use std::{sync::Arc, time::Duration};

use fairlead_model::timers::{LAPTOP_MOVED_ANSWER, LINK_DEAD, LINK_HEARTBEAT};
use fairlead_tunnel::{
    Backoff,
    connect::{
        Connector, HubError, HubTrust, LinkWay, NotBegun, TrustError, is_decision, is_unknown,
    },
};
use fairlead_wire::{
    challenge,
    link::v1::{
        Echo, Heartbeat, Hello, LaptopDown, LaptopUp, LaptopWelcome, laptop_down::Message as Down,
        laptop_links_client::LaptopLinksClient, laptop_up::Message as Up,
    },
};
use laptop_account::{Account, AccountError, Accounts, Device, Hub};
use laptop_ipc::daemon::Link;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, interval, sleep, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use tracing::{info, warn};

use crate::moves::Moves;

/// Small messages; one that does not fit means that the other side is stuck.
const QUEUE: usize = 256;
const WELCOME_MAX: Duration = Duration::from_secs(10);

/// What the keeper hears.
#[derive(Debug)]
pub(crate) enum Said {
    Welcome(LaptopWelcome),
    Message(Down),
    /// Nothing of this laptop lives at its hub any more, and why.
    NothingLives(String),
}

/// A hold on the link.
#[derive(Debug, Clone)]
pub(crate) struct LinkHandle {
    state_rx: watch::Receiver<Link>,
    up_rx: watch::Receiver<Option<mpsc::Sender<LaptopUp>>>,
    account_changed: Arc<Notify>,
}

impl LinkHandle {
    pub(crate) fn state(&self) -> Link {
        self.state_rx.borrow().clone()
    }

    /// Returns what changes with the state.
    pub(crate) fn changes(&self) -> watch::Receiver<Link> {
        self.state_rx.clone()
    }

    /// Says something to the hub; `false` when nobody is there to hear it.
    pub(crate) fn say(&self, message: Up) -> bool {
        let up_tx = self.up_rx.borrow().clone();
        up_tx.is_some_and(|up_tx| up_tx.try_send(LaptopUp { message: Some(message) }).is_ok())
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.up_rx.borrow().is_some()
    }

    /// Waits until the hub has welcomed us.
    pub(crate) async fn connected(&self) {
        let mut up_rx = self.up_rx.clone();
        // The link's task lives as long as the daemon.
        drop(up_rx.wait_for(Option::is_some).await);
    }

    /// Waits until the link is lost that stands now.
    pub(crate) async fn lost(&self) {
        let mut up_rx = self.up_rx.clone();
        if up_rx.borrow_and_update().is_some() {
            // The link's task lives as long as the daemon.
            drop(up_rx.changed().await);
        }
    }

    /// Begins anew, with whoever is signed in now.
    pub(crate) fn account_changed(&self) {
        self.account_changed.notify_one();
    }
}

/// Starts the task.
pub(crate) fn begin(accounts: Accounts, moves: Moves) -> (LinkHandle, mpsc::Receiver<Said>) {
    let (said_tx, said_rx) = mpsc::channel(QUEUE);
    let (state_tx, state_rx) = watch::channel(Link::SignedOut);
    let (up_tx, up_rx) = watch::channel(None);
    let account_changed = Arc::new(Notify::new());
    let task = LinkTask {
        accounts,
        said_tx,
        state_tx,
        up_tx,
        account_changed: Arc::clone(&account_changed),
        backoff: Backoff::default(),
        way: LinkWay::default(),
    };
    tokio::spawn(task.run(moves));
    (LinkHandle { state_rx, up_rx, account_changed }, said_rx)
}

struct LinkTask {
    accounts: Accounts,
    said_tx: mpsc::Sender<Said>,
    state_tx: watch::Sender<Link>,
    up_tx: watch::Sender<Option<mpsc::Sender<LaptopUp>>>,
    account_changed: Arc<Notify>,
    backoff: Backoff,
    way: LinkWay,
}

#[derive(Debug, thiserror::Error)]
enum LinkLost {
    #[error("{0}")]
    Account(#[from] AccountError),
    #[error("{}", with_causes(_0))]
    Trust(#[from] TrustError),
    #[error("{}", with_causes(_0))]
    Dial(#[from] HubError),
    #[error("{0}")]
    HeldBack(NotBegun),
    #[error("the hub refused the link: {}", _0.message())]
    Refused(tonic::Status),
    #[error(
        "the hub ({theirs}) does not know this laptop's kind of link (fairlead {}): update whichever is older; if that is \
         neither, whatever is between them has to let gRPC pass",
        env!("CARGO_PKG_VERSION")
    )]
    OtherVersion { theirs: String },
    #[error("the hub refused the link: {0}")]
    Strange(&'static str),
    #[error("the hub ended the link: {0}")]
    Ended(String),
    #[error("the hub was silent for {} s", LINK_DEAD.as_secs())]
    Silent,
    #[error("this laptop slept or has other addresses, and the hub does not answer any more")]
    Moved,
}

impl LinkLost {
    /// Says whether the hub has answered that it knows neither this laptop nor its sign-in.
    fn means_that_nothing_lives(&self) -> bool {
        match self {
            Self::Refused(status) => is_unknown(status.code()),
            Self::Account(error) => matches!(error, AccountError::SignInEnded { .. }),
            _ => false,
        }
    }

    /// Says whether the hub was not there, as while it restarts. What it decided, it would decide again.
    fn is_absence(&self) -> bool {
        match self {
            Self::Account(_) | Self::Trust(_) | Self::Strange(_) | Self::OtherVersion { .. } => {
                false
            }
            Self::Dial(error) => error.is_absence(),
            Self::Refused(status) => !is_decision(status.code()),
            Self::HeldBack(_) | Self::Ended(_) | Self::Silent | Self::Moved => true,
        }
    }
}

impl LinkTask {
    async fn run(mut self, mut moves: Moves) {
        let mut was_signed_in = false;
        loop {
            let Ok(account) = self.accounts.current() else {
                self.state_tx.send_replace(Link::SignedOut);
                // A command may have heard first that the sign-in has ended.
                if std::mem::take(&mut was_signed_in) {
                    self.say(Said::NothingLives("nobody is signed in any more".to_owned())).await;
                }
                self.account_changed.notified().await;
                continue;
            };
            was_signed_in = true;
            let hub = account.hub().to_string();
            self.state_tx.send_if_modified(|state| become_connecting(state, &hub));
            let changed = Arc::clone(&self.account_changed);
            let lost = tokio::select! {
                lost = self.hold(account, &mut moves) => lost,
                () = changed.notified() => {
                    self.up_tx.send_replace(None);
                    self.backoff = Backoff::default();
                    self.way = LinkWay::default();
                    continue;
                }
            };
            self.up_tx.send_replace(None);
            let connecting = Link::Connecting { hub, reason: lost.to_string() };
            // While a hub restarts, every look would say the same.
            if self.state_tx.send_replace(connecting.clone()) != connecting {
                warn!("Link lost: {lost}");
            }
            if lost.means_that_nothing_lives() {
                self.say(Said::NothingLives(lost.to_string())).await;
            }
            if matches!(lost, LinkLost::Moved) {
                self.backoff.reset();
                continue;
            }
            let wait = match lost.is_absence() {
                true => self.backoff.next_look(),
                false => self.backoff.next_delay(),
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = moves.next() => self.backoff.reset(),
                () = self.account_changed.notified() => self.backoff = Backoff::default(),
            }
        }
    }

    /// Connects and stays connected for as long as the hub does; returns why it ended.
    async fn hold(&mut self, account: Account, moves: &mut Moves) -> LinkLost {
        let connected = tokio::select! {
            connected = self.connect(account) => connected,
            // What was begun elsewhere leads nowhere here.
            () = moves.next() => Err(LinkLost::Moved),
        };
        match connected {
            Ok((down, up_tx)) => self.follow(down, up_tx, moves).await,
            Err(lost) => lost,
        }
    }

    async fn connect(
        &mut self,
        account: Account,
    ) -> Result<(Streaming<LaptopDown>, mpsc::Sender<LaptopUp>), LinkLost> {
        let address = account.hub().to_string();
        let trust = HubTrust::new(account.ca_file().as_deref())?;
        let connector = Connector::new(account.proxies()?, trust);
        let hub = Hub::new(account)?;
        let device = hub.device().await?;
        let channel = self.way.dial(&address, &connector).await?;
        let (up_tx, up_rx) = mpsc::channel(QUEUE);
        let welcomed = async {
            let mut links = LaptopLinksClient::new(channel.channel());
            let begun = async {
                let mut down = links.open(ReceiverStream::new(up_rx)).await?.into_inner();
                next(&mut down).await.map(|first| (down, first))
            };
            let begun = self.way.first_word(begun).await;
            let (mut down, first) = begun.map_err(|error| match error {
                NotBegun::Refused(status) => LinkLost::Refused(status),
                silence @ NotBegun::HeldBack(_) => LinkLost::HeldBack(silence),
            })?;
            let Some(Down::Challenge(challenge)) = first else {
                return Err(LinkLost::Strange("it does not begin with a challenge"));
            };
            let hello = hello(&device, &challenge.nonce, channel.host());
            // The queue is new and empty.
            drop(up_tx.try_send(LaptopUp { message: Some(Up::Hello(hello)) }));
            match next(&mut down).await.map_err(LinkLost::Refused)? {
                Some(Down::Welcome(welcome)) => Ok((down, welcome)),
                _ => Err(LinkLost::Strange("it does not welcome us")),
            }
        };
        let (down, welcome) = match timeout(WELCOME_MAX, welcomed).await {
            Err(_) => {
                self.way.was_not_understood();
                return Err(LinkLost::Silent);
            }
            Ok(Err(LinkLost::Refused(status))) => return Err(refused(status, &hub).await),
            Ok(welcomed) => welcomed?,
        };
        info!(replica = welcome.hub_replica, "Link to {address} is up, over {}", self.way.name());
        let replica = welcome.hub_replica.clone();
        let is_in_websocket = self.way.is_in_websocket();
        self.state_tx.send_replace(Link::Connected { hub: address, replica, is_in_websocket });
        self.say(Said::Welcome(welcome)).await;
        self.up_tx.send_replace(Some(up_tx.clone()));
        self.backoff = Backoff::default();
        Ok((down, up_tx))
    }

    /// Tells the keeper, who listens for as long as the daemon lives.
    async fn say(&self, said: Said) {
        drop(self.said_tx.send(said).await);
    }

    async fn follow(
        &self,
        mut down: Streaming<LaptopDown>,
        up_tx: mpsc::Sender<LaptopUp>,
        moves: &mut Moves,
    ) -> LinkLost {
        let mut beat = interval(LINK_HEARTBEAT);
        let mut patience = Patience::begin();
        loop {
            tokio::select! {
                () = moves.next() => {
                    // Whatever the hub says next counts; this has it say something at once.
                    let echo = LaptopUp { message: Some(Up::Echo(Echo { number: 0 })) };
                    if up_tx.try_send(echo).is_err() {
                        return LinkLost::Moved;
                    }
                    patience.becomes_short();
                }
                _ = beat.tick() => {
                    let beat = LaptopUp { message: Some(Up::Heartbeat(Heartbeat {})) };
                    if up_tx.try_send(beat).is_err() {
                        return LinkLost::Ended("it does not read".to_owned());
                    }
                }
                said = timeout_at(patience.ends, next(&mut down)) => match said {
                    Err(_) if patience.is_short => return LinkLost::Moved,
                    Err(_) => return LinkLost::Silent,
                    Ok(Err(status)) => return LinkLost::Ended(status.message().to_owned()),
                    Ok(Ok(None)) => return LinkLost::Ended("it closed the connection".to_owned()),
                    Ok(Ok(Some(message))) => {
                        patience = Patience::begin();
                        if !matches!(message, Down::Heartbeat(_)) {
                            self.say(Said::Message(message)).await;
                        }
                    }
                },
            }
        }
    }
}

/// Asks a hub that does not know what it was asked for which one it is.
async fn refused(status: tonic::Status, hub: &Hub) -> LinkLost {
    if status.code() != Code::Unimplemented {
        return LinkLost::Refused(status);
    }
    match hub.greets().await {
        Ok(greeting) => LinkLost::OtherVersion { theirs: greeting.version },
        Err(error) => LinkLost::Account(error),
    }
}

/// Until when the hub must have said something.
struct Patience {
    ends: Instant,
    is_short: bool,
}

impl Patience {
    fn begin() -> Self {
        Self { ends: Instant::now() + LINK_DEAD, is_short: false }
    }

    /// Of a laptop that moved, the hub may not hear anything any more. To begin anew for nothing costs little.
    fn becomes_short(&mut self) {
        let ends = self.ends.min(Instant::now() + LAPTOP_MOVED_ANSWER);
        *self = Self { ends, is_short: true };
    }
}

/// Keeps the reason of the last failure while trying again.
fn become_connecting(state: &mut Link, hub: &str) -> bool {
    if matches!(state, Link::Connecting { hub: known, .. } if known == hub) {
        return false;
    }
    *state = Link::Connecting { hub: hub.to_owned(), reason: "first attempt".to_owned() };
    true
}

async fn next(down: &mut Streaming<LaptopDown>) -> Result<Option<Down>, tonic::Status> {
    while let Some(said) = down.message().await? {
        // A message that this version does not know.
        let Some(message) = said.message else { continue };
        return Ok(Some(message));
    }
    Ok(None)
}

fn hello(device: &Device, nonce: &[u8], hub_host: &str) -> Hello {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    Hello {
        certificate_chain: vec![device.certificate.to_vec()],
        signature: challenge::sign(&device.key, nonce, hub_host).to_vec(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name: name.unwrap_or_default(),
        time_s: now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX)),
    }
}

/// Says an error with what caused it.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
impl LinkHandle {
    /// Returns one that stands until the sender says otherwise, and what is said on it.
    pub(crate) fn standing()
    -> (Self, watch::Sender<Option<mpsc::Sender<LaptopUp>>>, mpsc::Receiver<LaptopUp>) {
        let (up_tx, said_rx) = mpsc::channel(QUEUE);
        let (stands_tx, up_rx) = watch::channel(Some(up_tx));
        let state_rx = watch::channel(Link::SignedOut).1;
        (Self { state_rx, up_rx, account_changed: Arc::default() }, stands_tx, said_rx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_that_is_not_there_is_told_from_one_that_refuses() {
        let unreachable = HubError::Unreachable {
            host: "hub.test".to_owned(),
            source: std::io::ErrorKind::ConnectionRefused.into(),
        };
        let starting = tonic::Status::unavailable("the hub cannot reach its database");
        for lost in [LinkLost::from(unreachable), LinkLost::Refused(starting), LinkLost::Silent] {
            assert!(lost.is_absence(), "{lost}");
        }
        let stranger = HubError::NotTrusted { host: "hub.test".to_owned() };
        let ended = tonic::Status::unauthenticated("the sign-in of this device has ended");
        let often = tonic::Status::resource_exhausted("too many calls: try again in 1 s");
        let newer = LinkLost::OtherVersion { theirs: "9.0.0".to_owned() };
        assert!(newer.to_string().contains("9.0.0"), "{newer}");
        let refused = [ended, often].map(LinkLost::Refused);
        for lost in refused.into_iter().chain([LinkLost::from(stranger), newer]) {
            assert!(!lost.is_absence(), "{lost}");
        }
    }

    #[test]
    fn only_a_hub_that_does_not_know_this_laptop_says_that_nothing_lives() {
        let hub = "https://hub.test".parse().expect("valid");
        let unknown = tonic::Status::not_found("the hub does not know this device");
        for lost in [LinkLost::Refused(unknown), AccountError::SignInEnded { hub }.into()] {
            assert!(lost.means_that_nothing_lives() && !lost.is_absence(), "{lost}");
        }
        let clock = tonic::Status::unauthenticated("the clock of the laptop is 3600 s behind");
        let starting = tonic::Status::unavailable("the hub cannot reach its database");
        for lost in [LinkLost::Refused(clock), LinkLost::Refused(starting), LinkLost::Silent] {
            assert!(!lost.means_that_nothing_lives(), "{lost}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_must_say_something_soon_after_a_move_and_no_later_than_before() {
        let mut patience = Patience::begin();
        let begun = Instant::now();
        patience.becomes_short();
        assert!(patience.is_short && patience.ends == begun + LAPTOP_MOVED_ANSWER);

        let mut patience = Patience::begin();
        tokio::time::advance(LINK_DEAD).await;
        patience.becomes_short();
        assert_eq!(patience.ends, Instant::now(), "it was silent for long already");
    }
}
