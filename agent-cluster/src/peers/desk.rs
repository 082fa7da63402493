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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{apply::fake::FakeCluster, made_up::LEASE};

    fn desk(cluster: &FakeCluster, me: &str) -> Desk {
        Desk::new(cluster.client(), "fairlead-system".to_owned(), me.to_owned())
    }

    fn held_by(holder: &str) -> Option<Lease> {
        let lease = json!({"metadata": {}, "spec": {"holderIdentity": holder}});
        Some(serde_json::from_value(lease).expect("a Lease"))
    }

    impl Desk {
        async fn hears(&mut self, question: Question) -> Answer {
            self.ask(question);
            self.answer().await.expect("it was asked")
        }

        async fn looks(&mut self) {
            let Answer::Read(lease) = self.hears(Question::Read).await else { panic!("no Lease") };
            self.saw(lease, Instant::now());
        }
    }

    #[tokio::test]
    async fn of_two_that_want_the_same_lease_one_has_it() {
        let cluster = FakeCluster::default();
        cluster.put(LEASE, json!({"metadata": {}, "spec": {}}));
        let (mut first, mut second) = (desk(&cluster, "agent-1"), desk(&cluster, "agent-2"));
        first.looks().await;
        second.looks().await;
        assert!(matches!(first.hears(Question::Hold).await, Answer::Held(_)));
        assert!(matches!(second.hears(Question::Hold).await, Answer::Nothing));
        second.looks().await;
        assert_eq!(second.holder(), Some("agent-1"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_that_does_not_answer_is_not_waited_for() {
        let cluster = FakeCluster::default();
        cluster.falls_silent_on("GET");
        let mut desk = desk(&cluster, "agent-1");
        desk.ask(Question::Read);
        assert!(!desk.is_free());
        let answer = timeout(timers::AGENT_LEASE_RENEWAL, desk.answer()).await;
        assert!(matches!(answer, Ok(Some(Answer::Nothing))), "the others are heard meanwhile");
        assert!(desk.is_free());
    }

    #[tokio::test]
    async fn a_lease_that_was_taken_is_told_once_and_by_its_holder_only() {
        let (mut desk, now) = (desk(&FakeCluster::default(), "agent-1"), Instant::now());
        assert_eq!(desk.saw(held_by("agent-2"), now), None, "it was never ours");
        assert_eq!(desk.saw(held_by("agent-1"), now), None);
        desk.renewed();
        assert!(desk.is_renewed() && !desk.is_given_up());
        assert_eq!(desk.saw(held_by("agent-2"), now).as_deref(), Some("agent-2"));
        assert!(desk.is_given_up(), "whoever lost it writes nothing more");
        assert_eq!(desk.saw(held_by("agent-2"), now), None);
    }

    #[tokio::test]
    async fn a_lease_that_cannot_be_renewed_is_given_up_before_anybody_takes_it() {
        let mut desk = desk(&FakeCluster::default(), "agent-1");
        let ago = |since| Instant::now().checked_sub(since);
        desk.renewed_at = ago(timers::AGENT_LEASE_RENEWAL);
        assert!(!desk.is_renewed() && !desk.is_given_up());
        desk.renewed_at = ago(GIVEN_UP);
        assert!(desk.is_given_up());
        assert!(GIVEN_UP + API_LIMIT < timers::JANITOR_PATIENCE, "a write may be under way");
    }
}
