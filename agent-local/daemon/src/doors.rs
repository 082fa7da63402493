//! Where the kernel cannot redirect: one door for each port of each service, a listener that the supervisor made.
//!
//! Everybody on the machine can knock at a loopback address, so each connection is looked at: only this user's are
//! carried, as a redirect would do. A knock of our own is answered: it is the proof that a door is ours.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, SocketAddrV4, TcpListener as StdListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use fairlead_model::Protocol;
use laptop_ipc::sockets::user_of_connection;
use nix::unistd::Uid;
use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};
use tracing::warn;

use crate::{arrivals::Arrivals, connections, keeper::Keeper, session::Task};

/// One listener in the place of a redirect.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) on: SocketAddrV4,
    pub(crate) listener: StdListener,
}

/// The doors by the destination they stand for.
pub(crate) type Doors = Arc<BTreeMap<SocketAddrV4, Arc<Door>>>;

/// Keeps every door attended, for as long as the daemon lives.
pub(crate) async fn attend(
    keeper: Arc<Keeper>,
    mut doors_rx: watch::Receiver<Option<Doors>>,
    room: Arc<Semaphore>,
) {
    let mut attended: BTreeMap<SocketAddrV4, (Arc<Door>, Task)> = BTreeMap::new();
    loop {
        let doors = doors_rx.borrow_and_update().clone().unwrap_or_default();
        attended.retain(|destination, (door, _)| {
            doors.get(destination).is_some_and(|now| Arc::ptr_eq(now, door))
        });
        for (destination, door) in doors.iter() {
            attended.entry(*destination).or_insert_with(|| {
                let (keeper, room) = (Arc::clone(&keeper), Arc::clone(&room));
                let (door, destination) = (Arc::clone(door), *destination);
                let held = Arc::clone(&door);
                let task = tokio::spawn(async move {
                    open(&keeper, &door, destination, &room).await;
                });
                (held, Task(task))
            });
        }
        if doors_rx.changed().await.is_err() {
            return;
        }
    }
}

async fn open(keeper: &Arc<Keeper>, door: &Door, destination: SocketAddrV4, room: &Arc<Semaphore>) {
    let arrivals = match door.listener.try_clone().and_then(Arrivals::at) {
        Ok(arrivals) => arrivals,
        Err(error) => {
            warn!("The listener on {} cannot be used: {error}", door.on);
            return;
        }
    };
    loop {
        let slot = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
        match arrivals.next().await {
            Ok((tcp, from)) if keeper.knocks.is_from_us(Protocol::Tcp, from) => {
                tokio::spawn(connections::answer_knock(Arc::clone(keeper), tcp));
            }
            Ok((tcp, from)) => {
                let keeper = Arc::clone(keeper);
                tokio::spawn(async move {
                    if is_of_this_user(&tcp, from).await {
                        connections::receive_for(keeper, tcp, destination, slot).await;
                    } else {
                        connections::reset(&tcp, &destination, "it is another user's", &from);
                    }
                });
            }
            Err(error) => {
                warn!("Could not accept: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A program may close its end before we look; then nobody waits for an answer either.
async fn is_of_this_user(tcp: &TcpStream, from: SocketAddr) -> bool {
    let Ok(on) = tcp.local_addr() else { return false };
    let owner = tokio::task::spawn_blocking(move || user_of_connection(on, from)).await;
    owner.ok().flatten() == Some(Uid::current().as_raw())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::stage;

    #[tokio::test]
    async fn a_knock_of_our_own_is_answered_and_a_door_that_is_gone_is_not() {
        let (_folder, keeper) = stage::keeper();
        let listener = StdListener::bind("127.0.0.1:0").expect("bound");
        listener.set_nonblocking(true).expect("set");
        let SocketAddr::V4(on) = listener.local_addr().expect("bound") else { panic!("v4") };
        let door = Arc::new(Door { on, listener });
        let doors: Doors = Arc::new(BTreeMap::from([(on, door)]));
        let (doors_tx, doors_rx) = watch::channel(Some(doors));
        let room = Arc::new(Semaphore::new(4));
        let attending = tokio::spawn(attend(Arc::clone(&keeper), doors_rx, room));
        keeper.knocks.connect(on).await.expect("answered");

        // Any other connection needs a session that grants it.
        let mut stranger = tokio::net::TcpStream::connect(on).await.expect("connected");
        let mut word = [0; 1];
        assert!(matches!(stranger.read(&mut word).await, Ok(0) | Err(_)), "nothing is granted");
        drop(stranger.shutdown().await);

        doors_tx.send_replace(None);
        tokio::task::yield_now().await;
        let gone = async {
            while tokio::net::TcpStream::connect(on).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("closed");
        drop(doors_tx);
        attending.await.expect("ends with the doors");
    }
}
