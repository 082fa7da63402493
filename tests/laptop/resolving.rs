//! Split DNS: a systemd-resolved of the machine's own asks us for names of the cluster, and for no others. Where there is
//! none, nothing of it is changed: all other tests of this suite.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use fairlead_tests::{Said, eventually, say};

use crate::machine::{ADA, Machine, SOON, kill_9};

/// Anybody may own a name and speak to anybody.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>"#;
/// Of the cluster, and not in any hosts file.
const UNKNOWN: &str = "unknown.shop.svc.cluster.local";
const NOBODY_TO_ASK: &str = "No appropriate name servers";

/// Where it is when this machine has none of its own.
pub(crate) const UNPACKED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../target/packages/systemd-resolved");

/// A resolved that runs in a machine.
pub(crate) struct Resolved {
    processes: [Child; 2],
    resolvectl: PathBuf,
}

impl Resolved {
    pub(crate) fn on(machine: &Machine) -> Self {
        let (resolved, resolvectl) =
            (found("lib/systemd/systemd-resolved"), found("bin/resolvectl"));
        machine.root_does(
            "grep -q ^systemd-resolve: /etc/passwd || { \
             echo systemd-resolve:x:7900:7900::/:/usr/sbin/nologin >> /etc/passwd; \
             echo systemd-resolve:x:7900: >> /etc/group; }; \
             mkdir -p /run/dbus /run/systemd /etc/systemd; rm -f /etc/resolv.conf; : > /etc/resolv.conf; \
             printf '[Resolve]\\nFallbackDNS=\\n' > /etc/systemd/resolved.conf",
        );
        fs::write(machine.path("/mnt/bus.conf"), BUS).expect("written");
        let starts = |program: &str, words: &[&str]| {
            let mut command = machine.root(program);
            command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("starts")
        };
        let stands = |path: &str| {
            eventually(SOON, path, || Ok(machine.path(path).exists())).expect("it runs");
        };
        let bus =
            starts("dbus-daemon", &["--config-file=/mnt/bus.conf", "--nofork", "--nopidfile"]);
        stands("/run/dbus/system_bus_socket");
        let resolved = starts(resolved.to_str().expect("text"), &[]);
        stands("/run/systemd/resolve/stub-resolv.conf");
        let resolved = Self { processes: [bus, resolved], resolvectl };
        eventually(SOON, "it answers", || {
            let mut asks = machine.root(resolved.resolvectl.to_str().expect("text"));
            asks.arg("dns");
            Ok(say(asks)?.code == Some(0))
        })
        .expect("it answers");
        resolved
    }

    /// Returns what the supervisor has to be told to find it.
    pub(crate) fn flags(&self) -> [&str; 2] {
        ["--resolvectl", self.resolvectl.to_str().expect("text")]
    }

    fn says_about(&self, machine: &Machine, name: &str) -> Said {
        let mut query = machine.root(self.resolvectl.to_str().expect("text"));
        query.args(["query", "--type=A", name]);
        say(query).expect("runs")
    }
}

impl Drop for Resolved {
    fn drop(&mut self) {
        for process in &mut self.processes {
            drop(process.kill().and_then(|()| process.wait()));
        }
    }
}

/// Finds a program of systemd-resolved: of the machine, or unpacked by `cargo xtask setup`.
fn found(program: &str) -> PathBuf {
    let folders = ["/usr", "/", UNPACKED].map(Path::new);
    let below_usr = Path::new(UNPACKED).join("usr");
    let mut all = folders.iter().copied().chain([&*below_usr]).map(|folder| folder.join(program));
    all.find(|path| path.exists()).expect("systemd-resolved: cargo xtask setup")
}

/// Says whether our link is there.
pub(crate) fn has_link(machine: &Machine) -> bool {
    let mut show = machine.root("ip");
    show.args(["link", "show", "dev", "fairlead0"]);
    say(show).expect("runs").code == Some(0)
}

#[test]
fn resolved_asks_us_for_names_of_the_cluster_while_something_is_consumed() {
    let mut machine = Machine::new();
    let resolved = Resolved::on(&machine);
    machine.start_supervisor(&resolved.flags());
    let before = resolved.says_about(&machine, UNKNOWN);
    assert!(before.stderr.contains(NOBODY_TO_ASK), "{before}");

    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    // Whether a name is there is for our server to say; that one is not, is an answer of it.
    let said = resolved.says_about(&machine, UNKNOWN);
    assert!(said.stderr.contains("not found"), "{said}");
    let said = resolved.says_about(&machine, "cart.shop.svc.cluster.local");
    assert!(said.stdout.contains("127.7"), "{said}");
    let said = resolved.says_about(&machine, "example.org");
    assert!(said.stderr.contains(NOBODY_TO_ASK), "we are not asked about it: {said}");
    let status = machine.fairlead(ADA, &["status"]).stdout;
    assert!(status.contains("systemd-resolved asks Fairlead"), "{status}");
    let doctor = machine.fairlead(ADA, &["doctor"]).stdout;
    assert!(doctor.contains("split DNS") && doctor.contains("link `fairlead0`"), "{doctor}");

    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    let after = resolved.says_about(&machine, UNKNOWN);
    assert_eq!(after.stderr, before.stderr);
    machine.leaves_nothing();
}

#[test]
fn a_link_that_another_program_deletes_is_put_back() {
    let mut machine = Machine::new();
    let resolved = Resolved::on(&machine);
    machine.start_supervisor(&resolved.flags());
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    // The supervisor looks at what it has just changed itself, and tells nobody when it has done so.
    thread::sleep(Duration::from_secs(1));
    machine.root_does("ip link delete fairlead0");
    eventually(SOON, "resolved asks us again", || {
        Ok(resolved.says_about(&machine, UNKNOWN).stderr.contains("not found"))
    })
    .expect("put back");
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

#[test]
fn what_resolved_was_told_is_found_and_taken_back_when_everything_was_killed() {
    let mut machine = Machine::new();
    let resolved = Resolved::on(&machine);
    machine.start_supervisor(&resolved.flags());
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    let (daemon, worker) =
        (machine.daemon_pid(ADA).expect("runs"), machine.worker().expect("runs"));
    let guard = machine.supervisor.as_ref().expect("runs").id();
    machine.root_does(&format!("kill -STOP {guard}"));
    kill_9(worker);
    machine.kill_guard();
    kill_9(daemon);
    assert!(has_link(&machine), "nobody was there to take it back");

    let cleanup = |words: &[&str]| {
        let mut done = String::new();
        eventually(SOON, "the dead supervisor's lock is free", || {
            let mut command = machine.root("/mnt/bin/fairlead-supervisor");
            command.arg("cleanup").args(words);
            done = say(command)?.ok()?.stdout;
            Ok(true)
        })
        .expect("done");
        done
    };
    let found = cleanup(&["--dry-run"]);
    assert!(found.contains("link `fairlead0`") && has_link(&machine), "{found}");
    cleanup(&[]);
    machine.leaves_nothing();
}

#[test]
fn a_resolved_that_refuses_costs_nobody_their_names() {
    let mut machine = Machine::new();
    let _resolved = Resolved::on(&machine);
    machine.start_supervisor(&["--resolvectl", "/bin/false"]);
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    let status = machine.fairlead(ADA, &["status"]).stdout;
    assert!(status.contains("systemd-resolved could not be told"), "{status}");
    assert!(!has_link(&machine), "half of it stays");
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}
