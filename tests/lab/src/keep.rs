//! The process outside: starts the lab's first process, watches it, and removes what it cannot take along.
//!
//! It stays in the machine's own namespaces, so that what outlives the lab's namespaces (control groups and files)
//! can be removed after them. While its standard input is open and silent it belongs to whoever started it; `stay`
//! makes it independent; the end of input ends the lab.

use crate::{
    Cluster,
    cgroups::Hierarchies,
    place::Place,
    plan::{News, Plan, State},
};
use anyhow::{Context, bail};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    process::{Child, Command, ExitCode, Stdio},
};

/// Labs that may end in the very moment in which another one begins.
const LABS_ENDING_MAX: usize = 100;

/// Callers that hear of the end when it is over; more would hear of it at once.
const CALLERS_MAX: usize = 64;

/// The kernel tells nobody that a control group is frozen.
const THAW_EVERY_MS: u8 = 50;

/// The word that makes the lab independent of whoever started it.
pub(crate) const STAY: &[u8] = b"stay\n";

/// Keeps a lab until it is told to end, its first process dies, or whoever it belongs to is gone.
pub fn keep(plan: &str) -> anyhow::Result<ExitCode> {
    let outcome = kept(plan);
    if let Err(error) = &outcome {
        tell(&News::Failed(format!("{error:#}")));
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Returns the open door of a running lab, whose end of stream says that the lab is gone; `None` when none runs.
pub(crate) fn door(place: &Place) -> anyhow::Result<Option<UnixStream>> {
    match UnixStream::connect_addr(&address(place)?) {
        Ok(door) => Ok(Some(door)),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(error).context("cannot ask whether the lab runs"),
    }
}

/// Removes what a lab that is gone has left: nothing, unless it was ended with -9.
pub(crate) fn clear(place: &Place) -> anyhow::Result<()> {
    Hierarchies::mounted()?.remove(place)?;
    match fs::remove_dir_all(place.folder()) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error)
                .with_context(|| format!("cannot remove {}", place.folder().display()));
        }
        _ => {}
    }
    // Another lab's folder keeps the common one alive.
    let _another_lab_is_there = fs::remove_dir(Place::labs());
    Ok(())
}

/// Says one piece of news to whoever reads our standard output.
pub(crate) fn tell(news: &News) {
    let line = serde_json::to_string(news).expect("news is plain data");
    let mut stdout = std::io::stdout().lock();
    // Whoever started the lab is gone: the end of our input says so as well.
    let _unread = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn kept(plan: &str) -> anyhow::Result<()> {
    let plan: Plan = serde_json::from_str(plan).context("not a plan of a lab")?;
    let place = Place::of(&plan.name)?;
    // A terminal that closes, or Ctrl-C on it, is not for us: the end of input is.
    nix::unistd::setsid().context("no session of its own")?;
    // Who waits at the door hears of the end when the lab is gone and its name free: dropped after the door.
    let mut callers = Vec::new();
    let door = open_door(&place)?;
    let signals = await_signals()?;
    clear(&place)?;
    make_folders(&place)?;
    let outcome = make_room_for_pods(&plan, &place)
        .and_then(|()| start_init(&plan, &place))
        .and_then(|mut init| {
            let watched = watch(&mut init, &door, &signals, &mut callers);
            end(&mut init, &place, &signals).context("the lab does not end")?;
            watched
        });
    clear(&place).and(outcome)
}

/// Another lab that ends at this moment takes the common folder along while it is empty: then it is made again.
fn make_folders(place: &Place) -> anyhow::Result<()> {
    for _ in 0..LABS_ENDING_MAX {
        match fs::create_dir_all(place.logs()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            made => return made.with_context(|| format!("no folder {}", place.logs().display())),
        }
    }
    bail!("{} goes as often as it is made", Place::labs().display())
}

/// Pods of another cluster are not on this machine.
fn make_room_for_pods(plan: &Plan, place: &Place) -> anyhow::Result<()> {
    match plan.cluster {
        Cluster::Ours(_) => Hierarchies::mounted()?.make(place),
        Cluster::Another(_) => Ok(()),
    }
}

fn open_door(place: &Place) -> anyhow::Result<UnixListener> {
    let door = UnixListener::bind_addr(&address(place)?)
        .with_context(|| format!("a lab named `{}` runs already", place.name()))?;
    door.set_nonblocking(true)?;
    Ok(door)
}

fn address(place: &Place) -> anyhow::Result<SocketAddr> {
    let name = format!("fairlead-lab/{}", place.name());
    SocketAddr::from_abstract_name(name).context("the name is too long")
}

fn await_signals() -> anyhow::Result<SignalFd> {
    let mut awaited = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        awaited.add(signal);
    }
    awaited.thread_block()?;
    Ok(SignalFd::with_flags(&awaited, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

fn start_init(plan: &Plan, place: &Place) -> anyhow::Result<Child> {
    // The next child, and only it, becomes the first process of a process namespace.
    unshare(CloneFlags::CLONE_NEWPID).context("no process namespace: the lab needs root")?;
    let log = fs::File::create(place.log("init"))?;
    let init = Command::new(std::env::current_exe()?)
        .arg("init")
        .arg(serde_json::to_string(plan)?)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .context("cannot start the lab's first process")?;
    let pid = i32::try_from(init.id()).context("a process number is small")?;
    let state = State { keeper: std::process::id().cast_signed(), init: pid, plan: plan.clone() };
    fs::write(place.state(), serde_json::to_string_pretty(&state)?)?;
    Ok(init)
}

/// Waits for whatever ends the lab first.
fn watch(
    init: &mut Child,
    door: &UnixListener,
    signals: &SignalFd,
    callers: &mut Vec<UnixStream>,
) -> anyhow::Result<()> {
    let stdin = std::io::stdin();
    let mut belongs_to_starter = true;
    loop {
        let mut events = vec![
            PollFd::new(door.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        if belongs_to_starter {
            events.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        poll(&mut events, PollTimeout::NONE)?;
        let starter_spoke = events.get(2).is_some_and(|event| event.any() == Some(true));
        while let Ok((caller, _)) = door.accept() {
            callers.push(caller);
            callers.truncate(CALLERS_MAX);
        }
        while let Some(signal) = signals.read_signal()? {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                return Ok(());
            }
            if let Some(status) = init.try_wait()? {
                bail!("the lab's first process ended by itself ({status})");
            }
        }
        if starter_spoke {
            if !told_to_stay()? {
                return Ok(());
            }
            belongs_to_starter = false;
        }
    }
}

/// Kills the first process, which takes every process of the lab along, and waits until the last one is buried.
fn end(init: &mut Child, place: &Place, signals: &SignalFd) -> anyhow::Result<()> {
    let hierarchies = Hierarchies::mounted()?;
    init.kill()?;
    while init.try_wait()?.is_none() {
        // A container that was just being started may be frozen, and what would have thawed it is dead.
        hierarchies.thaw(place)?;
        poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], THAW_EVERY_MS)?;
        while signals.read_signal()?.is_some() {}
    }
    Ok(())
}

fn told_to_stay() -> anyhow::Result<bool> {
    let mut word = [0; STAY.len()];
    match std::io::stdin().read_exact(&mut word) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| word == STAY).context("cannot read from whoever started the lab"),
    }
}
