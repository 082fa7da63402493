//! One connection of an application, open and silent until it ends. An application that says something would hear of
//! the end sooner.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::mpsc::channel,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use fairlead_lab::{Host, Lab};
use fairlead_tests::kind::{self, ASKED_BYTES};
use nix::unistd::{Uid, setfsuid};

/// Whatever is open for longer than this after everybody was ready does not end.
const NEVER: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Flow(JoinHandle<anyhow::Result<Instant>>);

impl Flow {
    /// Opens a connection as a user of the laptop and has the service answer.
    pub(super) fn opens(lab: &Lab, uid: u32, to: SocketAddr) -> anyhow::Result<Self> {
        let (open_tx, open_rx) = channel();
        let thread = lab.on(Host::Laptop, move || {
            let mut tcp = open_as(uid, to, kind::ECHO)?;
            echo(&mut tcp)?;
            tcp.set_read_timeout(Some(NEVER))?;
            open_tx.send(())?;
            // However it ends: the application sees an end of the stream or an error. Time that is over is a late end.
            let _end = tcp.read(&mut [0]);
            Ok(Instant::now())
        })?;
        let flow = Self(thread);
        match open_rx.recv() {
            Ok(()) => Ok(flow),
            Err(_) => Err(flow.end().err().context("it ends with an error")?),
        }
    }

    /// Waits for its end and returns when that was.
    pub(super) fn end(self) -> anyhow::Result<Instant> {
        self.0.join().expect("reading does not panic")
    }
}

/// Opens a connection as a user of the laptop, on a thread that is at the laptop and root's.
pub(super) fn open_as(uid: u32, to: SocketAddr, first: u8) -> anyhow::Result<TcpStream> {
    // Of this thread alone. A socket belongs to whom its thread was when it was made.
    let root = setfsuid(Uid::from_raw(uid));
    let opened = kind::open(to, &[first]);
    setfsuid(root);
    opened
}

/// Asks 1 KB and waits for the answer.
pub(super) fn echo(tcp: &mut TcpStream) -> anyhow::Result<()> {
    let mut said = [7; ASKED_BYTES];
    tcp.write_all(&said)?;
    tcp.read_exact(&mut said).context("the service does not answer")?;
    Ok(())
}
