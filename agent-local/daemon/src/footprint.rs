//! Names and redirects follow the sessions: one task reads what should be, has the supervisor put it there, and takes
//! note of where each name leads. They follow again whenever a supervisor is new: it has put nothing yet.
//!
//! One task, because commands, the link and the proof all change what should be: whoever put it there last must also be
//! the one who read it last. What comes while it works is done together in the next round.

use std::sync::{Arc, Mutex, PoisonError};

use laptop_ipc::{Failure, FailureKind, daemon::Laptop};
use tokio::sync::watch;
use tracing::warn;

use crate::{
    footing::{Footing, Listeners, Placed, SetReply, Wanted},
    sessions::Sessions,
};

/// A hold on the task.
#[derive(Debug)]
pub(crate) struct Footprint {
    wanted_tx: watch::Sender<u64>,
    done_rx: watch::Receiver<Done>,
}

/// How the last round ended, and up to which wish it went.
#[derive(Debug, Clone)]
struct Done {
    revision: u64,
    outcome: Result<(), Failure>,
}

impl Footprint {
    /// Starts the task.
    pub(crate) fn begin(sessions: Arc<Mutex<Sessions>>, footing: Arc<Footing>) -> Self {
        let passed_rx = footing.listeners();
        Self::begin_with(sessions, passed_rx, move |wanted| {
            let footing = Arc::clone(&footing);
            async move { footing.set(wanted).await }
        })
    }

    fn begin_with<F>(
        sessions: Arc<Mutex<Sessions>>,
        mut passed_rx: Listeners,
        set: impl Fn(Wanted) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = SetReply> + Send + 'static,
    {
        let (wanted_tx, mut wanted_rx) = watch::channel(0_u64);
        let (done_tx, done_rx) = watch::channel(Done { revision: 0, outcome: Ok(()) });
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    wanted = wanted_rx.changed() => {
                        if wanted.is_err() {
                            return;
                        }
                        let revision = *wanted_rx.borrow_and_update();
                        let outcome = follow(&sessions, &set).await;
                        done_tx.send_replace(Done { revision, outcome });
                    }
                    passed = passed_rx.changed() => {
                        if passed.is_err() {
                            return;
                        }
                        let is_there = passed_rx.borrow_and_update().is_some();
                        if is_there
                            && !is_at_rest(&sessions)
                            && let Err(failure) = follow(&sessions, &set).await
                        {
                            warn!("Names and redirects could not be put back: {failure}");
                        }
                    }
                }
            }
        });
        Self { wanted_tx, done_rx }
    }

    /// Says how the last round ended.
    pub(crate) fn outcome(&self) -> Result<(), Failure> {
        self.done_rx.borrow().outcome.clone()
    }

    /// Waits until names and redirects are what the sessions need at this moment, or says why they are not.
    pub(crate) async fn follow_sessions(&self) -> Result<(), Failure> {
        let mut mine = 0;
        self.wanted_tx.send_modify(|revision| {
            *revision += 1;
            mine = *revision;
        });
        let mut done_rx = self.done_rx.clone();
        match done_rx.wait_for(|done| done.revision >= mine).await {
            Ok(done) => done.outcome.clone(),
            Err(_) => Err(Failure::new(FailureKind::Internal, "the daemon is ending")),
        }
    }
}

/// Says whether no name is wanted and none stands: a daemon that has just begun must not take away what the one before
/// it had, until it has read what that was.
fn is_at_rest(sessions: &Mutex<Sessions>) -> bool {
    let sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner);
    sessions.reached().is_empty() && sessions.sample_name().is_none()
}

async fn follow<F: Future<Output = SetReply>>(
    sessions: &Mutex<Sessions>,
    set: impl Fn(Wanted) -> F,
) -> Result<(), Failure> {
    let locked = || sessions.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = {
        let sessions = locked();
        Wanted { services: sessions.reached(), may_remap: sessions.may_remap() }
    };
    let placed = set(wanted.clone()).await;
    let mut sessions = locked();
    let Placed { addresses, doors, moved_datagrams } = placed.inspect_err(|failure| {
        // What stood before stands on, and is proven; where nothing did, this is all there is to show.
        let is_all = !wanted.services.is_empty() && sessions.sample_name().is_none();
        // That there is no supervisor is for the proof to say: it may come in a moment.
        if is_all && failure.kind != FailureKind::Supervisor {
            sessions.set_laptop(Laptop::Broken { reason: failure.message.clone() });
        }
    })?;
    sessions.place(wanted.services, &addresses);
    sessions.take_doors(doors.as_deref(), moved_datagrams);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        net::{Ipv4Addr, SocketAddrV4, TcpListener},
    };

    use fairlead_model::Phase;
    use tokio::{
        sync::{Semaphore, mpsc},
        time::{Duration, timeout},
    };

    use super::*;
    use crate::{footing::Passed, sessions::tests::consume};

    #[tokio::test]
    async fn what_ended_while_names_were_being_put_is_gone_afterwards() {
        let sessions = Arc::new(Mutex::new(Sessions::new()));
        let session = consume(fairlead_model::TeamspaceId::generate());
        let id = session.desired.id;
        sessions.lock().expect("unpoisoned").insert(session);
        let (_passed_tx, passed_rx) = watch::channel(None);
        // A supervisor that takes its time, and tells what it was asked for.
        let gate = Arc::new(Semaphore::new(0));
        let (asked_tx, mut asked_rx) = mpsc::unbounded_channel();
        let footprint = {
            let gate = Arc::clone(&gate);
            Footprint::begin_with(Arc::clone(&sessions), passed_rx, move |wanted: Wanted| {
                let (gate, asked_tx) = (Arc::clone(&gate), asked_tx.clone());
                async move {
                    asked_tx.send(wanted.services.len()).expect("heard");
                    gate.acquire().await.expect("open").forget();
                    Ok(placed(&wanted))
                }
            })
        };
        let (begun, ended) = tokio::join!(footprint.follow_sessions(), async {
            assert_eq!(asked_rx.recv().await, Some(2));
            sessions.lock().expect("unpoisoned").end(id, Phase::Ended, None);
            gate.add_permits(2);
            footprint.follow_sessions().await
        });
        assert_eq!((begun, ended), (Ok(()), Ok(())));
        assert_eq!(asked_rx.recv().await, Some(0), "what should be was read again");
        let address = SocketAddrV4::new(Ipv4Addr::new(127, 72, 1, 2), 80);
        assert!(sessions.lock().expect("unpoisoned").route(address).is_none());
    }

    #[tokio::test]
    async fn what_was_wanted_without_a_supervisor_has_routes_once_one_is_there() {
        let sessions = Arc::new(Mutex::new(Sessions::new()));
        let (passed_tx, passed_rx) = watch::channel(None);
        let (asked_tx, mut asked_rx) = mpsc::unbounded_channel();
        let footprint = {
            let stands_rx = passed_rx.clone();
            Footprint::begin_with(Arc::clone(&sessions), passed_rx, move |wanted: Wanted| {
                asked_tx.send(wanted.services.len()).expect("heard");
                let none = || Failure::new(FailureKind::Supervisor, "no supervisor");
                let reply = stands_rx
                    .borrow()
                    .as_ref()
                    .map_or_else(|| Err(none()), |_| Ok(placed(&wanted)));
                async move { reply }
            })
        };
        let session = consume(fairlead_model::TeamspaceId::generate());
        sessions.lock().expect("unpoisoned").insert(session);
        assert!(footprint.follow_sessions().await.is_err());
        assert_eq!(asked_rx.recv().await, Some(2));
        passed_tx.send_replace(Some(passed()));
        let asked = timeout(Duration::from_secs(60), asked_rx.recv()).await;
        assert_eq!(asked, Ok(Some(2)), "nobody but the new supervisor gave a reason to ask");
        let address = SocketAddrV4::new(Ipv4Addr::new(127, 72, 1, 2), 80);
        assert!(sessions.lock().expect("unpoisoned").route(address).is_some());
    }

    #[test]
    fn a_daemon_that_has_just_begun_takes_no_names_away() {
        let sessions = Mutex::new(Sessions::new());
        assert!(is_at_rest(&sessions));
        let session = consume(fairlead_model::TeamspaceId::generate());
        sessions.lock().expect("unpoisoned").insert(session);
        assert!(!is_at_rest(&sessions), "its names are wanted");
        let addresses = [Ipv4Addr::new(127, 72, 1, 2), Ipv4Addr::new(127, 72, 1, 3)];
        let mut locked = sessions.lock().expect("unpoisoned");
        let reached = locked.reached();
        locked.place(reached, &addresses);
        let id = locked.all_live().next().expect("inserted").desired.id;
        locked.end(id, Phase::Ended, None);
        drop(locked);
        assert!(!is_at_rest(&sessions), "its names still stand");
    }

    /// Every service at the same address, by redirects.
    fn placed(wanted: &Wanted) -> Placed {
        let addresses = wanted.services.iter().map(|_| Ipv4Addr::new(127, 72, 1, 2)).collect();
        Placed { addresses, doors: None, moved_datagrams: HashMap::new() }
    }

    fn passed() -> Arc<Passed> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        Arc::new(Passed { listener, canary: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1) })
    }

    #[tokio::test]
    async fn a_refusal_reaches_whoever_waits_and_the_next_round_is_another() {
        let sessions = Arc::new(Mutex::new(Sessions::new()));
        let (_passed_tx, passed_rx) = watch::channel(None);
        let refuses = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let footprint = {
            let refuses = Arc::clone(&refuses);
            let sessions = Arc::clone(&sessions);
            Footprint::begin_with(sessions, passed_rx, move |_| {
                let refused = refuses.load(std::sync::atomic::Ordering::SeqCst);
                let failure = Failure::new(FailureKind::LaptopNetwork, "full");
                async move { if refused { Err(failure) } else { Ok(placed(&Wanted::default())) } }
            })
        };
        let laptop = || sessions.lock().expect("unpoisoned").laptop().clone();
        assert!(footprint.follow_sessions().await.is_err());
        assert_eq!(laptop(), Laptop::Unchanged, "nothing is wanted");
        assert!(footprint.outcome().is_err(), "whoever asks afterwards hears it, too");
        let session = consume(fairlead_model::TeamspaceId::generate());
        sessions.lock().expect("unpoisoned").insert(session);
        assert!(footprint.follow_sessions().await.is_err());
        assert_eq!(laptop(), Laptop::Broken { reason: "full".to_owned() });
        refuses.store(false, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(footprint.follow_sessions().await, Ok(()));
        assert_eq!(footprint.outcome(), Ok(()));
    }
}
