//! The supervisor as systemd runs it: with the capabilities of its unit and no others, and speaking to the watchdog.

use std::{
    fs,
    net::TcpStream,
    os::unix::net::UnixDatagram,
    process::{Command, Stdio},
    time::Duration,
};

use fairlead_tests::{eventually, say};

use crate::{
    machine::{ADA, GRACE, Machine, SOON, kill_9},
    resolving::{Resolved, has_link},
};

const UNIT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd/fairlead-supervisor.service");

/// Starts the supervisor as the unit says, in so far as that can be had without systemd.
fn start_bounded(machine: &mut Machine, flags: &[&str]) {
    let unit = fs::read_to_string(UNIT).expect("the unit");
    let bounds = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = bounds.expect("bounded").replace("CAP_", "+").to_lowercase().replace(' ', ",");
    let mut command = machine.root("setpriv");
    command.args(["--bounding-set", &format!("-all,{names}"), "--no-new-privs", "--"]);
    command.arg("/mnt/bin/fairlead-supervisor").args(flags).arg("run").stdin(Stdio::null());
    command.stderr(fs::File::create(machine.path("/mnt/supervisor.log")).expect("log"));
    machine.supervisor = Some(command.spawn().expect("starts"));
    eventually(SOON, "the supervisor answers", || Ok(machine.worker().is_some())).expect("up");
}

#[test]
fn the_capabilities_of_the_unit_are_enough_with_redirects() {
    let mut machine = Machine::new();
    let resolved = Resolved::on(&machine);
    start_bounded(&mut machine, &resolved.flags());
    let status = fs::read_to_string(format!("/proc/{}/status", machine.worker().expect("runs")));
    let status = status.expect("readable");
    assert!(!status.contains("CapEff:\t000001ff"), "it is bounded: {status}");
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    assert!(has_link(&machine), "resolved is told");
    let killed = machine.daemon_pid(ADA).expect("runs");
    kill_9(killed);
    eventually(SOON, "another daemon answers", || {
        Ok(machine.daemon_pid(ADA).is_some_and(|pid| pid != killed))
    })
    .expect("back");
    machine.is_proven(ADA);
    machine.root_does("nft flush ruleset && sed -i /cart.shop/d /etc/hosts");
    eventually(SOON, "both are back", || {
        Ok(machine.hosts().contains("cart.shop") && machine.rules().contains("skuid"))
    })
    .expect("put back");
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

#[test]
fn they_are_enough_with_listeners_and_to_name_who_has_a_port() {
    let mut machine = Machine::new();
    start_bounded(&mut machine, &["--nft", "/nonexistent/nft"]);
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");

    // A low port of another user, which only root can look into.
    machine.root_does("echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start");
    let listen = "$s = IO::Socket::INET->new(LocalAddr => '0.0.0.0:80', Listen => 1) or die; sleep";
    let mut theirs = machine.user(GRACE, "perl");
    let mut theirs = theirs.args(["-MIO::Socket::INET", "-e", listen]).spawn().expect("starts");
    eventually(SOON, "it listens", || {
        Ok(machine.inside(|| TcpStream::connect("127.0.0.1:80").is_ok()))
    })
    .expect("up");
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.fairlead(ADA, &["start"]).ok().expect("starts");
    let named = format!("80: perl (pid {}, user {GRACE}) on 0.0.0.0:80", theirs.id());
    eventually(SOON, "status names it", || {
        Ok(machine.fairlead(ADA, &["status"]).stdout.contains(&named))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", machine.fairlead(ADA, &["status"])));
    theirs.kill().and_then(|()| theirs.wait()).expect("ends");
    machine.is_proven(ADA);
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

#[test]
fn systemd_hears_that_it_serves_and_that_it_still_does() {
    let mut machine = Machine::new();
    let systemd = UnixDatagram::bind(machine.path("/run/notify")).expect("bound");
    systemd.set_read_timeout(Some(SOON)).expect("set");
    let mut command = machine.root("/mnt/bin/fairlead-supervisor");
    command.arg("run").env("NOTIFY_SOCKET", "/run/notify").env("WATCHDOG_USEC", "200000");
    command.stdin(Stdio::null()).stderr(Stdio::null());
    machine.supervisor = Some(command.spawn().expect("starts"));
    let hear = || {
        let mut word = [0; 64];
        let length = systemd.recv(&mut word).expect("something is said in time");
        String::from_utf8_lossy(&word[..length]).into_owned()
    };
    assert_eq!(hear(), "READY=1");
    assert_eq!((hear(), hear()), ("WATCHDOG=1".to_owned(), "WATCHDOG=1".to_owned()));
    // A worker that hangs says nothing more, and systemd ends it.
    let worker = machine.worker().expect("runs");
    machine.root_does(&format!("kill -STOP {worker}"));
    systemd.set_nonblocking(true).expect("set");
    while systemd.recv(&mut [0; 64]).is_ok() {}
    systemd.set_nonblocking(false).expect("set");
    systemd.set_read_timeout(Some(Duration::from_secs(1))).expect("set");
    systemd.recv(&mut [0; 64]).expect_err("it hangs, so it says nothing");
    kill_9(worker);
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let folder = tempfile::tempdir().expect("folder");
    let unit = fs::read_to_string(UNIT).expect("the unit");
    let bin = fairlead_lab::sibling("fairlead-supervisor").expect("built");
    let unit = unit.replace("/usr/bin/fairlead-supervisor", bin.to_str().expect("text"));
    let path = folder.path().join("fairlead-supervisor.service");
    fs::write(&path, unit).expect("written");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--recursive-errors=no"]).arg(path);
    let said = say(verify).expect("systemd-analyze is there").ok().expect("verified");
    assert_eq!(said.stderr.trim(), "", "not a word of complaint");
}

#[test]
fn without_systemd_install_says_in_plain_words_what_to_do() {
    let machine = Machine::new();
    let mut install = machine.root("/mnt/bin/fairlead-supervisor");
    install.arg("install");
    let said = say(install).expect("runs");
    assert_eq!(said.code, Some(1), "{said}");
    let expected = "error: systemd does not run here, so no service of it can be installed\n\
                    hint: start it by hand after each boot: sudo /mnt/bin/fairlead-supervisor run --detach\n";
    assert_eq!(said.stderr, expected);
}
