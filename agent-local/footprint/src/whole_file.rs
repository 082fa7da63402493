//! Putting new bytes in the place of a system file, or leaving it as it was. Never something in between.
//!
//! The way is a temporary file in the same folder, exchanged with the old one. What comes out is looked at: when another
//! program has written it meanwhile, its edit is taken over before anybody can open the new file. Where the file is a
//! mount point of its own (in containers) an exchange is refused; there the space is reserved first and what differs is
//! then written in place, with everybody else kept out. That is as whole as one write is: of a section at the end a kill
//! may leave the beginning, which is recognised and removed; when other lines stand behind the section, they may be
//! torn, too. Where the file system has no leases (see `lease.rs`), an edit of another hand in the microseconds between
//! the last look and the write is lost.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    unistd::{Gid, Uid, fchown},
};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::lease;

/// A system file that is larger is not what we take it for.
pub(crate) const FILE_MAX_BYTES: u64 = 8 << 20;

/// Writes a file of our own, whole or not at all.
pub fn replace_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = Temporary::create(path, 0o600)?;
    (&temporary.file).write_all(bytes)?;
    temporary.file.sync_all()?;
    temporary.rename_to(path)
}

pub(crate) enum Replaced {
    Done,
    ChangedMeanwhile,
}

/// Puts `make(old)` in the place of `old`, which was seen with `seen`. What another hand has written since then is
/// taken over where it can be seen, and not written over.
pub(crate) fn replace(
    path: &Path,
    seen: &Metadata,
    old: &[u8],
    make: &dyn Fn(&[u8]) -> Vec<u8>,
) -> io::Result<Replaced> {
    let new = make(old);
    let temporary = match prepared(path, seen, &new) {
        Ok(temporary) => temporary,
        // The folder cannot take a new file; the file itself may still be writable.
        Err(error) if is_refusal(&error) => return in_place(path, old, make),
        Err(error) => return Err(error),
    };
    match temporary.exchange_with(path, old, &new, make) {
        Ok(()) => return Ok(Replaced::Done),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            return in_place(path, old, make);
        }
        // Not every file system exchanges files.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
        Err(error) => return Err(error),
    }
    if !is_same(seen, &fs::metadata(path)?) {
        return Ok(Replaced::ChangedMeanwhile);
    }
    temporary.rename_to(path).map(|()| Replaced::Done)
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

fn is_same(seen: &Metadata, now: &Metadata) -> bool {
    let mark = |m: &Metadata| (m.ino(), m.size(), m.mtime(), m.mtime_nsec());
    mark(seen) == mark(now)
}

/// Makes the new file beside the old one, with its owner, mode and extended attributes, safely on disk.
fn prepared(path: &Path, seen: &Metadata, new: &[u8]) -> io::Result<Temporary> {
    let temporary = Temporary::create(path, 0o600)?;
    let file = &temporary.file;
    fchown(file, Some(Uid::from_raw(seen.uid())), Some(Gid::from_raw(seen.gid())))?;
    file.set_permissions(Permissions::from_mode(seen.mode() & 0o7777))?;
    copy_attributes(&File::open(path)?, file)?;
    (&*file).write_all(new)?;
    file.sync_all()?;
    Ok(temporary)
}

/// Copies extended attributes, among them the SELinux label without which resolvers may not read the file.
fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    const LIST_MAX_BYTES: usize = 64 << 10;
    let mut names = vec![0_u8; LIST_MAX_BYTES];
    let mut value = vec![0_u8; LIST_MAX_BYTES];
    let listed = match rustix::fs::flistxattr(from, names.as_mut_slice()) {
        Ok(listed) => listed,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names[..listed].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::fgetxattr(from, name, value.as_mut_slice())?;
        rustix::fs::fsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty())?;
    }
    Ok(())
}

/// Writes over the bytes of a file that cannot be renamed over, after making sure that there is room for them.
///
/// Where nobody can be kept out meanwhile, what somebody has changed since it was read is left alone.
fn in_place(path: &Path, old: &[u8], make: &dyn Fn(&[u8]) -> Vec<u8>) -> io::Result<Replaced> {
    lease::wait_for_writers(&File::open(path)?);
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let is_ours_alone = lease::keep_others_out(&file);
    let mut now = Vec::with_capacity(old.len());
    (&mut file).take(FILE_MAX_BYTES + 1).read_to_end(&mut now)?;
    if now != old && !is_ours_alone {
        return Ok(Replaced::ChangedMeanwhile);
    }
    let new = make(&now);
    reserve(&file, new.len())?;
    if let Err(error) = overwrite(&file, &now, &new) {
        overwrite(&file, &[], &now)?;
        return Err(error);
    }
    Ok(Replaced::Done)
}

/// Writes from the first byte that differs. Our section mostly stands at the end, so no byte of another hand is written.
fn overwrite(file: &File, old: &[u8], new: &[u8]) -> io::Result<()> {
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    file.write_all_at(&new[same..], same as u64)?;
    file.set_len(new.len() as u64)?;
    file.sync_all()
}

fn reserve(file: &File, length: usize) -> io::Result<()> {
    let length = i64::try_from(length).expect("bounded by FILE_MAX_BYTES and our section");
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length) {
        // Not every file system can reserve; there the old bytes are put back when the new ones do not fit.
        Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Returns what a file says that has lost its name, once those who still write it are done.
fn without_writers(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    lease::wait_for_writers(&file);
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.fairlead"))
}

/// Removes the temporary file of a writer that was killed before its rename.
pub(crate) fn remove_leftover(path: &Path) -> io::Result<()> {
    let leftover = temporary_beside(path);
    // Looked at first, since a read-only folder refuses to remove even what is not there.
    match fs::symlink_metadata(&leftover) {
        Ok(_) => fs::remove_file(&leftover),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A file beside `path` that disappears unless it is renamed.
struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    fn create(beside: &Path, mode: u32) -> io::Result<Self> {
        let path = temporary_beside(beside);
        // Only one of us writes at a time; what stands there is left from one that was killed.
        remove_leftover(beside)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        Ok(Self { path, file, renamed: false })
    }

    /// Exchanges the two files, and takes over what another program wrote between our last look and now.
    ///
    /// Whoever opens the new file meanwhile waits until it is right.
    fn exchange_with(
        &self,
        path: &Path,
        old: &[u8],
        new: &[u8],
        make: &dyn Fn(&[u8]) -> Vec<u8>,
    ) -> io::Result<()> {
        lease::keep_others_out(&self.file);
        renameat_with(CWD, &self.path, CWD, path, RenameFlags::EXCHANGE)?;
        let edited = without_writers(&self.path)?;
        if edited != old {
            overwrite(&self.file, new, &make(&edited))?;
        }
        File::open(path.parent().expect("a file is in a folder"))?.sync_all()
    }

    fn rename_to(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.renamed = true;
        let folder = path.parent().expect("a file is in a folder");
        File::open(folder)?.sync_all()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing can be done about a failure here; the next writer removes it.
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(says: &str) -> (tempfile::TempDir, PathBuf, Metadata) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("hosts");
        fs::write(&path, says).expect("written");
        let seen = fs::metadata(&path).expect("there");
        (folder, path, seen)
    }

    fn with_ours(file: &[u8]) -> Vec<u8> {
        [file, b"ours\n"].concat()
    }

    #[test]
    fn what_is_written_between_the_last_look_and_the_exchange_is_taken_over() {
        let (folder, path, seen) = hosts("theirs\n");
        let new = with_ours(b"theirs\n");
        let temporary = prepared(&path, &seen, &new).expect("prepared");
        fs::write(&path, "theirs, edited\n").expect("written");
        temporary.exchange_with(&path, b"theirs\n", &new, &with_ours).expect("exchanged");
        drop(temporary);
        assert_eq!(fs::read_to_string(&path).expect("text"), "theirs, edited\nours\n");
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);
    }

    #[test]
    fn whoever_is_writing_during_the_exchange_is_waited_for() {
        let (_folder, path, seen) = hosts("theirs\n");
        let new = with_ours(b"theirs\n");
        let temporary = prepared(&path, &seen, &new).expect("prepared");
        let mut editor = OpenOptions::new().append(true).open(&path).expect("opened");
        let exchanging = std::thread::spawn({
            let path = path.clone();
            move || temporary.exchange_with(&path, b"theirs\n", &new, &with_ours)
        });
        while fs::metadata(&path).expect("there").len() == seen.len() {
            std::thread::yield_now();
        }
        editor.write_all(b"late\n").expect("written");
        drop(editor);
        exchanging.join().expect("no panic").expect("exchanged");
        assert_eq!(fs::read_to_string(&path).expect("text"), "theirs\nlate\nours\n");
    }

    #[test]
    fn in_place_takes_over_what_another_hand_has_just_written() {
        let (_folder, path, _) = hosts("theirs\n");
        fs::write(&path, "theirs, edited\n").expect("written");
        let replaced = in_place(&path, b"theirs\n", &with_ours).expect("written");
        assert!(matches!(replaced, Replaced::Done));
        assert_eq!(fs::read_to_string(&path).expect("text"), "theirs, edited\nours\n");
    }

    #[test]
    fn in_place_leaves_alone_what_others_have_open_and_have_just_written() {
        let (_folder, path, _) = hosts("theirs, edited\n");
        let _reader = File::open(&path).expect("opened");
        let replaced = in_place(&path, b"theirs\n", &with_ours).expect("looked");
        assert!(matches!(replaced, Replaced::ChangedMeanwhile));
        assert_eq!(fs::read_to_string(&path).expect("text"), "theirs, edited\n");
    }

    #[test]
    fn in_place_leaves_exactly_the_new_bytes() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("hosts");
        fs::write(&path, "127.0.0.1 localhost\n").expect("written");
        for new in ["longer than it was before, by far\n", "short\n"] {
            let old = fs::read(&path).expect("read");
            in_place(&path, &old, &|_| new.as_bytes().to_vec()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("text"), new);
        }
    }
}
