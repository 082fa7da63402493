//! The developer's machine: the installed programs and the supervisor that root started.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use fairlead_lab::{Host, Lab, sibling};

use crate::{command::say, patience::within};

const PROGRAMS: [&str; 3] = ["fairlead", "fairlead-daemon", "fairlead-supervisor"];
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

    /// Kills the supervisor with SIGKILL.
    pub fn kill_supervisor(&mut self) -> anyhow::Result<()> {
        self.supervisor.kill()?;
        self.supervisor.wait()?;
        Ok(())
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
        within(READY_WITHIN, "the supervisor listens", || {
            // A socket that a killed supervisor left has a name but no listener.
            let mut ss = lab.exec(Host::Laptop, "ss");
            ss.args(["--no-header", "--unix", "--listening", "src", SOCKET]);
            let listens = !say(ss)?.ok()?.stdout.is_empty();
            ensure!(listens, "nobody listens at {SOCKET}");
            Ok(())
        })?;
        Ok(child)
    }
}

impl Drop for Laptop {
    fn drop(&mut self) {
        if self.kill_supervisor().is_err() {
            // It had ended before.
        }
    }
}
