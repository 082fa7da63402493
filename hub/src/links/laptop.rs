//! The link of one laptop: it asks for carriers and says what it sees; grants, offers and endings go down.

use fairlead_model::{Phase, SessionId, SessionKind, timers::LINK_DEAD};
use fairlead_wire::{
    challenge,
    link::v1::{
        CarrierRefused, CarrierRequest, Challenge, Heartbeat, LaptopDown, LaptopUp, LaptopWelcome,
        SessionObserved, laptop_down::Message as Down_, laptop_links_server::LaptopLinks,
        laptop_up::Message as Up,
    },
};
use hub_store::{Filter, Session, StoreError};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Down, QUEUE, beat, carriers,
    handshake::{self, HELLO_DEADLINE, LaptopProven},
    registry::Registered,
    words,
};
use crate::{Hub, actions::sessions};

pub(super) struct Laptops {
    hub: Hub,
}

impl Laptops {
    pub(super) const fn new(hub: Hub) -> Self {
        Self { hub }
    }
}

#[tonic::async_trait]
impl LaptopLinks for Laptops {
    type OpenStream = Down<LaptopDown>;

    async fn open(
        &self,
        request: Request<Streaming<LaptopUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (down_tx, down_rx) = mpsc::channel(QUEUE);
        let hub = self.hub.clone();
        self.hub.tasks.spawn(serve(hub, request.into_inner(), down_tx));
        Ok(Response::new(Box::pin(ReceiverStream::new(down_rx))))
    }
}

async fn serve(
    hub: Hub,
    mut up: Streaming<LaptopUp>,
    down_tx: mpsc::Sender<Result<LaptopDown, Status>>,
) {
    let welcome = time::timeout(HELLO_DEADLINE, greet(&hub, &mut up, &down_tx)).await;
    match welcome {
        Ok(Ok(mut link)) => link.run(up).await,
        Ok(Err(status)) => {
            tracing::info!(reason = status.message(), "Laptop link refused");
            tell(&down_tx, Err(status)).await;
        }
        Err(_) => {}
    }
}

async fn tell(down_tx: &mpsc::Sender<Result<LaptopDown, Status>>, message: Result<Down_, Status>) {
    let message = message.map(|message| LaptopDown { message: Some(message) });
    // A peer that has gone hears nothing, and that is all there is to it.
    let _gone = down_tx.send(message).await;
}

async fn greet(
    hub: &Hub,
    up: &mut Streaming<LaptopUp>,
    down_tx: &mpsc::Sender<Result<LaptopDown, Status>>,
) -> Result<LaptopLink, Status> {
    let nonce = challenge::draw_nonce();
    tell(down_tx, Ok(Down_::Challenge(Challenge { nonce: nonce.to_vec() }))).await;
    let Some(LaptopUp { message: Some(Up::Hello(hello)) }) = up.message().await? else {
        return Err(Status::invalid_argument("a link begins with Hello"));
    };
    let proven = handshake::laptop(hub, &hello, &nonce).await?;
    let device = proven.identity.device;
    let sessions = live_sessions(hub, &proven).await?;
    let welcome = LaptopWelcome {
        hub_replica: hub.replica.clone(),
        live_sessions: sessions.iter().map(ToString::to_string).collect(),
    };
    tell(down_tx, Ok(Down_::Welcome(welcome))).await;
    // Registered after the welcome: nothing may overtake it.
    let registered = hub.links.laptop_connected(proven.org, device, down_tx.clone());
    // Whatever ended between the two looks was announced to nobody.
    let still_live = live_sessions(hub, &proven).await?;
    for gone in sessions.iter().filter(|session| !still_live.contains(session)) {
        let revoked = words::revoked(*gone, "it ended while you were connecting");
        hub.links.tell_laptop(device, Down_::Revoked(revoked));
    }
    let heartbeat = LaptopDown { message: Some(Down_::Heartbeat(Heartbeat {})) };
    hub.tasks.spawn(beat::keep(heartbeat, down_tx.clone(), registered.ended.clone()));
    hub.changes.laptop_connected(proven.org, device).await;
    tracing::info!(device = %device, user = %proven.user, "Laptop connected");
    let down_tx = down_tx.clone();
    Ok(LaptopLink { hub: hub.clone(), proven, down_tx, registered, heard_at: Instant::now() })
}

async fn live_sessions(hub: &Hub, proven: &LaptopProven) -> Result<Vec<SessionId>, Status> {
    let device = Some(proven.identity.device);
    let live = Filter { only_live: true, teamspace: None, device };
    let sessions = hub.store.scoped(proven.org).sessions(live).await;
    let sessions = sessions.map_err(handshake::unavailable)?;
    Ok(sessions.into_iter().map(|session| session.id).collect())
}

/// One link that has been welcomed.
struct LaptopLink {
    hub: Hub,
    proven: LaptopProven,
    down_tx: mpsc::Sender<Result<LaptopDown, Status>>,
    registered: Registered,
    heard_at: Instant,
}

enum Event {
    Said(Option<Up>),
    Lost(String),
    Ended,
}

impl LaptopLink {
    async fn run(&mut self, mut up: Streaming<LaptopUp>) {
        loop {
            match self.next(&mut up).await {
                Event::Said(Some(message)) => {
                    self.heard_at = Instant::now();
                    if let Err(problem) = self.heard(message).await {
                        let device = self.proven.identity.device;
                        tracing::warn!(%device, problem, "A laptop's message was not taken");
                    }
                }
                Event::Said(None) => self.heard_at = Instant::now(),
                Event::Lost(reason) => {
                    tracing::info!(device = %self.proven.identity.device, reason, "Laptop lost");
                    break;
                }
                Event::Ended => {
                    let status = Status::aborted(
                        "another link took the place of this one, or the device was removed",
                    );
                    // The queue may be what ended the link: a full one is not waited for.
                    let _full = self.down_tx.try_send(Err(status));
                    break;
                }
            }
        }
    }

    async fn next(&self, up: &mut Streaming<LaptopUp>) -> Event {
        tokio::select! {
            () = self.registered.ended.cancelled() => Event::Ended,
            said = time::timeout_at(self.heard_at + LINK_DEAD, up.next()) => match said {
                Ok(Some(Ok(said))) => Event::Said(said.message),
                Ok(Some(Err(status))) => Event::Lost(status.message().to_owned()),
                Ok(None) => Event::Lost("it closed the link".to_owned()),
                Err(_) => Event::Lost("it was silent for too long".to_owned()),
            },
        }
    }

    async fn heard(&self, message: Up) -> Result<(), String> {
        match message {
            Up::Heartbeat(Heartbeat {}) => Ok(()),
            Up::Hello(_) => Err("Hello belongs at the beginning".to_owned()),
            Up::Carrier(request) => {
                self.carrier(request).await;
                Ok(())
            }
            Up::Observed(observed) => self.observed(observed).await,
        }
    }

    /// Answers a request for a carrier: by an offer to both ends, or by the reason why there is none.
    async fn carrier(&self, request: CarrierRequest) {
        let refused = match self.session(&request.session_id).await {
            Err(problem) => Some(problem),
            Ok(session) => {
                carriers::offer(&self.hub, &session, &request.replica, request.request_id)
                    .await
                    .err()
                    .map(|error| error.to_string())
            }
        };
        let Some(reason) = refused else { return };
        let refused = CarrierRefused {
            request_id: request.request_id,
            session_id: request.session_id,
            reason,
        };
        let device = self.proven.identity.device;
        self.hub.links.tell_laptop(device, Down_::CarrierRefused(refused));
    }

    /// Takes a laptop's word for its own consumes. What becomes of an intercept is the cluster's to see.
    async fn observed(&self, observed: SessionObserved) -> Result<(), String> {
        let session = self.session(&observed.session_id).await?;
        let phase = words::read_phase(&observed).map_err(|error| error.to_string())?;
        if session.kind() == SessionKind::Intercept || phase == Phase::Refused {
            return Ok(());
        }
        let detail = words::shortened(&observed.detail);
        let detail = (!detail.is_empty()).then_some(detail.as_str());
        sessions::observed(&self.hub, &session, phase, detail)
            .await
            .map_err(|error| error.to_string())
    }

    /// Finds a session of this very device; any other does not exist for it.
    async fn session(&self, id: &str) -> Result<Session, String> {
        let id = words::read_session_id(id).map_err(|error| error.to_string())?;
        let found = self.hub.store.scoped(self.proven.org).session(id).await;
        match found {
            Ok(session) if session.device == self.proven.identity.device => Ok(session),
            Ok(_) | Err(StoreError::NotFound { .. }) => Err("there is no such session".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
