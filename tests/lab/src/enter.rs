//! Runs a program on a host of the lab, so that it behaves towards its starter like any child process.
//!
//! Entering a process namespace takes a second process. This one stays outside, passes signals on and returns the
//! exit status; the program is killed when this one is, so `kill -9` reaches it too. It also goes when the process
//! that built the command goes, so that a test run that is cut short leaves nothing behind in a lab that stays.

use crate::{Host, place::Place, plan::State};
use anyhow::{Context, bail};
use nix::{
    poll::{PollFd, PollFlags, poll},
    sched::{CloneFlags, setns},
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{Gid, Pid, Uid, getppid, setgid, setgroups, setuid},
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs::File,
    os::{
        fd::AsFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode},
};

/// The kernel tells nobody that a parent process is gone; it tells of the parent's thread, which is not the same.
const LOOK_AFTER_STARTER_MS: u8 = 250;

/// Where to enter and as whom.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) lab: String,
    /// A host's name; without one the lab's own network, where the bridge is.
    pub(crate) host: Option<String>,
    pub(crate) uid: Option<u32>,
    /// The process that built the command. A command that replaced it has another parent, and nobody to follow.
    pub(crate) starter: i32,
    /// Set for the second process, which is inside already.
    pub(crate) inside: Option<PathBuf>,
}

/// Enters a host and runs a program there. The arguments are an `Entry` in JSON, the program and its arguments.
pub fn enter(mut arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(arguments.len() >= 2, "enter needs an entry and a program");
    let entry = arguments.remove(0).into_string().ok().context("an entry is text")?;
    let entry: Entry = serde_json::from_str(&entry)?;
    match &entry.inside {
        Some(folder) => become_program(&entry, folder, arguments),
        None => stay_outside(entry, arguments),
    }
}

fn stay_outside(entry: Entry, program: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let host = entry.host.as_deref().map(str::parse::<Host>).transpose()?;
    let place = Place::of(&entry.lab)?;
    let state = std::fs::read(place.state())
        .with_context(|| format!("there is no lab `{}`: cargo xtask lab up", entry.lab))?;
    let state: State = serde_json::from_slice(&state)?;
    let hosts = state.plan.cluster.hosts();
    if let Some(missing) = host.filter(|host| !hosts.contains(host)) {
        bail!("the lab `{}` has no host {missing}: its cluster is elsewhere", entry.lab);
    }
    let folder = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let this_program = std::env::current_exe()?;
    let signals = await_signals()?;
    let starter = (entry.starter == getppid().as_raw()).then(getppid);
    join(state.init, host)?;
    let inside = Entry { inside: Some(folder), ..entry };
    let child = Command::new(this_program)
        .arg("enter")
        .arg(serde_json::to_string(&inside)?)
        .args(program)
        .spawn()
        .context("cannot enter the lab")?;
    attend(child, &signals, starter)
}

/// Joins the namespaces of a host. The files are opened first: a new mount namespace hides them.
fn join(init: i32, host: Option<Host>) -> anyhow::Result<()> {
    let process = PathBuf::from(format!("/proc/{init}"));
    let of_init = |name: &str| process.join("ns").join(name);
    let network = host.map_or(of_init("net"), |host| within(&process, &Place::network(host)));
    let mounts = match host.filter(|host| host.is_furnished()) {
        Some(host) => mounts_of(&process, host)?,
        None => of_init("mnt"),
    };
    let namespaces = [
        (of_init("uts"), CloneFlags::CLONE_NEWUTS),
        (of_init("ipc"), CloneFlags::CLONE_NEWIPC),
        (of_init("pid"), CloneFlags::CLONE_NEWPID),
        (network, CloneFlags::CLONE_NEWNET),
        (mounts, CloneFlags::CLONE_NEWNS),
    ];
    let opened = namespaces.map(|(path, kind)| (open(&path), kind));
    for (file, kind) in opened {
        setns(file?, kind).context("cannot join the lab's namespaces: this needs root")?;
    }
    Ok(())
}

/// Returns where a path of the lab's inside is seen from outside.
pub(crate) fn within(process: &Path, path: &Path) -> PathBuf {
    process.join("root").join(path.strip_prefix("/").unwrap_or(path))
}

/// Returns the file of a furnished host's mount namespace, as it is seen from outside the lab.
pub(crate) fn mounts_of(process: &Path, host: Host) -> anyhow::Result<PathBuf> {
    let holder = std::fs::read_to_string(within(process, &Place::mounts(host)))
        .with_context(|| format!("{host} is not furnished: is the lab gone?"))?;
    Ok(within(process, Path::new("/proc")).join(holder).join("ns/mnt"))
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("cannot open {}: is the lab gone?", path.display()))
}

fn await_signals() -> anyhow::Result<SignalFd> {
    let mut awaited = SigSet::all();
    for fatal in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT]
    {
        awaited.remove(fatal);
    }
    // Stopping a job of a shell stops this process as well.
    for job_control in [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGCONT] {
        awaited.remove(job_control);
    }
    awaited.thread_block()?;
    Ok(SignalFd::with_flags(&awaited, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

fn attend(mut child: Child, signals: &SignalFd, starter: Option<Pid>) -> anyhow::Result<ExitCode> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    loop {
        if let Some(status) = child.try_wait()? {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
        }
        if starter.is_some_and(|starter| starter != getppid()) {
            child.kill()?;
        }
        poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], LOOK_AFTER_STARTER_MS)?;
        while let Some(received) = signals.read_signal()? {
            // Real-time signals have no name here, and no program of ours uses them. A terminal signals its whole
            // foreground group, the program included.
            match Signal::try_from(i32::try_from(received.ssi_signo)?) {
                Ok(signal) if signal != Signal::SIGCHLD && received.ssi_pid != 0 => {
                    kill(pid, signal)?
                }
                _ => {}
            }
        }
    }
}

/// The second process, inside: puts on the user and turns into the program.
fn become_program(
    entry: &Entry,
    folder: &Path,
    arguments: Vec<OsString>,
) -> anyhow::Result<ExitCode> {
    SigSet::empty().thread_set_mask()?;
    // The starter's folder may not exist on this host.
    let _elsewhere = std::env::set_current_dir(folder);
    if let Some(uid) = entry.uid {
        setgroups(&[Gid::from_raw(uid)]).context("cannot change the groups")?;
        setgid(Gid::from_raw(uid)).context("cannot change the group")?;
        setuid(Uid::from_raw(uid)).context("cannot change the user")?;
    }
    // After the user: changing it forgets this.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let [program, arguments @ ..] = arguments.as_slice() else { bail!("no program") };
    let mut program = Command::new(program);
    if let Some(home) = entry.uid.and_then(home_of) {
        program.env("HOME", home);
    }
    let error = program.args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.get_program().display()))
}

/// Returns the home of a user, by the host's own list of people.
fn home_of(uid: u32) -> Option<PathBuf> {
    let people = std::fs::read_to_string("/etc/passwd").ok()?;
    home_in(&people, uid)
}

fn home_in(people: &str, uid: u32) -> Option<PathBuf> {
    let uid = uid.to_string();
    people.lines().find_map(|line| match line.split(':').collect::<Vec<_>>()[..] {
        [_, _, id, _, _, home, ..] if id == uid => Some(PathBuf::from(home)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_at_home_where_the_list_says() {
        let people = "root:x:0:0:root:/root:/bin/sh\nada:x:7001:7001::/home/ada:/bin/sh\n";
        assert_eq!(home_in(people, 7001), Some("/home/ada".into()));
        assert_eq!(home_in(people, 700), None);
    }
}
