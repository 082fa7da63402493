//! A TCP connection deep inside others (TLS, HTTP, WebSocket) whose close somebody outside can make an abort.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::socket::abort_on_close;

/// Makes the coming close of a connection an abort: what is on its way does not arrive any more.
#[derive(Clone, Debug, Default)]
pub struct AbortSwitch(Arc<AtomicBool>);

impl AbortSwitch {
    pub fn turn(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The connection that the switch belongs to.
#[derive(Debug)]
pub struct Abortable {
    tcp: TcpStream,
    switch: AbortSwitch,
}

impl Abortable {
    #[must_use]
    pub fn new(tcp: TcpStream) -> (Self, AbortSwitch) {
        let switch = AbortSwitch::default();
        (Self { tcp, switch: switch.clone() }, switch)
    }
}

impl Drop for Abortable {
    fn drop(&mut self) {
        if self.switch.0.load(Ordering::Acquire) {
            abort_on_close(&self.tcp);
        }
    }
}

impl AsyncRead for Abortable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Abortable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
