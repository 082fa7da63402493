//! The process that does the work: takes the lock, cleans up after a run that was killed, serves its socket.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use laptop_footprint::Footprint;
use laptop_ipc::{Failure, FailureKind, Peer, peer_of, supervisor::Reply};
use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{SigSet, Signal},
    },
    unistd::{Pid, getppid},
};
use tracing::{info, warn};

use crate::{
    config::{Config, Service},
    conversation, lock,
    machine::Machine,
    notify,
    room::{Room, Seat},
    watch,
};

/// Sent by the kernel when the guard dies. The daemons go on without names until another supervisor is there.
const GUARD_DIED: Signal = Signal::SIGUSR1;

/// A supervisor that was killed leaves a worker that takes everything back, and init may be quicker than that.
const PREDECESSOR: Duration = Duration::from_secs(5);

/// Does the work until it is stopped, or until the guard dies that started it.
pub(crate) fn run(config: &Config, guard: Pid) -> anyhow::Result<()> {
    laptop_ipc::descriptors::allow_all();
    set_pdeathsig(GUARD_DIED)?;
    // It may have died before: the kernel tells only of what comes.
    if getppid() != guard {
        bail!("the guard died while the worker began");
    }
    // Nothing is to be taken back yet: whoever waits here simply ends, and the guard has these blocked.
    stopping().thread_unblock()?;
    let Some(_lock) = lock::take_within(config, PREDECESSOR)? else {
        bail!("a supervisor is running already on {}", config.run_folder().path().display());
    };
    let signals = block_signals()?;
    let footprint = Footprint::open(&config.footprint())
        .context("could not take back what an earlier run left")?;
    let machine = Arc::new(Machine::new(config, footprint)?);
    serve(config, &machine)?;
    notify::begin(Service::of_systemd(), Arc::clone(&machine));
    watch::begin(config.footprint().hosts, Arc::clone(&machine));
    info!("Serving on {}", config.run_folder().supervisor_socket().display());

    match signals.wait()? {
        GUARD_DIED => {
            warn!("The guard was killed; taking everything back");
            machine.take_back();
        }
        signal => {
            info!("Stopping ({signal})");
            machine.stop();
        }
    }
    // A stale socket would only make the next caller wonder.
    drop(fs::remove_file(config.run_folder().supervisor_socket()));
    Ok(())
}

/// What asks it to stop.
fn stopping() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT].into_iter().collect()
}

fn block_signals() -> anyhow::Result<SigSet> {
    let mut signals = stopping();
    signals.add(GUARD_DIED);
    let mut blocked = signals;
    blocked.add(Signal::SIGHUP);
    // Before the first thread that stays, so that every one inherits it and only `wait` sees them.
    blocked.thread_block()?;
    Ok(signals)
}

fn serve(config: &Config, machine: &Arc<Machine>) -> anyhow::Result<()> {
    let socket = config.run_folder().supervisor_socket();
    // We hold the lock: whatever stands here is stale.
    drop(fs::remove_file(&socket));
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("could not listen on {}", socket.display()))?;
    // Everybody may ask; the kernel says who asks, and each gets only their own.
    fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
    let machine = Arc::clone(machine);
    thread::spawn(move || accept(&listener, &machine));
    Ok(())
}

fn accept(listener: &UnixListener, machine: &Arc<Machine>) {
    let room = Room::default();
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: somebody must close one first.
                warn!("Could not accept: {error}");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let Ok(peer) = peer_of(&stream) else { continue };
        match room.take(peer.uid) {
            Some(seat) => begin(stream, peer, Arc::clone(machine), seat),
            None => say_busy(&stream, peer),
        }
    }
}

fn begin(stream: UnixStream, peer: Peer, machine: Arc<Machine>, seat: Seat) {
    thread::spawn(move || {
        conversation::hold(stream, peer, &machine);
        drop(seat);
    });
}

/// Says so at once, without hearing the question: the answer fits into the socket's buffer.
fn say_busy(mut stream: &UnixStream, peer: Peer) {
    warn!(uid = peer.uid, pid = peer.pid, "Too many conversations");
    let reply: Reply = Err(Failure::new(
        FailureKind::Supervisor,
        format!("the supervisor is busy: uid {} talks to it too often at once", peer.uid),
    )
    .hint("end programs of yours that hold its socket, then try again"));
    // Whoever does not hear it sees the connection end.
    drop(stream.set_nonblocking(true).map(|()| laptop_ipc::write_blocking(&mut stream, &reply)));
}
