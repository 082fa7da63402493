//! Every process killed with -9, one after the other: the machine is as it was, or works again.

use std::{fs, os::unix::fs::symlink};

use fairlead_tests::{begin, eventually, say};

use crate::machine::{ADA, Attached, HOSTS, Machine, SOON, kill_9, signal};

const SERVICES: [&str; 2] = ["shop/cart", "shop/frontend"];

fn started() -> Machine {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &SERVICES);
    machine.starts(ADA);
    machine
}

#[test]
fn a_started_daemon_brings_its_names_and_a_stopped_one_leaves_nothing() {
    let machine = started();
    let hosts = machine.hosts();
    assert!(hosts.contains(" cart cart.shop cart.shop.svc cart.shop.svc.cluster.local # fairlead"));
    assert!(machine.rules().contains("meta skuid 7001"), "{}", machine.rules());
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
    assert_eq!(machine.fairlead(ADA, &["status"]).code, Some(80));
}

#[test]
fn without_a_carrier_a_connection_waits_a_little_and_is_then_reset() {
    let machine = started();
    let begun = std::time::Instant::now();
    let said = machine.connects(ADA, "cart.shop");
    assert_eq!(said.code, Some(56), "curl calls a reset 56: {said}");
    assert!((2..6).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[test]
fn a_killed_daemon_is_back_and_its_names_never_left() {
    let machine = started();
    let (before, killed) = (machine.hosts(), machine.daemon_pid(ADA).expect("runs"));
    kill_9(killed);
    eventually(SOON, "another daemon answers", || {
        assert_eq!(machine.hosts(), before, "the names stay");
        Ok(machine.daemon_pid(ADA).is_some_and(|pid| pid != killed))
    })
    .expect("back");
    machine.is_proven(ADA);
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

#[test]
fn a_daemon_that_does_not_come_back_leaves_nothing() {
    let mut machine = Machine::new();
    let link = machine.path("/mnt/daemon");
    symlink("/mnt/bin/fairlead-daemon", &link).expect("linked");
    machine.start_supervisor(&["--daemon", "/mnt/daemon"]);
    machine.has_consumed(ADA, &SERVICES);
    machine.starts(ADA);
    fs::remove_file(link).expect("removed");
    kill_9(machine.daemon_pid(ADA).expect("runs"));
    machine.leaves_nothing();
}

#[test]
fn a_killed_worker_cleans_up_when_it_is_back_and_the_daemon_goes_on() {
    let machine = started();
    let (worker, daemon) = (machine.worker().expect("runs"), machine.daemon_pid(ADA));
    kill_9(worker);
    eventually(SOON, "another worker answers", || {
        Ok(machine.worker().is_some_and(|w| w != worker))
    })
    .expect("back");
    machine.is_proven(ADA);
    assert_eq!(machine.daemon_pid(ADA), daemon, "the daemon was not touched");
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

#[test]
fn a_killed_guard_leaves_nothing_and_another_supervisor_brings_the_names_back() {
    let mut machine = started();
    let daemon = machine.daemon_pid(ADA);
    machine.kill_guard();
    machine.leaves_nothing();
    let status = machine.fairlead(ADA, &["status", "-o", "json"]).json().expect("JSON");
    assert_eq!(status["laptop"]["state"], "broken", "status says what is true now: {status}");
    machine.start_supervisor(&[]);
    machine.is_proven(ADA);
    assert_eq!(machine.daemon_pid(ADA), daemon, "the daemon was not touched");
    kill_9(daemon.expect("runs"));
    eventually(SOON, "a daemon that it did not start is started again, too", || {
        Ok(machine.daemon_pid(ADA).is_some_and(|pid| Some(pid) != daemon))
    })
    .expect("back");
    machine.is_proven(ADA);
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

/// To a guard that systemd watches it means that the worker hangs, and systemd cleans up behind both.
#[test]
fn a_guard_that_is_aborted_leaves_nothing() {
    let machine = started();
    signal("-ABRT", machine.supervisor.as_ref().expect("runs").id());
    machine.leaves_nothing();
}

#[test]
fn a_supervisor_whose_worker_hangs_can_be_stopped() {
    let mut machine = started();
    signal("-STOP", machine.worker().expect("runs"));
    let mut guard = machine.supervisor.take().expect("runs");
    signal("-TERM", guard.id());
    // It is given 15 s.
    eventually(3 * SOON, "the guard ends", || Ok(guard.try_wait()?.is_some())).expect("it ends");
    machine.start_supervisor(&[]);
    machine.is_proven(ADA);
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

#[test]
fn a_worker_whose_guard_died_before_it_began_does_not_serve() {
    let machine = Machine::new();
    let mut worker = machine.root("/mnt/bin/fairlead-supervisor");
    // The guard is nobody's child any more, and so is its worker.
    worker.args(["run", "--worker", "1"]);
    let said = begin(worker).expect("runs").ends_within(SOON).expect("does not serve");
    assert_ne!(said.code, Some(0), "{said}");
    assert!(said.stderr.contains("the guard died while the worker began"), "{said}");
    machine.leaves_nothing();
}

#[test]
fn a_supervisor_waits_for_a_predecessor_that_has_not_taken_everything_back() {
    let mut machine = started();
    let worker = machine.worker().expect("runs");
    signal("-STOP", worker);
    machine.kill_guard();
    machine.spawn_supervisor(&[]);
    let log = machine.path("/mnt/supervisor.log");
    eventually(SOON, "it finds the other one", || {
        Ok(fs::read_to_string(&log)?.contains("Another supervisor is there"))
    })
    .expect("waits");
    signal("-CONT", worker);
    eventually(SOON, "it goes on", || Ok(machine.worker().is_some_and(|now| now != worker)))
        .expect("serves");
    machine.is_proven(ADA);
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

#[test]
fn a_supervisor_that_waits_for_a_predecessor_can_be_stopped() {
    let mut machine = started();
    let predecessor = machine.worker().expect("runs");
    signal("-STOP", predecessor);
    machine.kill_guard();
    machine.spawn_supervisor(&[]);
    let log = machine.path("/mnt/supervisor.log");
    let logged = || fs::read_to_string(&log).unwrap_or_default();
    eventually(SOON, "it finds the other one", || {
        Ok(logged().contains("Another supervisor is there"))
    })
    .expect("waits");
    let mut waiting = machine.supervisor.take().expect("was started");
    signal("-TERM", waiting.id());
    assert!(waiting.wait().expect("reaped").success(), "{}", logged());
    assert!(!logged().contains("running already"), "it did not wait to the end: {}", logged());
    signal("-CONT", predecessor);
    machine.leaves_nothing();
}

#[test]
fn when_all_are_killed_stop_says_so_and_cleanup_finds_it_in_the_journal() {
    let mut machine = started();
    let (worker, daemon) =
        (machine.worker().expect("runs"), machine.daemon_pid(ADA).expect("runs"));
    // Stopped first, so that the guard cannot start another worker.
    let guard = machine.supervisor.as_ref().expect("runs").id();
    signal("-STOP", guard);
    kill_9(worker);
    machine.kill_guard();
    kill_9(daemon);
    assert!(machine.hosts().contains("# fairlead"), "the residue is there");

    for verb in ["stop", "cleanup"] {
        let said = machine.fairlead(ADA, &[verb]);
        assert_eq!(said.code, Some(90), "{said}");
        assert!(said.stderr.contains("no supervisor is running, and only root"), "{said}");
        assert!(said.stderr.contains("sudo"), "{said}");
    }
    let mut dry_run = machine.root("/mnt/bin/fairlead");
    dry_run.args(["cleanup", "--dry-run", "-o", "json"]);
    let found = say(dry_run).expect("runs").ok().expect("looks").json().expect("JSON");
    let found = found.to_string();
    assert!(found.contains("/etc/hosts") && found.contains("nftables"), "{found}");
    assert!(machine.hosts().contains("# fairlead"), "a dry run changes nothing");
    let mut cleanup = machine.root("/mnt/bin/fairlead");
    cleanup.arg("cleanup");
    say(cleanup).expect("runs").ok().expect("cleans up");
    machine.leaves_nothing();
    machine.fairlead(ADA, &["stop"]).ok().expect("nothing is left to give back");
}

#[test]
fn a_stale_socket_is_no_obstacle() {
    let mut machine = started();
    let daemon = machine.daemon_pid(ADA).expect("runs");
    let worker = machine.worker().expect("runs");
    let guard = machine.supervisor.as_ref().expect("runs").id();
    signal("-STOP", guard);
    kill_9(worker);
    machine.kill_guard();
    kill_9(daemon);
    for socket in ["supervisor.sock", "users/7001/daemon.sock"] {
        assert!(machine.path("/run/fairlead").join(socket).exists(), "{socket} is stale");
    }
    assert_eq!(machine.fairlead(ADA, &["status"]).code, Some(80));
    assert_eq!(machine.fairlead(ADA, &["start"]).code, Some(81));
    machine.start_supervisor(&[]);
    machine.starts(ADA);
}

#[test]
fn a_terminated_supervisor_takes_everything_back_and_ends_the_daemons() {
    let mut machine = started();
    let daemon = machine.daemon_pid(ADA).expect("runs");
    let mut supervisor = machine.supervisor.take().expect("runs");
    signal("-TERM", supervisor.id());
    assert!(supervisor.wait().expect("ends").success());
    let log = fs::read_to_string(machine.path("/mnt/supervisor.log")).expect("a log");
    assert!(!log.contains("does not end when asked"), "the daemon had its farewell: {log}");
    assert_eq!(machine.hosts(), HOSTS);
    machine.leaves_nothing();
    assert!(!std::path::Path::new(&format!("/proc/{daemon}")).exists(), "the daemon is gone");
}

#[test]
fn a_flushed_ruleset_is_put_back() {
    let machine = Machine::with_supervisor();
    // No daemon proves anything here: the kernel tells the supervisor.
    let mut attached = Attached::to(&machine);
    attached.sets(&["shop/cart"]).expect("set");
    let whole = machine.rules();
    assert!(whole.contains("redirect to"), "{whole}");
    for flush in ["nft flush ruleset", "nft flush table ip fairlead"] {
        machine.root_does(flush);
        eventually(SOON, "the redirect is back", || Ok(machine.rules() == whole))
            .expect("put back");
    }
    drop(attached);
    machine.leaves_nothing();
}
