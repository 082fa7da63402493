//! Knocks of our own: a connection or a datagram of this process, sent as a program would send it, that asks whether it
//! arrives here.
//!
//! What it means that one does not is for `proof.rs` and `trace.rs` to say.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fairlead_model::{Protocol, timers::LAPTOP_PROOF_MAX};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpSocket, UdpSocket},
    time::{sleep, timeout},
};
use uuid::Uuid;

/// A datagram may be lost where others send too fast; until there is an answer it is sent again as often as this.
const SENT_AGAIN: Duration = Duration::from_millis(250);

type Word = [u8; 16];

/// How each question begins, whichever daemon asks: one that waits in a socket when its daemon is killed must not go to a
/// service.
pub(crate) const ASKS: &[u8] = b"fairlead: does this arrive?\n";

/// Why a knock was in vain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unheard {
    #[error("another program answers")]
    AnotherProgram,
    #[error("nobody answers")]
    Nobody,
    #[error(transparent)]
    Refused(#[from] io::Error),
}

#[derive(Debug)]
pub(crate) struct Knocks {
    /// Where those come from that are on their way. Only they are answered.
    from: Mutex<HashSet<(Protocol, SocketAddr)>>,
    /// Told to nobody but those: who else answers does not know it.
    answer: Word,
}

/// Forgets where a knock comes from when nobody waits for it any more: the port may be a program's next.
struct Knocking<'a> {
    knocks: &'a Knocks,
    from: (Protocol, SocketAddr),
}

impl Drop for Knocking<'_> {
    fn drop(&mut self) {
        self.knocks.locked().remove(&self.from);
    }
}

impl Knocks {
    pub(crate) fn new() -> Self {
        Self { from: Mutex::default(), answer: *Uuid::new_v4().as_bytes() }
    }

    /// Connects to `on` and waits for our answer.
    pub(crate) async fn connect(&self, on: SocketAddrV4) -> Result<(), Unheard> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into())?;
        let _knocking = self.from(Protocol::Tcp, socket.local_addr()?);
        let answered = async {
            let mut word = Word::default();
            socket.connect(on.into()).await?.read_exact(&mut word).await?;
            Ok::<_, io::Error>(word)
        };
        let word = timeout(LAPTOP_PROOF_MAX, answered).await.map_err(|_| Unheard::Nobody)??;
        if word == self.answer { Ok(()) } else { Err(Unheard::AnotherProgram) }
    }

    /// Sends datagrams to `to` until one has our answer. What another program says, or a socket that is just being
    /// exchanged, is not the last word.
    pub(crate) async fn send(&self, to: SocketAddrV4) -> Result<(), Unheard> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(to).await?;
        let _knocking = self.from(Protocol::Udp, socket.local_addr()?);
        let mut in_vain = Unheard::Nobody;
        let answered = async {
            loop {
                match timeout(SENT_AGAIN, ask(&socket)).await {
                    Ok(Ok(word)) if word == self.answer => return,
                    Ok(Ok(_)) => in_vain = Unheard::AnotherProgram,
                    Ok(Err(error)) => in_vain = error.into(),
                    Err(_) => continue,
                }
                sleep(SENT_AGAIN).await;
            }
        };
        timeout(LAPTOP_PROOF_MAX, answered).await.map_err(|_| in_vain)
    }

    fn from(&self, protocol: Protocol, from: SocketAddr) -> Knocking<'_> {
        self.locked().insert((protocol, from));
        Knocking { knocks: self, from: (protocol, from) }
    }

    /// Says whether a connection, or who sent a datagram, is one of these.
    pub(crate) fn is_from_us(&self, protocol: Protocol, from: SocketAddr) -> bool {
        self.locked().contains(&(protocol, from))
    }

    /// Returns what is said to a knock.
    pub(crate) const fn answer(&self) -> &[u8] {
        &self.answer
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<(Protocol, SocketAddr)>> {
        self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(socket: &UdpSocket) -> io::Result<Word> {
    let mut word = Word::default();
    socket.send(ASKS).await?;
    socket.recv(&mut word).await?;
    Ok(word)
}

/// Says whether a datagram is a knock, of this daemon or of one before it.
pub(crate) fn is_knock(datagram: &[u8]) -> bool {
    datagram == ASKS
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn v4(address: io::Result<SocketAddr>) -> SocketAddrV4 {
        match address.expect("bound") {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(_) => unreachable!("bound to IPv4"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_not_waited_for_and_its_port_is_a_programs_again() {
        let knocks = Knocks::new();
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let knocked = knocks.connect(v4(silent.local_addr())).await;
        assert!(matches!(knocked, Err(Unheard::Nobody)), "{knocked:?}");
        let (_tcp, from) = silent.accept().await.expect("it came");
        assert!(!knocks.is_from_us(Protocol::Tcp, from));
        let silent = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let knocked = knocks.send(v4(silent.local_addr())).await;
        assert!(matches!(knocked, Err(Unheard::Nobody)), "{knocked:?}");
    }

    #[tokio::test]
    async fn who_sends_the_question_back_has_not_answered_it() {
        let knocks = Knocks::new();
        let echo = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let echoes = async {
            let mut asked = [0; 64];
            let (length, from) = echo.recv_from(&mut asked).await.expect("asked");
            assert!(is_knock(&asked[..length]) && knocks.is_from_us(Protocol::Udp, from));
            echo.send_to(&asked[..length], from).await.expect("sent");
        };
        let (knocked, ()) = tokio::join!(knocks.send(v4(echo.local_addr())), echoes);
        assert!(matches!(knocked, Err(Unheard::AnotherProgram)), "{knocked:?}");
    }

    #[tokio::test]
    async fn a_port_that_nobody_has_is_refused() {
        let nobody = v4(UdpSocket::bind("127.0.0.1:0").await.expect("bound").local_addr());
        let knocked = Knocks::new().send(nobody).await;
        assert!(matches!(knocked, Err(Unheard::Refused(_))), "{knocked:?}");
    }
}
