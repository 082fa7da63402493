//! The task that follows the other replicas and the Lease, and publishes who lives and who writes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Hearing, Holder, LeaseSeen, PeerState, PeersSeen,
    desk::{Answer, Desk, Question},
    link, may_hold,
    others::Others,
};
use crate::{apply::leases, config::Run, enrol::ReplicaKey, seen::PodsSeen};

/// The Lease is read this often: a GET by name, so that its age is known to half a second.
const LEASE_LOOK: Duration = Duration::from_millis(500);
/// Silence makes no noise: what is known is judged again this often.
const JUDGE_AGAIN: Duration = Duration::from_millis(200);
const NEWS_QUEUE: usize = 64;

pub(crate) struct Peers {
    me: String,
    others: Others,
    desk: Desk,
    /// What this replica says of itself.
    state: watch::Receiver<PeerState>,
    seen: watch::Sender<PeersSeen>,
    identity: watch::Receiver<Arc<ReplicaKey>>,
    look_due: bool,
    unlinked_since: Option<Instant>,
    stopping: CancellationToken,
}

impl Peers {
    /// Begins to follow the replicas. `stopping` makes this one let go of the Lease.
    pub(crate) fn start(
        client: Client,
        run: Arc<Run>,
        pods: watch::Receiver<PodsSeen>,
        identity: watch::Receiver<Arc<ReplicaKey>>,
        state: watch::Receiver<PeerState>,
        listener: TcpListener,
        stopping: CancellationToken,
    ) -> watch::Receiver<PeersSeen> {
        let (seen_tx, seen_rx) = watch::channel(PeersSeen::default());
        let me = run.pod_name.clone();
        let peers = Self {
            desk: Desk::new(client, run.place.namespace.clone(), me.clone()),
            me,
            others: Others::new(run, pods, identity.clone(), state.clone()),
            state,
            seen: seen_tx,
            identity,
            look_due: true,
            unlinked_since: Some(Instant::now()),
            stopping,
        };
        tokio::spawn(peers.follow(listener));
        seen_rx
    }

    async fn follow(mut self, listener: TcpListener) {
        let (news_tx, mut news_rx) = mpsc::channel(NEWS_QUEUE);
        let hearing = tokio::spawn(link::hear(listener, self.identity.clone(), news_tx.clone()));
        let mut look = tokio::time::interval(LEASE_LOOK);
        let mut judge_again = tokio::time::interval(JUDGE_AGAIN);
        loop {
            let stopping = self.stopping.clone();
            tokio::select! {
                Some(news) = news_rx.recv() => self.others.learn(news),
                Some(answer) = self.desk.answer() => self.take_in(answer),
                Ok(()) = self.others.changed() => self.others.meet(&news_tx),
                Ok(()) = self.state.changed() => {}
                _ = look.tick() => self.look_due = true,
                _ = judge_again.tick() => {}
                () = self.seen.closed() => break,
                () = stopping.cancelled() => break,
            }
            self.follow_hub();
            if self.desk.is_free()
                && let Some(question) = self.next_question()
            {
                self.desk.ask(question);
            }
            self.publish();
        }
        hearing.abort();
        drop(self.others);
        self.desk.close().await;
    }

    fn follow_hub(&mut self) {
        match self.state.borrow().linked {
            true => self.unlinked_since = None,
            false => {
                self.unlinked_since.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Decides what to ask: to give way, to take or renew the Lease, to say that we live, or only how it stands.
    fn next_question(&mut self) -> Option<Question> {
        let (holder, hearing) = (self.holder(), self.hearing());
        if holder == Holder::Myself && hearing.gives_way() && self.desk.is_known() {
            return Some(Question::LetGo);
        }
        let renewed = holder == Holder::Myself && self.desk.is_renewed();
        let stands_back = holder != Holder::Myself && hearing.stands_back();
        let may_hold = may_hold(LeaseSeen { holder, unchanged_for: self.desk.unchanged_for() });
        let may_write = self.desk.is_known() && self.others.pods_are_known();
        if may_write && may_hold && !renewed && !stands_back {
            return Some(Question::Hold);
        }
        if may_write && self.must_speak() {
            return Some(Question::Speak);
        }
        std::mem::take(&mut self.look_due).then_some(Question::Read)
    }

    fn hearing(&self) -> Hearing {
        Hearing {
            without_hub_for: self.unlinked_since.map(|since| since.elapsed()),
            a_peer_is_linked: self.others.one_is_linked(),
        }
    }

    fn holder(&self) -> Holder {
        match self.desk.holder() {
            None => Holder::Nobody,
            Some(holder) if holder == self.me => Holder::Myself,
            Some(holder) => Holder::Other(self.others.life_of(holder)),
        }
    }

    /// Says whether the writer may take us for dead although we live: then it is told so through the API.
    fn must_speak(&self) -> bool {
        self.desk.holder().is_some_and(|writer| self.others.may_miss_us(writer))
            && self.desk.may_speak()
    }

    fn take_in(&mut self, answer: Answer) {
        match answer {
            Answer::Read(lease) => self.saw(lease),
            Answer::Held(lease) => {
                if self.holder() != Holder::Myself {
                    info!(replica = self.me, from = ?self.holder(), "This replica writes from now on");
                }
                self.desk.renewed();
                self.saw(Some(lease));
            }
            Answer::LetGo(lease) => {
                info!("Without the hub this replica lets another one write");
                self.desk.let_it_go();
                self.saw(Some(lease));
            }
            Answer::Nothing => self.desk.is_in_doubt(),
        }
    }

    fn saw(&mut self, lease: Option<Lease>) {
        let now = Instant::now();
        self.others.read(lease.iter().flat_map(leases::words), now);
        if let Some(writer) = self.desk.saw(lease, now) {
            warn!(writer, "Another replica has taken over the writing");
            self.others.took_over();
        }
    }

    fn publish(&self) {
        let seen = PeersSeen {
            is_writer: !self.desk.is_given_up() && self.holder() == Holder::Myself,
            writer: self.desk.holder().map(str::to_owned),
            alive: self.others.alive(),
        };
        self.seen.send_if_modified(|before| {
            let changed = *before != seen;
            *before = seen;
            changed
        });
    }
}
