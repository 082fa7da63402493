//! What a lab could leave behind on the machine it ran on, and in the home of whoever ran it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use fairlead_lab::{Lab, tools};
use fairlead_tests::say;
use tempfile::TempDir;

/// What there is of everything that a lab makes; two of these are compared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    mounts: BTreeSet<String>,
    links: String,
    addresses: String,
    routes: String,
    rules: String,
    cgroups: BTreeSet<String>,
    folders: Vec<BTreeSet<String>>,
}

/// Folders that a cluster's programs like to write to.
const FOLDERS: [&str; 8] = [
    "/run",
    "/run/netns",
    "/var/lib",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log",
    "/var/log/pods",
    "/etc/cni",
];

impl Machine {
    /// Looks at the machine; what belongs to labs of other names is left out.
    pub(crate) fn seen_by(lab: &str) -> anyhow::Result<Self> {
        let shown = |words: &[&str]| -> anyhow::Result<String> {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            Ok(say(command)?.ok()?.stdout)
        };
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self {
            mounts: table
                .lines()
                .filter_map(|line| Some(line.split_once(' ')?.1.to_owned()))
                .collect(),
            links: shown(&["ip", "-brief", "link"])?,
            addresses: shown(&["ip", "-brief", "address"])?,
            routes: without_countdown(&shown(&["ip", "route", "show", "table", "all"])?),
            rules: shown(&["nft", "list", "ruleset"])?,
            cgroups: cgroups_of(lab)?,
            folders: FOLDERS.iter().map(|folder| names_in(Path::new(folder))).collect(),
        })
    }
}

/// The process namespace of a lab, by which its processes are known: pods and programs on hosts included.
#[derive(Debug)]
pub(crate) struct Inside(PathBuf);

impl Inside {
    pub(crate) fn of(lab: &Lab) -> anyhow::Result<Self> {
        Ok(Self(fs::read_link(format!("/proc/{}/ns/pid", lab.first_process()))?))
    }

    /// Returns the command lines of the processes in it.
    pub(crate) fn processes(&self) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for process in fs::read_dir("/proc")? {
            let process = process?.path();
            if fs::read_link(process.join("ns/pid")).is_ok_and(|namespace| namespace == self.0) {
                found.push(fs::read_to_string(process.join("cmdline")).unwrap_or_default());
            }
        }
        Ok(found)
    }
}

/// The home of somebody who has what is built once per machine, and nothing else.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let home = TempDir::new()?;
        let tools = tools::folder()?;
        let built = tools.parent().context("tools lie among what is built")?;
        fs::create_dir(home.path().join("tmp"))?;
        fs::create_dir(home.path().join(".cache"))?;
        symlink(built, home.path().join(".cache/fairlead"))?;
        Ok(Self(home))
    }

    /// Has a program believe that this is the home, as a `sudo` does that keeps HOME.
    pub(crate) fn of<'c>(&self, program: &'c mut Command) -> &'c mut Command {
        program.env("HOME", self.0.path()).env("TMPDIR", self.0.path().join("tmp"))
    }

    pub(crate) fn has_only_what_it_had(&self) {
        let names = ["", "tmp", ".cache"].map(|folder| names_in(&self.0.path().join(folder)));
        let had = [&[".cache", "tmp"][..], &[], &["fairlead"]];
        assert_eq!(names, had.map(|names| names.iter().map(ToString::to_string).collect()));
    }
}

fn cgroups_of(lab: &str) -> anyhow::Result<BTreeSet<String>> {
    let name = format!("fairlead-lab-{lab}");
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(top)?.filter_map(|entry| Some(entry.ok()?.path()));
    let folders = hierarchies.chain([top.to_path_buf()]).map(|hierarchy| hierarchy.join(&name));
    Ok(folders
        .filter(|folder| folder.exists())
        .map(|folder| folder.display().to_string())
        .collect())
}

/// A route that a router advertised says for how many seconds it still holds.
fn without_countdown(routes: &str) -> String {
    let lasting = |line: &str| match line.split_once(" expires ") {
        Some((route, rest)) => format!("{route} {}", rest.split_once(' ').unwrap_or((rest, "")).1),
        None => line.to_owned(),
    };
    routes.lines().map(lasting).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_route_is_the_same_a_second_later() {
    let route =
        |seconds| format!("default via fe80::2 dev ens3 proto ra expires {seconds}sec pref medium");
    assert_eq!(without_countdown(&route(1679)), without_countdown(&route(1678)));
    assert_ne!(without_countdown(&route(1679)), without_countdown("default via fe80::3 dev ens3"));
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect()
}
