//! A network that can be listened to, that can fall silent, and that can break.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_util::sync::CancellationToken;

/// Stands between an end of a carrier and the relay.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<u8>>>,
    swallows_out: Arc<AtomicBool>,
    swallows_in: Arc<AtomicBool>,
    broken: CancellationToken,
    meddling: Arc<Mutex<Option<Meddling>>>,
}

/// What may happen to bytes that come from the relay.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meddling {
    Lose,
    Repeat,
    Move,
}

impl Proxy {
    pub(crate) async fn before(relay: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let proxy = Self {
            address: listener.local_addr().expect("bound").to_string(),
            seen: Arc::default(),
            swallows_out: Arc::default(),
            swallows_in: Arc::default(),
            broken: CancellationToken::new(),
            meddling: Arc::default(),
        };
        let (relay, this) = (relay.to_owned(), proxy.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&relay).await.expect("the relay listens");
                let ((near_rx, near_tx), (far_rx, far_tx)) = (near.into_split(), far.into_split());
                tokio::spawn(this.clone().pass(near_rx, far_tx, Arc::clone(&this.swallows_out)));
                tokio::spawn(this.clone().meddles(far_rx, near_tx));
            }
        });
        proxy
    }

    /// From now on nothing arrives, and nobody is told.
    pub(crate) fn swallow(&self) {
        self.swallow_what_goes_out();
        self.swallows_in.store(true, Ordering::SeqCst);
    }

    /// From now on nothing that this end of the carrier says arrives at the other.
    pub(crate) fn swallow_what_goes_out(&self) {
        self.swallows_out.store(true, Ordering::SeqCst);
    }

    /// Does this to the next bytes that come from the relay.
    pub(crate) fn meddle(&self, meddling: Meddling) {
        *self.meddling.lock().expect("not poisoned") = Some(meddling);
    }

    /// Closes the connections as a network does, without a word of TLS.
    pub(crate) fn break_off(&self) {
        self.broken.cancel();
    }

    /// Says whether these bytes have passed, in either direction.
    pub(crate) fn has_seen(&self, bytes: &[u8]) -> bool {
        let seen = self.seen.lock().expect("not poisoned");
        seen.windows(bytes.len()).any(|window| window == bytes)
    }

    pub(crate) fn bytes_seen(&self) -> usize {
        self.seen.lock().expect("not poisoned").len()
    }

    /// Passes on what the relay says, or what became of it.
    async fn meddles(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 << 10];
        let mut later = Vec::new();
        loop {
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                () = self.broken.cancelled() => return,
            };
            let Ok(read @ 1..) = read else { return };
            self.seen.lock().expect("not poisoned").extend_from_slice(&buffer[..read]);
            if self.swallows_in.load(Ordering::SeqCst) {
                continue;
            }
            let mut said = buffer[..read].to_vec();
            match self.meddling.lock().expect("not poisoned").take() {
                Some(Meddling::Lose) => drop(said.pop()),
                Some(Meddling::Repeat) => said.extend_from_slice(&buffer[..read]),
                Some(Meddling::Move) => {
                    later = said;
                    continue;
                }
                None => said.append(&mut later),
            }
            if to.write_all(&said).await.is_err() {
                return;
            }
        }
    }

    async fn pass(
        self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        swallows: Arc<AtomicBool>,
    ) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                () = self.broken.cancelled() => return,
            };
            let Ok(read @ 1..) = read else { return };
            self.seen.lock().expect("not poisoned").extend_from_slice(&buffer[..read]);
            if swallows.load(Ordering::SeqCst) {
                continue;
            }
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }
}
