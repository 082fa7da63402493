//! Whether the hosts file takes our names. Only root writes it, but everybody may see what keeps root from it, and which
//! names it has already.

use std::{fs, path::Path};

use laptop_footprint::defined_by_others;
use laptop_ipc::FailureKind;
use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxAttributes, StatxFlags, statvfs, statx};

use super::Finding;
use crate::inside::HOSTS;

const CHECK: &str = "hosts file";

pub(crate) fn finding(path: &Path) -> Finding {
    let Some(obstacle) = obstacle(path) else {
        return Finding::ok(CHECK, format!("root can write {}", path.display()));
    };
    let path = path.display();
    let (why, advice) = match obstacle {
        Obstacle::Missing => (format!("there is no {path}"), format!("sudo touch {path}")),
        Obstacle::Mount => (
            format!("{path} is on a file system that is mounted read-only"),
            format!("sudo mount -o remount,rw {path}, or what it is on"),
        ),
        Obstacle::Attribute(letter) => (
            format!("{path} has the attribute `{letter}` (lsattr): even root does not write it"),
            format!("sudo chattr -{letter} {path}"),
        ),
    };
    Finding::problem(CHECK, FailureKind::LaptopNetwork, why, advice)
}

/// Says which of these names a line of another hand has: they lead where it says, and nothing else would tell.
pub(crate) fn lead_elsewhere<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    let names = defined_by_others(&fs::read(HOSTS).unwrap_or_default(), names);
    let (first, more) = names.split_first()?;
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    Some(format!(
        "a line of {HOSTS} that is not Fairlead's has {first}{more}: that is where it leads, not to the cluster"
    ))
}

/// The same for whoever asks what is wrong.
pub(crate) fn names<'n>(consumed: impl IntoIterator<Item = &'n str>) -> Option<Finding> {
    let advice = format!("take the line out of {HOSTS}; the name follows by itself");
    Some(Finding::warning(CHECK, lead_elsewhere(consumed)?, advice))
}

#[derive(Debug, PartialEq, Eq)]
enum Obstacle {
    Missing,
    Mount,
    /// As `chattr` calls it.
    Attribute(char),
}

fn obstacle(path: &Path) -> Option<Obstacle> {
    let Ok(about) = statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS) else {
        return Some(Obstacle::Missing);
    };
    let has = |attribute| about.stx_attributes.contains(attribute);
    if has(StatxAttributes::IMMUTABLE) {
        return Some(Obstacle::Attribute('i'));
    }
    if has(StatxAttributes::APPEND) {
        return Some(Obstacle::Attribute('a'));
    }
    let is_read_only =
        |mount: rustix::fs::StatVfs| mount.f_flag.contains(StatVfsMountFlags::RDONLY);
    statvfs(path).is_ok_and(is_read_only).then_some(Obstacle::Mount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::State;

    #[test]
    fn what_keeps_root_from_writing_is_named_with_what_lifts_it() {
        let file = tempfile();
        assert_eq!(finding(&file).state, State::Ok);
        std::fs::remove_file(&file).expect("removed");
        let gone = finding(&file);
        assert_eq!((gone.state, gone.kind), (State::Problem, Some(FailureKind::LaptopNetwork)));
    }

    fn tempfile() -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("fairlead-hosts-{}", std::process::id()));
        std::fs::write(&path, "127.0.0.1 localhost\n").expect("written");
        path
    }
}
