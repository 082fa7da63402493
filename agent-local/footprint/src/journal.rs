//! What we are about to change, on disk before it is changed.
//!
//! An append-only file of JSON lines. A change that is taken back is struck out by a second line; when nothing is
//! left the file is emptied. Replaying it backwards, after whatever happened, finds everything that may have been
//! done. Undoing is idempotent, so a line too many costs nothing.

use std::{
    fmt,
    fs::{File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::resolver::LINK;

/// The journal holds a handful of lines; more means that something else writes to it.
const JOURNAL_MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("could not read the journal {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("could not write the journal {path}")]
    Write { path: PathBuf, source: io::Error },
}

/// One change of the machine, with all that is needed to take it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Lines of ours in a hosts file.
    HostsSection { path: PathBuf },
    /// Our nftables table.
    RedirectTable,
    /// The link that systemd-resolved asks us by.
    SplitDns,
}

/// In the words for a person.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostsSection { path } => {
                write!(f, "the section `### FAIRLEAD` of {}", path.display())
            }
            Self::RedirectTable => f.write_str("the nftables table `fairlead`"),
            Self::SplitDns => {
                write!(f, "the network link `{LINK}`, by which systemd-resolved asks Fairlead")
            }
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    About(Change),
    Undone(Change),
}

/// The open journal, with the changes that are not taken back yet.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    standing: Vec<Change>,
}

impl Journal {
    /// Opens the journal and reads what stands in it. A torn last line is a change that was never begun.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Read { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o644)
            .open(path)
            .map_err(failed)?;
        // Everybody may see what stands; one of an earlier version was closed.
        file.set_permissions(Permissions::from_mode(0o644)).map_err(failed)?;
        let text = text_of(&mut file).map_err(failed)?;
        let mut journal = Self { path: path.to_owned(), file, standing: standing(&text) };
        if !text.is_empty() && !text.ends_with(b"\n") {
            // Whatever is appended next must not be glued to the torn line.
            journal.append(b"\n")?;
        }
        Ok(journal)
    }

    /// Returns what stands in a journal, as far as the caller may read it, and touches nothing.
    pub fn peek(path: &Path) -> Result<Vec<Change>, JournalError> {
        let text = match File::open(path).and_then(|mut file| text_of(&mut file)) {
            Err(error) if is_not_for_us(&error) => Vec::new(),
            text => text.map_err(|source| JournalError::Read { path: path.to_owned(), source })?,
        };
        Ok(standing(&text))
    }

    /// Returns the changes that may have been made, the latest first.
    pub fn backwards(&self) -> impl Iterator<Item = &Change> {
        self.standing.iter().rev()
    }

    /// Writes that a change is about to be made. Returns when it is on disk.
    pub fn about_to(&mut self, change: &Change) -> Result<(), JournalError> {
        if self.standing.contains(change) {
            return Ok(());
        }
        self.append_line(&Line::About(change.clone()))?;
        self.standing.push(change.clone());
        Ok(())
    }

    /// Writes that a change was taken back; the last one empties the file.
    pub fn undone(&mut self, change: &Change) -> Result<(), JournalError> {
        if !self.standing.contains(change) {
            return Ok(());
        }
        if self.standing.len() == 1 {
            self.file.set_len(0).and_then(|()| self.file.sync_all()).map_err(self.failed())?;
        } else {
            self.append_line(&Line::Undone(change.clone()))?;
        }
        self.standing.retain(|standing| standing != change);
        Ok(())
    }

    fn append_line(&mut self, line: &Line) -> Result<(), JournalError> {
        let mut text = serde_json::to_vec(line).expect("a line is plain JSON");
        text.push(b'\n');
        self.append(&text)
    }

    fn append(&mut self, text: &[u8]) -> Result<(), JournalError> {
        let before = self.file.metadata().map_err(self.failed())?.len();
        let written = self.file.write_all(text).and_then(|()| self.file.sync_all());
        if written.is_err() {
            // A full disk may have taken half of the line; what was there before must stay readable.
            self.file.set_len(before).map_err(self.failed())?;
        }
        written.map_err(self.failed())
    }

    fn failed(&self) -> impl Fn(io::Error) -> JournalError + use<> {
        let path = self.path.clone();
        move |source| JournalError::Write { path: path.clone(), source }
    }
}

fn text_of(file: &mut File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(JOURNAL_MAX_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

/// There is none, or it is root's.
fn is_not_for_us(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// Returns what is left after every line, in the order it was done. Lines that are not ours are passed over: the
/// rest must still be undone.
fn standing(text: &[u8]) -> Vec<Change> {
    let mut standing = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(Line::About(change)) if !standing.contains(&change) => standing.push(change),
            Ok(Line::Undone(change)) => standing.retain(|other| *other != change),
            Ok(Line::About(_)) | Err(_) => {}
        }
    }
    standing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Change {
        Change::HostsSection { path: "/etc/hosts".into() }
    }

    fn journal() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("residue.jsonl");
        (folder, path)
    }

    #[test]
    fn a_change_is_found_after_a_crash_and_the_latest_comes_first() {
        let (_folder, path) = journal();
        let mut before = Journal::open(&path).expect("new");
        before.about_to(&hosts()).expect("written");
        before.about_to(&Change::RedirectTable).expect("written");
        drop(before);
        let after = Journal::open(&path).expect("read");
        assert_eq!(
            after.backwards().cloned().collect::<Vec<_>>(),
            [Change::RedirectTable, hosts()]
        );
    }

    #[test]
    fn what_is_undone_is_not_found_again_and_the_end_is_an_empty_file() {
        let (_folder, path) = journal();
        let mut journal = Journal::open(&path).expect("new");
        journal.about_to(&hosts()).expect("written");
        journal.about_to(&Change::RedirectTable).expect("written");
        journal.undone(&hosts()).expect("written");
        assert_eq!(Journal::open(&path).expect("read").standing, [Change::RedirectTable]);
        journal.undone(&Change::RedirectTable).expect("written");
        assert_eq!(std::fs::read(&path).expect("read"), b"");
    }

    #[test]
    fn repeating_a_change_writes_one_line() {
        let (_folder, path) = journal();
        let mut journal = Journal::open(&path).expect("new");
        for _ in 0..3 {
            journal.about_to(&hosts()).expect("written");
        }
        assert_eq!(std::fs::read_to_string(&path).expect("read").lines().count(), 1);
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let (_folder, path) = journal();
        Journal::open(&path).expect("new").about_to(&hosts()).expect("written");
        let mut text = std::fs::read(&path).expect("read");
        text.extend_from_slice(b"{\"about\":{\"chan");
        std::fs::write(&path, text).expect("written");

        let mut journal = Journal::open(&path).expect("read");
        assert_eq!(journal.standing, [hosts()]);
        journal.about_to(&Change::RedirectTable).expect("written");
        assert_eq!(Journal::open(&path).expect("read").standing, [hosts(), Change::RedirectTable]);
    }
}
