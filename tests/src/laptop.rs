//! The developer's machine: the installed programs and the supervisor that root started.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::Context;
use fairlead_lab::{Host, Lab, sibling};

use crate::{command::say, patience::eventually, process::Process};

/// Ours, and the one the developer works on. They are copied, because a checkout may be closed to other users.
const PROGRAMS: [&str; 4] = ["fairlead", "fairlead-daemon", "fairlead-supervisor", "shop"];
const SOCKET: &str = "/run/fairlead/supervisor.sock";
const READY_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Laptop {
    programs: PathBuf,
    supervisor: Child,
}

impl Laptop {
    /// Installs the programs where every user can run them and starts the supervisor as root.
    pub fn start(lab: &Lab, folder: &Path) -> anyhow::Result<Self> {
        let programs = folder.join("bin");
        fs::create_dir_all(&programs)?;
        for name in PROGRAMS {
            fs::copy(sibling(name)?, programs.join(name))
                .with_context(|| format!("cannot install {name}"))?;
            fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755))?;
        }
        let supervisor = Self::supervisor(lab, &programs)?;
        Ok(Self { programs, supervisor })
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Kills the supervisor with SIGKILL and returns when it is gone.
    pub fn kill_supervisor(&mut self, lab: &Lab) -> anyhow::Result<()> {
        Process::entered_by(&self.supervisor)?.kill()?;
        self.supervisor.wait()?;
        eventually(READY_WITHIN, "the supervisor is gone", || Ok(!listens(lab)?))?;
        Ok(())
    }

    /// Returns the processes of the supervisor: the one that was started, and those that work for it.
    pub fn supervisors(&self) -> anyhow::Result<Vec<Process>> {
        let (first, program) =
            (Process::entered_by(&self.supervisor)?, self.programs.join("fairlead-supervisor"));
        let works = first.descendants()?.into_iter().filter(|process| process.runs(&program));
        Ok(std::iter::once(first).chain(works).collect())
    }

    /// Says whether a supervisor is there.
    pub fn has_supervisor(&self, lab: &Lab) -> bool {
        listens(lab).unwrap_or_default()
    }

    /// Starts the supervisor again, as the machine's init would.
    pub fn start_supervisor(&mut self, lab: &Lab) -> anyhow::Result<()> {
        self.supervisor = Self::supervisor(lab, &self.programs)?;
        Ok(())
    }

    fn supervisor(lab: &Lab, programs: &Path) -> anyhow::Result<Child> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(programs.with_file_name("supervisor.log"))?;
        let mut command = lab.exec(Host::Laptop, programs.join("fairlead-supervisor"));
        let child = command
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start the supervisor")?;
        eventually(READY_WITHIN, "the supervisor listens", || listens(lab))?;
        Ok(child)
    }
}

impl Drop for Laptop {
    fn drop(&mut self) {
        let ended = self.supervisor.kill().and_then(|()| self.supervisor.wait());
        ended.map(drop).unwrap_or_default();
    }
}

/// Says whether a supervisor listens. A socket that a killed one left has a name but no listener.
fn listens(lab: &Lab) -> anyhow::Result<bool> {
    let mut ss = lab.exec(Host::Laptop, "ss");
    ss.args(["--no-header", "--unix", "--listening", "src", SOCKET]);
    Ok(!say(ss)?.ok()?.stdout.is_empty())
}
