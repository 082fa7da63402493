//! `setup`: what this repository needs of a machine, and how a machine that lacks it gets it.

use crate::{
    apt::{self, Distribution},
    version::{self, Version},
    workspace::{root, tell},
};
use anyhow::ensure;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What a part of the work needs; a verb asks for the areas it touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Area {
    /// Compiling and linking.
    Build,
    /// A laptop and a hub beside somebody's own cluster.
    Hosts,
    /// The lab: the same hosts, and a cluster.
    Lab,
    /// The hub: its database.
    Hub,
    /// Tests of a laptop: a resolver that can be told whom to ask.
    Laptop,
    /// Networks that only proxies lead out of.
    Proxies,
    /// The console: building it.
    Console,
    /// Looking at the console.
    Browser,
    /// What benches compare us with.
    Bench,
}

impl Area {
    /// Says whether whoever works in `areas` works in this one, too.
    fn is_touched(self, areas: &[Self]) -> bool {
        areas.contains(&self) || (self == Self::Hosts && areas.contains(&Self::Lab))
    }
}

/// Benches bring what only they need.
const EVERYTHING: [Area; 8] = [
    Area::Build,
    Area::Hosts,
    Area::Lab,
    Area::Hub,
    Area::Laptop,
    Area::Proxies,
    Area::Console,
    Area::Browser,
];

/// How the presence of something is seen.
#[derive(Debug)]
enum Seen {
    /// On the path.
    Program(&'static str),
    /// One of these files is there.
    File(&'static [&'static str]),
    FileBelow(&'static str, &'static str),
    /// One of these files is there, or in the package as it was unpacked: tests want the program, and to
    /// install it would change how the machine resolves names, or have it serve something.
    Unpacked(&'static [&'static str]),
}

/// Something that a package of Debian brings.
#[derive(Debug)]
struct Need {
    area: Area,
    seen: Seen,
    package: &'static str,
    /// What to do where no archive has the package.
    by_hand: &'static str,
}

const fn need(area: Area, program: &'static str, package: &'static str) -> Need {
    Need { area, seen: Seen::Program(program), package, by_hand: "" }
}

const NEEDS: &[Need] = &[
    need(Area::Build, "cc", "build-essential"),
    need(Area::Build, "git", "git"),
    need(Area::Lab, "containerd", "containerd"),
    need(Area::Lab, "runc", "runc"),
    Need {
        area: Area::Lab,
        seen: Seen::File(&["/usr/lib/cni/bridge"]),
        package: "containernetworking-plugins",
        by_hand: "the CNI plugins, with `bridge` at /usr/lib/cni/bridge, from \
                  https://github.com/containernetworking/plugins/releases",
    },
    need(Area::Hosts, "nft", "nftables"),
    need(Area::Lab, "iptables", "iptables"),
    need(Area::Hosts, "ip", "iproute2"),
    need(Area::Lab, "conntrack", "conntrack"),
    need(Area::Lab, "openssl", "openssl"),
    need(Area::Hosts, "unshare", "util-linux"),
    need(Area::Hosts, "perl", "perl-base"),
    need(Area::Hosts, "systemd-analyze", "systemd"),
    need(Area::Laptop, "dbus-daemon", "dbus"),
    Need {
        area: Area::Laptop,
        seen: Seen::Unpacked(&[
            "/usr/lib/systemd/systemd-resolved",
            "/lib/systemd/systemd-resolved",
        ]),
        package: "systemd-resolved",
        by_hand: "systemd-resolved, at /usr/lib/systemd; it need not run",
    },
    need(Area::Hosts, "curl", "curl"),
    need(Area::Hosts, "unzip", "unzip"),
    need(Area::Lab, "tcpdump", "tcpdump"),
    need(Area::Bench, "haproxy", "haproxy"),
    Need {
        area: Area::Hub,
        seen: Seen::FileBelow("/usr/lib/postgresql", "bin/initdb"),
        package: "postgresql",
        by_hand: "PostgreSQL 15 or newer, below /usr/lib/postgresql",
    },
    need(Area::Proxies, "tinyproxy", "tinyproxy-bin"),
    need(Area::Proxies, "microsocks", "microsocks"),
    need(Area::Proxies, "mitmdump", "mitmproxy"),
    Need {
        area: Area::Proxies,
        seen: Seen::Unpacked(&["/usr/sbin/nginx"]),
        package: "nginx",
        by_hand: "nginx, at /usr/sbin/nginx; it need not run",
    },
    Need {
        area: Area::Browser,
        // By their paths: Ubuntu's is a snap, of which only a stub is on the path.
        seen: Seen::File(&["/usr/bin/chromium", "/usr/bin/google-chrome"]),
        package: "chromium",
        by_hand: "a Chromium that is no snap (a snap sees neither the namespaces of the lab nor folders of tests): \
                  Google Chrome's package from https://www.google.com/chrome, or any other, named by FAIRLEAD_CHROMIUM",
    },
];

/// A program that Debian has only in versions too old.
#[derive(Debug)]
pub(crate) struct Tool {
    areas: &'static [Area],
    pub(crate) program: &'static str,
    asked: &'static [&'static str],
    wanted: Version,
    from: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool {
        areas: &[Area::Lab],
        program: "go",
        asked: &["version"],
        wanted: Version(1, 26),
        from: "https://go.dev/dl (the lab builds Kubernetes)",
    },
    Tool {
        areas: &[Area::Hosts, Area::Console],
        program: "node",
        asked: &["--version"],
        wanted: Version(20, 19),
        from: "https://nodejs.org",
    },
    Tool {
        areas: &[Area::Hosts, Area::Console],
        program: "npm",
        asked: &["--version"],
        wanted: Version(9, 0),
        from: "https://nodejs.org, beside Node.js",
    },
];

/// Installs everything any verb needs.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    ensure(&EVERYTHING)?;
    tell("Everything that `cargo xtask` needs is here.");
    Ok(ExitCode::SUCCESS)
}

/// Installs what these areas lack; says nothing when they lack nothing. What cannot be installed is listed at the end,
/// after everything else is there.
pub(crate) fn ensure(areas: &[Area]) -> anyhow::Result<()> {
    let wanted = NEEDS.iter().filter(|need| need.area.is_touched(areas));
    let missing: Vec<_> = wanted.filter(|need| !need.is_here()).collect();
    if !missing.is_empty() {
        install(&missing, &Distribution::of_this_machine())?;
    }
    let still = missing.iter().filter(|need| !need.is_here()).map(|need| need.advice());
    let by_hand: Vec<_> = still.chain(tools(areas).filter_map(Tool::complaint)).collect();
    ensure!(by_hand.is_empty(), "install these by hand:\n  {}", by_hand.join("\n  "));
    Ok(())
}

/// Returns the tools that these areas need.
pub(crate) fn tools(areas: &[Area]) -> impl Iterator<Item = &'static Tool> {
    TOOLS.iter().filter(|tool| tool.areas.iter().any(|area| area.is_touched(areas)))
}

/// Installs what the archives of this distribution have.
fn install(missing: &[&Need], distribution: &Distribution) -> anyhow::Result<()> {
    let offered = missing.iter().filter(|need| distribution.has(need.package));
    let (unpacked, installed): (Vec<&Need>, Vec<&Need>) =
        offered.partition(|need| matches!(need.seen, Seen::Unpacked(_)));
    let installed: Vec<_> = installed.iter().map(|need| need.package).collect();
    if !installed.is_empty() {
        apt::install(&installed)?;
    }
    unpacked.iter().try_for_each(|need| apt::unpack(need.package, &unpacked_at(need.package)))
}

/// Returns where a package is unpacked; tests look there.
fn unpacked_at(package: &str) -> PathBuf {
    root().join("target/packages").join(package)
}

impl Need {
    fn is_here(&self) -> bool {
        match self.seen {
            Seen::Program(name) => on_path(name),
            Seen::File(paths) => {
                let another = self.area == Area::Browser && named_by("FAIRLEAD_CHROMIUM");
                another || paths.iter().any(|path| Path::new(path).exists())
            }
            Seen::Unpacked(paths) => {
                let at = unpacked_at(self.package);
                let inside = |path: &&str| at.join(path.trim_start_matches('/')).exists();
                paths.iter().any(|path| Path::new(path).exists()) || paths.iter().any(inside)
            }
            Seen::FileBelow(folder, file) => std::fs::read_dir(folder).is_ok_and(|mut versions| {
                versions.any(|version| version.is_ok_and(|at| at.path().join(file).exists()))
            }),
        }
    }

    fn advice(&self) -> String {
        if self.by_hand.is_empty() {
            format!("what Debian calls `{}`", self.package)
        } else {
            self.by_hand.to_owned()
        }
    }
}

impl Tool {
    /// Says what is wrong with what is here; nothing when nothing is.
    fn complaint(&self) -> Option<String> {
        let said = version::said_by(self.program, self.asked);
        complaint(self.program, self.wanted, self.from, said.as_deref())
    }
}

fn complaint(program: &str, wanted: Version, from: &str, said: Option<&str>) -> Option<String> {
    let needed = format!("`{program}` {wanted} or newer, from {from}");
    match said.map(|said| (said, Version::in_text(said))) {
        Some((_, Some(version))) if version >= wanted => None,
        Some((_, Some(version))) => Some(format!("{needed}; here is {version}")),
        Some((said, None)) => {
            Some(format!("{needed}; here is one that calls itself `{}`", said.trim()))
        }
        None => Some(needed),
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

#[expect(clippy::disallowed_methods, reason = "the browser that somebody has named")]
fn named_by(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|path| Path::new(&path).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_nobody_has_is_missing_and_the_advice_says_what_to_do() {
        assert!(on_path("sh"));
        let nobodys = need(Area::Lab, "a-program-nobody-has", "nobodys");
        assert!(!nobodys.is_here());
        assert_eq!(nobodys.advice(), "what Debian calls `nobodys`");
        let seen = Seen::FileBelow("/usr/lib", "a-file-nobody-has");
        let database = Need { area: Area::Hub, seen, package: "p", by_hand: "PostgreSQL 15" };
        assert!(!database.is_here());
        assert_eq!(database.advice(), "PostgreSQL 15");
    }

    #[test]
    fn a_tool_that_is_too_old_is_told_with_both_versions() {
        let complaint = |said| complaint("go", Version(1, 26), "go.dev", said);
        assert_eq!(complaint(Some("go version go1.26.0 linux/amd64")), None);
        assert_eq!(complaint(Some("go version go1.30 linux/amd64")), None);
        let old = complaint(Some("go version go1.19.8 linux/amd64")).expect("too old");
        assert!(old.contains("`go` 1.26 or newer") && old.contains("here is 1.19"), "{old}");
        assert_eq!(complaint(None), Some("`go` 1.26 or newer, from go.dev".to_owned()));
        let odd = complaint(Some("devel")).expect("unknown");
        assert!(odd.contains("calls itself `devel`"), "{odd}");
    }
}
