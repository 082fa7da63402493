//! A log file that does not grow for ever: the newest part, and once as much of what was before.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Of each of the two files.
pub const LOG_MAX_BYTES: u64 = 5 << 20;

/// A log that is open for appending, with its path.
#[derive(Debug)]
pub struct BoundedLog<W> {
    to: W,
    path: Option<PathBuf>,
    max_bytes: u64,
}

impl BoundedLog<File> {
    #[must_use]
    pub const fn new(file: File, path: PathBuf) -> Self {
        Self { to: file, path: Some(path), max_bytes: LOG_MAX_BYTES }
    }
}

impl BoundedLog<io::Stderr> {
    /// Whatever stands behind standard error; only a file is bounded.
    #[must_use]
    pub fn of_stderr() -> Self {
        let path = fs::read_link("/proc/self/fd/2").ok().filter(|path| path.is_file());
        Self { to: io::stderr(), path, max_bytes: LOG_MAX_BYTES }
    }
}

impl<W: Write> Write for BoundedLog<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(path) = self.path.as_ref().filter(|path| is_full(path, self.max_bytes)) {
            // Whoever else appends to it goes on in the same file, so it is emptied, not renamed.
            fs::copy(path, path.with_extension("log.1"))?;
            File::options().write(true).open(path)?.set_len(0)?;
        }
        self.to.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn is_full(path: &Path, max_bytes: u64) -> bool {
    fs::metadata(path).is_ok_and(|log| log.size() > max_bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn a_log_that_is_full_begins_anew_and_what_was_before_is_kept_once() {
        let path = std::env::temp_dir().join(format!("fairlead-log-{}.log", std::process::id()));
        let file = OpenOptions::new().append(true).create(true).open(&path).expect("opened");
        let mut log = BoundedLog { max_bytes: 100, ..BoundedLog::new(file, path.clone()) };
        for n in 0..100 {
            writeln!(log, "line {n} of a log that goes on and on").expect("written");
        }
        let kept = path.with_extension("log.1");
        let text = |path: &Path| fs::read_to_string(path).expect("text");
        assert!(text(&path).len() < 200 && text(&kept).len() < 200);
        assert!(text(&path).ends_with("line 99 of a log that goes on and on\n"));
        assert_eq!(text(&kept).len() / text(&kept).lines().next().expect("a line").len(), 3);
        fs::remove_file(path).and_then(|()| fs::remove_file(kept)).expect("removed");
    }
}
