//! The end of a carrier that opens streams: the laptop when it consumes, the agent when it intercepts.

use std::{future::poll_fn, io, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use fairlead_model::timers::{HANDSHAKE, STREAM_OPEN};
use fairlead_wire::{
    open::{OpenRequest, Refused, grant_head},
    resolve::{RESOLVED_MAX_BYTES, ResolveRequest},
};
use h2::client::{Connection, SendRequest};
use http::Request;
use tokio::time::{Instant, timeout};

use crate::{
    carrier::{
        CarrierEnd, CarrierHandle, Controls, Driver, HandshakeError, NoAnswer, STREAMS_MAX,
        with_carrier_settings,
    },
    connection::Io,
    half::{Receiver, Sender, io_error, is_last_go_away},
    heard::{Heard, Secured},
    keepalive::Keepalive,
    secure::secure_opener,
    stream::Stream,
    tls::{PeerExpectation, TlsIdentity},
    window::Setter,
};

#[derive(Debug, thiserror::Error)]
pub enum OpenFailed {
    /// The other end said no.
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the other end of the carrier did not answer in time")]
    TimedOut,
    /// The carrier is gone, or the other end aborted.
    #[error("the carrier is lost")]
    Lost(#[source] io::Error),
}

impl OpenFailed {
    fn of(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()) {
            Some(refused) => Self::Refused(refused.clone()),
            None => Self::Lost(error),
        }
    }
}

/// Opens streams on one carrier. Clones share it; the carrier ends when the last of them and of its streams is gone.
#[derive(Clone, Debug)]
pub struct Opener {
    requests: SendRequest<Bytes>,
    handle: CarrierHandle,
}

impl Opener {
    /// Begins a carrier on `io` as the TLS and HTTP/2 client.
    ///
    /// Returns only after the other end has answered: in TLS 1.3 a server refuses a client's certificate after the
    /// client believes the handshake done.
    pub async fn handshake(
        io: impl Io,
        identity: &TlsIdentity,
        expected: &PeerExpectation,
    ) -> Result<(Self, Driver), HandshakeError> {
        let secured = secure_opener(io, identity, expected).await?;
        let heard = secured.heard();
        let begun = timeout(HANDSHAKE, Self::begin(secured, Arc::clone(&heard))).await;
        begun.map_err(|_| HandshakeError::TimedOut)?.map_err(|error| {
            heard
                .refusal()
                .and_then(HandshakeError::of_tls)
                .unwrap_or(HandshakeError::Broken(error))
        })
    }

    async fn begin(secured: Secured, heard: Arc<Heard>) -> io::Result<(Self, Driver)> {
        let mut builder = h2::client::Builder::new();
        let (requests, mut connection) = with_carrier_settings!(builder)
            .initial_max_send_streams(STREAMS_MAX as usize)
            .enable_push(false)
            .handshake::<_, Bytes>(secured)
            .await
            .map_err(io::Error::other)?;
        let mut ping_pong = connection.ping_pong().expect("taken once");
        let asked_at = Instant::now();
        first_answer(&mut connection, &mut ping_pong).await?;
        heard.window().note_round_trip(asked_at.elapsed());
        let (controls, handle) = Controls::new();
        let mut window = Setter::new(Arc::clone(heard.window()));
        let engine = poll_fn(move |cx| {
            window.look(|size| connection.set_initial_window_size(size));
            Pin::new(&mut connection).poll(cx).map(CarrierEnd::of)
        });
        let driver = Box::pin(controls.run(engine, Keepalive::new(ping_pong, heard)));
        Ok((Self { requests, handle }, driver))
    }

    /// Shows the grant on which the coming streams rest. The other end may just have stopped taking streams, and grants
    /// with them: then [`Opener::takes_streams`] says no after this has failed, and what is open goes on.
    pub async fn present_grant(&self, jwt: &str) -> Result<(), OpenFailed> {
        let presented = async {
            let (mut receiver, mut sender) = self.ask(grant_head()).await?;
            let said = sender.send_all(Bytes::copy_from_slice(jwt.as_bytes())).await;
            let answered = match said.and_then(|()| sender.end()) {
                Ok(()) => receiver.opened().await,
                unsaid => unsaid,
            };
            answered.map_err(|error| self.unless_unseen(&mut receiver, error))
        };
        timeout(STREAM_OPEN, presented)
            .await
            .map_err(|_| OpenFailed::TimedOut)?
            .map_err(OpenFailed::of)
    }

    /// Opens a stream and waits until the other end has agreed.
    pub async fn open(&self, wish: &OpenRequest) -> Result<Stream, OpenFailed> {
        let opened = async {
            let mut stream = self.begin_stream(wish).await?;
            match stream.answered().await {
                Ok(()) => Ok(stream),
                Err(error) => Err(self.unless_unseen(&mut stream.receiver, error)),
            }
        };
        timeout(STREAM_OPEN, opened)
            .await
            .map_err(|_| OpenFailed::TimedOut)?
            .map_err(OpenFailed::of)
    }

    /// Opens a stream that may be written at once, before the other end has agreed: saves a round trip. A refusal
    /// arrives as the error of the first read, with a [`Refused`] inside. The other end may just have stopped taking
    /// streams and never see it: whoever carries a connection over it does so by [`Untaken`](crate::Untaken).
    pub async fn open_early(&self, wish: &OpenRequest) -> Result<Stream, OpenFailed> {
        timeout(STREAM_OPEN, self.begin_stream(wish))
            .await
            .map_err(|_| OpenFailed::TimedOut)?
            .map_err(OpenFailed::of)
    }

    /// Asks the cluster's DNS and returns what it said. Where [`Opener::takes_streams`] says no after this has failed,
    /// nobody has seen the question.
    pub async fn resolve(&self, question: &ResolveRequest) -> Result<Bytes, OpenFailed> {
        let asked = async {
            let (mut receiver, mut sender) = self.ask(question.to_head()).await?;
            sender.end()?;
            let mut said = BytesMut::new();
            while let Some(chunk) = receiver.chunk().await {
                let chunk = chunk.map_err(|error| self.unless_unseen(&mut receiver, error))?;
                if said.len() + chunk.len() > RESOLVED_MAX_BYTES {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "too long an answer"));
                }
                said.extend_from_slice(&chunk);
                receiver.release(chunk.len());
            }
            Ok(said.freeze())
        };
        timeout(STREAM_OPEN, asked).await.map_err(|_| OpenFailed::TimedOut)?.map_err(OpenFailed::of)
    }

    /// Returns the hold on the carrier itself.
    #[must_use]
    pub const fn handle(&self) -> &CarrierHandle {
        &self.handle
    }

    /// Asks the other end for a sign of life and returns how long it took.
    pub async fn beat(&self, patience: Duration) -> Result<Duration, NoAnswer> {
        self.handle.beat(patience).await
    }

    /// Waits until the carrier is no more.
    pub async fn closed(&self) -> CarrierEnd {
        self.handle.closed().await
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Says whether a further stream may be opened.
    #[must_use]
    pub fn takes_streams(&self) -> bool {
        self.handle.takes_streams()
    }

    /// Ends the carrier at once; its streams are aborted.
    pub fn close(&self) {
        self.handle.close();
    }

    async fn begin_stream(&self, wish: &OpenRequest) -> io::Result<Stream> {
        if self.handle.is_draining() {
            return Err(drained());
        }
        let (receiver, sender) = self.ask(wish.to_head()).await?;
        Ok(Stream::new(receiver, sender, self.handle.count_stream()))
    }

    async fn ask(&self, head: Request<()>) -> io::Result<(Receiver, Sender)> {
        let mut requests = self.requests.clone();
        let failed = |error: h2::Error| {
            if is_last_go_away(&error) { self.takes_no_more() } else { io_error(error) }
        };
        poll_fn(|cx| requests.poll_ready(cx)).await.map_err(failed)?;
        let (answer, send) = requests.send_request(head, false).map_err(failed)?;
        Ok((Receiver::asked(answer), Sender::new(send)))
    }

    /// Returns the error of an answer; another one when there is none because the other end had stopped taking streams.
    fn unless_unseen(&self, receiver: &mut Receiver, error: io::Error) -> io::Error {
        if receiver.was_never_seen() { self.takes_no_more() } else { error }
    }

    /// The other end takes no more streams; what is open goes on.
    fn takes_no_more(&self) -> io::Error {
        self.handle.drain();
        drained()
    }
}

fn drained() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the carrier is being drained")
}

/// Waits for the first PING to come back: then the other end has accepted us.
async fn first_answer(
    connection: &mut Connection<Secured, Bytes>,
    ping_pong: &mut h2::PingPong,
) -> io::Result<()> {
    tokio::select! {
        ended = connection => {
            ended.map_err(io::Error::other)?;
            Err(io::ErrorKind::UnexpectedEof.into())
        }
        pong = ping_pong.ping(h2::Ping::opaque()) => pong.map(drop).map_err(io::Error::other),
    }
}
