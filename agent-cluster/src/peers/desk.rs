//! The writer's Lease as this replica reads and writes it: one question to the API at a time, while everything else
//! goes on, and what is known from the answers. What to ask is decided in `writer.rs`.

use std::time::{Duration, Instant};

use fairlead_model::timers;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use tokio::{task::JoinSet, time::timeout};
use tracing::debug;

use crate::{
    apply::{ApplyError, leases},
    lease::{self, LeaseAge},
};

/// A replica that cannot renew for this long must assume that another one writes.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// An API that does not answer must not keep the replica from hearing the others.
const API_LIMIT: Duration = Duration::from_millis(1500);

pub(super) struct Desk {
    client: Client,
    namespace: String,
    /// The name under which this replica holds the Lease.
    me: String,
    lease: Option<Lease>,
    age: LeaseAge,
    asking: JoinSet<Answer>,
    /// The Lease has to be read before it is written: it never was, or somebody else may have been faster.
    is_stale: bool,
    renewed_at: Option<Instant>,
    spoke_at: Option<Instant>,
}

/// What to ask of the API.
pub(super) enum Question {
    Read,
    Hold,
    LetGo,
    Speak,
}

/// What came of it.
pub(super) enum Answer {
    Read(Option<Lease>),
    Held(Lease),
    LetGo(Lease),
    Nothing,
}

impl Desk {
    pub(super) fn new(client: Client, namespace: String, me: String) -> Self {
        Self {
            client,
            namespace,
            me,
            lease: None,
            age: LeaseAge::since(Instant::now()),
            asking: JoinSet::new(),
            is_stale: true,
            renewed_at: None,
            spoke_at: None,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.asking.is_empty()
    }

    pub(super) fn ask(&mut self, question: Question) {
        if matches!(question, Question::Speak) {
            self.spoke_at = Some(Instant::now());
        }
        let (client, lease) = (self.client.clone(), self.lease.clone());
        let (namespace, me) = (self.namespace.clone(), self.me.clone());
        self.asking.spawn(async move {
            let asked = async {
                let lease = lease.as_ref();
                match (question, lease) {
                    (Question::Hold, _) => {
                        leases::hold(&client, &namespace, lease, &me).await.map(Answer::Held)
                    }
                    (Question::LetGo, Some(lease)) => {
                        leases::release(&client, &namespace, lease).await.map(Answer::LetGo)
                    }
                    (Question::Speak, Some(lease)) => {
                        leases::speak(&client, &namespace, lease, &me)
                            .await
                            .map(|lease| Answer::Read(Some(lease)))
                    }
                    _ => Ok(lease::read(&client, &namespace)
                        .await
                        .map_or(Answer::Nothing, Answer::Read)),
                }
            };
            match timeout(API_LIMIT, asked).await.unwrap_or(Err(ApplyError::NoAnswer)) {
                Ok(answer) => answer,
                Err(error) => {
                    debug!(%error, "The writer's Lease was not written");
                    Answer::Nothing
                }
            }
        });
    }

    /// Waits for what came of the question; `None` while none is asked.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        Some(self.asking.join_next().await?.unwrap_or(Answer::Nothing))
    }

    /// Takes note of the Lease as it is. Returns who has taken it from this replica, if somebody has.
    pub(super) fn saw(&mut self, lease: Option<Lease>, now: Instant) -> Option<String> {
        let was_mine = lease::holder(self.lease.as_ref()) == Some(self.me.as_str());
        self.age.saw(lease.as_ref(), now);
        self.lease = lease;
        self.is_stale = false;
        let taken_by = self.holder().filter(|holder| was_mine && *holder != self.me);
        let taken_by = taken_by.map(str::to_owned);
        if taken_by.is_some() {
            self.renewed_at = None;
        }
        taken_by
    }

    pub(super) fn renewed(&mut self) {
        self.renewed_at = Some(Instant::now());
    }

    pub(super) const fn let_it_go(&mut self) {
        self.renewed_at = None;
    }

    /// Takes note that nothing is known any more: no answer came.
    pub(super) const fn is_in_doubt(&mut self) {
        self.is_stale = true;
    }

    pub(super) fn holder(&self) -> Option<&str> {
        lease::holder(self.lease.as_ref())
    }

    pub(super) const fn is_known(&self) -> bool {
        !self.is_stale
    }

    pub(super) fn unchanged_for(&self) -> Duration {
        self.age.unchanged_for(Instant::now())
    }

    pub(super) fn is_renewed(&self) -> bool {
        self.renewed_at.is_some_and(|at| at.elapsed() < timers::AGENT_LEASE_RENEWAL)
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.renewed_at.is_none_or(|at| at.elapsed() >= GIVEN_UP)
    }

    /// Says whether the last word on the Lease is old enough for another one.
    pub(super) fn may_speak(&self) -> bool {
        self.spoke_at.is_none_or(|at| at.elapsed() >= timers::INTERCEPT_BEAT)
    }

    /// Asks nothing more, and lets go of the Lease.
    pub(super) async fn close(mut self) {
        self.asking.shutdown().await;
        leases::leave(&self.client, &self.namespace, &self.me).await;
    }
}
