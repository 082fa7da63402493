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

use fairlead_model::{SessionId, timers::LAPTOP_PROOF_MAX};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpSocket, UdpSocket},
    time::timeout,
};

/// A datagram may be lost where others send too fast; until there is an answer it is sent again as often as this.
const SENT_AGAIN: Duration = Duration::from_millis(250);

/// Known to this process only.
type Word = [u8; 16];

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
    /// Where connections come from that are on their way.
    from: Mutex<HashSet<SocketAddr>>,
    /// What a datagram asks. Whoever else gets it does not know the answer.
    question: Word,
    answer: Word,
}

/// Forgets where a connection comes from when nobody waits for it any more: the port may be a program's next.
struct Knocking<'a> {
    knocks: &'a Knocks,
    from: SocketAddr,
}

impl Drop for Knocking<'_> {
    fn drop(&mut self) {
        self.knocks.locked().remove(&self.from);
    }
}

impl Knocks {
    pub(crate) fn new() -> Self {
        let word = || *SessionId::generate().as_uuid().as_bytes();
        Self { from: Mutex::default(), question: word(), answer: word() }
    }

    /// Connects to `on` and waits for our answer.
    pub(crate) async fn connect(&self, on: SocketAddrV4) -> Result<(), Unheard> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into())?;
        let from = socket.local_addr()?;
        self.locked().insert(from);
        let _knocking = Knocking { knocks: self, from };
        let answered = async {
            let mut word = Word::default();
            socket.connect(on.into()).await?.read_exact(&mut word).await?;
            Ok(word)
        };
        self.judge(timeout(LAPTOP_PROOF_MAX, answered).await.map_err(|_| Unheard::Nobody)?)
    }

    /// Sends a datagram to `to` and waits for our answer.
    pub(crate) async fn send(&self, to: SocketAddrV4) -> Result<(), Unheard> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(to).await?;
        let answered = async {
            let mut word = Word::default();
            loop {
                socket.send(&self.question).await?;
                if let Ok(received) = timeout(SENT_AGAIN, socket.recv(&mut word)).await {
                    return received.map(|_| word);
                }
            }
        };
        self.judge(timeout(LAPTOP_PROOF_MAX, answered).await.map_err(|_| Unheard::Nobody)?)
    }

    fn judge(&self, answered: io::Result<Word>) -> Result<(), Unheard> {
        if answered? == self.answer { Ok(()) } else { Err(Unheard::AnotherProgram) }
    }

    /// Says whether a connection is one of these.
    pub(crate) fn is_from_us(&self, from: SocketAddr) -> bool {
        self.locked().contains(&from)
    }

    /// Says whether a datagram is one of these.
    pub(crate) fn is_question(&self, datagram: &[u8]) -> bool {
        datagram == self.question
    }

    /// Returns what is said to a knock.
    pub(crate) const fn answer(&self) -> &[u8] {
        &self.answer
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        assert!(!knocks.is_from_us(from));
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
            assert!(knocks.is_question(&asked[..length]));
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
