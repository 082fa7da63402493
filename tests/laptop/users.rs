//! Two users of one machine: each has their own, and nobody has the other's.

use std::{fs, time::Instant};

use crate::machine::{ADA, GRACE, Machine, kill_9};

#[test]
fn a_redirect_is_for_its_user_only() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    let begun = Instant::now();
    let said = machine.connects(GRACE, "cart.shop");
    assert_eq!(said.code, Some(7), "curl calls a refused connection 7: {said}");
    assert!(begun.elapsed().as_secs() < 2, "refused at once, natively");
}

#[test]
fn two_users_have_the_same_names_and_one_leaving_does_not_disturb_the_other() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.has_consumed(GRACE, &["shop/cart", "shop/pay"]);
    machine.starts(ADA);
    machine.starts(GRACE);
    assert_eq!(machine.hosts().matches("cart.shop.svc.cluster.local").count(), 1);
    machine.fairlead(GRACE, &["stop"]).ok().expect("stops");
    machine.is_proven(ADA);
    assert!(!machine.hosts().contains("pay.shop") && !machine.rules().contains("7002"));
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

#[test]
fn nobody_can_stop_or_ask_the_daemon_of_another_user() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    machine.fairlead(GRACE, &["stop"]).ok().expect("their own is not running");
    machine.fairlead(GRACE, &["cleanup"]).ok().expect("nothing of their own");
    machine.is_proven(ADA);
    let mut peek = machine.user(GRACE, "ls");
    peek.arg("/run/fairlead/users/7001");
    assert_ne!(peek.status().expect("runs").code(), Some(0), "the folder is closed");
}

#[test]
fn datagrams_are_for_their_user_only_though_the_socket_is_found() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/dns:53/udp"]);
    machine.starts(ADA);
    let rules = machine.rules();
    let led = rules.lines().find(|line| line.contains(". 53 : ")).expect("it is led somewhere");
    let socket = led.split(". 53 : ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let socket = format!("/dev/udp/127.0.0.1/{}", socket.expect("a port"));
    let sends = |uid, to: &str| {
        let mut bash = machine.user(uid, "bash");
        // The second is told what became of the first.
        bash.args(["-c", &format!("exec 3<>{to} && echo one >&3 && sleep 0.1 && echo two >&3")]);
        fairlead_tests::say(bash).expect("runs").code == Some(0)
    };
    assert!(sends(ADA, &socket) && sends(ADA, "/dev/udp/dns.shop/53"), "they are hers");
    assert!(!sends(GRACE, &socket), "another user has found the socket");
    assert!(!sends(GRACE, "/dev/udp/dns.shop/53"), "refused natively");
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

#[test]
fn a_daemon_that_was_killed_finds_its_datagrams_where_they_were() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/dns:53/udp"]);
    machine.starts(ADA);
    let before = machine.rules();
    kill_9(machine.daemon_pid(ADA).expect("runs"));
    machine.is_proven(ADA);
    assert_eq!(machine.rules(), before, "an application that goes on sending is led there still");
}

#[test]
fn a_connection_is_its_users_though_another_user_had_one_from_the_same_port_that_was_reset() {
    let machine = Machine::with_supervisor();
    for uid in [ADA, GRACE] {
        machine.has_consumed(uid, &["shop/cart"]);
        machine.starts(uid);
    }
    assert!(machine.rules().contains("table ip fairlead_aborted {"), "{}", machine.rules());
    let resets = |uid| {
        let log = format!("/mnt/home/{uid}/.local/state/fairlead/daemon.log");
        let log = fs::read_to_string(machine.path(&log)).expect("a log");
        log.matches("A connection to shop/cart:80 was reset: no stream could be opened").count()
    };
    // There is no agent: each daemon resets what it has taken.
    for uid in [ADA, GRACE] {
        let mut curl = machine.user(uid, "curl");
        curl.args(["--silent", "--local-port", "45001", "--max-time", "10", "http://cart.shop/"]);
        let said = fairlead_tests::say(curl).expect("runs");
        assert_ne!(said.code, Some(7), "it was taken, and not refused");
    }
    assert_eq!([ADA, GRACE].map(resets), [1, 1], "each by the daemon of its user");
    for uid in [ADA, GRACE] {
        machine.fairlead(uid, &["stop"]).ok().expect("stops");
    }
    machine.leaves_nothing();
}
