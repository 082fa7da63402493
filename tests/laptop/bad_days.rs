//! What the developer reads when something is wrong around the laptop: the command itself, its words, its exit code; and
//! that nothing was left half done.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    process::{Child, Stdio},
    thread,
};

use fairlead_tests::{eventually, say};
use laptop_ipc::{AnyCall, Failure, daemon};

use crate::{
    hub::{Hub, sign_in},
    machine::{ADA, Machine, SOON},
};

#[track_caller]
fn says(machine: &Machine, words: &[&str], code: i32, expected: &[&str]) {
    let said = machine.fairlead(ADA, words);
    assert_eq!(said.code, Some(code), "{said}");
    for expected in expected {
        assert!(said.stderr.contains(expected), "`{expected}` is not in: {said}");
    }
    assert!(said.stderr.contains("hint: "), "it says what to do: {said}");
}

/// A machine with a daemon and a hub where Ada is signed in.
fn signed_in() -> (Machine, Hub) {
    let machine = Machine::with_supervisor();
    let hub = Hub::on(&machine);
    hub.has_signed_in(&machine, ADA);
    machine.fairlead(ADA, &["start"]).ok().expect("starts");
    (machine, hub)
}

/// Nothing stands on this machine or at the hub, though a session had begun there.
#[track_caller]
fn nothing_is_half_done(machine: &Machine, hub: &Hub) {
    assert_eq!((hub.begun(), hub.live()), (1, 0), "the hub was told that it is over");
    let sessions = machine.fairlead(ADA, &["list", "-o", "json"]).json().expect("JSON");
    assert_eq!(sessions, serde_json::json!([]));
    machine.leaves_nothing();
}

#[test]
fn a_hub_that_cannot_be_reached() {
    let machine = Machine::with_supervisor();
    sign_in(&machine, ADA, "https://127.0.0.1:1", None, 3600);
    machine.fairlead(ADA, &["start"]).ok().expect("starts");
    for words in [&["services"][..], &["consume", "shop/*"], &["whoami"]] {
        says(&machine, words, 40, &["could not reach https://127.0.0.1:1", "hint: check"]);
    }
    eventually(SOON, "status says why", || {
        let said = machine.fairlead(ADA, &["status"]).ok()?;
        Ok(said.stdout.contains("connecting (the hub at 127.0.0.1 cannot be reached"))
    })
    .expect("said");
    machine.leaves_nothing();
}

#[test]
fn a_hub_whose_certificate_nobody_vouches_for() {
    let machine = Machine::with_supervisor();
    let hub = Hub::on(&machine);
    sign_in(&machine, ADA, &hub.url, None, 3600);
    machine.fairlead(ADA, &["start"]).ok().expect("starts");
    for words in [&["services"][..], &["consume", "shop/*"], &["login", &hub.url]] {
        says(&machine, words, 41, &["is not trusted", "--ca-file FILE"]);
    }
    eventually(SOON, "status says why", || {
        let said = machine.fairlead(ADA, &["status"]).ok()?;
        Ok(said.stdout.contains("signed by an authority that this machine does not trust"))
    })
    .expect("said");
    assert_eq!(hub.begun(), 0);
    machine.leaves_nothing();
}

#[test]
fn a_hub_that_was_updated_beyond_this_laptop() {
    let (machine, hub) = signed_in();
    hub.is_newer();
    let expected = ["is 9.0.0 and this is", "hint: update whichever of the two is older"];
    says(&machine, &["login", &hub.url], 82, &expected);
    let doctor = machine.fairlead(ADA, &["doctor"]);
    assert!(doctor.stdout.contains("is 9.0.0 and this is"), "{doctor}");
}

#[test]
fn a_clock_that_is_off_does_not_cost_the_sign_in() {
    let (machine, hub) = signed_in();
    hub.has_signed_in_long_ago(&machine, ADA);
    let expected = ["does not renew your sign-in", "clocks of laptop and hub", "look at the clock"];
    says(&machine, &["services"], 31, &expected);
    says(&machine, &["services"], 31, &expected);
}

#[test]
fn a_supervisor_that_died_before_a_consume() {
    let (mut machine, hub) = signed_in();
    machine.kill_guard();
    eventually(SOON, "the worker is gone, too", || Ok(machine.worker().is_none())).expect("gone");
    let expected = ["no supervisor is running", "hint: start it: fairlead start"];
    says(&machine, &["consume", "shop/*"], 81, &expected);
    nothing_is_half_done(&machine, &hub);
}

#[test]
fn a_full_disk_while_names_are_written() {
    let (machine, hub) = signed_in();
    // The first call of all makes the device's key, which needs room as well.
    machine.fairlead(ADA, &["services"]).ok().expect("listed");
    machine.root_does("cat /dev/zero > /mnt/filler 2>/dev/null || true");
    says(
        &machine,
        &["consume", "shop/*"],
        60,
        &["the disk is full", "hint: the disk is full: free"],
    );
    nothing_is_half_done(&machine, &hub);
}

#[test]
fn a_read_only_hosts_file() {
    let (machine, hub) = signed_in();
    machine.makes_hosts_read_only();
    says(&machine, &["consume", "shop/*"], 60, &["/etc/hosts: it is read-only", "remount,rw"]);
    nothing_is_half_done(&machine, &hub);
    let doctor = machine.fairlead(ADA, &["doctor"]);
    assert!(doctor.stdout.contains("do: sudo mount -o remount,rw /etc/hosts"), "{doctor}");
}

#[test]
fn a_hosts_file_that_has_become_read_only_before_a_clear() {
    let machine = Machine::with_supervisor();
    let hub = Hub::on(&machine);
    hub.has_signed_in(&machine, ADA);
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    machine.makes_hosts_read_only();
    let expected = ["it is over, but not everything could be taken back", "remount,rw"];
    says(&machine, &["consume", "clear"], 90, &expected);
    let status = machine.fairlead(ADA, &["status"]).ok().expect("shown");
    assert!(status.stdout.contains("its names are not taken back yet"), "{status}");
    machine.root_does("umount /etc/hosts");
    machine.fairlead(ADA, &["cleanup"]).ok().expect("taken back");
    machine.leaves_nothing();
}

#[test]
fn an_immutable_hosts_file() {
    let (machine, hub) = signed_in();
    machine.root_does("chattr +i /etc/hosts");
    says(
        &machine,
        &["consume", "shop/*"],
        60,
        &["/etc/hosts: it is read-only or immutable", "chattr -i"],
    );
    nothing_is_half_done(&machine, &hub);
    let doctor = machine.fairlead(ADA, &["doctor"]);
    assert!(doctor.stdout.contains("do: sudo chattr -i /etc/hosts"), "{doctor}");
    machine.root_does("chattr -i /etc/hosts");
}

#[test]
fn a_session_or_teamspace_that_does_not_exist() {
    let (machine, _hub) = signed_in();
    says(&machine, &["leave", "shop/cart"], 50, &["no session `shop/cart`"]);
    says(&machine, &["services", "-t", "prod"], 50, &["no teamspace `prod`", "`staging`"]);
}

#[test]
fn a_port_on_which_nothing_listens() {
    let (machine, hub) = signed_in();
    let said = machine.fairlead(ADA, &["intercept", "shop/cart", "3000"]);
    assert_eq!(said.code, Some(0), "the pods answer until something listens: {said}");
    assert!(said.stderr.contains("warning: nothing listens on localhost:3000 yet"), "{said}");
    assert_eq!(hub.live(), 1);
    machine.fairlead(ADA, &["leave", "shop/cart"]).ok().expect("left");
    nothing_is_half_done(&machine, &hub);
}

#[test]
fn a_command_that_is_interrupted_before_it_heard_of_its_session() {
    let (machine, hub) = signed_in();
    hub.holds(true);
    let command = begins(&machine, &["consume", "shop/*"]);
    eventually(SOON, "the hub is asked", || Ok(hub.begun() == 1)).expect("asked");
    is_interrupted(&machine, command);
    hub.holds(false);
    eventually(SOON, "the session began after all, and is over", || {
        let sessions = machine.fairlead(ADA, &["list", "-o", "json"]).json()?;
        Ok(hub.live() == 0 && sessions == serde_json::json!([]))
    })
    .expect("over");
    nothing_is_half_done(&machine, &hub);
}

#[test]
fn a_wider_consume_that_is_interrupted_leaves_what_was_consumed_before() {
    let machine = Machine::with_supervisor();
    let hub = Hub::on(&machine);
    hub.has_signed_in(&machine, ADA);
    machine.has_consumed(ADA, &["shop/frontend"]);
    machine.starts(ADA);
    let sessions = || machine.fairlead(ADA, &["list", "-o", "json"]).json();
    let (names, before) = (machine.hosts(), sessions().expect("JSON")[0]["id"].clone());
    let command = begins(&machine, &["consume", "shop/cart"]);
    eventually(SOON, "its names stand", || Ok(machine.hosts().contains("cart.shop")))
        .expect("begun");
    is_interrupted(&machine, command);
    eventually(SOON, "the change is taken back", || Ok(machine.hosts() == names)).expect("over");
    let left = sessions().expect("JSON");
    assert_eq!((left.as_array().map(Vec::len), &left[0]["id"]), (Some(1), &before), "{left}");
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

#[test]
fn a_port_that_is_taken_where_nothing_is_redirected() {
    let mut machine = Machine::new();
    machine.start_supervisor(&["--nft", "/nonexistent/nft"]);
    let hub = Hub::on(&machine);
    hub.has_signed_in(&machine, ADA);
    machine.fairlead(ADA, &["start"]).ok().expect("starts");
    let _theirs = machine.listens_everywhere(80).expect("free");
    says(&machine, &["consume", "shop/*"], 51, &["80: ", "on 0.0.0.0:80", "--remap"]);
    nothing_is_half_done(&machine, &hub);

    let command = begins(&machine, &["consume", "--remap", "shop/*"]);
    eventually(SOON, "it has another port", || {
        let listed = machine.fairlead(ADA, &["consume", "list"]).ok()?;
        Ok(listed.stdout.contains("10080 (for 80)"))
    })
    .expect("remapped");
    is_interrupted(&machine, command);
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

#[test]
fn a_daemon_that_is_ended_while_it_puts_names_back_tells_the_hub() {
    let mut machine = Machine::new();
    let nft = machine.path("/mnt/nft");
    fs::write(&nft, "#!/bin/sh\nexec /usr/sbin/nft \"$@\"\n").expect("written");
    fs::set_permissions(&nft, Permissions::from_mode(0o755)).expect("mode");
    machine.start_supervisor(&["--nft", "/mnt/nft"]);
    let hub = Hub::on(&machine);
    hub.has_signed_in(&machine, ADA);
    machine.fairlead(ADA, &["start"]).ok().expect("starts");
    let mut command = begins(&machine, &["consume", "shop/*"]);
    eventually(SOON, "its names stand", || Ok(machine.hosts().contains("cart.shop")))
        .expect("begun");
    // Whoever began it is gone in a way that ends nothing, and the next daemon finds an nft that hangs.
    let daemon = machine.daemon_pid(ADA).expect("runs");
    machine.root_does(&format!("kill -KILL {}", command.id()));
    command.wait().expect("it was killed");
    fs::write(&nft, "#!/bin/sh\nexec sleep 60\n").expect("written");
    machine.root_does(&format!("kill -KILL {daemon}"));
    let log = machine.path(&format!("/mnt/home/{ADA}/.local/state/fairlead/daemon.log"));
    eventually(SOON, "the next one takes it up", || {
        Ok(fs::read_to_string(&log)?.contains("Taking up the session again"))
    })
    .expect("taken up");
    assert_eq!(hub.live(), 1);
    let next = machine.pids_of("fairlead-daemon");
    machine.root_does(&format!("kill -TERM {}", next[0]));
    eventually(SOON, "the hub was told", || Ok(hub.live() == 0)).expect("told");
}

fn begins(machine: &Machine, words: &[&str]) -> Child {
    let mut fairlead = machine.user(ADA, "/mnt/bin/fairlead");
    fairlead.args(words).stdin(Stdio::null()).stderr(Stdio::piped());
    fairlead.spawn().expect("starts")
}

/// Sends what Ctrl-C sends, and waits for the command's end.
fn is_interrupted(machine: &Machine, command: Child) {
    let mut interrupt = machine.root("kill");
    interrupt.args(["-INT", &command.id().to_string()]);
    say(interrupt).expect("runs").ok().expect("sent");
    let output = command.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
}

#[test]
fn a_daemon_of_another_version() {
    let machine = Machine::new();
    let folder = machine.path("/run/fairlead/users/7001");
    fs::create_dir_all(&folder).expect("made");
    let socket = folder.join("daemon.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    fs::set_permissions(&socket, Permissions::from_mode(0o777)).expect("open to all");
    // It reads our call's version, which it does not speak, and says so as every version does.
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let call: AnyCall = laptop_ipc::read_blocking(&mut stream).expect("a call");
            let reply: daemon::Reply = Err(Failure::version(call.protocol));
            laptop_ipc::write_blocking(&mut stream, &reply).expect("answered");
        }
    });
    for words in [&["status"][..], &["list"], &["consume", "clear"]] {
        let expected = ["the parts of Fairlead on this machine differ", "fairlead stop"];
        says(&machine, words, 82, &expected);
    }
}

#[test]
fn what_cannot_be_taken_back_is_said_until_it_can() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    machine.makes_hosts_read_only();
    let expected = ["not everything could be taken back", "read-only", "still there: the section"];
    says(&machine, &["cleanup"], 90, &expected);
    says(&machine, &["cleanup"], 90, &expected);
    says(&machine, &["stop"], 90, &expected);
    assert!(machine.hosts().contains("cart.shop"));
    machine.root_does("mount -o remount,rw,bind /etc/hosts");
    let said = machine.fairlead(ADA, &["cleanup", "-o", "json"]).ok().expect("cleans up");
    assert_eq!(said.json().expect("JSON").as_array().map(Vec::len), Some(1), "{said}");
    machine.root_does("umount /etc/hosts");
    machine.leaves_nothing();
}

#[test]
fn leaving_without_a_hub_says_what_was_done_and_what_was_not() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    says(&machine, &["leave", "01980a3f"], 31, &["left on this laptop; but you are not signed in"]);
    machine.leaves_nothing();
}

#[test]
fn root_cleans_up_for_everybody() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    let mut cleanup = machine.root("/mnt/bin/fairlead");
    cleanup.args(["cleanup"]);
    let said = say(cleanup).expect("runs").ok().expect("cleans up");
    assert!(said.stdout.contains("/etc/hosts") && said.stdout.contains("nftables"), "{said}");
    machine.leaves_nothing();
    assert_eq!(machine.fairlead(ADA, &["status"]).code, Some(80), "a daemon would put them back");
}

#[test]
fn a_user_who_holds_the_supervisors_socket_keeps_nobody_else_out() {
    let machine = Machine::with_supervisor();
    let mut held = Vec::new();
    // Root's share is used up when those that the test itself had before have ended, too.
    eventually(SOON, "root is told that the supervisor is busy", || {
        held.push(machine.connection()?);
        let mut stop = machine.root("/mnt/bin/fairlead");
        stop.arg("stop");
        let said = say(stop)?;
        Ok(said.code == Some(81) && said.stderr.contains("the supervisor is busy: uid 0"))
    })
    .expect("told");
    machine.fairlead(ADA, &["start"]).ok().expect("starts");
}
