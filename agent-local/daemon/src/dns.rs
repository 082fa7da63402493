//! The DNS server of this laptop: answers for what is consumed, on sockets that the supervisor made at 127.72.0.53. What
//! it answers is said in `laptop-dns`.
//!
//! Whoever asks waits for the cluster at most as long as any connection waits. At most `QUESTIONS_MAX` are under way;
//! one more is dropped, and asked again by whoever asked it.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket},
    sync::Arc,
    time::Duration,
};

use fairlead_model::timers::LAPTOP_QUEUE;
use fairlead_wire::resolve::ResolveRequest;
use laptop_dns::{Asking, Next, consider};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    time::timeout,
};
use tracing::{debug, info, warn};

use crate::{connections, keeper::Keeper};

const QUESTIONS_MAX: usize = 128;
const CONNECTIONS_MAX: usize = 32;
/// Longest question; they are short.
const QUESTION_MAX_BYTES: usize = 1232;
/// A connection that asks nothing for this long is closed.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The sockets as the supervisor passed them.
#[derive(Debug)]
pub(crate) struct DnsSockets {
    pub(crate) udp: StdUdpSocket,
    pub(crate) tcp: StdTcpListener,
}

/// Answers on whichever sockets were passed last, for as long as the daemon lives.
pub(crate) async fn serve_each(
    keeper: Arc<Keeper>,
    mut sockets_rx: watch::Receiver<Option<Arc<DnsSockets>>>,
) {
    loop {
        let sockets = sockets_rx.borrow_and_update().clone();
        let changed = match sockets {
            None => sockets_rx.changed().await,
            Some(sockets) => tokio::select! {
                Err(error) = serve(&keeper, &sockets) => {
                    warn!("Names are not answered by DNS: {error}");
                    sockets_rx.changed().await
                }
                changed = sockets_rx.changed() => changed,
            },
        };
        if changed.is_err() {
            return;
        }
    }
}

async fn serve(keeper: &Arc<Keeper>, sockets: &DnsSockets) -> io::Result<()> {
    let udp = Arc::new(UdpSocket::from_std(sockets.udp.try_clone()?)?);
    let tcp = TcpListener::from_std(sockets.tcp.try_clone()?)?;
    info!("Names are answered by DNS");
    tokio::join!(serve_datagrams(keeper, udp), serve_connections(keeper, tcp));
    Ok(())
}

async fn serve_datagrams(keeper: &Arc<Keeper>, socket: Arc<UdpSocket>) {
    let room = Arc::new(Semaphore::new(QUESTIONS_MAX));
    let mut buffer = [0; QUESTION_MAX_BYTES];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An answer that reached nobody comes back as an error.
            Err(error) => {
                debug!("{error}");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let zone = keeper.sessions().zone();
        match consider(&buffer[..length], &zone, None) {
            Next::Nothing => {}
            Next::Reply(reply) => send(&socket, &reply, from),
            Next::Ask(asking) => {
                let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
                let (keeper, socket) = (Arc::clone(keeper), Arc::clone(&socket));
                tokio::spawn(async move {
                    if let Some(reply) = asked_of_the_cluster(&keeper, *asking).await {
                        send(&socket, &reply, from);
                    }
                    drop(place);
                });
            }
        }
    }
}

/// What cannot be sent at once is lost, as any datagram may be.
fn send(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if let Err(error) = socket.try_send_to(reply, to) {
        debug!("An answer was not sent: {error}");
    }
}

async fn serve_connections(keeper: &Arc<Keeper>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((tcp, _)) => {
                let keeper = Arc::clone(keeper);
                tokio::spawn(async move {
                    if let Err(error) = converse(&keeper, tcp).await {
                        debug!("A connection for names ended: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!("Could not accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(keeper: &Keeper, mut tcp: TcpStream) -> io::Result<()> {
    let mut buffer = [0; QUESTION_MAX_BYTES];
    loop {
        let length = usize::from(timeout(SILENCE_MAX, tcp.read_u16()).await??);
        let Some(question) = buffer.get_mut(..length) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too long a question"));
        };
        timeout(SILENCE_MAX, tcp.read_exact(question)).await??;
        let zone = keeper.sessions().zone();
        let reply = match consider(question, &zone, Some(u16::MAX)) {
            Next::Nothing => return Ok(()),
            Next::Reply(reply) => Some(reply),
            Next::Ask(asking) => asked_of_the_cluster(keeper, *asking).await,
        };
        let Some(reply) = reply else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes(), &reply[..]].concat();
        timeout(SILENCE_MAX, tcp.write_all(&framed)).await??;
    }
}

async fn asked_of_the_cluster(keeper: &Keeper, asking: Asking) -> Option<Vec<u8>> {
    let said = timeout(LAPTOP_QUEUE, ask(keeper, &asking)).await.ok().flatten();
    let zone = keeper.sessions().zone();
    asking.answered(said.as_deref(), &zone)
}

async fn ask(keeper: &Keeper, asking: &Asking) -> Option<Vec<u8>> {
    let mut route = keeper.sessions().route_to_any_port(asking.name.service())?;
    let name = asking.name.clone();
    let question = ResolveRequest { session: route.session, name, record: asking.record() };
    loop {
        let opener = connections::usable(&mut route).await.ok()?;
        match opener.resolve(&question).await {
            Ok(answer) => return Some(answer.to_vec()),
            // Its agent leaves, and has perhaps not seen it: another one answers.
            Err(_) if !opener.takes_streams() => {}
            Err(error) => {
                debug!(name = %question.name, "The cluster's DNS did not answer: {error}");
                return None;
            }
        }
    }
}
