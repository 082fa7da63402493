//! The control groups under which the kubelets put their pods: one folder per hierarchy, in version 1 and 2 alike.

mod unified;

use crate::{Host, place::Place};
use anyhow::Context;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A control group goes only when its last process has been buried, which takes the kernel a moment.
const PATIENCE: Duration = Duration::from_secs(5);

/// The hierarchies that are mounted on this machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    /// Version 1, one per controller.
    per_controller: Vec<PathBuf>,
    /// Version 2. Beside version 1 it carries no controllers, and pods are not limited by it.
    unified: Option<PathBuf>,
}

impl Hierarchies {
    /// Reads which hierarchies this process sees.
    pub(crate) fn mounted() -> anyhow::Result<Self> {
        let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
        Ok(Self::listed_in(&table))
    }

    fn listed_in(mountinfo: &str) -> Self {
        let of_type = |wanted: &str| {
            mountinfo
                .lines()
                .filter_map(|line| {
                    let (mount, source) = line.split_once(" - ")?;
                    let kind = source.split_whitespace().next()?;
                    (kind == wanted).then(|| mount.split_whitespace().nth(4)).flatten()
                })
                .map(PathBuf::from)
                .collect::<Vec<_>>()
        };
        Self { per_controller: of_type("cgroup"), unified: of_type("cgroup2").into_iter().next() }
    }

    /// Makes a folder for each node in each hierarchy.
    pub(crate) fn make(&self, place: &Place) -> anyhow::Result<()> {
        let nodes = Host::NODES.map(|node| place.cgroup().join(node.name()));
        for hierarchy in &self.per_controller {
            for node in &nodes {
                make_in(hierarchy, node)
                    .with_context(|| format!("no control group in {}", hierarchy.display()))?;
            }
        }
        match &self.unified {
            Some(hierarchy) if self.per_controller.is_empty() => nodes
                .iter()
                .try_for_each(|node| unified::delegate(hierarchy, node))
                .with_context(|| format!("no control group in {}", hierarchy.display())),
            _ => Ok(()),
        }
    }

    /// Lets frozen processes of the lab go on. In version 1 even one that was killed stays until then: containers are
    /// frozen for a moment while their devices are set.
    pub(crate) fn thaw(&self, place: &Place) -> anyhow::Result<()> {
        self.per_controller.iter().try_for_each(|hierarchy| {
            let folder = hierarchy.join(place.cgroup());
            thaw_tree(&folder).with_context(|| format!("cannot thaw {}", folder.display()))
        })
    }

    /// Removes the folders of the lab, also when they were left by one that is long dead.
    pub(crate) fn remove(&self, place: &Place) -> anyhow::Result<()> {
        self.thaw(place)?;
        let deadline = Instant::now() + PATIENCE;
        for hierarchy in self.per_controller.iter().chain(&self.unified) {
            let folder = hierarchy.join(place.cgroup());
            while let Err(error) = remove_tree(&folder) {
                let busy = error.raw_os_error() == Some(nix::errno::Errno::EBUSY as i32);
                if !busy || Instant::now() > deadline {
                    return Err(error)
                        .with_context(|| format!("cannot remove {}", folder.display()));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        match &self.unified {
            Some(hierarchy) => unified::tidy_up(hierarchy)
                .with_context(|| format!("cannot tidy up {}", hierarchy.display())),
            None => Ok(()),
        }
    }
}

/// Makes a folder of version 1; in the cpuset hierarchy a new folder may use no processor until told which.
fn make_in(hierarchy: &Path, group: &Path) -> io::Result<()> {
    let mut above = hierarchy.to_path_buf();
    for part in group {
        let below = above.join(part);
        fs::create_dir_all(&below)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if above.join(file).exists() {
                fs::write(below.join(file), fs::read(above.join(file))?)?;
            }
        }
        above = below;
    }
    Ok(())
}

/// Thaws a control group and all below it; a hierarchy that cannot freeze has no such file.
fn thaw_tree(folder: &Path) -> io::Result<()> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(folder) {
        Err(error) if gone(&error) => return Ok(()),
        entries => entries?,
    };
    let state = folder.join("freezer.state");
    if state.exists() {
        fs::write(state, "THAWED")
            .or_else(|error| if gone(&error) { Ok(()) } else { Err(error) })?;
    }
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            thaw_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a control group and all below it. Its files are the kernel's and go with the folder.
fn remove_tree(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 26 0:27 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs rw,mode=755
32 31 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 31 0:29 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
34 31 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
    const UNIFIED: &str = "29 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn both_layouts_are_recognized() {
        let hybrid = Hierarchies::listed_in(HYBRID);
        let expected = ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/memory"].map(PathBuf::from);
        assert_eq!(hybrid.per_controller, expected);
        assert_eq!(hybrid.unified, Some("/sys/fs/cgroup/unified".into()));
        let unified = Hierarchies::listed_in(UNIFIED);
        assert_eq!(
            unified,
            Hierarchies { per_controller: vec![], unified: Some("/sys/fs/cgroup".into()) }
        );
    }

    #[test]
    fn version_1_copies_the_processors_down() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cpuset.cpus"), "0-1\n").unwrap();
        make_in(root.path(), Path::new("lab/node1")).unwrap();
        let copied = fs::read_to_string(root.path().join("lab/node1/cpuset.cpus")).unwrap();
        assert_eq!(copied, "0-1\n");
    }
}
