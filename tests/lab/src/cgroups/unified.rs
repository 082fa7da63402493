//! Version 2: one hierarchy, whose controllers reach a group only when each group above hands them down.
//!
//! The topmost group is not ours. What we change in it is written down beside it, as the names of empty groups: whoever
//! removes the last lab finds it there, also when the keeper that made it was killed.

use super::remove_tree;
use nix::errno::Errno;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the processes wait that were in the topmost group, for as long as a lab runs.
const WAITING_ROOM: &str = "fairlead-waiting-room";
/// Begins the name of the group that says what the topmost group did not hand down before: `…-hugetlb-io`.
const WRITTEN_DOWN: &str = "fairlead-handed-down-";
const PROCESSES: &str = "cgroup.procs";
const CONTROLLERS: &str = "cgroup.controllers";
const HANDED_DOWN: &str = "cgroup.subtree_control";

/// Makes a group with all that are above it, to which each level hands its controllers down.
pub(super) fn delegate(hierarchy: &Path, group: &Path) -> io::Result<()> {
    delegate_by(hierarchy, group, put)
}

/// Takes back what was changed in the topmost group, once the last lab is gone.
pub(super) fn tidy_up(hierarchy: &Path) -> io::Result<()> {
    tidy_up_by(hierarchy, put)
}

/// Writes to a file of the kernel's; tests have files of their own.
type Put = fn(&Path, &str) -> io::Result<()>;

fn put(file: &Path, text: &str) -> io::Result<()> {
    fs::write(file, text)
}

fn delegate_by(hierarchy: &Path, group: &Path, put: Put) -> io::Result<()> {
    let mut above = hierarchy.to_path_buf();
    for part in group {
        let below = above.join(part);
        // Before anything is handed down: a lab that ends meanwhile sees that it is not the last one.
        fs::create_dir_all(&below)?;
        let missing = missing(&above)?;
        if !missing.is_empty() {
            if above == hierarchy {
                fs::create_dir_all(hierarchy.join(format!("{WRITTEN_DOWN}{}", missing.join("-"))))?;
            }
            hand_down(&above, &missing, put)?;
        }
        above = below;
    }
    Ok(())
}

/// The controllers that are not handed down yet. All are wanted: the kubelet has every group above a pod, up to the
/// topmost, hand down all there are.
fn missing(group: &Path) -> io::Result<Vec<String>> {
    let names = |file| fs::read_to_string(group.join(file));
    let (there, handed_down) = (names(CONTROLLERS)?, names(HANDED_DOWN)?);
    let is_missing = |name: &&str| !handed_down.split_whitespace().any(|other| other == *name);
    Ok(there.split_whitespace().filter(is_missing).map(ToOwned::to_owned).collect())
}

/// A group that holds processes hands nothing down, but for the kernel's own root. In a container the topmost group is
/// not that one, and everything that runs there is in it: it has to wait in a group of its own meanwhile.
fn hand_down(group: &Path, names: &[String], put: Put) -> io::Result<()> {
    let wanted: Vec<_> = names.iter().map(|name| format!("+{name}")).collect();
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

fn tidy_up_by(hierarchy: &Path, put: Put) -> io::Result<()> {
    let groups = named(hierarchy, "fairlead-")?;
    let begins = |group: &Path, with: &str| {
        group.file_name().is_some_and(|name| name.to_string_lossy().starts_with(with))
    };
    if groups.iter().any(|group| begins(group, "fairlead-lab-")) {
        return Ok(());
    }
    for note in groups.iter().filter(|group| begins(group, WRITTEN_DOWN)) {
        let name = note.file_name().unwrap_or_default().to_string_lossy();
        for controller in name.trim_start_matches(WRITTEN_DOWN).split('-') {
            match put(&hierarchy.join(HANDED_DOWN), &format!("-{controller}")) {
                // Somebody else hands it on by now.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                outcome => outcome?,
            }
        }
        remove_tree(note)?;
    }
    let room = hierarchy.join(WAITING_ROOM);
    if room.exists() {
        move_processes(&room, hierarchy, put)?;
        remove_tree(&room)?;
    }
    Ok(())
}

/// The groups right below a group whose names begin like this.
fn named(group: &Path, beginning: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(beginning) {
            found.push(entry.path());
        }
    }
    Ok(found)
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
                Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => {}
                outcome => outcome?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A topmost group as the kernel would show it, with a lab's group below.
    fn unified(processes: &str, handed_down: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for group in ["", "fairlead-lab-a"] {
            let group = root.path().join(group);
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join(CONTROLLERS), "cpu memory\n").unwrap();
            fs::write(group.join(HANDED_DOWN), "").unwrap();
        }
        fs::write(root.path().join(HANDED_DOWN), handed_down).unwrap();
        fs::write(root.path().join(PROCESSES), processes).unwrap();
        root
    }

    fn read(root: &tempfile::TempDir, file: &str) -> String {
        fs::read_to_string(root.path().join(file)).unwrap()
    }

    fn groups(root: &tempfile::TempDir) -> Vec<String> {
        let found = named(root.path(), "fairlead-").unwrap();
        let mut names: Vec<_> = found
            .into_iter()
            .map(|group| group.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Does what the kernel does: processes are in one group, and one that holds any hands nothing down.
    fn kernel(file: &Path, text: &str) -> io::Result<()> {
        let group = file.parent().unwrap();
        if file.ends_with(HANDED_DOWN) {
            let held = fs::read_to_string(group.join(PROCESSES)).unwrap_or_default();
            if !held.is_empty() && text.contains('+') {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            let before = fs::read_to_string(file)?;
            let mut names: BTreeSet<_> = before.split_whitespace().collect();
            for change in text.split_whitespace() {
                match change.split_at(1) {
                    ("+", name) => names.insert(name),
                    (_, name) => names.remove(name),
                };
            }
            return fs::write(file, names.into_iter().collect::<Vec<_>>().join(" "));
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
    fn every_controller_is_handed_down_and_taken_back_when_the_last_lab_is_gone() {
        let root = unified("", "memory");
        delegate_by(root.path(), Path::new("fairlead-lab-a/node1"), kernel).unwrap();
        assert_eq!(read(&root, "cgroup.subtree_control"), "cpu memory");
        assert_eq!(read(&root, "fairlead-lab-a/cgroup.subtree_control"), "cpu memory");
        assert!(root.path().join("fairlead-lab-a/node1").is_dir());
        assert_eq!(groups(&root), ["fairlead-handed-down-cpu", "fairlead-lab-a"]);

        tidy_up_by(root.path(), kernel).unwrap();
        assert_eq!(read(&root, "cgroup.subtree_control"), "cpu memory", "a lab is there");
        fs::remove_dir_all(root.path().join("fairlead-lab-a")).unwrap();
        tidy_up_by(root.path(), kernel).unwrap();
        assert_eq!(read(&root, "cgroup.subtree_control"), "memory");
        assert!(groups(&root).is_empty(), "{:?}", groups(&root));
    }

    #[test]
    fn a_controller_that_somebody_else_hands_on_by_now_stays() {
        let root = unified("", "");
        delegate_by(root.path(), Path::new("fairlead-lab-a/node1"), kernel).unwrap();
        fs::remove_dir_all(root.path().join("fairlead-lab-a")).unwrap();
        let cpu_is_busy: Put = |file, text| match text {
            "-cpu" => Err(io::ErrorKind::ResourceBusy.into()),
            _ => kernel(file, text),
        };
        tidy_up_by(root.path(), cpu_is_busy).unwrap();
        assert_eq!(read(&root, "cgroup.subtree_control"), "cpu");
        assert!(groups(&root).is_empty(), "{:?}", groups(&root));
    }

    #[test]
    fn processes_of_the_topmost_group_wait_in_one_of_their_own_until_the_last_lab_is_gone() {
        let root = unified("1\n7\n", "");
        delegate_by(root.path(), Path::new("fairlead-lab-a"), kernel).unwrap();
        assert_eq!(read(&root, "cgroup.subtree_control"), "cpu memory");
        assert_eq!(read(&root, "cgroup.procs"), "");
        assert_eq!(read(&root, "fairlead-waiting-room/cgroup.procs"), "1\n7\n");

        fs::remove_dir_all(root.path().join("fairlead-lab-a")).unwrap();
        // The kernel's own files go with their folder, ours do not.
        let moved = tidy_up_by(root.path(), kernel).unwrap_err();
        assert_eq!(moved.kind(), io::ErrorKind::DirectoryNotEmpty);
        assert_eq!(read(&root, "cgroup.procs"), "1\n7\n");
        assert_eq!(read(&root, "cgroup.subtree_control"), "");
    }
}
