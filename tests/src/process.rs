//! Processes of the lab, seen from outside: found by what they are, killed as the kernel would.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Child,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill as signal},
    unistd::{Pid, SysconfVar, sysconf},
};

/// One process, by its number on this machine.
#[derive(Debug, Clone, Copy)]
pub struct Process(Pid);

impl Process {
    /// Returns the one that asks.
    pub fn of_this_program() -> Self {
        Self(Pid::this())
    }

    /// Finds all that run a program of this name.
    pub fn all_of(name: &str) -> anyhow::Result<Vec<Self>> {
        let numbers = fs::read_dir("/proc")?.flatten().filter_map(|process| {
            let number = process.file_name().to_str()?.parse().ok()?;
            program_of(&process.path())?.ends_with(name).then_some(Self(Pid::from_raw(number)))
        });
        Ok(numbers.collect())
    }

    /// Finds the one that runs `program` (the end of its path) with `line` in its environment.
    pub(crate) fn with(program: &str, line: &str) -> anyhow::Result<Self> {
        Self::find(|process| {
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            let has_line = environment.split(|byte| *byte == 0).any(|own| own == line.as_bytes());
            has_line && program_of(process).is_some_and(|path| path.ends_with(program))
        })
        .with_context(|| format!("no {program} runs with {line}"))
    }

    /// Finds the one that runs `program` as a user.
    pub(crate) fn of_user(program: &Path, uid: u32) -> anyhow::Result<Self> {
        Self::find(|process| {
            let owner = fs::metadata(process).map(|process| process.uid());
            owner.is_ok_and(|owner| owner == uid)
                && program_of(process).is_some_and(|path| path == program)
        })
        .with_context(|| format!("no {} of user {uid} runs", program.display()))
    }

    /// Finds what a process that enters the lab runs there: the child of `enter`, which ends with it.
    pub(crate) fn entered_by(enter: &Child) -> anyhow::Result<Self> {
        let enter = enter.id();
        let children = fs::read_to_string(format!("/proc/{enter}/task/{enter}/children"))?;
        let child = children.split_whitespace().next().context("it runs nothing")?;
        Ok(Self(Pid::from_raw(child.parse()?)))
    }

    /// Returns those that it started, and those that they started.
    pub fn descendants(self) -> anyhow::Result<Vec<Self>> {
        let mut found = Vec::new();
        // Each thread of it may have started some.
        for thread in fs::read_dir(format!("/proc/{}/task", self.0))?.flatten() {
            // One that has just ended has none.
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace() {
                let child = Self(Pid::from_raw(child.parse()?));
                found.push(child);
                found.extend(child.descendants().unwrap_or_default());
            }
        }
        Ok(found)
    }

    /// Says whether it runs a program.
    pub(crate) fn runs(self, program: &Path) -> bool {
        program_of(Path::new(&format!("/proc/{}", self.0))).is_some_and(|runs| runs == program)
    }

    /// Kills it with SIGKILL and returns the moment at which that was done.
    pub fn kill(self) -> anyhow::Result<Instant> {
        signal(self.0, Signal::SIGKILL).with_context(|| format!("process {} is gone", self.0))?;
        Ok(Instant::now())
    }

    /// Holds it still until what is returned is dropped; it does not notice.
    pub fn hold(self) -> anyhow::Result<Held> {
        signal(self.0, Signal::SIGSTOP).with_context(|| format!("process {} is gone", self.0))?;
        Ok(Held(self.0))
    }

    /// Returns the processor time it has used so far.
    pub fn cpu(self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))
            .with_context(|| format!("process {} is gone", self.0))?;
        let per_s = sysconf(SysconfVar::CLK_TCK)?.context("the kernel's clock has no rate")?;
        let ticks = ticks_in(&stat).context("the kernel writes its table otherwise")?;
        Ok(Duration::from_secs(ticks) / u32::try_from(per_s)?)
    }

    /// Returns how much memory it occupies, in KB.
    pub fn memory_kb(self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))
            .with_context(|| format!("process {} is gone", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.context("it occupies no memory")?.trim().trim_end_matches(" kB");
        Ok(kb.parse()?)
    }

    fn find(is_it: impl Fn(&Path) -> bool) -> anyhow::Result<Self> {
        for process in fs::read_dir("/proc")?.flatten() {
            let number = process.file_name().to_str().and_then(|name| name.parse().ok());
            // It may end while it is looked at; then it is not the one.
            if let Some(number) = number
                && is_it(&process.path())
            {
                return Ok(Self(Pid::from_raw(number)));
            }
        }
        bail!("none of the processes of this machine is it");
    }
}

/// A process that does nothing while this lives.
#[derive(Debug)]
pub struct Held(Pid);

impl Drop for Held {
    fn drop(&mut self) {
        // One that was killed meanwhile needs nothing any more.
        let _gone = signal(self.0, Signal::SIGCONT);
    }
}

/// Reads user and system time out of a line of `/proc/PID/stat`; the name in it may hold anything.
fn ticks_in(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_whitespace().skip(11);
    let (user, system) = (times.next()?, times.next()?);
    Some(user.parse::<u64>().ok()? + system.parse::<u64>().ok()?)
}

fn program_of(process: &Path) -> Option<PathBuf> {
    fs::read_link(process.join("exe")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_brackets_and_spaces() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 3 4 20 0 2 0 9 1 1";
        assert_eq!(ticks_in(stat), Some(300));
        assert_eq!(ticks_in("7"), None);
    }

    #[test]
    fn a_process_that_works_uses_processor_time_and_memory() {
        let own = Process::of_this_program();
        let begun = own.cpu().expect("it lives");
        while own.cpu().expect("it lives") == begun {
            std::hint::spin_loop();
        }
        assert!(own.memory_kb().expect("it lives") > 100);
    }

    #[test]
    fn all_of_a_program_are_found_by_its_name() {
        let own = std::env::current_exe().expect("it runs");
        let name = own.file_name().and_then(|name| name.to_str()).expect("a name");
        let found = Process::all_of(name).expect("a table of processes");
        assert!(found.iter().any(|process| process.0 == Pid::this()));
        assert!(Process::all_of("a-program-nobody-has").expect("a table").is_empty());
    }
}
