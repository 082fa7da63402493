//! The kernel's leases on a file: whether somebody else is writing it, and keeping everybody else out for a moment.
//!
//! Whoever opens a leased file waits until we let go of it, and only then reads or writes. Not every file system has
//! leases; there nobody is kept out, and nobody is seen.

use std::{
    fs::File,
    os::fd::{AsRawFd as _, RawFd},
    thread,
    time::{Duration, Instant},
};

use nix::libc;

// Of Linux, on every architecture.
const F_SETSIG: i32 = 10;
const F_SETLEASE: i32 = 1024;

/// Who edits a hosts file has it open for less than this.
const PATIENCE: Duration = Duration::from_secs(1);
/// The kernel tells nobody when a file is closed that has no name any more.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Keeps everybody else out of a file for as long as `file` is open, and says whether it could.
///
/// Only for a file that no one else has open.
pub(crate) fn keep_others_out(file: &File) -> bool {
    lease(file, libc::F_WRLCK)
}

/// Waits until nobody has the file open for writing, at most a second. `file` must be open for reading only.
pub(crate) fn wait_for_writers(file: &File) {
    let deadline = Instant::now() + PATIENCE;
    while is_being_written(file) && Instant::now() < deadline {
        thread::sleep(LOOK_EVERY);
    }
}

fn is_being_written(file: &File) -> bool {
    let leased = lease(file, libc::F_RDLCK);
    let busy = !leased && nix::errno::Errno::last() == nix::errno::Errno::EAGAIN;
    if leased {
        fcntl(file.as_raw_fd(), F_SETLEASE, libc::F_UNLCK);
    }
    busy
}

/// Takes a lease that ends nobody: who waits for one makes the kernel send its holder SIGIO, which would end us, unless
/// another signal is named.
fn lease(file: &File, kind: i32) -> bool {
    fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) && fcntl(file.as_raw_fd(), F_SETLEASE, kind)
}

#[expect(unsafe_code, reason = "neither nix nor rustix knows these two commands of fcntl")]
fn fcntl(file: RawFd, command: i32, argument: i32) -> bool {
    // SAFETY: both commands take one number and touch no memory of ours.
    unsafe { libc::fcntl(file, command, argument) == 0 }
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _};

    use super::*;

    #[test]
    fn a_writer_is_seen_and_one_who_comes_later_waits() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "").expect("written");
        let read = File::open(&path).expect("opened");
        let writer = OpenOptions::new().append(true).open(&path).expect("opened");
        assert!(is_being_written(&read));
        drop(writer);
        assert!(!is_being_written(&read));
        drop(read);

        let kept = OpenOptions::new().write(true).open(&path).expect("opened");
        assert!(keep_others_out(&kept));
        let later = thread::spawn({
            let path = path.clone();
            move || std::fs::read_to_string(path).expect("read")
        });
        std::io::Write::write_all(&mut &kept, b"whole").expect("written");
        drop(kept);
        assert_eq!(later.join().expect("no panic"), "whole");
    }

    #[test]
    fn whoever_opens_a_leased_file_ends_nobody() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "").expect("written");
        let mut hasty = OpenOptions::new();
        hasty.write(true).custom_flags(libc::O_NONBLOCK);
        for kind in [libc::F_RDLCK, libc::F_WRLCK] {
            let held = OpenOptions::new().read(true).write(kind == libc::F_WRLCK).open(&path);
            let held = held.expect("opened");
            assert!(lease(&held, kind));
            // The kernel's signal is sent, and was it SIGIO, it would end this program.
            let refused = hasty.open(&path).expect_err("leased");
            assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        }
    }
}
