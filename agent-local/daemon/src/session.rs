//! One session of this laptop as it is right now, with what keeps it going.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use fairlead_model::{
    Callee, Patterns, Phase, ServicePort, SessionId, SessionKind, timers::LAPTOP_SESSION_YOUNG,
};
use fairlead_tunnel::{CarrierHandle, Opener, pool::CARRIERS_MAX};
use laptop_ipc::Failure;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    desired::{DesiredSession, Wish},
    granted::Granted,
    program::Program,
};

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
    pub(crate) callee: Callee,
    pub(crate) port: ServicePort,
    pub(crate) openers: watch::Receiver<Vec<Opener>>,
}

/// A carrier beside the first one to a replica.
#[derive(Debug)]
pub(crate) struct Further {
    replica: String,
    carrier: CarrierHandle,
}

impl Further {
    pub(crate) fn is_live(&self) -> bool {
        !self.carrier.is_closed()
    }
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
    /// Those that a replica wanted beside its first one.
    pub(crate) further: Vec<Further>,
    /// Which offer that came unasked is the last one, by replica: its task alone asks for more carriers.
    pub(crate) turns: BTreeMap<String, u64>,
    pub(crate) task: Option<Task>,
    /// Why the last connection to somebody did not come about.
    pub(crate) refusals: BTreeMap<Callee, String>,
    /// The command that began it has heard how it went.
    pub(crate) is_heard: bool,
    /// What it was about before a command changed that and has not heard yet how it went.
    pub(crate) before: Option<Patterns>,
    /// What that change has added: proven first.
    pub(crate) added: BTreeSet<Callee>,
    /// The grant that an agent accepted last.
    pub(crate) shown: String,
    /// The last grant that an agent has accepted, by carrier.
    accepted: Vec<(CarrierHandle, String)>,
    /// Its names are for one program, not for everybody.
    pub(crate) program: Option<Program>,
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
            further: Vec::new(),
            turns: BTreeMap::new(),
            task: None,
            refusals: BTreeMap::new(),
            is_heard: origin == Origin::Restored,
            before: None,
            added: BTreeSet::new(),
            shown: String::new(),
            accepted: Vec::new(),
            program: None,
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

    /// Says whether there is something to prove: the agent knows of all that is wanted, and no byte has passed since.
    pub(crate) fn is_to_be_proven(&self) -> bool {
        self.phase == Phase::Preparing && self.shown == self.desired.grant
    }

    /// Takes note that an agent has accepted a grant on one carrier.
    pub(crate) fn accept(&mut self, carrier: &CarrierHandle, grant: String) {
        self.accepted.retain(|(known, _)| !known.is_closed() && !known.is_same(carrier));
        self.accepted.push((carrier.clone(), grant));
    }

    /// Returns the grant on which streams may rest, whichever carrier they take.
    pub(crate) fn accepted_everywhere(&self) -> Option<&String> {
        let openers = self.openers.borrow();
        let by = |opener: &Opener| {
            let is_it = |(carrier, _): &&(CarrierHandle, String)| carrier.is_same(opener.handle());
            self.accepted.iter().find(is_it).map(|(_, grant)| grant)
        };
        let mut grants = openers.iter().filter(|opener| !opener.is_closed()).map(by);
        let first = grants.next()??;
        grants.all(|grant| grant == Some(first)).then_some(first)
    }

    /// Returns every carrier of the session that is not over.
    pub(crate) fn carriers(&self) -> Vec<CarrierHandle> {
        let openers = self.openers.borrow();
        let opened = openers.iter().map(|opener| opener.handle().clone());
        let further = self.further.iter().map(|further| further.carrier.clone());
        let all = opened.chain(self.taken.values().cloned()).chain(further);
        all.filter(|carrier| !carrier.is_closed()).collect()
    }

    /// Keeps a carrier that a replica wanted beside its first one, unless it has as many as it may.
    pub(crate) fn keep_further(&mut self, replica: &str, carrier: CarrierHandle) -> bool {
        self.further.retain(Further::is_live);
        let has = self.further.iter().filter(|further| further.replica == replica).count();
        let may = has + 1 < CARRIERS_MAX;
        if may {
            self.further.push(Further { replica: replica.to_owned(), carrier });
        }
        may
    }

    pub(crate) const fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    /// Says whether the hub may have said what lives before it began this one.
    pub(crate) fn may_be_unheard_of(&self) -> bool {
        self.origin == Origin::Begun && self.began.elapsed() < LAPTOP_SESSION_YOUNG
    }

    /// Takes a grant in place of the one before it, unless it is older. Says whether names have to follow.
    pub(crate) fn take(&mut self, granted: Granted) -> bool {
        if granted.is_older_than(&self.desired.grant) {
            return false;
        }
        self.desired.grant.clone_from(&granted.jwt);
        self.grant.send_replace(granted.jwt);
        let Wish::Consume { patterns, services } = &mut self.desired.wish else { return false };
        let mut is_changed = false;
        if let Some(now) = granted.patterns.filter(|now| now != patterns) {
            *patterns = now;
            // The only namespace that is named is at home.
            is_changed = true;
        }
        if let Some(now) = granted.services.filter(|now| now != services) {
            let known: BTreeSet<_> = now.iter().map(|(service, _)| service).collect();
            self.refusals.retain(|service, _| known.contains(service));
            *services = now;
            is_changed = true;
        }
        is_changed
    }

    /// Says whether it is a consume whose names are everybody's on this machine.
    pub(crate) fn is_of_everybody(&self) -> bool {
        self.kind() == SessionKind::Consume && self.program.is_none()
    }

    pub(crate) const fn patterns(&self) -> Option<&Patterns> {
        match &self.desired.wish {
            Wish::Consume { patterns, .. } => Some(patterns),
            Wish::Intercept { .. } => None,
        }
    }
}
