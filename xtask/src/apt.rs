//! Packages of Debian and Ubuntu: whether the archives have one, and installing those that they have.

use crate::workspace::{is_root, run as run_command, sudo};
use anyhow::Context;
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// What this machine installs packages from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Distribution {
    Debian,
    /// Like Debian, but for browsers, which are snaps behind the names of packages.
    Ubuntu,
    /// No packages of Debian at all.
    Other,
}

impl Distribution {
    pub(crate) fn of_this_machine() -> Self {
        if !answers("apt-get") {
            return Self::Other;
        }
        Self::named_in(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    /// Ubuntu's own children name it after `ID_LIKE`.
    fn named_in(os_release: &str) -> Self {
        let names = os_release.lines().filter_map(|line| line.split_once('='));
        let names = names.filter(|(key, _)| matches!(*key, "ID" | "ID_LIKE"));
        let mut names = names.flat_map(|(_, value)| value.trim_matches('"').split(' '));
        if names.any(|name| name == "ubuntu") { Self::Ubuntu } else { Self::Debian }
    }

    /// Says whether the archives have a package that brings what its name says.
    pub(crate) fn has(&self, package: &str) -> bool {
        match self {
            Self::Other => false,
            Self::Ubuntu if package == "chromium" => false,
            Self::Debian | Self::Ubuntu => true,
        }
    }
}

/// Installs packages; those that the archives turn out not to have are left out, and the caller sees what is missing.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    if !is_root() && !answers("sudo") {
        let list = packages.join(" ");
        anyhow::bail!("as root, run: apt-get update && apt-get install {list}");
    }
    // A machine that never updated its lists finds no package at all.
    fairlead_lab::Step::run("package lists are fetched", || apt_get(&["update"]))?;
    let known: Vec<_> = packages.iter().copied().filter(|package| is_known(package)).collect();
    if known.is_empty() {
        return Ok(());
    }
    fairlead_lab::Step::run(&format!("installed: {}", known.join(" ")), || {
        apt_get(&[&["install", "--yes", "--no-install-recommends"], &known[..]].concat())
    })
    .context("the packages could not be installed; apt-get says why above")
}

/// Unpacks a package in a folder of ours and installs nothing.
pub(crate) fn unpack(package: &str, folder: &Path) -> anyhow::Result<()> {
    if !is_known(package) {
        fairlead_lab::Step::run("package lists are fetched", || apt_get(&["update"]))?;
    }
    fairlead_lab::Step::run(&format!("unpacked: {package}"), || {
        fs::create_dir_all(folder)?;
        let mut download = Command::new("apt-get");
        download.args(["-qq", "download", package]).current_dir(folder);
        run_command(download.stdin(Stdio::null()).stderr(Stdio::null()))?;
        for entry in fs::read_dir(folder)? {
            let archive = entry?.path();
            if archive.extension().is_some_and(|extension| extension == "deb") {
                run_command(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(folder))?;
                fs::remove_file(&archive)?;
            }
        }
        Ok(())
    })
}

fn is_known(package: &str) -> bool {
    let mut show = Command::new("apt-cache");
    show.args(["show", "--no-all-versions", package]);
    show.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    show.status().is_ok_and(|status| status.success())
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let mut apt = sudo("env");
    apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]);
    apt.args(["-o", "DPkg::Lock::Timeout=120"]).args(arguments);
    run_command(apt.stdout(Stdio::null()).stdin(Stdio::null()))
}

fn answers(program: &str) -> bool {
    crate::version::said_by(program, &["--version"]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_of_ubuntu_is_a_snap_and_no_package() {
        let debian = Distribution::named_in("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n");
        let ubuntu = Distribution::named_in("ID=ubuntu\nID_LIKE=debian\n");
        let child = Distribution::named_in("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n");
        assert_eq!(
            (&debian, &ubuntu, &child),
            (&Distribution::Debian, &Distribution::Ubuntu, &Distribution::Ubuntu)
        );
        assert!(debian.has("chromium") && !ubuntu.has("chromium") && ubuntu.has("nftables"));
        assert!(!Distribution::Other.has("nftables"));
    }

    #[test]
    fn a_package_that_no_archive_has_is_left_out() {
        assert!(!is_known("a-package-that-nobody-has-made"));
    }
}
