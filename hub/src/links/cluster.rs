//! The link of one agent replica: its catalogue and what it sees come up, what should be goes down.

use fairlead_model::{HostName, InvalidHost, Phase};
use fairlead_wire::{
    challenge::NONCE_BYTES,
    link::v1::{
        Catalogue, Challenge, ClusterDown, ClusterUp, ClusterWelcome, EnrolReply, EnrolRequest,
        FirstUse, FurtherCarrier, Heartbeat, Hello, SessionObserved,
        cluster_down::Message as Down_, cluster_links_server::ClusterLinks,
        cluster_up::Message as Up, laptop_down,
    },
    words::service,
};
use hub_store::{Replica, Session, audit::Entry};
use serde_json::json;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Down, carriers,
    catalogue::{Catalogued, Message},
    conversation::{self, DownTx, Peer, tell},
    doorway::Doorway,
    enrol,
    handshake::{self, ReplicaProven, unavailable, without_keys},
    registry::Registered,
    words,
};
use crate::{Hub, actions::sessions};

pub(super) struct Clusters {
    hub: Hub,
    doorway: Doorway,
}

impl Clusters {
    pub(super) const fn new(hub: Hub, doorway: Doorway) -> Self {
        Self { hub, doorway }
    }
}

#[tonic::async_trait]
impl ClusterLinks for Clusters {
    type OpenStream = Down<ClusterDown>;

    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        enrol::enrol(&self.hub, request.into_inner()).await.map(Response::new)
    }

    async fn open(
        &self,
        request: Request<Streaming<ClusterUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        conversation::open::<ClusterLink>(&self.hub, &self.doorway, request)
    }
}

/// One link that has been welcomed.
struct ClusterLink {
    hub: Hub,
    proven: ReplicaProven,
    replica: Replica,
    registered: Registered,
    catalogued: Catalogued,
}

#[tonic::async_trait]
impl Peer for ClusterLink {
    type Up = ClusterUp;
    type Said = Up;
    type Down = ClusterDown;
    type Proven = ReplicaProven;

    const NOUN: &'static str = "an agent replica";
    const WHOSE_CLOCK: &'static str = "cluster";
    const ENDED: &'static str =
        "another link took the place of this one, or the teamspace is closed";

    fn said(up: ClusterUp) -> Option<Up> {
        up.message
    }

    fn hello(said: Up) -> Option<Hello> {
        if let Up::Hello(hello) = said { Some(hello) } else { None }
    }

    fn challenge(challenge: Challenge) -> ClusterDown {
        ClusterDown { message: Some(Down_::Challenge(challenge)) }
    }

    fn heartbeat() -> ClusterDown {
        ClusterDown { message: Some(Down_::Heartbeat(Heartbeat {})) }
    }

    async fn prove(
        hub: &Hub,
        hello: &Hello,
        nonce: &[u8; NONCE_BYTES],
    ) -> Result<ReplicaProven, Status> {
        handshake::replica(hub, hello, nonce).await
    }

    async fn welcome(
        hub: Hub,
        proven: ReplicaProven,
        down_tx: &DownTx<Self>,
    ) -> Result<Self, Status> {
        let teamspace = &proven.teamspace;
        let keys = hub.keys.organization(teamspace.org).await.map_err(without_keys)?;
        let welcome = ClusterWelcome {
            hub_replica: hub.replica.clone(),
            grant_key: keys.grant_public.to_vec(),
            organization_certificate: keys.certificate.to_vec(),
        };
        tell::<Self>(down_tx, Ok(ClusterDown { message: Some(Down_::Welcome(welcome)) })).await;
        let replica = Replica {
            teamspace: teamspace.id,
            name: proven.name.clone(),
            version: proven.version.clone(),
            // To the microsecond, as the database keeps it: the end of this link must find this row.
            connected_at: hub.clock.now().round(jiff::Unit::Microsecond).unwrap_or(hub.clock.now()),
        };
        hub.store
            .unscoped("a replica has proven its teamspace key")
            .replica_connected(teamspace.org, &replica)
            .await
            .map_err(unavailable)?;
        let registered = hub.links.replica_connected(
            teamspace.org,
            teamspace.id,
            &replica.name,
            proven.key,
            down_tx.clone(),
        );
        hub.changes.replica_connected(teamspace.org, teamspace.id, &replica.name).await;
        tracing::info!(teamspace = %teamspace.name, replica = replica.name, "Agent replica connected");
        Ok(Self { hub, proven, replica, registered, catalogued: Catalogued::default() })
    }

    fn name(&self) -> String {
        self.replica.name.clone()
    }

    fn place(&self) -> &Registered {
        &self.registered
    }

    async fn heard(&mut self, said: Up) -> Result<(), String> {
        match said {
            Up::Heartbeat(Heartbeat {}) => Ok(()),
            Up::Hello(_) => Err("Hello belongs at the beginning".to_owned()),
            Up::Catalogue(catalogue) => self.catalogue(catalogue).await,
            Up::Observed(observed) => self.observed(observed).await,
            Up::FirstUse(first_use) => self.first_use(first_use).await,
            Up::FurtherCarrier(wanted) => self.further_carrier(wanted).await,
        }
    }

    async fn end(self) {
        let Self { hub, proven, replica, registered, .. } = self;
        drop(registered);
        let ended = hub
            .store
            .unscoped("a replica's link has ended")
            .replica_disconnected(proven.teamspace.org, &replica, hub.clock.now())
            .await;
        if let Err(error) = ended {
            tracing::warn!(%error, replica = replica.name, "The end of a link could not be stored");
        }
    }
}

impl ClusterLink {
    async fn catalogue(&mut self, catalogue: Catalogue) -> Result<(), String> {
        let text = |error: words::Unreadable| error.to_string();
        let changed = catalogue.changed.into_iter().map(words::read_service);
        let changed: Vec<_> = changed.collect::<Result<_, _>>().map_err(text)?;
        let deleted = catalogue.deleted.iter().map(|named| Ok(service(Some(named))?));
        let deleted: Vec<_> = deleted.collect::<Result<_, _>>().map_err(text)?;
        let Catalogue { full, more, .. } = catalogue;
        let message = Message { full, more, changed: &changed, deleted: &deleted };
        self.catalogued.check(&message).map_err(|refused| refused.to_string())?;
        let teamspace = &self.proven.teamspace;
        let whole = self.catalogued.take(&message);
        // Where this fails the link ends, and with it what was counted.
        self.hub
            .store
            .unscoped("the teamspace's own agent reports its services")
            .take_catalogue(teamspace.org, teamspace.id, &changed, &deleted, whole)
            .await
            .map_err(|error| error.to_string())
    }

    async fn observed(&self, observed: SessionObserved) -> Result<(), String> {
        let session = self.session(&observed.session_id).await?;
        let phase = Phase::try_from(observed.phase()).map_err(|error| error.to_string())?;
        let detail = words::shortened(&observed.detail);
        let detail = (!detail.is_empty()).then_some(detail);
        let observed = SessionObserved { replica: self.replica.name.clone(), ..observed };
        self.hub.links.tell_laptop(session.device, laptop_down::Message::Observed(observed));
        sessions::observed(&self.hub, &session, phase, detail.as_deref())
            .await
            .map_err(|error| error.to_string())
    }

    async fn first_use(&self, first_use: FirstUse) -> Result<(), String> {
        let session = self.session(&first_use.session_id).await?;
        let port = match first_use.protocol.as_str() {
            "UDP" => json!(format!("{}/udp", first_use.port)),
            _ => json!(first_use.port),
        };
        let by_agent = |what| Entry::by_agent(session.org, &self.replica.name, what, session.id);
        let entry = match first_use.host.as_str() {
            "" => {
                let used =
                    service(first_use.service.as_ref()).map_err(|error| error.to_string())?;
                by_agent("service.first_used").with(
                    json!({ "service": used.to_string(), "port": port, "user": session.email }),
                )
            }
            host => {
                let host: HostName = host.parse().map_err(|e: InvalidHost| e.to_string())?;
                by_agent("host.first_used")
                    .with(json!({ "host": host, "port": port, "user": session.email }))
            }
        };
        self.hub.store.record(entry, self.hub.clock.now()).await.map_err(|error| error.to_string())
    }

    /// Offers this very replica one more carrier, whatever else it may have meant.
    async fn further_carrier(&self, wanted: FurtherCarrier) -> Result<(), String> {
        let session = self.session(&wanted.session_id).await?;
        carriers::offer_further(&self.hub, &session, &self.replica.name).await;
        Ok(())
    }

    /// Finds a session of this teamspace; those of others do not exist for its agent.
    async fn session(&self, id: &str) -> Result<Session, String> {
        let id = words::read_session_id(id).map_err(|error| error.to_string())?;
        let teamspace = &self.proven.teamspace;
        match self.hub.store.scoped(teamspace.org).session(id).await {
            Ok(session) if session.teamspace == teamspace.id => Ok(session),
            Ok(_) => Err("there is no such session".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
