//! One session of this laptop as it is right now, with what keeps it going.

use std::{collections::BTreeMap, time::Instant};

use fairlead_model::{
    Patterns, Phase, Port, ServiceRef, SessionId, SessionKind, timers::LAPTOP_SESSION_YOUNG,
};
use fairlead_tunnel::{CarrierHandle, Opener};
use laptop_ipc::Failure;
use tokio::{sync::watch, task::JoinHandle};

use crate::desired::{DesiredSession, Wish};

/// A task that ends with its handle.
#[derive(Debug)]
pub(crate) struct Task(pub(crate) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where one redirected destination leads.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) session: SessionId,
    pub(crate) service: ServiceRef,
    pub(crate) port: Port,
    pub(crate) openers: watch::Receiver<Vec<Opener>>,
}

/// Where a session came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The hub has just begun it.
    Begun,
    /// A daemon before this one had it.
    Restored,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) desired: DesiredSession,
    pub(crate) phase: Phase,
    pub(crate) detail: Option<String>,
    pub(crate) failure: Option<Failure>,
    pub(crate) origin: Origin,
    pub(crate) began: Instant,
    pub(crate) ended: Option<Instant>,
    /// Carriers on which we open streams: consume.
    pub(crate) openers: watch::Sender<Vec<Opener>>,
    pub(crate) grant: watch::Sender<String>,
    /// Carriers on which the cluster opens streams, by replica: intercept.
    pub(crate) taken: BTreeMap<String, CarrierHandle>,
    /// Which offer that came unasked is the last one, by replica: its task alone asks for more carriers.
    pub(crate) turns: BTreeMap<String, u64>,
    pub(crate) task: Option<Task>,
    /// Why the last connection to a service did not come about.
    pub(crate) refusals: BTreeMap<ServiceRef, String>,
    /// Bytes have passed once.
    pub(crate) was_proven: bool,
    /// The command that began it has heard how it went; until then it takes nobody's place.
    pub(crate) is_heard: bool,
    /// The user has left; only what is under way goes on for a moment.
    pub(crate) is_leaving: bool,
}

impl Session {
    pub(crate) fn new(desired: DesiredSession, origin: Origin) -> Self {
        Self {
            grant: watch::Sender::new(desired.grant.clone()),
            desired,
            phase: Phase::Preparing,
            detail: None,
            failure: None,
            origin,
            began: Instant::now(),
            ended: None,
            openers: watch::Sender::new(Vec::new()),
            taken: BTreeMap::new(),
            turns: BTreeMap::new(),
            task: None,
            refusals: BTreeMap::new(),
            was_proven: origin == Origin::Restored,
            is_heard: origin == Origin::Restored,
            is_leaving: false,
        }
    }

    pub(crate) const fn kind(&self) -> SessionKind {
        match self.desired.wish {
            Wish::Consume { .. } => SessionKind::Consume,
            Wish::Intercept { .. } => SessionKind::Intercept,
        }
    }

    /// Begins the turn of whoever takes a replica's carrier; the one before it has nothing more to ask for.
    pub(crate) fn next_turn(&mut self, replica: &str) -> u64 {
        let turn = self.turns.entry(replica.to_owned()).or_default();
        *turn += 1;
        *turn
    }

    pub(crate) const fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    /// Says whether the hub may have said what lives before it began this one.
    pub(crate) fn may_be_unheard_of(&self) -> bool {
        self.origin == Origin::Begun && self.began.elapsed() < LAPTOP_SESSION_YOUNG
    }

    pub(crate) const fn patterns(&self) -> Option<&Patterns> {
        match &self.desired.wish {
            Wish::Consume { patterns, .. } => Some(patterns),
            Wish::Intercept { .. } => None,
        }
    }
}
