//! What helps on a bad day: doctor, logs, a bundle that can be given away, and the daemon in one's own terminal.

use std::{fs, process::Stdio};

use fairlead_tests::{eventually, say};

use crate::machine::{ADA, Machine, SOON, kill_9};

#[test]
fn doctor_tells_what_stands_and_for_whom_and_fixes_what_nobody_wants() {
    let mut machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    let said = machine.fairlead(ADA, &["doctor", "-o", "json"]).json().expect("JSON");
    let of = |said: &serde_json::Value, check: &str| -> serde_json::Value {
        let findings = said.as_array().expect("a list").iter();
        findings.clone().find(|finding| finding["check"] == check).expect(check).clone()
    };
    let residue = of(&said, "residue");
    assert_eq!(residue["state"], "ok", "{said}");
    let message = residue["message"].as_str().expect("text");
    assert!(
        message.contains("for what you consume, 1 service (") && message.contains("nftables"),
        "{message}"
    );

    let (worker, daemon) =
        (machine.worker().expect("runs"), machine.daemon_pid(ADA).expect("runs"));
    let guard = machine.supervisor.as_ref().expect("runs").id();
    machine.root_does(&format!("kill -STOP {guard}"));
    kill_9(worker);
    machine.kill_guard();
    kill_9(daemon);
    let said = machine.fairlead(ADA, &["doctor"]);
    assert_eq!(said.code, Some(90), "{said}");
    // The journal is no secret, so a user sees both.
    for expected in ["nobody wants it", "/etc/hosts", "nftables", "do: sudo fairlead cleanup"] {
        assert!(said.stdout.contains(expected), "`{expected}` is not in {said}");
    }
    let mut fix = machine.root("/mnt/bin/fairlead");
    fix.args(["doctor", "--fix"]);
    let said = say(fix).expect("runs").ok().expect("fixed");
    assert!(said.stdout.contains("the machine is as it was before Fairlead"), "{said}");
    machine.leaves_nothing();
}

#[test]
fn doctor_names_what_would_break() {
    let machine = Machine::with_supervisor();
    machine.root_does("echo 'hosts: dns files' > /etc/nsswitch.conf");
    let mut doctor = machine.user(ADA, "/mnt/bin/fairlead");
    doctor.arg("doctor").env("http_proxy", "http://proxy:3128").env("no_proxy", "localhost");
    let said = say(doctor).expect("runs");
    assert_eq!(said.code, Some(60), "{said}");
    for expected in [
        "`dns` is asked before the hosts file",
        "http_proxy is set",
        "export NO_PROXY=localhost,.svc",
    ] {
        assert!(said.stdout.contains(expected), "`{expected}` is not in {said}");
    }
}

#[test]
fn a_bundle_holds_what_helps_and_no_secret() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    let home = format!("/mnt/home/{ADA}");
    let log = machine.path(&format!("{home}/.local/state/fairlead/daemon.log"));
    let planted = "GET /callback?code=c0de authorization: Bearer fla_planted123 http://ada:hunter2@proxy Cookie: id=abc\n";
    let text = fs::read_to_string(&log).expect("a log") + planted;
    fs::write(&log, text).expect("written");
    let said = machine.fairlead(ADA, &["logs"]).ok().expect("shows");
    assert!(said.stdout.contains("Daemon is running"), "{said}");

    let path = format!("{home}/bundle.tar.gz");
    let said = machine.fairlead(ADA, &["logs", "--bundle", &path]).ok().expect("written");
    assert!(said.stderr.contains("Secrets are removed"), "{said}");
    let mut tar = machine.user(ADA, "tar");
    tar.args(["-xOzf", &path]);
    let all = say(tar).expect("runs").ok().expect("a bundle").stdout;
    for expected in
        ["fairlead    0.", "Daemon is running", "\"state\": \"proven\"", "cart.shop", "residue"]
    {
        assert!(all.contains(expected), "`{expected}` is not in the bundle");
    }
    for secret in ["c0de", "fla_planted123", "hunter2", "id=abc"] {
        assert!(!all.contains(secret), "`{secret}` is in the bundle");
    }
    assert_eq!(machine.fairlead(ADA, &["logs", "--bundle", &path]).code, Some(20), "kept");
}

#[test]
fn the_daemon_runs_in_a_terminal() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/cart"]);
    let mut run = machine.user(ADA, "/mnt/bin/fairlead");
    run.args(["daemon", "run", "--foreground"]).stdin(Stdio::null()).stderr(Stdio::piped());
    let daemon = run.spawn().expect("starts");
    eventually(SOON, "it answers", || Ok(machine.daemon_pid(ADA).is_some())).expect("up");
    machine.is_proven(ADA);
    let again = machine.fairlead(ADA, &["daemon", "run"]);
    assert!(again.code == Some(51) && again.stderr.contains("fairlead stop"), "{again}");
    let pid = machine.daemon_pid(ADA).expect("runs");
    machine.root_does(&format!("kill -INT {pid}"));
    let said = daemon.wait_with_output().expect("ends");
    assert!(said.status.success(), "{said:?}");
    let log = String::from_utf8_lossy(&said.stderr);
    assert!(log.contains("Daemon is running") && log.contains("Interrupted"), "{log}");
    machine.leaves_nothing();
}
