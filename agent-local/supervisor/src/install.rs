//! `fairlead-supervisor install` and `uninstall`: a service of systemd, started now and at each boot.

use std::{env, fs, io, path::Path, process::Command};

use anyhow::{Context as _, bail, ensure};
use laptop_footprint::replace_atomically;

use crate::say;

const UNIT: &str = include_str!("../../../deploy/systemd/fairlead-supervisor.service");
const NAME: &str = "fairlead-supervisor.service";
const PATH: &str = "/etc/systemd/system/fairlead-supervisor.service";
/// The program's place in the unit of a package.
const PACKAGED: &str = "/usr/bin/fairlead-supervisor";

pub(crate) fn install() -> anyhow::Result<()> {
    let program = env::current_exe()?;
    let program = program.to_str().context("the program's path is no text")?;
    ensure!(
        Path::new("/run/systemd/system").is_dir(),
        "systemd does not run here, so no service of it can be installed\n\
         hint: start it by hand after each boot: sudo {program} run --detach"
    );
    let unit = unit_of(program)?;
    replace_atomically(Path::new(PATH), unit.as_bytes())
        .and_then(|()| {
            fs::set_permissions(PATH, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        })
        .with_context(|| format!("could not write {PATH} (run as root?)"))?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", NAME])?;
    // One that was started by hand keeps the lock, and would keep the service from starting.
    systemctl(&["restart", NAME])
        .context("is a supervisor running that was started by hand? End it, then try again")?;
    say(&format!("{NAME} runs, and is started at each boot."));
    Ok(())
}

pub(crate) fn uninstall() -> anyhow::Result<()> {
    if !Path::new(PATH).exists() {
        bail!("no service is installed: there is no {PATH}");
    }
    systemctl(&["disable", "--now", NAME])?;
    match fs::remove_file(PATH) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    systemctl(&["daemon-reload"])?;
    say(&format!("{NAME} is gone; what it changed was taken back."));
    Ok(())
}

/// Returns the unit that runs this program.
fn unit_of(program: &str) -> anyhow::Result<String> {
    let is_plain = program.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    ensure!(
        is_plain,
        "systemd would misread the path {program}: install it elsewhere, in /usr/bin say"
    );
    Ok(UNIT.replace(PACKAGED, program))
}

fn systemctl(words: &[&str]) -> anyhow::Result<()> {
    let status =
        Command::new("systemctl").args(words).status().context("could not run systemctl")?;
    ensure!(status.success(), "systemctl {} failed ({status})", words.join(" "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_runs_the_program_that_installs_it() {
        let unit = unit_of("/opt/fairlead/bin/fairlead-supervisor").expect("plain");
        assert!(unit.contains("\nExecStart=/opt/fairlead/bin/fairlead-supervisor run\n"), "{unit}");
        assert!(unit.contains("\nExecStopPost=-/opt/fairlead/bin/fairlead-supervisor cleanup\n"));
        assert!(!unit.contains(PACKAGED));
        unit_of("/home/ada/my tools/fairlead-supervisor").expect_err("a space ends the word");
    }
}
