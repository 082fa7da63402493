//! The end of a carrier that takes streams: the agent when a laptop consumes, the laptop when the agent intercepts.

use std::{future::poll_fn, io, sync::Arc, time::Duration};

use bytes::Bytes;
use fairlead_model::timers::STREAM_OPEN;
use fairlead_wire::{
    open::{
        GRANT_MAX_BYTES, GRANT_PATH, OPEN_MORE_PATH, OPEN_PATH, OpenRequest, Opened, Refusal,
        Refused,
    },
    resolve::{RESOLVE_PATH, ResolveRequest},
};
use h2::{
    RecvStream,
    server::{Connection, SendResponse},
};
use http::{Method, Request, Response, StatusCode};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    carrier::{CarrierEnd, CarrierHandle, Controls, Driver, HandshakeError, with_carrier_settings},
    connection::Io,
    half::{Receiver, Sender, io_error},
    heard::Secured,
    keepalive::Keepalive,
    load::StreamCount,
    secure::secure_acceptor,
    stream::Stream,
    tls::{PeerExpectation, TlsIdentity},
    window::Setter,
};

/// Offers that wait for the owner of the carrier. When it is full, further ones are refused as unavailable.
const OFFERS_MAX: usize = 1024;

/// Takes what the other end of one carrier offers.
#[derive(Debug)]
pub struct Acceptor {
    offers: mpsc::Receiver<Incoming>,
    handle: CarrierHandle,
}

impl Acceptor {
    /// Begins a carrier on `io` as the TLS and HTTP/2 server.
    pub async fn handshake(
        io: impl Io,
        identity: &TlsIdentity,
        expected: &PeerExpectation,
    ) -> Result<(Self, Driver), HandshakeError> {
        let secured = secure_acceptor(io, identity, expected).await?;
        let heard = secured.heard();
        let mut builder = h2::server::Builder::new();
        let handshake = with_carrier_settings!(builder).handshake::<_, Bytes>(secured);
        let mut connection = timeout(fairlead_model::timers::HANDSHAKE, handshake)
            .await
            .map_err(|_| HandshakeError::TimedOut)?
            .map_err(|error| HandshakeError::Broken(io::Error::other(error)))?;
        let ping_pong = connection.ping_pong().expect("taken once");
        let (controls, handle) = Controls::new();
        let (offers_tx, offers_rx) = mpsc::channel(OFFERS_MAX);
        let engine = Engine {
            connection,
            offers: offers_tx,
            drain: controls.drain.clone(),
            handle: handle.clone(),
            window: Setter::new(Arc::clone(heard.window())),
        };
        let driver = Box::pin(controls.run(engine.run(), Keepalive::new(ping_pong, heard)));
        Ok((Self { offers: offers_rx, handle }, driver))
    }

    /// Returns the next offer, and `None` when the carrier is no more.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.offers.recv().await
    }

    /// Returns the hold on the carrier itself.
    #[must_use]
    pub const fn handle(&self) -> &CarrierHandle {
        &self.handle
    }
}

/// What the other end wants.
#[derive(Debug)]
pub enum Incoming {
    Grant(GrantPresented),
    Open(StreamOffered),
    Resolve(Questioned),
}

/// A question to the cluster's DNS.
#[derive(Debug)]
pub struct Questioned {
    request: ResolveRequest,
    answer: Answer,
}

impl Questioned {
    #[must_use]
    pub const fn request(&self) -> &ResolveRequest {
        &self.request
    }

    /// Answers with what the cluster's DNS said.
    pub fn answer(mut self, said: Vec<u8>) {
        self.answer.say(said.into());
    }

    pub fn refuse(mut self, refusal: Refusal, reason: impl Into<String>) {
        self.answer.refuse(&Refused::new(refusal, reason));
    }
}

/// A grant that the other end shows.
#[derive(Debug)]
pub struct GrantPresented {
    receiver: Receiver,
    answer: Answer,
}

impl GrantPresented {
    /// Reads the grant, which is bounded in length and in time.
    pub async fn jwt(&mut self) -> io::Result<String> {
        timeout(STREAM_OPEN, self.read())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn read(&mut self) -> io::Result<String> {
        let mut jwt = Vec::new();
        while let Some(chunk) = self.receiver.chunk().await {
            let chunk = chunk?;
            if jwt.len() + chunk.len() > GRANT_MAX_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the grant is too long"));
            }
            jwt.extend_from_slice(&chunk);
            self.receiver.release(chunk.len());
        }
        String::from_utf8(jwt).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Answers that streams may now be opened on this grant.
    pub fn accept(mut self) {
        self.answer.end(StatusCode::NO_CONTENT);
    }

    /// Answers that the grant is worth nothing here, and why.
    pub fn refuse(mut self, reason: impl Into<String>) {
        self.answer.refuse(&Refused::new(Refusal::NotAllowed, reason));
    }

    /// Answers that the grant is worth nothing at this moment, and why.
    pub fn refuse_for_now(mut self, reason: impl Into<String>) {
        self.answer.refuse(&Refused::new(Refusal::Unavailable, reason));
    }
}

/// A stream that the other end wants to open.
#[derive(Debug)]
pub struct StreamOffered {
    wish: OpenRequest,
    receiver: Receiver,
    answer: Answer,
    count: StreamCount,
}

impl StreamOffered {
    #[must_use]
    pub const fn request(&self) -> &OpenRequest {
        &self.wish
    }

    /// Agrees; fails when the other end has given up meanwhile.
    pub fn accept(self) -> io::Result<Stream> {
        self.agree(Opened::default())
    }

    /// The same after connecting for so long, which whoever probes is told.
    pub fn accept_after(self, connecting: Duration) -> io::Result<Stream> {
        let connected_in = self.wish.probe.then_some(connecting);
        self.agree(Opened { connected_in })
    }

    /// Agrees with the first bytes that are sent, in one packet: for whoever opens early and does not wait for the answer.
    /// [`both_ways`](crate::both_ways) agrees after a second at the latest. Somebody who has given up meanwhile is noticed
    /// then.
    #[must_use]
    pub fn accept_with_the_first_bytes(mut self) -> Stream {
        Stream::new(self.receiver, Sender::unanswered(self.answer.later()), self.count)
    }

    fn agree(mut self, opened: Opened) -> io::Result<Stream> {
        let send = self.answer.agree(opened)?;
        Ok(Stream::new(self.receiver, Sender::new(send), self.count))
    }

    pub fn refuse(mut self, refusal: Refusal, reason: impl Into<String>) {
        self.answer.refuse(&Refused::new(refusal, reason));
    }
}

/// The one answer that every offer gets; dropped without one, it says unavailable.
#[derive(Debug)]
struct Answer(Option<SendResponse<Bytes>>);

impl Answer {
    fn agree(&mut self, opened: Opened) -> io::Result<h2::SendStream<Bytes>> {
        let mut respond = self.0.take().expect("an offer is answered once, by value");
        respond.send_response(opened.to_head(), false).map_err(io_error)
    }

    /// Leaves the answer to whoever sends the first bytes.
    fn later(&mut self) -> SendResponse<Bytes> {
        self.0.take().expect("an offer is answered once, by value")
    }

    fn say(&mut self, said: Bytes) {
        let Some(mut respond) = self.0.take() else { return };
        let sent = respond.send_response(Response::new(()), false);
        if let Err(error) = sent.and_then(|mut body| body.send_data(said, true)) {
            tracing::debug!(%error, "The other end did not wait for its answer");
        }
    }

    fn end(&mut self, status: StatusCode) {
        let mut head = Response::new(());
        *head.status_mut() = status;
        self.send(head);
    }

    fn refuse(&mut self, refused: &Refused) {
        self.send(refused.to_head());
    }

    fn send(&mut self, head: Response<()>) {
        let Some(mut respond) = self.0.take() else { return };
        if let Err(error) = respond.send_response(head, true) {
            tracing::debug!(%error, "The other end did not wait for its answer");
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Most were answered, and a refusal is not for nothing to make.
        if self.0.is_none() {
            return;
        }
        self.refuse(&Refused::new(Refusal::Unavailable, "nobody takes this stream"));
    }
}

/// Takes requests off the connection, which also moves everything else on it.
struct Engine {
    connection: Connection<Secured, Bytes>,
    offers: mpsc::Sender<Incoming>,
    drain: tokio_util::sync::CancellationToken,
    handle: CarrierHandle,
    window: Setter,
}

impl Engine {
    async fn run(mut self) -> CarrierEnd {
        let mut draining = false;
        loop {
            tokio::select! {
                request = poll_fn(|cx| {
                    self.window.look(|size| self.connection.set_initial_window_size(size));
                    self.connection.poll_accept(cx)
                }) => match request {
                    Some(Ok((head, respond))) => self.offer(head, respond),
                    Some(Err(error)) => return CarrierEnd::of(Err(error)),
                    None if draining => return CarrierEnd::Closed,
                    None => return CarrierEnd::ClosedByPeer,
                },
                () = self.drain.cancelled(), if !draining => {
                    draining = true;
                    self.connection.graceful_shutdown();
                }
                () = self.offers.closed(), if !draining => {
                    draining = true;
                    self.connection.graceful_shutdown();
                }
            }
        }
    }

    fn offer(&self, head: Request<RecvStream>, respond: SendResponse<Bytes>) {
        match self.incoming(head, respond) {
            // A full queue or an owner that is gone drops the offer, and that answers it as unavailable.
            Ok(incoming) => drop(self.offers.try_send(incoming)),
            Err((mut answer, status)) => answer.end(status),
        }
    }

    fn incoming(
        &self,
        head: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Result<Incoming, (Answer, StatusCode)> {
        let answer = Answer(Some(respond));
        let (head, body) = head.into_parts();
        let receiver = Receiver::open(body);
        match (head.method, head.uri.path()) {
            (Method::POST, GRANT_PATH) => Ok(Incoming::Grant(GrantPresented { receiver, answer })),
            (Method::POST, OPEN_PATH | OPEN_MORE_PATH) => match OpenRequest::parse(&head.headers) {
                Ok(wish) => {
                    let count = self.handle.count_stream();
                    Ok(Incoming::Open(StreamOffered { wish, receiver, answer, count }))
                }
                Err(_) => Err((answer, StatusCode::BAD_REQUEST)),
            },
            (Method::POST, RESOLVE_PATH) => match ResolveRequest::parse(&head.headers) {
                Ok(request) => Ok(Incoming::Resolve(Questioned { request, answer })),
                Err(_) => Err((answer, StatusCode::BAD_REQUEST)),
            },
            _ => Err((answer, StatusCode::BAD_REQUEST)),
        }
    }
}
