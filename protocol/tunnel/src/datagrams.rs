//! Datagrams over a stream: each with its length in front, in two bytes.
//!
//! Who sends datagrams expects that some are lost, and not that they come late. So they wait in a short queue, and when
//! that is full the oldest goes: a stream that is slow, or an application that does not read, costs only its own.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::Interest,
    net::UdpSocket,
    sync::Notify,
    task::consume_budget,
    time::{Instant, sleep},
};

use crate::{
    half::{Receiver, Sender},
    stream::Stream,
};

/// What IPv4 lets one UDP datagram hold.
pub const DATAGRAM_MAX_BYTES: usize = 65_507;
/// Datagrams that wait for the stream; one more, and the oldest is dropped.
const QUEUE_MAX: usize = 64;
const QUEUE_MAX_BYTES: usize = 256 << 10;

/// Datagrams of one application that wait for the stream.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    datagrams: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    /// Puts a datagram at the end; the oldest go where there is no room. Never waits.
    pub fn push(&self, datagram: Bytes) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.bytes += datagram.len();
        waiting.datagrams.push_back(datagram);
        while waiting.datagrams.len() > QUEUE_MAX || waiting.bytes > QUEUE_MAX_BYTES {
            let Some(oldest) = waiting.datagrams.pop_front() else { break };
            waiting.bytes -= oldest.len();
        }
        drop(waiting);
        self.more.notify_one();
    }

    async fn next(&self) -> Bytes {
        loop {
            if let Some(datagram) = self.take() {
                return datagram;
            }
            self.more.notified().await;
        }
    }

    fn take(&self) -> Option<Bytes> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let datagram = waiting.datagrams.pop_front()?;
        waiting.bytes -= datagram.len();
        Some(datagram)
    }
}

/// How a flow ended, and how many datagrams it carried.
#[derive(Debug)]
pub struct Flowed {
    pub up: u64,
    pub down: u64,
    /// What broke it; `None` when it had been silent for long enough, or the other end ended it.
    pub broken: Option<io::Error>,
}

/// Carries datagrams both ways until none has passed for `idle`, or one of the ends is gone. `deliver` hands one to the
/// application at once or drops it; its error ends the flow.
pub async fn carry(
    mut stream: Stream,
    queue: &Queue,
    deliver: impl FnMut(&[u8]) -> io::Result<()>,
    idle: Duration,
) -> Flowed {
    let unread = stream.take_unread();
    let Stream { receiver, sender, .. } = &mut stream;
    let passed = Passed::new();
    let ended = tokio::select! {
        broken = send_each(queue, sender, &passed) => Err(broken),
        ended = receive_each(unread, receiver, deliver, &passed) => ended,
        () = passed.none_for(idle) => Ok(()),
    };
    let ended = ended.and_then(|()| sender.end());
    let (up, down) = (passed.up.load(Ordering::Relaxed), passed.down.load(Ordering::Relaxed));
    Flowed { up, down, broken: ended.err() }
}

/// Puts what a connected socket receives into the queue, until it tells of an error: that nobody listens there, perhaps.
pub async fn receive_into(queue: &Queue, socket: &UdpSocket) -> io::Error {
    loop {
        // That nobody listens there is an error of the socket, and nothing to read.
        match socket.ready(Interest::READABLE | Interest::ERROR).await {
            Ok(ready) if ready.is_error() => {
                let refused = socket.try_io(Interest::ERROR, || match socket.take_error()? {
                    Some(error) => Ok(error),
                    None => Err(io::ErrorKind::WouldBlock.into()),
                });
                if let Ok(error) = refused {
                    return error;
                }
            }
            Ok(_) => {}
            Err(error) => return error,
        }
        // Lives no longer than there is something to read: an idle flow holds no buffer.
        let mut buffer = BytesMut::with_capacity(DATAGRAM_MAX_BYTES);
        loop {
            match socket.try_recv_buf(&mut buffer) {
                Ok(_) => queue.push(Bytes::copy_from_slice(&buffer)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return error,
            }
            buffer.clear();
            consume_budget().await;
        }
    }
}

/// Says whether a datagram that could not be sent is lost, as any may be, and nothing is wrong with the flow.
#[must_use]
pub fn is_only_lost(error: &io::Error) -> bool {
    const TOO_LONG: i32 = 90;
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(TOO_LONG)
}

async fn send_each(queue: &Queue, sender: &mut Sender, passed: &Passed) -> io::Error {
    loop {
        let datagram = tokio::select! {
            datagram = queue.next() => datagram,
            error = sender.aborted() => return error,
        };
        let Some(framed) = framed(&datagram) else { continue };
        passed.note(&passed.up);
        if let Err(error) = sender.send_all(framed).await {
            return error;
        }
        consume_budget().await;
    }
}

async fn receive_each(
    unread: Bytes,
    receiver: &mut Receiver,
    mut deliver: impl FnMut(&[u8]) -> io::Result<()>,
    passed: &Passed,
) -> io::Result<()> {
    let mut frames = Frames::default();
    let mut next = (!unread.is_empty()).then_some(Ok(unread));
    loop {
        let chunk = match next.take() {
            Some(first) => Some(first),
            None => receiver.chunk().await,
        };
        let Some(chunk) = chunk else { return Ok(()) };
        let chunk = chunk?;
        frames.push(&chunk);
        receiver.release(chunk.len());
        while let Some(datagram) = frames.next()? {
            passed.note(&passed.down);
            deliver(&datagram)?;
        }
        consume_budget().await;
    }
}

/// Returns a datagram with its length in front; none that is longer than any can be.
fn framed(datagram: &[u8]) -> Option<Bytes> {
    let length = u16::try_from(datagram.len()).ok()?;
    let mut framed = BytesMut::with_capacity(2 + datagram.len());
    framed.put_u16(length);
    framed.put_slice(datagram);
    Some(framed.freeze())
}

/// Puts datagrams together from the pieces in which a stream brings them. Holds less than one datagram and one piece.
#[derive(Debug, Default)]
struct Frames(BytesMut);

impl Frames {
    fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// Returns the next whole datagram; an error when the other end says that one is longer than any can be.
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let [high, low, ..] = self.0[..] else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > DATAGRAM_MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no datagram is that long"));
        }
        if self.0.len() < 2 + length {
            return Ok(None);
        }
        self.0.advance(2);
        Ok(Some(self.0.split_to(length).freeze()))
    }
}

/// What has passed, and when the last of it.
struct Passed {
    began: Instant,
    last_ms: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

impl Passed {
    fn new() -> Self {
        let none = || AtomicU64::new(0);
        Self { began: Instant::now(), last_ms: none(), up: none(), down: none() }
    }

    fn note(&self, direction: &AtomicU64) {
        direction.fetch_add(1, Ordering::Relaxed);
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now_ms, Ordering::Relaxed);
    }

    async fn none_for(&self, idle: Duration) {
        loop {
            let last = self.began + Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let left = idle.saturating_sub(last.elapsed());
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queued(queue: &Queue) -> Vec<Bytes> {
        std::iter::from_fn(|| queue.take()).collect()
    }

    #[test]
    fn when_the_queue_is_full_the_oldest_goes() {
        let queue = Queue::default();
        for n in 0..=QUEUE_MAX {
            queue.push(Bytes::from(n.to_string()));
        }
        let left = queued(&queue);
        assert_eq!((left.len(), left[0].as_ref()), (QUEUE_MAX, b"1".as_ref()));
    }

    #[test]
    fn a_queue_is_bounded_in_bytes_too() {
        let queue = Queue::default();
        let large = Bytes::from(vec![0; DATAGRAM_MAX_BYTES]);
        for _ in 0..10 {
            queue.push(large.clone());
        }
        queue.push(Bytes::from_static(b"last"));
        let left = queued(&queue);
        assert!(
            left.len() <= 5 && left.last().is_some_and(|d| d.as_ref() == b"last"),
            "{}",
            left.len()
        );
    }

    #[test]
    fn a_length_that_no_datagram_has_is_an_error() {
        let mut frames = Frames::default();
        frames.push(&[0xff, 0xff, 1]);
        assert!(frames.next().is_err());
    }

    proptest! {
        #[test]
        fn datagrams_come_out_as_they_went_in_however_the_stream_cuts_them(
            datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            cut in 1_usize..50
        ) {
            let wire: Vec<u8> = datagrams.iter().flat_map(|d| framed(d).expect("short")).collect();
            let (mut frames, mut out) = (Frames::default(), Vec::new());
            for piece in wire.chunks(cut) {
                frames.push(piece);
                while let Some(datagram) = frames.next().expect("valid") {
                    out.push(datagram.to_vec());
                }
            }
            prop_assert_eq!(out, datagrams);
        }

        #[test]
        fn no_bytes_of_a_peer_make_it_panic_or_hold_more_than_one_datagram(bytes: Vec<u8>) {
            let mut frames = Frames::default();
            frames.push(&bytes);
            while let Ok(Some(_)) = frames.next() {}
            prop_assert!(frames.0.len() <= bytes.len());
        }
    }
}
