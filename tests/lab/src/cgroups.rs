//! The control groups under which the kubelets put their pods: one folder per hierarchy, in version 1 and 2 alike.

use crate::{Host, place::Place};
use anyhow::Context;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Where the processes wait that were in the topmost group of version 2, for as long as a lab runs.
const WAITING_ROOM: &str = "fairlead-waiting-room";
const PROCESSES: &str = "cgroup.procs";
const HANDED_DOWN: &str = "cgroup.subtree_control";

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
                .try_for_each(|node| delegate(hierarchy, node, put))
                .with_context(|| format!("no control group in {}", hierarchy.display())),
            _ => Ok(()),
        }
    }

    /// Removes the folders of the lab, also when they were left by one that is long dead.
    pub(crate) fn remove(&self, place: &Place) -> anyhow::Result<()> {
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
            Some(hierarchy) => leave_the_waiting_room(hierarchy, put)
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

/// Writes to a file of the kernel's; tests have files of their own.
type Put = fn(&Path, &str) -> io::Result<()>;

fn put(file: &Path, text: &str) -> io::Result<()> {
    fs::write(file, text)
}

/// Makes a folder of version 2; each level hands its controllers down to the next.
fn delegate(hierarchy: &Path, group: &Path, put: Put) -> io::Result<()> {
    let mut above = hierarchy.to_path_buf();
    for part in group {
        hand_down(&above, put)?;
        above.push(part);
        fs::create_dir_all(&above)?;
    }
    Ok(())
}

/// A group that holds processes hands nothing down, but for the kernel's own root. In a container the topmost group is
/// not that one, and everything that runs there is in it: it has to wait in a group of its own meanwhile.
fn hand_down(group: &Path, put: Put) -> io::Result<()> {
    let controllers = fs::read_to_string(group.join("cgroup.controllers"))?;
    let wanted: Vec<_> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    let hand_down = || put(&group.join(HANDED_DOWN), &wanted.join(" "));
    match hand_down() {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let room = group.join(WAITING_ROOM);
            fs::create_dir_all(&room)?;
            move_processes(group, &room, put)?;
            hand_down()
        }
        outcome => outcome,
    }
}

/// Puts the processes back where they were, once the last lab is gone.
fn leave_the_waiting_room(hierarchy: &Path, put: Put) -> io::Result<()> {
    let room = hierarchy.join(WAITING_ROOM);
    let is_lab =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("fairlead-lab-");
    if !room.exists() || fs::read_dir(hierarchy)?.flatten().any(|entry| is_lab(&entry)) {
        return Ok(());
    }
    // The group held processes before, so it had handed nothing down.
    let handed_down = fs::read_to_string(hierarchy.join(HANDED_DOWN))?;
    let taken_back: Vec<_> =
        handed_down.split_whitespace().map(|name| format!("-{name}")).collect();
    put(&hierarchy.join(HANDED_DOWN), &taken_back.join(" "))?;
    move_processes(&room, hierarchy, put)?;
    remove_tree(&room)
}

/// Moves every process that can be moved. Those that start meanwhile are found by looking again.
fn move_processes(from: &Path, to: &Path, put: Put) -> io::Result<()> {
    const LOOKS_MAX: usize = 100;
    for _ in 0..LOOKS_MAX {
        let processes = fs::read_to_string(from.join(PROCESSES))?;
        // Those of another process namespace have no number here.
        let mut numbers = processes.lines().filter(|number| *number != "0").peekable();
        if numbers.peek().is_none() {
            break;
        }
        for number in numbers {
            match put(&to.join(PROCESSES), number) {
                // It has ended since.
                Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32) => {}
                outcome => outcome?,
            }
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

    /// A topmost group of version 2 as the kernel would show it.
    fn unified(processes: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for group in ["", "lab"] {
            fs::create_dir_all(root.path().join(group)).unwrap();
            fs::write(root.path().join(group).join("cgroup.controllers"), "cpu memory\n").unwrap();
            fs::write(root.path().join(group).join(HANDED_DOWN), "").unwrap();
        }
        fs::write(root.path().join(PROCESSES), processes).unwrap();
        root
    }

    fn read(root: &tempfile::TempDir, file: &str) -> String {
        fs::read_to_string(root.path().join(file)).unwrap()
    }

    /// Does what the kernel does: processes are in one group, and one that holds any hands nothing down.
    fn kernel(file: &Path, text: &str) -> io::Result<()> {
        let group = file.parent().unwrap();
        if file.ends_with(HANDED_DOWN) {
            let held = fs::read_to_string(group.join(PROCESSES)).unwrap_or_default();
            if !held.is_empty() && text.contains('+') {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            let names = text.split_whitespace().filter_map(|name| name.strip_prefix('+'));
            return fs::write(file, names.collect::<Vec<_>>().join(" "));
        }
        let other = match group.ends_with(WAITING_ROOM) {
            true => group.parent().unwrap().to_path_buf(),
            false => group.join(WAITING_ROOM),
        };
        let held = fs::read_to_string(other.join(PROCESSES))?;
        let left = held.lines().filter(|number| *number != text).map(|n| format!("{n}\n"));
        fs::write(other.join(PROCESSES), left.collect::<String>())?;
        let here = fs::read_to_string(file).unwrap_or_default();
        fs::write(file, format!("{here}{text}\n"))
    }

    #[test]
    fn version_2_hands_every_controller_down() {
        let root = unified("");
        delegate(root.path(), Path::new("lab/node1"), kernel).unwrap();
        assert_eq!(read(&root, "lab/cgroup.subtree_control"), "cpu memory");
        assert!(root.path().join("lab/node1").is_dir());
        assert!(!root.path().join(WAITING_ROOM).exists(), "nobody has to wait");
    }

    #[test]
    fn processes_of_the_topmost_group_wait_in_one_of_their_own_until_the_last_lab_is_gone() {
        let root = unified("1\n7\n");
        delegate(root.path(), Path::new("fairlead-lab-a"), kernel).unwrap();
        assert_eq!(read(&root, "cgroup.subtree_control"), "cpu memory");
        assert_eq!(read(&root, "cgroup.procs"), "");
        assert_eq!(read(&root, "fairlead-waiting-room/cgroup.procs"), "1\n7\n");

        leave_the_waiting_room(root.path(), kernel).unwrap();
        assert_eq!(read(&root, "cgroup.procs"), "", "a lab is there");
        fs::remove_dir(root.path().join("fairlead-lab-a")).unwrap();
        // The kernel's own files go with their folder, ours do not.
        let moved = leave_the_waiting_room(root.path(), kernel).unwrap_err();
        assert_eq!(moved.kind(), io::ErrorKind::DirectoryNotEmpty);
        assert_eq!(read(&root, "cgroup.procs"), "1\n7\n");
        assert_eq!(read(&root, "cgroup.subtree_control"), "");
    }
}
