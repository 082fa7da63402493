//! `setup`: what this repository needs of a machine, and how a machine that lacks it gets it.

use crate::workspace::{is_root, run as run_command, tell};
use anyhow::{bail, ensure};
use std::{
    path::Path,
    process::{Command, ExitCode, Stdio},
};

/// What a part of the work needs; a verb asks for the areas it touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Area {
    /// Compiling and linking.
    Build,
    /// The lab: a cluster and its hosts.
    Lab,
    /// The hub: its database.
    Hub,
    /// The console: building and looking at it.
    Web,
}

/// How the presence of something is seen.
#[derive(Debug)]
enum Seen {
    Program(&'static str),
    File(&'static str),
    FileBelow(&'static str, &'static str),
}

#[derive(Debug)]
struct Need {
    area: Area,
    seen: Seen,
    package: &'static str,
}

const fn need(area: Area, seen: Seen, package: &'static str) -> Need {
    Need { area, seen, package }
}

const PACKAGES: &[Need] = &[
    need(Area::Build, Seen::Program("cc"), "build-essential"),
    need(Area::Build, Seen::Program("git"), "git"),
    need(Area::Lab, Seen::Program("containerd"), "containerd"),
    need(Area::Lab, Seen::Program("runc"), "runc"),
    need(Area::Lab, Seen::File("/usr/lib/cni/bridge"), "containernetworking-plugins"),
    need(Area::Lab, Seen::Program("nft"), "nftables"),
    need(Area::Lab, Seen::Program("iptables"), "iptables"),
    need(Area::Lab, Seen::Program("ip"), "iproute2"),
    need(Area::Lab, Seen::Program("conntrack"), "conntrack"),
    need(Area::Lab, Seen::Program("openssl"), "openssl"),
    need(Area::Lab, Seen::Program("unshare"), "util-linux"),
    need(Area::Lab, Seen::Program("curl"), "curl"),
    need(Area::Lab, Seen::Program("unzip"), "unzip"),
    need(Area::Lab, Seen::Program("tcpdump"), "tcpdump"),
    need(Area::Hub, Seen::FileBelow("/usr/lib/postgresql", "bin/initdb"), "postgresql"),
    need(Area::Web, Seen::Program("chromium"), "chromium"),
];

/// Programs that Debian has only in versions too old; each with its way of telling its version.
const TOOLS: &[(Area, &str, &[&str], &str)] = &[
    (
        Area::Lab,
        "go",
        &["version"],
        "Go 1.26 or newer, from https://go.dev/dl (the lab builds Kubernetes)",
    ),
    (Area::Lab, "node", &["--version"], "Node.js 20.19 or newer with npm, from https://nodejs.org"),
    (Area::Web, "npm", &["--version"], "Node.js 20.19 or newer with npm, from https://nodejs.org"),
];

/// Installs everything any verb needs.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    ensure(&[Area::Build, Area::Lab, Area::Hub, Area::Web])?;
    tell("Everything that `cargo xtask` needs is here.");
    Ok(ExitCode::SUCCESS)
}

/// Installs what these areas lack; says nothing when they lack nothing.
pub(crate) fn ensure(areas: &[Area]) -> anyhow::Result<()> {
    let missing: Vec<_> = PACKAGES
        .iter()
        .filter(|need| areas.contains(&need.area) && !need.is_here())
        .map(|need| need.package)
        .collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    let absent: Vec<_> = TOOLS
        .iter()
        .filter(|(area, program, version, _)| areas.contains(area) && !answers(program, version))
        .map(|(_, _, _, advice)| *advice)
        .collect();
    ensure!(absent.is_empty(), "install these by hand:\n  {}", absent.join("\n  "));
    Ok(())
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let list = packages.join(" ");
    if !on_path("apt-get") {
        bail!("this machine has no apt-get; install what Debian calls: {list}");
    }
    if !is_root() && !on_path("sudo") {
        bail!("as root, run: apt-get update && apt-get install {list}");
    }
    tell(&format!("Installing {list}"));
    // A machine that never updated its lists finds no package at all.
    let fetch = |arguments: &[&str]| {
        let mut apt = crate::workspace::sudo("env");
        apt.args([
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-qq",
            "-o",
            "DPkg::Lock::Timeout=120",
        ]);
        run_command(apt.args(arguments).stdout(Stdio::null()).stdin(Stdio::null()))
    };
    fairlead_lab::Step::run("package lists are fetched", || fetch(&["update"]))?;
    fairlead_lab::Step::run("packages are installed", || {
        fetch(&[&["install", "--yes", "--no-install-recommends"], packages].concat())
    })
}

impl Need {
    fn is_here(&self) -> bool {
        match self.seen {
            Seen::Program(name) => on_path(name),
            Seen::File(path) => Path::new(path).exists(),
            Seen::FileBelow(folder, file) => std::fs::read_dir(folder).is_ok_and(|mut versions| {
                versions.any(|version| version.is_ok_and(|at| at.path().join(file).exists()))
            }),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "where programs lie is what PATH is for")]
fn on_path(program: &str) -> bool {
    // System programs are not on a plain user's path.
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Path::new);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let inherited = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    inherited || system.iter().any(|folder| folder.join(program).is_file())
}

fn answers(program: &str, version: &[&str]) -> bool {
    let mut ask = Command::new(program);
    ask.args(version).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    ask.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_nobody_has_is_missing() {
        assert!(on_path("sh"));
        assert!(!on_path("a-program-nobody-has"));
        let versions = Seen::FileBelow("/usr/lib", "a-file-nobody-has");
        assert!(!need(Area::Hub, versions, "postgresql").is_here());
    }
}
