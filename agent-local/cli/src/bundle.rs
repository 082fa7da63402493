//! A tar.gz of texts, for whoever helps: every one of them without secrets.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use flate2::{Compression, write::GzEncoder};

use crate::redact::redacted;

const BLOCK: usize = 512;

/// Writes the bundle, readable by its owner only; never over another file.
pub(crate) fn write(path: &Path, texts: &[(&str, String)]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut archive = GzEncoder::new(file, Compression::default());
    for (name, text) in texts {
        let text = redacted(text);
        archive.write_all(&header(name, text.len()))?;
        archive.write_all(text.as_bytes())?;
        archive.write_all(&vec![0; text.len().next_multiple_of(BLOCK) - text.len()])?;
    }
    // Two empty blocks end an archive.
    archive.write_all(&[0; 2 * BLOCK])?;
    archive.finish()?.sync_all()
}

/// Returns the block that stands before a file, as POSIX (ustar) wants it.
fn header(name: &str, length: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, &format!("fairlead/{name}"));
    put(100, "0000600");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{length:011o}"));
    put(136, "00000000000");
    // While it is summed up, the sum is spaces.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn tar_reads_it_and_no_secret_is_in_it() {
        let path = std::env::temp_dir().join(format!("fairlead-bundle-{}.tgz", std::process::id()));
        let long = "a line of a log\n".repeat(100);
        let texts = [("daemon.log", format!("{long}password=hunter2\n")), ("empty", String::new())];
        write(&path, &texts).expect("written");
        assert!(write(&path, &texts).is_err(), "what is there is kept");
        let tar = |words: &[&str]| {
            let said = Command::new("tar").args(words).arg(&path).output().expect("runs");
            assert!(said.status.success(), "{said:?}");
            String::from_utf8(said.stdout).expect("text")
        };
        assert_eq!(tar(&["-tzf"]), "fairlead/daemon.log\nfairlead/empty\n");
        let all = tar(&["-xOzf"]);
        assert!(all.starts_with(&long) && all.ends_with("password=[removed]\n"), "{all}");
        std::fs::remove_file(&path).expect("removed");
    }
}
