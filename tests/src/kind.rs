//! What `load` and its service say to each other: what the first bytes of a connection ask for, and how one is begun.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Context as _;

/// Answer 1 KB with 1 KB, as often as asked.
pub const ECHO: u8 = b'e';
/// Answer one byte and close.
pub const ONCE: u8 = b'o';
/// Send until nobody reads any more.
pub const DOWNLOAD: u8 = b'd';
/// Eight bytes say when counting begins, in milliseconds; then bytes until `LAST`, which is answered with what came.
pub const UPLOAD: u8 = b'u';
/// What bulk is made of, and what ends it: not every tool carries the end of one direction alone.
pub const BYTE: u8 = 7;
pub const LAST: u8 = 0;
/// The first byte of a request of HTTP.
pub const HTTP: u8 = b'G';

/// What is asked and answered when the latency counts.
pub const ASKED_BYTES: usize = 1024;
/// What is moved at once when the rate counts.
pub const BULK_BYTES: usize = 256 << 10;

/// Whatever hangs for longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens a connection; neither side waits for full segments, and none waits for ever.
pub fn open(to: SocketAddr, first: &[u8]) -> anyhow::Result<TcpStream> {
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
