//! The link of one laptop: it asks for carriers and says what it sees; grants, offers and endings go down.

use fairlead_model::{Phase, SessionId, SessionKind};
use fairlead_wire::{
    challenge::NONCE_BYTES,
    link::v1::{
        CarrierRefused, CarrierRequest, Challenge, Echo, Heartbeat, Hello, LaptopDown, LaptopUp,
        LaptopWelcome, SessionObserved, laptop_down::Message as Down_,
        laptop_links_server::LaptopLinks, laptop_up::Message as Up,
    },
};
use hub_store::{Filter, Session, StoreError};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Down, carriers,
    conversation::{self, DownTx, Peer, tell},
    doorway::Doorway,
    handshake::{self, LaptopProven},
    registry::Registered,
    words,
};
use crate::{Hub, actions::sessions};

pub(super) struct Laptops {
    hub: Hub,
    doorway: Doorway,
}

impl Laptops {
    pub(super) const fn new(hub: Hub, doorway: Doorway) -> Self {
        Self { hub, doorway }
    }
}

#[tonic::async_trait]
impl LaptopLinks for Laptops {
    type OpenStream = Down<LaptopDown>;

    async fn open(
        &self,
        request: Request<Streaming<LaptopUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        conversation::open::<LaptopLink>(&self.hub, &self.doorway, request)
    }
}

/// One link that has been welcomed.
struct LaptopLink {
    hub: Hub,
    proven: LaptopProven,
    registered: Registered,
}

#[tonic::async_trait]
impl Peer for LaptopLink {
    type Up = LaptopUp;
    type Said = Up;
    type Down = LaptopDown;
    type Proven = LaptopProven;

    const NOUN: &'static str = "a laptop";
    const WHOSE_CLOCK: &'static str = "laptop";
    const ENDED: &'static str =
        "another link took the place of this one, or the device was removed or signed out";

    fn said(up: LaptopUp) -> Option<Up> {
        up.message
    }

    fn hello(said: Up) -> Option<Hello> {
        if let Up::Hello(hello) = said { Some(hello) } else { None }
    }

    fn challenge(challenge: Challenge) -> LaptopDown {
        LaptopDown { message: Some(Down_::Challenge(challenge)) }
    }

    fn heartbeat() -> LaptopDown {
        LaptopDown { message: Some(Down_::Heartbeat(Heartbeat {})) }
    }

    async fn prove(
        hub: &Hub,
        hello: &Hello,
        nonce: &[u8; NONCE_BYTES],
    ) -> Result<LaptopProven, Status> {
        handshake::laptop(hub, hello, nonce).await
    }

    async fn welcome(
        hub: Hub,
        proven: LaptopProven,
        down_tx: &DownTx<Self>,
    ) -> Result<Self, Status> {
        let device = proven.identity.device;
        let sessions = live_sessions(&hub, &proven).await?;
        let welcome = LaptopWelcome {
            hub_replica: hub.replica.clone(),
            live_sessions: sessions.iter().map(ToString::to_string).collect(),
        };
        tell::<Self>(down_tx, Ok(LaptopDown { message: Some(Down_::Welcome(welcome)) })).await;
        // Registered after the welcome: nothing may overtake it. What ends between the two is announced afterwards.
        let registered = hub.links.laptop_connected(proven.org, device, down_tx.clone());
        hub.changes.laptop_connected(proven.org, device, sessions).await;
        tracing::info!(device = %device, user = %proven.user, "Laptop connected");
        Ok(Self { hub, proven, registered })
    }

    fn name(&self) -> String {
        self.proven.identity.device.to_string()
    }

    fn place(&self) -> &Registered {
        &self.registered
    }

    async fn heard(&mut self, said: Up) -> Result<(), String> {
        match said {
            Up::Heartbeat(Heartbeat {}) => Ok(()),
            Up::Hello(_) => Err("Hello belongs at the beginning".to_owned()),
            Up::Carrier(request) => {
                self.carrier(request).await;
                Ok(())
            }
            Up::Observed(observed) => self.observed(observed).await,
            Up::Echo(Echo { number }) => {
                let device = self.proven.identity.device;
                self.hub.links.tell_laptop(device, Down_::Echo(Echo { number }));
                Ok(())
            }
        }
    }

    async fn end(self) {}
}

async fn live_sessions(hub: &Hub, proven: &LaptopProven) -> Result<Vec<SessionId>, Status> {
    let device = Some(proven.identity.device);
    let live = Filter { only_live: true, device, ..Filter::default() };
    let sessions = hub.store.scoped(proven.org).sessions(live).await;
    let sessions = sessions.map_err(handshake::unavailable)?;
    Ok(sessions.into_iter().map(|session| session.id).collect())
}

impl LaptopLink {
    /// Answers a request for a carrier: by an offer to both ends, or by the reason why there is none.
    async fn carrier(&self, request: CarrierRequest) {
        let refused = match self.session(&request.session_id).await {
            Err(problem) => Some(problem),
            Ok(session) => {
                let occasion = carriers::Occasion::LaptopAsked(request.request_id);
                carriers::offer(&self.hub, &session, &request.replica, occasion)
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
        let phase = Phase::try_from(observed.phase()).map_err(|error| error.to_string())?;
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
