//! What was last heard on a carrier's connection, noted below HTTP/2, which keeps neither the time of a byte nor the
//! kind of an error.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    connection::Io,
    window::{Meter, Window},
};

/// What was heard, for whoever wants to know.
#[derive(Debug)]
pub(crate) struct Heard {
    begun_at: Instant,
    last_us: AtomicU64,
    tls_error: OnceLock<rustls::Error>,
    window: Arc<Window>,
}

impl Heard {
    /// Returns when a byte of the other end last arrived; at first, when the connection was made.
    pub(crate) fn last(&self) -> Instant {
        self.begun_at + Duration::from_micros(self.last_us.load(Ordering::Relaxed))
    }

    /// Returns how the far end refused this one, if that is how the connection ended.
    pub(crate) fn refusal(&self) -> Option<rustls::Error> {
        self.tls_error.get().filter(|e| matches!(e, rustls::Error::AlertReceived(_))).cloned()
    }

    /// Returns the window of this carrier's streams.
    pub(crate) const fn window(&self) -> &Arc<Window> {
        &self.window
    }

    /// Notes that bytes have just arrived, and returns how long after the connection was made.
    fn note_bytes(&self) -> Duration {
        let since = self.begun_at.elapsed();
        self.last_us.store(u64::try_from(since.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        since
    }

    fn note_error(&self, error: &io::Error) {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            self.tls_error.get_or_init(|| rustls::Error::clone(tls));
        }
    }
}

/// The connection under a carrier's HTTP/2.
pub(crate) struct Secured {
    io: Box<dyn Io>,
    heard: Arc<Heard>,
    meter: Meter,
}

impl Secured {
    pub(crate) fn new(io: impl Io) -> Self {
        let heard = Heard {
            begun_at: Instant::now(),
            last_us: AtomicU64::new(0),
            tls_error: OnceLock::new(),
            window: Window::new(),
        };
        let meter = Meter::new(Arc::clone(&heard.window));
        Self { io: Box::new(io), heard: Arc::new(heard), meter }
    }

    pub(crate) fn heard(&self) -> Arc<Heard> {
        Arc::clone(&self.heard)
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        match &read {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                let now = self.heard.note_bytes();
                self.meter.arrived(buf.filled().len() - before, now);
            }
            Poll::Ready(Err(error)) => self.heard.note_error(error),
            _ => {}
        }
        read
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
