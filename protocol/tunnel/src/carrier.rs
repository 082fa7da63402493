//! What both ends of a carrier have in common: its settings, the future that drives it, and how it ends.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use fairlead_model::CarrierPath;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    keepalive::{BEATS_MAX, Beat, Keepalive},
    load::{Counter, Load, StreamCount, Weight},
    turn::after_the_streams,
};

/// The most that HTTP/2 allows. Anything less lets a few streams whose readers have stopped use up the window of the
/// whole carrier, and every other stream stands still.
pub(crate) const CARRIER_WINDOW: u32 = (1 << 31) - 1;
pub(crate) const FRAME_HEAD_BYTES: u32 = 9;
/// With its head a frame fills four TLS records and one allocation of 64 KB, and nothing of a fifth or of the next
/// larger one.
pub(crate) const FRAME_BYTES: u32 = (64 << 10) - FRAME_HEAD_BYTES;
/// Read from the network at once. rustls by itself asks for 4 KB at a time. Of what was never needed the kernel gives no
/// page.
pub(crate) const READ_BUFFER_BYTES: usize = 256 << 10;
/// Encrypted and not yet taken by the network.
pub(crate) const TLS_BUFFER_BYTES: usize = 64 << 10;
/// Bytes a stream may have waiting to be sent; more only makes the others wait longer.
pub(crate) const SEND_BUFFER_BYTES: usize = 256 << 10;
pub(crate) const STREAMS_MAX: u32 = 4096;
/// Applications that connect and abort in bursts are no attack: h2's own limits (20, 50) would end the carrier.
pub(crate) const RESETS_MAX: usize = STREAMS_MAX as usize;
pub(crate) const HEAD_MAX_BYTES: u32 = 16 << 10;

/// Sets on an `h2` builder, of whichever side, what every carrier has.
macro_rules! with_carrier_settings {
    ($builder:expr) => {
        $builder
            .initial_window_size($crate::window::WINDOW_MIN_BYTES)
            .initial_connection_window_size($crate::carrier::CARRIER_WINDOW)
            .max_frame_size($crate::carrier::FRAME_BYTES)
            .max_send_buffer_size($crate::carrier::SEND_BUFFER_BYTES)
            .max_concurrent_streams($crate::carrier::STREAMS_MAX)
            .max_concurrent_reset_streams($crate::carrier::RESETS_MAX)
            .max_pending_accept_reset_streams($crate::carrier::RESETS_MAX)
            .max_header_list_size($crate::carrier::HEAD_MAX_BYTES)
    };
}
pub(crate) use with_carrier_settings;

/// Drives a carrier. The carrier lives as long as this is polled, and not longer.
pub type Driver = Pin<Box<dyn Future<Output = CarrierEnd> + Send>>;

/// Why a carrier is no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarrierEnd {
    #[error("the carrier was closed at this end")]
    Closed,
    #[error("the carrier was closed by the other end")]
    ClosedByPeer,
    #[error("the other end of the carrier does not answer")]
    Silent,
    #[error("the carrier broke: {0}")]
    Broken(String),
}

impl CarrierEnd {
    pub(crate) fn of(result: Result<(), h2::Error>) -> Self {
        match result {
            Ok(()) => Self::ClosedByPeer,
            Err(error) => Self::Broken(error.to_string()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("the other end of the carrier did not agree on TLS in time")]
    TimedOut,
    #[error(
        "a certificate of the carrier is not valid at this time: the clock of the laptop or of the cluster's node is wrong \
         (timedatectl shows it)"
    )]
    NotAtThisTime(#[source] rustls::Error),
    #[error("the other end of the carrier is not who it should be")]
    NotTrusted(#[source] rustls::Error),
    #[error("the other end of the carrier does not accept this one")]
    NotAccepted(#[source] rustls::Error),
    #[error("the other end of the carrier speaks another protocol")]
    OtherProtocol,
    #[error("the carrier broke before it was ready")]
    Broken(#[source] io::Error),
    #[error(transparent)]
    Config(#[from] crate::tls::TlsConfigError),
}

impl HandshakeError {
    /// Sorts an error of TLS: whether this end refused the other, the other refused this one, or the network failed.
    pub(crate) fn of(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => Self::of_tls(tls.clone()).unwrap_or(Self::Broken(error)),
            None => Self::Broken(error),
        }
    }

    /// Sorts what one end decided about the other.
    pub(crate) fn of_tls(tls: rustls::Error) -> Option<Self> {
        use rustls::{
            AlertDescription::{CertificateExpired, NoApplicationProtocol},
            CertificateError as Bad, Error,
        };
        match tls {
            Error::AlertReceived(CertificateExpired)
            | Error::InvalidCertificate(
                Bad::Expired
                | Bad::ExpiredContext { .. }
                | Bad::NotValidYet
                | Bad::NotValidYetContext { .. },
            ) => Some(Self::NotAtThisTime(tls)),
            Error::InvalidCertificate(_) | Error::NoCertificatesPresented => {
                Some(Self::NotTrusted(tls))
            }
            Error::AlertReceived(NoApplicationProtocol) | Error::NoApplicationProtocol => {
                Some(Self::OtherProtocol)
            }
            Error::AlertReceived(_) => Some(Self::NotAccepted(tls)),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other end of the carrier did not answer in time")]
pub struct NoAnswer;

/// A hold on a carrier, for whoever watches over it or ends it.
#[derive(Clone, Debug)]
pub struct CarrierHandle {
    beats: mpsc::Sender<Beat>,
    end: watch::Receiver<Option<CarrierEnd>>,
    close: CancellationToken,
    drain: CancellationToken,
    path: Arc<OnceLock<CarrierPath>>,
    load: Arc<Counter>,
}

impl CarrierHandle {
    /// Waits until the carrier is no more.
    pub async fn closed(&self) -> CarrierEnd {
        let mut end = self.end.clone();
        let seen = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        // A driver that was dropped has published nothing; its carrier ended with it.
        seen.unwrap_or(CarrierEnd::Closed)
    }

    /// Says whether the carrier is no more, or was told to end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.close.is_cancelled() || self.end.borrow().is_some() || self.end.has_changed().is_err()
    }

    /// Says whether a further stream may be opened.
    #[must_use]
    pub fn takes_streams(&self) -> bool {
        !self.is_draining() && !self.is_closed()
    }

    /// Says whether both are holds on one carrier.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.end.same_channel(&other.end)
    }

    /// Ends the carrier at once; its streams are aborted.
    pub fn close(&self) {
        self.close.cancel();
    }

    /// Takes no further streams; the carrier ends when the open ones have.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Waits until it takes no further streams.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Remembers which way it takes, for whoever shows it.
    pub fn came_by(&self, path: CarrierPath) {
        // It takes one way all its life.
        drop(self.path.set(path));
    }

    /// Returns which way it takes, where that was said.
    #[must_use]
    pub fn path(&self) -> Option<&CarrierPath> {
        self.path.get()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Returns how many streams are open.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.load().streams
    }

    /// Returns what the carrier carries at this moment.
    #[must_use]
    pub fn load(&self) -> Load {
        self.load.now()
    }

    /// Returns how good a place for a new stream this is: the least weight is the best.
    pub(crate) fn weight(&self) -> Weight {
        self.load.weight()
    }

    /// Returns what tells when a stream has become bulk, or one that was has ended.
    pub(crate) fn bulk_changes(&self) -> watch::Receiver<Load> {
        self.load.bulk_changes()
    }

    /// Waits until no stream is open.
    pub async fn unused(&self) {
        self.load.empty().await;
    }

    /// Asks the other end for a sign of life and returns how long it took.
    pub async fn beat(&self, patience: Duration) -> Result<Duration, NoAnswer> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let asked = async {
            self.beats.send(Beat::new(answer_tx)).await.ok()?;
            answer_rx.await.ok()
        };
        timeout(patience, asked).await.ok().flatten().ok_or(NoAnswer)
    }

    pub(crate) fn count_stream(&self) -> StreamCount {
        StreamCount::begin(&self.load)
    }
}

/// The driver's side of a [`CarrierHandle`].
#[derive(Debug)]
pub(crate) struct Controls {
    beats: mpsc::Receiver<Beat>,
    end: watch::Sender<Option<CarrierEnd>>,
    close: CancellationToken,
    pub(crate) drain: CancellationToken,
    load: Arc<Counter>,
}

impl Controls {
    pub(crate) fn new() -> (Self, CarrierHandle) {
        let (beats_tx, beats_rx) = mpsc::channel(BEATS_MAX);
        let (end_tx, end_rx) = watch::channel(None);
        let (close, drain) = (CancellationToken::new(), CancellationToken::new());
        let load = Arc::<Counter>::default();
        let handle = CarrierHandle {
            beats: beats_tx,
            end: end_rx,
            close: close.clone(),
            drain: drain.clone(),
            path: Arc::default(),
            load: Arc::clone(&load),
        };
        (Self { beats: beats_rx, end: end_tx, close, drain, load }, handle)
    }

    /// Runs `engine` (an `h2` connection) until it ends, is closed from here, or its peer falls silent.
    pub(crate) async fn run(
        self,
        engine: impl Future<Output = CarrierEnd>,
        keepalive: Keepalive,
    ) -> CarrierEnd {
        let engine = after_the_streams(engine, &self.load);
        let (beats, close) = (self.beats, self.close);
        // A task of its own: within this one it would be asked at each turn of the connection.
        let ended = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::select! {
                () = keepalive.until_silent(beats) => CarrierEnd::Silent,
                () = close.cancelled() => CarrierEnd::Closed,
            }
        }));
        let end = tokio::select! {
            biased;
            end = engine => end,
            end = ended => end.unwrap_or(CarrierEnd::Closed),
        };
        self.end.send_replace(Some(end.clone()));
        end
    }
}
