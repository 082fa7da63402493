//! The link of one agent replica: its catalogue and what it sees come up, what should be goes down.

use fairlead_model::timers::LINK_DEAD;
use fairlead_wire::{
    challenge,
    link::v1::{
        Catalogue, Challenge, ClusterDown, ClusterUp, ClusterWelcome, EnrolReply, EnrolRequest,
        FirstUse, Heartbeat, SessionObserved, cluster_down::Message as Down_,
        cluster_links_server::ClusterLinks, cluster_up::Message as Up, laptop_down,
    },
};
use hub_store::{Replica, Session, StoreError, audit::Entry};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Down, QUEUE, beat, enrol,
    handshake::{self, HELLO_DEADLINE, ReplicaProven},
    registry::Registered,
    words,
};
use crate::{Hub, actions::sessions};

/// Most services of one teamspace.
const CATALOGUE_MAX: usize = 20_000;

pub(super) struct Clusters {
    hub: Hub,
}

impl Clusters {
    pub(super) const fn new(hub: Hub) -> Self {
        Self { hub }
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
        let (down_tx, down_rx) = mpsc::channel(QUEUE);
        let hub = self.hub.clone();
        self.hub.tasks.spawn(serve(hub, request.into_inner(), down_tx));
        Ok(Response::new(Box::pin(ReceiverStream::new(down_rx))))
    }
}

/// Serves one link until it ends, for whatever reason; the reason is told to the peer where it can still hear.
async fn serve(
    hub: Hub,
    mut up: Streaming<ClusterUp>,
    down_tx: mpsc::Sender<Result<ClusterDown, Status>>,
) {
    let welcome = time::timeout(HELLO_DEADLINE, greet(&hub, &mut up, &down_tx)).await;
    let proven = match welcome {
        Ok(Ok(proven)) => proven,
        Ok(Err(status)) => {
            tracing::warn!(reason = status.message(), "Cluster link refused");
            tell(&down_tx, Err(status)).await;
            return;
        }
        Err(_) => return,
    };
    let link = ClusterLink::begin(hub, proven, down_tx).await;
    match link {
        Ok(mut link) => {
            link.run(up).await;
            link.end().await;
        }
        Err(error) => tracing::error!(%error, "A cluster link could not begin"),
    }
}

async fn tell(down_tx: &mpsc::Sender<Result<ClusterDown, Status>>, message: Result<Down_, Status>) {
    let message = message.map(|message| ClusterDown { message: Some(message) });
    // A peer that has gone hears nothing, and that is all there is to it.
    let _gone = down_tx.send(message).await;
}

async fn greet(
    hub: &Hub,
    up: &mut Streaming<ClusterUp>,
    down_tx: &mpsc::Sender<Result<ClusterDown, Status>>,
) -> Result<ReplicaProven, Status> {
    let nonce = challenge::draw_nonce();
    tell(down_tx, Ok(Down_::Challenge(Challenge { nonce: nonce.to_vec() }))).await;
    let Some(ClusterUp { message: Some(Up::Hello(hello)) }) = up.message().await? else {
        return Err(Status::invalid_argument("a link begins with Hello"));
    };
    let proven = handshake::replica(hub, &hello, &nonce).await?;
    let keys = hub.keys.organization(proven.teamspace.org).await;
    let keys = keys.map_err(|_| Status::internal("the organization's keys cannot be read"))?;
    let welcome = ClusterWelcome {
        hub_replica: hub.replica.clone(),
        grant_key: keys.grant_public.to_vec(),
        organization_certificate: keys.certificate.to_vec(),
    };
    tell(down_tx, Ok(Down_::Welcome(welcome))).await;
    Ok(proven)
}

/// One link that has been welcomed.
struct ClusterLink {
    hub: Hub,
    proven: ReplicaProven,
    replica: Replica,
    down_tx: mpsc::Sender<Result<ClusterDown, Status>>,
    registered: Registered,
    heard_at: Instant,
}

enum Event {
    Said(Option<Up>),
    Lost(String),
    Ended,
}

impl ClusterLink {
    async fn begin(
        hub: Hub,
        proven: ReplicaProven,
        down_tx: mpsc::Sender<Result<ClusterDown, Status>>,
    ) -> Result<Self, StoreError> {
        let teamspace = &proven.teamspace;
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
            .await?;
        let registered = hub.links.replica_connected(
            teamspace.org,
            teamspace.id,
            &replica.name,
            down_tx.clone(),
        );
        let heartbeat = ClusterDown { message: Some(Down_::Heartbeat(Heartbeat {})) };
        hub.tasks.spawn(beat::keep(heartbeat, down_tx.clone(), registered.ended.clone()));
        hub.changes.replica_connected(teamspace.org, teamspace.id, &replica.name).await;
        tracing::info!(teamspace = %teamspace.name, replica = replica.name, "Agent replica connected");
        Ok(Self { hub, proven, replica, down_tx, registered, heard_at: Instant::now() })
    }

    async fn run(&mut self, mut up: Streaming<ClusterUp>) {
        loop {
            match self.next(&mut up).await {
                Event::Said(Some(message)) => {
                    self.heard_at = Instant::now();
                    if let Err(problem) = self.heard(message).await {
                        tracing::warn!(
                            replica = self.replica.name,
                            problem,
                            "An agent's message was not taken"
                        );
                    }
                }
                Event::Said(None) => self.heard_at = Instant::now(),
                Event::Lost(reason) => {
                    tracing::info!(replica = self.replica.name, reason, "Agent replica lost");
                    break;
                }
                Event::Ended => {
                    let status = Status::aborted(
                        "another link took the place of this one, or the teamspace is closed",
                    );
                    // The queue may be what ended the link: a full one is not waited for.
                    let _full = self.down_tx.try_send(Err(status));
                    break;
                }
            }
        }
    }

    async fn next(&self, up: &mut Streaming<ClusterUp>) -> Event {
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
            Up::Catalogue(catalogue) => self.catalogue(catalogue).await,
            Up::Observed(observed) => self.observed(observed).await,
            Up::FirstUse(first_use) => self.first_use(first_use).await,
        }
    }

    async fn catalogue(&self, catalogue: Catalogue) -> Result<(), String> {
        if catalogue.changed.len() > CATALOGUE_MAX {
            return Err(format!("a catalogue of more than {CATALOGUE_MAX} services"));
        }
        let changed: Result<Vec<_>, _> =
            catalogue.changed.into_iter().map(words::read_service).collect();
        let changed = changed.map_err(|error| error.to_string())?;
        let deleted: Result<Vec<_>, _> =
            catalogue.deleted.iter().map(|s| words::read_service_ref(Some(s))).collect();
        let deleted = deleted.map_err(|error| error.to_string())?;
        let teamspace = &self.proven.teamspace;
        self.hub
            .store
            .unscoped("the teamspace's own agent reports its services")
            .take_catalogue(teamspace.org, teamspace.id, catalogue.full, &changed, &deleted)
            .await
            .map_err(|error| error.to_string())
    }

    async fn observed(&self, observed: SessionObserved) -> Result<(), String> {
        let session = self.session(&observed.session_id).await?;
        let phase = words::read_phase(&observed).map_err(|error| error.to_string())?;
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
        let service = words::read_service_ref(first_use.service.as_ref());
        let service = service.map_err(|error| error.to_string())?;
        let entry = Entry::by_agent(session.org, &self.replica.name, "service.first_used", session.id)
            .with(json!({ "service": service.to_string(), "port": first_use.port, "user": session.email }));
        self.hub.store.record(entry, self.hub.clock.now()).await.map_err(|error| error.to_string())
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
