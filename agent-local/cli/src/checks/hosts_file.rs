//! Whether the hosts file takes our names. Only root writes it, but everybody may see what keeps root from it.

use std::path::Path;

use laptop_ipc::FailureKind;
use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxAttributes, StatxFlags, statvfs, statx};

use super::Finding;

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
