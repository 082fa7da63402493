//! What the program sees in place of `/etc/hosts`. Needs a mount namespace that is ours.
//!
//! A file that is merely mounted over `/etc/hosts` would vanish in the middle of the program when anybody outside renames
//! another file to that name, as careful writers do: the kernel takes away what is mounted on a name that goes. So
//! `/etc` itself becomes an overlay in which our hosts file is above everything else.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

pub(crate) const HOSTS: &str = "/etc/hosts";
const ETC: &str = "/etc";
/// Hidden for a moment, while we need a place of our own.
const STAGE: &str = "/tmp";
/// Where a name service cache would answer out of the hosts file of everybody.
const CACHE: &str = "/run/nscd";

/// Shows this hosts file to whatever comes after in this namespace.
pub(super) fn show(hosts: &[u8]) -> Result<(), Errno> {
    // What is mounted outside later comes in; what we mount does not get out.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    tmpfs(STAGE)?;
    let stage = Path::new(STAGE);
    let (ours, theirs) = (stage.join("ours"), stage.join("theirs"));
    for folder in [&ours, &theirs] {
        fs::create_dir(folder).map_err(errno)?;
        // An overlay has the mode of its uppermost folder.
        fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(errno)?;
    }
    fs::write(ours.join("hosts"), hosts).map_err(errno)?;
    fs::set_permissions(ours.join("hosts"), Permissions::from_mode(0o644)).map_err(errno)?;
    bind(Path::new(ETC), &theirs)?;
    match overlay(&ours) {
        Ok(()) => bring_back_mounts(&theirs)?,
        // An old kernel, or a file system that cannot be below one: better than nothing.
        Err(_) => bind(&ours.join("hosts"), Path::new(HOSTS))?,
    }
    if Path::new(CACHE).is_dir() {
        tmpfs(CACHE)?;
    }
    umount2(STAGE, MntFlags::MNT_DETACH)
}

fn overlay(ours: &Path) -> Result<(), Errno> {
    let layers = format!("lowerdir={}:{ETC}", ours.display());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("overlay"), ETC, Some("overlay"), flags, Some(layers.as_str()))
}

/// An overlay does not show what is mounted below `/etc`, as containers have `resolv.conf`.
fn bring_back_mounts(theirs: &Path) -> Result<(), Errno> {
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(errno)?;
    for point in mounted_in_etc(&table) {
        let to = Path::new(ETC).join(&point);
        if to.exists() {
            bind(&theirs.join(&point), &to)?;
        }
    }
    Ok(())
}

/// Returns what is mounted below `/etc`, seen from there, in the order of the table.
fn mounted_in_etc(table: &str) -> Vec<String> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let below = points.filter_map(|point| point.strip_prefix("/etc/"));
    // A name with a blank or a backslash is written as an octal escape; nobody mounts there.
    let plain = below.filter(|point| !point.contains('\\') && *point != "hosts");
    plain.map(str::to_owned).collect()
}

fn bind(from: &Path, to: &Path) -> Result<(), Errno> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
}

fn tmpfs(at: &str) -> Result<(), Errno> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some("size=8m,mode=0755"))
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_below_etc_is_known_from_the_table() {
        let table = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 22 254:0 /c/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda rw
41 22 254:0 /c/hosts /etc/hosts rw - ext4 /dev/vda rw
42 22 0:30 / /etc/pki/ca rw - tmpfs tmpfs rw
43 22 0:31 / /etcetera rw - tmpfs tmpfs rw
44 22 0:31 / /etc/a\\040b rw - tmpfs tmpfs rw
";
        assert_eq!(mounted_in_etc(table), ["resolv.conf", "pki/ca"]);
    }
}
