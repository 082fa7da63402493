//! Where hints meet those who wait for them: the two tasks that act on changes, and whoever watches events.

use std::sync::{Mutex, PoisonError};

use fairlead_model::{DeviceId, OrgId, SessionId, TeamspaceId, UserId};
use hub_store::notify::{Change, Heard, Noun};
use tokio::sync::{broadcast, mpsc};

/// Hints that wait for a watcher. One that falls behind is told to read everything again.
const WATCHERS_QUEUE: usize = 1024;
/// Hints that wait for a task; whoever brings one more waits.
const TASK_QUEUE: usize = 4096;

/// What the announcing task has to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToAnnounce {
    Organization(OrgId),
    /// Some may be open no more.
    Teamspaces(OrgId),
    Replica(OrgId, TeamspaceId, String),
    /// With the sessions that its welcome named.
    Laptop(OrgId, DeviceId, Vec<SessionId>),
    /// Some may belong to nobody any more.
    Laptops(OrgId),
    Everything,
}

/// Whose live sessions are to be decided again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ToReconsider {
    Organization(OrgId),
    /// Those of one member; of all when it is no member, but a group or whatever else members have in common.
    Member(OrgId, UserId),
    /// Its services have changed, or only what is shown of them.
    Catalogue(OrgId, TeamspaceId),
    Teamspace(OrgId, TeamspaceId),
    Everything,
}

pub(super) struct Inboxes {
    pub(super) announce_rx: mpsc::Receiver<ToAnnounce>,
    pub(super) reconsider_rx: mpsc::Receiver<ToReconsider>,
}

/// The hub's own board of changes.
pub struct Changes {
    watchers_tx: broadcast::Sender<Heard>,
    announce_tx: mpsc::Sender<ToAnnounce>,
    reconsider_tx: mpsc::Sender<ToReconsider>,
    inboxes: Mutex<Option<Inboxes>>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self::new()
    }
}

impl Changes {
    #[must_use]
    pub fn new() -> Self {
        let (watchers_tx, _) = broadcast::channel(WATCHERS_QUEUE);
        let (announce_tx, announce_rx) = mpsc::channel(TASK_QUEUE);
        let (reconsider_tx, reconsider_rx) = mpsc::channel(TASK_QUEUE);
        let inboxes = Mutex::new(Some(Inboxes { announce_rx, reconsider_rx }));
        Self { watchers_tx, announce_tx, reconsider_tx, inboxes }
    }

    /// Watches every change of every organization; the watcher keeps to its own.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Heard> {
        self.watchers_tx.subscribe()
    }

    pub(super) fn take_inboxes(&self) -> Inboxes {
        let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        inboxes.take().expect("the tasks are started once")
    }

    /// Passes a hint on to everybody whom it concerns.
    pub(super) async fn heard(&self, heard: Heard) {
        // Nobody watching is no fault.
        let _nobody = self.watchers_tx.send(heard);
        match heard {
            Heard::Gap => {
                self.announce(ToAnnounce::Everything).await;
                self.reconsider(ToReconsider::Everything).await;
            }
            Heard::Change(Change { org, noun, id }) => match noun {
                Noun::Sessions => self.announce(ToAnnounce::Organization(org)).await,
                Noun::Services => {
                    self.reconsider(ToReconsider::Catalogue(org, TeamspaceId::from_uuid(id))).await;
                }
                Noun::Teamspaces => {
                    let teamspace = TeamspaceId::from_uuid(id);
                    self.announce(ToAnnounce::Teamspaces(org)).await;
                    self.reconsider(ToReconsider::Teamspace(org, teamspace)).await;
                }
                Noun::Members => {
                    self.reconsider(ToReconsider::Member(org, UserId::from_uuid(id))).await;
                }
                Noun::Policies => self.reconsider(ToReconsider::Organization(org)).await,
            },
        }
    }

    pub(crate) async fn replica_connected(&self, org: OrgId, teamspace: TeamspaceId, name: &str) {
        self.announce(ToAnnounce::Replica(org, teamspace, name.to_owned())).await;
    }

    /// Lets a laptop that was welcomed hear what there is for it.
    pub async fn laptop_connected(&self, org: OrgId, device: DeviceId, welcomed: Vec<SessionId>) {
        self.announce(ToAnnounce::Laptop(org, device, welcomed)).await;
    }

    pub(super) async fn announce(&self, what: ToAnnounce) {
        // The task outlives everybody who could be here, except while the hub stops.
        let _stopping = self.announce_tx.send(what).await;
    }

    async fn reconsider(&self, what: ToReconsider) {
        let _stopping = self.reconsider_tx.send(what).await;
    }
}
