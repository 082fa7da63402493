//! What passes the hub's network interfaces, as the hub's operator could write it down.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::anyhow;
use fairlead_lab::Host;
use fairlead_tests::World;
use socket2::{Domain, Protocol, Socket, Type};

/// Every protocol, in the byte order of the network.
const ETH_P_ALL: i32 = 0x0003_u16.to_be() as i32;
const BUFFER_BYTES: usize = 32 << 20;
/// A packet that the kernel has joined from several is at most this long.
const PACKET_MAX_BYTES: usize = 256 << 10;

type Sides = (PathBuf, PathBuf);

/// A capture under way.
pub(crate) struct Capture {
    stop: Arc<AtomicBool>,
    files: Sides,
    thread: JoinHandle<io::Result<()>>,
}

impl Capture {
    /// Begins to write down every packet, those of the laptop apart from the others.
    pub(crate) fn begin(world: &World) -> anyhow::Result<Self> {
        let file = |name: &str| world.folder().join(name);
        let files = (file("laptop-side"), file("cluster-side"));
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, into) = (Arc::clone(&stop), files.clone());
        let thread = world.lab().on(Host::Hub, move || write_down(&into, &stopped))?;
        Ok(Self { stop, files, thread })
    }

    pub(crate) fn end(self) -> anyhow::Result<Sides> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the capture panicked"))??;
        Ok(self.files)
    }
}

fn write_down((laptop, cluster): &Sides, stop: &AtomicBool) -> io::Result<()> {
    let mut socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ETH_P_ALL)))?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (mut laptop, mut cluster) = (create(laptop)?, create(cluster)?);
    let mut packet = vec![0; PACKET_MAX_BYTES];
    while !stop.load(Ordering::Relaxed) {
        let length = match socket.read(&mut packet) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let packet = &packet[..length];
        let file = if concerns_laptop(packet) { &mut laptop } else { &mut cluster };
        file.write_all(packet)?;
    }
    laptop.flush()?;
    cluster.flush()
}

fn create(path: &Path) -> io::Result<BufWriter<File>> {
    Ok(BufWriter::new(File::create(path)?))
}

/// Says whether an IPv4 packet comes from the laptop or goes to it.
fn concerns_laptop(packet: &[u8]) -> bool {
    let laptop = Host::Laptop.address().octets();
    packet.first().is_some_and(|first| first >> 4 == 4)
        && [12..16, 16..20].into_iter().any(|at| packet.get(at) == Some(&laptop[..]))
}
