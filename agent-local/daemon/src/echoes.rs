//! Echoes over the link: whether the hub answers at this moment, and how long the way there and back takes.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fairlead_wire::link::v1::{Echo, laptop_up::Message as Up};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::link::LinkHandle;

/// Why none came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoEcho {
    NotConnected,
    /// The link stands, and the hub does not answer.
    Silent,
}

/// The echoes that have not come back yet.
#[derive(Debug)]
pub(crate) struct Echoes {
    link: LinkHandle,
    numbers: AtomicU64,
    pending: Mutex<HashMap<u64, oneshot::Sender<()>>>,
}

/// Forgets an echo that nobody waits for any more.
struct Sent<'a> {
    echoes: &'a Echoes,
    number: u64,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.echoes.pending().remove(&self.number);
    }
}

impl Echoes {
    pub(crate) fn new(link: LinkHandle) -> Self {
        Self { link, numbers: AtomicU64::new(1), pending: Mutex::default() }
    }

    /// Sends one, and returns how long it was away.
    pub(crate) async fn ask(&self, patience: Duration) -> Result<Duration, NoEcho> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (back_tx, back_rx) = oneshot::channel();
        self.pending().insert(number, back_tx);
        let _sent = Sent { echoes: self, number };
        let begun = Instant::now();
        if !self.link.say(Up::Echo(Echo { number })) {
            return Err(NoEcho::NotConnected);
        }
        match timeout(patience, back_rx).await {
            Ok(Ok(())) => Ok(begun.elapsed()),
            Ok(Err(_)) | Err(_) => Err(NoEcho::Silent),
        }
    }

    /// Takes one that came back.
    pub(crate) fn take(&self, echo: Echo) {
        if let Some(back_tx) = self.pending().remove(&echo.number) {
            // Who asked may have given up.
            let _given_up = back_tx.send(());
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<()>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use fairlead_wire::link::v1::LaptopUp;
    use tokio::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn echoes() -> (Echoes, mpsc::Receiver<LaptopUp>) {
        let (link, _, up_rx) = LinkHandle::standing();
        (Echoes::new(link), up_rx)
    }

    async fn asked(up_rx: &mut mpsc::Receiver<LaptopUp>) -> Echo {
        match up_rx.recv().await.and_then(|said| said.message) {
            Some(Up::Echo(echo)) => echo,
            other => panic!("not an echo: {other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_echo_that_comes_back_says_how_long_it_was_away() {
        let (echoes, mut up_rx) = echoes();
        let (took, ()) = tokio::join!(echoes.ask(PATIENCE), async {
            let echo = asked(&mut up_rx).await;
            echoes.take(Echo { number: echo.number + 1 });
            tokio::time::advance(Duration::from_millis(7)).await;
            echoes.take(echo);
        });
        assert_eq!(took, Ok(Duration::from_millis(7)));
        assert!(echoes.pending().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hub_that_is_silent_is_not_waited_for_and_what_comes_later_is_nothing() {
        let (echoes, mut up_rx) = echoes();
        assert_eq!(echoes.ask(PATIENCE).await, Err(NoEcho::Silent));
        assert!(echoes.pending().is_empty(), "it is forgotten");
        echoes.take(asked(&mut up_rx).await);
        drop(up_rx);
        assert_eq!(echoes.ask(PATIENCE).await, Err(NoEcho::NotConnected));
    }
}
