//! What the first bytes of a connection ask for, and how a connection of either kind is begun.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Context as _;

/// Answer 1 KB with 1 KB, as often as asked.
pub(crate) const ECHO: u8 = b'e';
/// Answer one byte and close.
pub(crate) const ONCE: u8 = b'o';
/// Send until nobody reads any more.
pub(crate) const DOWNLOAD: u8 = b'd';
/// Eight bytes say when counting begins, in milliseconds; then bytes until `LAST`, which is answered with what came.
pub(crate) const UPLOAD: u8 = b'u';
/// What bulk is made of, and what ends it: not every tool carries the end of one direction alone.
pub(crate) const BYTE: u8 = 7;
pub(crate) const LAST: u8 = 0;
/// The first byte of a request of HTTP.
pub(crate) const HTTP: u8 = b'G';

/// What is asked and answered when the latency counts.
pub(crate) const ASKED_BYTES: usize = 1024;
/// What is moved at once when the rate counts.
pub(crate) const BULK_BYTES: usize = 256 << 10;

/// Whatever hangs for longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens a connection; neither side waits for full segments, and none waits for ever.
pub(crate) fn open(to: SocketAddr, first: &[u8]) -> anyhow::Result<TcpStream> {
    let open = || {
        let mut tcp = TcpStream::connect_timeout(&to, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.write_all(first)?;
        Ok::<_, std::io::Error>(tcp)
    };
    open().with_context(|| format!("no connection to {to}"))
}
