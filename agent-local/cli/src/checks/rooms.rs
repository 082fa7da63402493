//! Whether Fairlead's folders take what has to be written into them.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use laptop_ipc::FailureKind;

use super::Finding;

const CHECK: &str = "folders";
/// As much as any file of ours but the logs.
static PROBE: [u8; 64 << 10] = [b'.'; 64 << 10];

/// Writes something into each folder and removes it again.
pub(crate) fn finding(folders: &[&Path]) -> Finding {
    for folder in folders {
        if let Err(error) = try_out(folder) {
            let advice = if error.kind() == io::ErrorKind::StorageFull {
                "the disk is full: free some space".to_owned()
            } else {
                format!("make it yours and writable: sudo chown -R \"$USER\" {}", folder.display())
            };
            let message = format!("{} cannot be written: {error}", folder.display());
            return Finding::problem(CHECK, FailureKind::LaptopNetwork, message, advice);
        }
    }
    Finding::ok(CHECK, "accounts, sessions and logs can be written")
}

fn try_out(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(format!(".doctor.{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(&PROBE).and_then(|()| file.sync_all()));
    // What could not be made need not be removed.
    drop(std::fs::remove_file(&path));
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::State;

    #[test]
    fn a_folder_that_takes_nothing_is_named_and_one_that_does_is_left_as_it_was() {
        let here = std::env::temp_dir().join(format!("fairlead-doctor-{}", std::process::id()));
        assert_eq!(finding(&[&here]).state, State::Ok);
        assert_eq!(std::fs::read_dir(&here).expect("made").count(), 0);
        std::fs::remove_dir(&here).expect("empty");
        let found = finding(&[Path::new("/proc/nothing")]);
        assert!(
            found.state == State::Problem && found.message.contains("/proc/nothing"),
            "{found:?}"
        );
    }
}
