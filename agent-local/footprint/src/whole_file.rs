//! Putting new bytes in the place of a system file, or leaving it as it was. Never something in between.
//!
//! The way is a temporary file in the same folder and a rename. Where the file is a mount point of its own (in
//! containers) a rename is refused; there the space is reserved first and what differs is then written in place. That
//! is as whole as one write is: of a section at the end a kill may leave the beginning, which is recognised and removed;
//! when other lines stand behind the section, they may be torn, too. An edit of another hand in the microseconds between
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

/// Puts `new` in the place of `old`, which was seen with `seen`, unless another hand has changed it meanwhile.
pub(crate) fn replace(
    path: &Path,
    seen: &Metadata,
    old: &[u8],
    new: &[u8],
) -> io::Result<Replaced> {
    let temporary = match prepared(path, seen, new) {
        Ok(temporary) => temporary,
        // The folder cannot take a new file; the file itself may still be writable.
        Err(error) if is_refusal(&error) => return in_place(path, old, new),
        Err(error) => return Err(error),
    };
    if !is_same(seen, &fs::metadata(path)?) {
        return Ok(Replaced::ChangedMeanwhile);
    }
    match temporary.rename_to(path) {
        Ok(()) => Ok(Replaced::Done),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => in_place(path, old, new),
        Err(error) => Err(error),
    }
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

/// Writes over the bytes of a file that cannot be renamed over, after making sure that there is room for them and that
/// nobody else has changed them.
fn in_place(path: &Path, old: &[u8], new: &[u8]) -> io::Result<Replaced> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    reserve(&file, new.len())?;
    let mut now = Vec::with_capacity(old.len());
    (&mut file).take(FILE_MAX_BYTES + 1).read_to_end(&mut now)?;
    if now != old {
        return Ok(Replaced::ChangedMeanwhile);
    }
    if let Err(error) = overwrite(&file, old, new) {
        overwrite(&file, &[], old)?;
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

    #[test]
    fn in_place_does_not_write_over_what_another_hand_has_just_written() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("hosts");
        fs::write(&path, "127.0.0.1 localhost\n").expect("written");
        let old = fs::read(&path).expect("read");
        fs::write(&path, "10.9.9.9 theirs\n").expect("written");
        let replaced = in_place(&path, &old, b"ours\n").expect("looked");
        assert!(matches!(replaced, Replaced::ChangedMeanwhile));
        assert_eq!(fs::read_to_string(&path).expect("text"), "10.9.9.9 theirs\n");
    }

    #[test]
    fn in_place_leaves_exactly_the_new_bytes() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("hosts");
        fs::write(&path, "127.0.0.1 localhost\n").expect("written");
        for new in ["longer than it was before, by far\n", "short\n"] {
            let old = fs::read(&path).expect("read");
            in_place(&path, &old, new.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("text"), new);
        }
    }
}
