//! What the lab's inside sees of the machine's files: all of them, but what it writes to system folders stays inside.

use crate::{Host, place::Place};
use anyhow::{Context, ensure};
use nix::mount::{MsFlags, mount};
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Command, Stdio},
};

/// The people of the laptop host: their own numbers, so that they are nobody on the machine itself.
pub(crate) const PEOPLE: [(&str, u32); 3] = [("ada", 7001), ("grace", 7002), ("mary", 7003)];

/// What the laptop's and the hub's own namespaces mount. `$1` is the host's folder, in which files are prepared.
///
/// The last program stays and holds the namespace: binding it to a file instead is refused by Linux 6.18 when the
/// two namespaces were made on different processors.
/// The overlay lets programs rename a file over `/etc/hosts`, as they do on real machines; a bind would refuse.
const FURNISH_MACHINE: &str = r#"
set -eu
mount -t tmpfs -o mode=755 machine "$1/own"
mkdir "$1/own/etc" "$1/own/work"
cp "$1"/etc/* "$1/own/etc/"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/own/etc,workdir=$1/own/work" machine /etc
mount -t tmpfs -o mode=755 machine /var/lib/fairlead
mount -t tmpfs -o mode=755 machine /run
echo furnished
exec sleep infinity >/dev/null 2>&1
"#;

/// What a node's own namespace mounts: two kubelets that share the fixed path of their plugin socket would take it
/// from each other.
const FURNISH_NODE: &str = r#"
set -eu
mount -t tmpfs -o mode=755 node /var/lib/kubelet
mount -t tmpfs -o mode=755 node /var/lib/cni
echo furnished
exec sleep infinity >/dev/null 2>&1
"#;

/// Makes the mounts private to the lab and puts fresh system folders over the machine's.
pub(crate) fn arrange() -> anyhow::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)
        .context("cannot mount /proc")?;
    tmpfs("/run")?;
    for folder in ["/run/netns", "/run/mounts", "/run/lab/lib", "/run/lab/work"] {
        fs::create_dir_all(folder)?;
    }
    // Kubelet and CNI write below /var/lib whatever they are told; the machine's own state stays readable.
    let layers = "lowerdir=/var/lib,upperdir=/run/lab/lib,workdir=/run/lab/work";
    mount(Some("lab"), "/var/lib", Some("overlay"), MsFlags::empty(), Some(layers))
        .context("cannot put an overlay over /var/lib")?;
    for folder in ["/var/lib/cni", "/var/lib/kubelet", "/var/lib/fairlead"] {
        fs::create_dir_all(folder)?;
    }
    tmpfs("/var/log")?;
    fs::create_dir_all("/var/log/pods")?;
    fs::create_dir_all("/var/log/containers")?;
    Ok(())
}

/// Gives the laptop, the hub and the nodes mount namespaces of their own.
pub(crate) fn furnish(hosts: &[Host], place: &Place) -> anyhow::Result<()> {
    for host in hosts.iter().copied().filter(|host| host.is_furnished()) {
        let script = if Host::MACHINES.contains(&host) {
            prepare_machine(host, place).with_context(|| format!("no files for {host}"))?;
            FURNISH_MACHINE
        } else {
            FURNISH_NODE
        };
        furnish_one(host, script, place)?;
    }
    PEOPLE.into_iter().try_for_each(|(name, uid)| make_home(&place.home(name), uid))
}

fn furnish_one(host: Host, script: &str, place: &Place) -> anyhow::Result<()> {
    let mut holder = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "furnish"])
        .arg(place.of_host(host))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    BufReader::new(holder.stdout.take().context("the holder speaks")?).read_line(&mut said)?;
    ensure!(
        said == "furnished\n",
        "the mounts of {host} failed; see {}",
        place.log("init").display()
    );
    fs::write(Place::mounts(host), holder.id().to_string())?;
    Ok(())
}

fn prepare_machine(host: Host, place: &Place) -> anyhow::Result<()> {
    let folder = place.of_host(host);
    let etc = folder.join("etc");
    fs::create_dir_all(&etc)?;
    fs::create_dir_all(folder.join("own"))?;
    fs::write(etc.join("hosts"), hosts_file(host))?;
    fs::write(etc.join("hostname"), format!("{host}\n"))?;
    let resolv_conf = "# Names come from /etc/hosts; nobody answers here.\nnameserver 127.0.0.1\n";
    fs::write(etc.join("resolv.conf"), resolv_conf)?;
    let people =
        |line: &dyn Fn(&str, u32) -> String| PEOPLE.map(|(name, uid)| line(name, uid)).concat();
    let home = |name: &str| place.home(name).display().to_string();
    let users = people(&|name, uid| format!("{name}:x:{uid}:{uid}::{}:/bin/sh\n", home(name)));
    let groups = people(&|name, uid| format!("{name}:x:{uid}:\n"));
    fs::write(etc.join("passwd"), fs::read_to_string("/etc/passwd")? + &users)?;
    fs::write(etc.join("group"), fs::read_to_string("/etc/group")? + &groups)?;
    Ok(())
}

fn hosts_file(host: Host) -> String {
    let names = Host::HUB_NAMES.join(" ");
    format!(
        "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {host}\n{} {names}\n",
        Host::Hub.address()
    )
}

fn make_home(home: &Path, uid: u32) -> anyhow::Result<()> {
    fs::create_dir_all(home)?;
    chown(home, Some(uid), Some(uid))?;
    fs::set_permissions(home, fs::Permissions::from_mode(0o700))?;
    Ok(())
}

fn tmpfs(folder: &str) -> anyhow::Result<()> {
    mount(Some("lab"), folder, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .with_context(|| format!("cannot mount a tmpfs on {folder}"))
}
