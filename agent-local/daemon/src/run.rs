//! From the flags to a running daemon, and back to nothing.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use fairlead_model::timers::DAEMON_FAREWELL;
use laptop_account::Accounts;
use laptop_ipc::{BoundedLog, RunFolder, files_lock, lone_socket, supervisor::DaemonFolders};
use nix::unistd::{Uid, setsid};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::timeout,
};
use tracing::{debug, info, warn};

use crate::{
    alone, commands, config::Args, connections, datagrams, desired::Desired, dns, doors,
    footing::Footing, hearing, keeper::Keeper, link, listeners::Places, moves::Moves, proof,
    restore,
};

/// Tells the supervisor that starting again would change nothing.
const EXIT_ANOTHER_RUNS: u8 = 75;
/// One that was killed a moment ago may hold the lock a little longer than its connections.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    make_folder(&args.state_dir)?;
    begin_log(&args)?;
    if args.alone {
        // The terminal that it was started from may close.
        if let Err(error) = setsid() {
            debug!("It stays in its session: {error}");
        }
    }
    let run_folder = RunFolder::new(args.run_dir.clone());
    let uid = Uid::current().as_raw();
    let of_user = (!args.alone).then(|| run_folder.daemon_lock(uid));
    let mut locks = Vec::new();
    for lock in of_user.into_iter().chain([files_lock(&args.state_dir)]) {
        let Some(lock) = take_lock(&lock, LOCK_PATIENCE)? else {
            warn!("Another daemon of this user is running");
            return Ok(ExitCode::from(EXIT_ANOTHER_RUNS));
        };
        locks.push(lock);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(&args, &run_folder, uid))?;
    // What still copies bytes has had its farewell.
    runtime.shutdown_timeout(Duration::from_millis(200));
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &Args, run_folder: &RunFolder, uid: u32) -> anyhow::Result<()> {
    let socket =
        if args.alone { lone_socket(&args.state_dir) } else { run_folder.daemon_socket(uid) };
    // We hold the lock: whatever stands here is stale.
    drop(fs::remove_file(&socket));
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("could not listen on {}", socket.display()))?;
    let accounts = Accounts::new(args.config_dir.clone());
    let desired = Desired::new(args.state_dir.join("sessions.json"));
    let folders = DaemonFolders { config: args.config_dir.clone(), state: args.state_dir.clone() };
    let (footing, passed_on) = Footing::begin(run_folder.supervisor_socket(), folders);
    let stopping = Arc::new(Notify::new());
    let moves = Moves::begin();
    let (link, said_rx) = link::begin(accounts.clone(), moves.clone());
    let places = Places::read(&args.state_dir.join("addresses.json"))?;
    let keeper =
        Keeper::new(accounts, desired, footing, link, moves, places, Arc::clone(&stopping));
    let keeper = Arc::new(keeper);

    // Heard from here on: whoever ends the daemon while it begins shall have the hub told, too.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = async {
        tokio::select! {
            _ = terminate.recv() => info!("Told to end"),
            _ = interrupt.recv() => info!("Interrupted"),
            () = stopping.notified() => info!("Asked to stop"),
        }
    };
    tokio::pin!(ended);

    restore::take_up(&keeper);
    tokio::spawn(hearing::follow_link(keeper.clone(), said_rx));
    let room = connections::room();
    tokio::spawn(connections::accept_each(keeper.clone(), passed_on.listeners, Arc::clone(&room)));
    tokio::spawn(datagrams::receive_each(keeper.clone(), passed_on.sockets));
    tokio::spawn(dns::serve_each(keeper.clone(), passed_on.dns));
    tokio::spawn(doors::attend(keeper.clone(), keeper.footing.doors(), room));
    tokio::spawn(proof::prove_laptop(keeper.clone()));
    tokio::select! {
        () = restore::put_names_back(&keeper) => {
            if args.alone {
                tokio::spawn(alone::end_when_unused(keeper.clone()));
            }
            tokio::spawn(commands::serve(listener, keeper.clone(), uid));
            info!(version = env!("CARGO_PKG_VERSION"), "Daemon is running");
            ended.await;
        }
        () = &mut ended => {}
    }
    if timeout(DAEMON_FAREWELL, keeper.leave_all()).await.is_err() {
        warn!("The hub was not told in time; the next daemon ends the sessions there");
    }
    drop(fs::remove_file(&socket));
    Ok(())
}

fn make_folder(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("could not make {}", path.display()))
}

fn begin_log(args: &Args) -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().with_target(false).with_ansi(false);
    if args.foreground {
        log.with_writer(std::io::stderr).init();
        return Ok(());
    }
    let path = args.state_dir.join("daemon.log");
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("could not open {}", path.display()))?;
    log.with_writer(Mutex::new(BoundedLog::new(file, path))).init();
    Ok(())
}

/// Takes the lock that says "a daemon of this user runs"; `None` when another one keeps it.
fn take_lock(path: &Path, patience: Duration) -> anyhow::Result<Option<File>> {
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(|| {
        format!("could not open {}: is it started by the supervisor?", path.display())
    })?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(wait_for(lock, patience)),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Waits in a thread of its own, which ends with the process when the other one keeps the lock.
fn wait_for(lock: File, patience: Duration) -> Option<File> {
    let (locked_tx, locked_rx) = mpsc::sync_channel(1);
    thread::spawn(move || {
        if lock.lock().is_ok() {
            // Nobody waits any more when it came too late.
            drop(locked_tx.send(lock));
        }
    });
    locked_rx.recv_timeout(patience).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_about_to_be_free_is_waited_for_and_one_that_is_kept_is_not() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("daemon.lock");
        let killed = take_lock(&path, Duration::ZERO).expect("opened").expect("free");
        assert!(take_lock(&path, Duration::ZERO).expect("opened").is_none());
        let next = thread::spawn({
            let path = path.clone();
            move || take_lock(&path, Duration::from_secs(30)).expect("opened")
        });
        // It has found the lock taken by now, or will find it free.
        thread::yield_now();
        drop(killed);
        assert!(next.join().expect("no panic").is_some());
    }
}
