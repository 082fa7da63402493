//! Systemd itself: a machine whose first process it is, the service that `install` puts there with all that its unit
//! forbids, and a power loss, which nobody is told of.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use fairlead_lab::sibling;
use fairlead_tests::{eventually, say};
use tempfile::TempDir;

use crate::{
    machine::{ADA, GRACE, HOSTS, Machine, SOON},
    resolving::{UNPACKED, has_link},
};

/// A disk is a folder over this machine's own files; it outlives those who boot from it. None of this machine's services,
/// and nothing that would look for its disks, is on it; systemd-resolved is. The groups of processes are those that are
/// mounted already: a mount of its own would replace the options of the host's. A test that is killed takes disk and
/// machine with it, and leaves an empty group.
const DISK: &str = "\
set -e
mount -t tmpfs -o size=256m tmpfs \"$1\"
cd \"$1\"
mkdir upper work root cgroups
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
groups=$(awk '$3 == \"cgroup2\" { print $2; exit }' /proc/self/mounts)
if [ -n \"$groups\" ]; then mount --bind \"$groups\" cgroups; else mount -t cgroup2 cgroup2 cgroups; fi
touch console
mkdir root/.old
rm -rf root/etc/systemd/system root/etc/systemd/system-generators root/var/lib/fairlead root/var/log/journal
rm -rf root/mnt
mkdir -p root/etc/systemd/system root/etc/systemd/system-generators root/mnt/bin root/mnt/home
ln -s /dev/null root/etc/systemd/system/console-getty.service
for generator in root/lib/systemd/system-generators/*; do
    ln -s /dev/null root/etc/systemd/system-generators/\"${generator##*/}\"
done
[ -e root/lib/systemd/systemd-resolved ] || tar -C \"$3\" -c . | tar -C root -x --keep-directory-symlink
chroot root systemd-sysusers 2>> console
mkdir root/etc/systemd/system/sysinit.target.wants
ln -s /lib/systemd/system/systemd-resolved.service root/etc/systemd/system/sysinit.target.wants
rm -f root/etc/hosts root/etc/machine-id
printf '%032d\\n' 7 > root/etc/machine-id
for user in 7001 7002; do mkdir root/mnt/home/$user; chown $user:$user root/mnt/home/$user; done
mount --bind \"$2\" root/mnt/bin
echo ready
exec setpriv --pdeathsig KILL -- sleep infinity";

/// Systemd keeps to the group of processes that it begins in.
const POWER: &str = "\
set -e
cd \"$1\"
mkdir -p cgroups/\"$2\"
echo $$ > cgroups/\"$2\"/cgroup.procs
exec setpriv --pdeathsig KILL -- unshare --pid --fork --kill-child --mount --uts --ipc --net --cgroup \
    --propagation private -- sh -c \"$3\" 2> console";

/// The kernel is another's, too: nothing of it is set, no module loaded.
const BOOT: &str = "\
set -e
ip link set lo up
mount -t proc proc root/proc
mount --bind root/proc/sys root/proc/sys
mount -o remount,bind,ro root/proc/sys
mount -t sysfs -o ro sysfs root/sys
mount -t cgroup2 cgroup2 root/sys/fs/cgroup
mount -t tmpfs tmpfs root/run
mount -t tmpfs -o mode=755 tmpfs root/dev
for device in null zero full random urandom tty; do
    touch root/dev/$device
    mount --bind /dev/$device root/dev/$device
done
mkdir root/dev/pts root/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts root/dev/pts
ln -s pts/ptmx root/dev/ptmx
touch root/dev/console
mount --bind console root/dev/console
cd root
pivot_root . .old
cd /
umount -l /.old
exec env -i container=machine PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio -- /lib/systemd/systemd --log-target=console";
/// As long as a slow machine may take.
const UP: Duration = Duration::from_secs(60);

/// What is left of a machine that lost its power.
struct Disk {
    holder: Child,
    folder: TempDir,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let bin = sibling("fairlead-supervisor").expect("built: cargo xtask test laptop builds it");
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--", "sh", "-c", DISK, "sh"])
            .args([folder.path(), bin.parent().expect("in a folder"), Path::new(UNPACKED)])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut ready = String::new();
        BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut ready).expect("read");
        assert_eq!(ready, "ready\n", "the disk could not be made");
        let disk = Self { holder, folder };
        fs::write(disk.path("root/etc/hosts"), HOSTS).expect("written");
        disk
    }

    fn path(&self, path: &str) -> String {
        format!("/proc/{}/root{}/{path}", self.holder.id(), self.folder.path().display())
    }

    fn hosts(&self) -> String {
        fs::read_to_string(self.path("root/etc/hosts")).expect("readable")
    }

    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "--mount", "--", program]);
        command
    }

    /// Names its processes as this machine's kernel sees them.
    fn group(&self) -> String {
        format!("fairlead-boot-{}", self.holder.id())
    }

    /// Boots, and returns the machine when systemd says that all is up.
    fn boots(&self) -> Machine {
        let mut power = self.enter("sh");
        power.args(["-c", POWER, "sh"]).arg(self.folder.path()).args([&self.group(), BOOT]);
        let machine = Machine::begun_by(power.spawn().expect("starts"));
        let is_up = || {
            let mut asks = machine.root("systemctl");
            asks.arg("is-system-running");
            // Degraded is a machine on which anything else cannot run in here.
            Ok(["running", "degraded"].contains(&say(asks)?.stdout.trim()))
        };
        eventually(UP, "the machine is up", is_up).unwrap_or_else(|error| {
            panic!("{error:#}\n{}", fs::read_to_string(self.path("console")).unwrap_or_default())
        });
        machine
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut ends = self.enter("find");
        let group = self.folder.path().join("cgroups").join(self.group());
        // Files in there cannot be removed, and need not be.
        ends.arg(group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
        drop(ends.status());
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

fn installs(machine: &Machine) {
    let mut install = machine.root("/mnt/bin/fairlead-supervisor");
    install.arg("install");
    say(install).expect("runs").ok().expect("installed");
}

/// Asks systemd for a property of a unit.
fn property(machine: &Machine, unit: &str, name: &str) -> String {
    let mut shows = machine.root("systemctl");
    shows.args(["show", unit, "--value", "--property", name]);
    say(shows).expect("runs").ok().expect("known").stdout.trim().to_owned()
}

const SERVICE: &str = "fairlead-supervisor.service";

fn main_process(machine: &Machine) -> String {
    property(machine, SERVICE, "MainPID")
}

#[test]
fn a_power_loss_leaves_nothing_by_the_time_anybody_can_sign_in() {
    let disk = Disk::new();
    let machine = disk.boots();
    installs(&machine);
    machine.has_consumed(ADA, &["shop/cart", "shop/dns:53/udp"]);
    machine.starts(ADA);
    assert!(has_link(&machine), "resolved is told");
    drop(machine);
    assert!(disk.hosts().contains("cart.shop"), "nobody had the time to take it back");

    let machine = disk.boots();
    let when = |unit: &str, name: &str| -> u64 {
        let time = property(&machine, unit, &format!("{name}Monotonic"));
        time.parse().unwrap_or_else(|_| panic!("{name} of {unit} is {time}"))
    };
    let cleaned = when(SERVICE, "ActiveEnterTimestamp");
    let open = when("systemd-user-sessions.service", "InactiveExitTimestamp");
    assert!(cleaned > 0 && cleaned < open, "clean at {cleaned} us, open at {open} us");
    assert_eq!(machine.hosts(), HOSTS);
    machine.leaves_nothing();
    machine.starts(ADA);

    let mut uninstall = machine.root("/mnt/bin/fairlead-supervisor");
    uninstall.arg("uninstall");
    say(uninstall).expect("runs").ok().expect("uninstalled");
    machine.leaves_nothing();
    let units = fs::read_dir(machine.path("/etc/systemd/system")).expect("readable").flatten();
    let names: Vec<_> = units.map(|unit| unit.file_name().into_string().expect("text")).collect();
    assert!(names.iter().all(|name| !name.contains("fairlead")), "{names:?}");
    assert_eq!(property(&machine, SERVICE, "LoadState"), "not-found");
}

#[test]
fn a_service_that_is_killed_or_hangs_is_there_again_and_daemons_go_on() {
    let disk = Disk::new();
    let machine = disk.boots();
    installs(&machine);
    machine.root_does(
        "mkdir -p /run/systemd/system/fairlead-supervisor.service.d
         cd /run/systemd/system/fairlead-supervisor.service.d
         printf '[Service]\\nWatchdogSec=2\\n' > soon.conf
         systemctl daemon-reload && systemctl restart fairlead-supervisor",
    );
    for user in [ADA, GRACE] {
        machine.has_consumed(user, &["shop/cart", "shop/dns:53/udp"]);
        machine.starts(user);
    }
    let daemons = || [ADA, GRACE].map(|user| machine.daemon_pid(user).expect("it runs"));
    let are_proven = || {
        for user in [ADA, GRACE] {
            machine.is_proven(user);
        }
    };
    let (began, first) = (daemons(), main_process(&machine));
    machine.root_does(&format!("kill -KILL {first}"));
    let is_another = |than: &str| {
        let now = main_process(&machine);
        Ok(now != than && now != "0" && machine.worker().is_some())
    };
    eventually(SOON, "systemd starts it again", || is_another(&first)).expect("back");
    are_proven();
    assert_eq!(daemons(), began, "they went on");

    let (watched, worker) = (main_process(&machine), machine.worker().expect("serves"));
    machine.root_does(&format!("kill -STOP {worker}"));
    eventually(SOON, "systemd has ended it", || is_another(&watched)).unwrap_or_else(|error| {
        let mut log = machine.root("journalctl");
        log.args(["--no-pager", "--unit", SERVICE]);
        panic!("{error:#}\n{}", say(log).expect("runs"))
    });
    are_proven();
    assert_eq!(daemons(), began, "they went on");

    machine.root_does("systemctl stop fairlead-supervisor");
    machine.leaves_nothing();
    assert_eq!(property(&machine, SERVICE, "Result"), "success");
}
