//! Where nothing can be redirected: a listener for each service port, programs that are in its way, other users.
//! And where the kernel redirects, those programs are in nobody's way.

use std::{
    fs::{self, Permissions},
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    thread,
};

use fairlead_tests::eventually;
use laptop_ipc::{FailureKind, supervisor::Answer};

use crate::machine::{ADA, Attached, GRACE, HOSTS, Machine, SOON};

/// What curl calls it when somebody who listens ends the connection.
const RESET: Option<i32> = Some(56);
/// Or a reset that is there before curl has looked whether it is connected.
const REFUSED: [Option<i32>; 2] = [RESET, Some(7)];

/// What another program's rules do to datagrams to our addresses.
const DROPPED: &str = "\
nft add table ip theirs
nft 'add chain ip theirs in { type filter hook input priority 0; }'
nft add rule ip theirs in iif lo meta l4proto udp drop";
const REFUSED_TO_ALL: &str = "\
nft add table ip theirs
nft 'add chain ip theirs out { type filter hook output priority -300; }'
nft add rule ip theirs out ip daddr 127.72.0.0/14 udp dport 53 drop";
const TAKEN: &str = "\
nft add table ip theirs
nft 'add chain ip theirs out { type nat hook output priority -150; }'
nft add rule ip theirs out ip daddr 127.72.0.0/14 udp dport 53 dnat to 127.0.0.1:5353";

fn without_nft() -> Machine {
    let mut machine = Machine::new();
    machine.start_supervisor(&["--nft", "/nonexistent/nft"]);
    machine
}

/// Answers every connection with one line, for as long as the test runs.
fn answers(listener: &TcpListener, with: &'static str) {
    let listener = listener.try_clone().expect("cloned");
    thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let mut asked = [0; 1024];
            let answer = format!("HTTP/1.0 200 OK\r\n\r\n{with}");
            // Whoever asked may have gone.
            drop(tcp.read(&mut asked).and_then(|_| tcp.write_all(answer.as_bytes())));
        }
    });
}

#[test]
fn each_service_port_has_a_listener_for_its_user_only_and_status_says_so() {
    let machine = without_nft();
    machine.has_consumed(ADA, &["shop/cart", "shop/pay"]);
    machine.starts(ADA);
    let status = machine.fairlead(ADA, &["status"]).stdout;
    assert!(status.contains("names and listeners proven to work"), "{status}");
    assert_eq!(machine.rules(), "");
    let said = machine.connects(ADA, "cart.shop");
    assert_eq!(said.code, RESET, "it waits for a carrier, which this machine has not: {said}");
    let begun = std::time::Instant::now();
    let said = machine.connects(GRACE, "cart.shop");
    let is_refused = REFUSED.contains(&said.code);
    assert!(is_refused && begun.elapsed().as_secs() < 2, "refused at once: {said}");

    let later = machine.listens_everywhere(80).expect_err("the kernel says no");
    assert_eq!(later.kind(), io::ErrorKind::AddrInUse, "a program that comes later hears of it");
    machine.is_proven(ADA);
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
    machine.listens_everywhere(80).expect("nobody listens any more");
}

#[test]
fn a_port_of_udp_stands_where_applications_send_to() {
    let machine = without_nft();
    machine.has_consumed(ADA, &["shop/dns:53/udp"]);
    machine.starts(ADA);
    let bound = || udp_ports(&machine);
    let hosts = machine.hosts();
    let line = hosts.lines().find(|line| line.contains(" dns.shop ")).expect("it has a name");
    let address: Ipv4Addr =
        line.split_whitespace().next().and_then(|ip| ip.parse().ok()).expect("an address");
    let socket = format!("{:08X}:0035", u32::from_ne_bytes(address.octets()));
    assert!(bound().contains(&socket), "{}", bound());
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    assert!(!bound().contains(&socket), "{}", bound());
    machine.leaves_nothing();
}

#[test]
fn a_program_on_a_port_of_udp_is_named_or_the_port_is_another_one() {
    let machine = without_nft();
    let theirs = machine.inside(|| UdpSocket::bind("0.0.0.0:53").expect("free"));
    machine.has_consumed(ADA, &["shop/dns:53/udp"]);
    machine.fairlead(ADA, &["start"]).ok().expect("starts");
    eventually(SOON, "status names the program", || {
        let status = machine.fairlead(ADA, &["status"]).stdout;
        let us = format!("(pid {}, user root) on 0.0.0.0:53", std::process::id());
        Ok(status.contains("53/udp: ") && status.contains(&us))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", machine.fairlead(ADA, &["status"])));
    assert_eq!(machine.hosts(), HOSTS);
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");

    machine.has_consumed_and_may_remap(ADA, &["shop/dns:53/udp"], true);
    machine.starts(ADA);
    let listed = machine.fairlead(ADA, &["consume", "list"]).stdout;
    assert!(listed.contains("10053/udp (for 53/udp)"), "{listed}");
    assert!(udp_ports(&machine).contains(":2745 "), "{}", udp_ports(&machine));
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    assert!(!udp_ports(&machine).contains(":2745 "), "{}", udp_ports(&machine));
    machine.leaves_nothing();
    drop(theirs);
}

#[test]
fn datagrams_that_another_program_drops_or_takes_are_what_status_names() {
    for nft in ["/nonexistent/nft", "/usr/sbin/nft"] {
        let mut machine = Machine::new();
        machine.start_supervisor(&["--nft", nft]);
        machine.has_consumed(ADA, &["shop/dns:53/udp"]);
        machine.starts(ADA);
        let says = |what: &str| {
            eventually(SOON, what, || {
                let status = machine.fairlead(ADA, &["status"]).stdout;
                Ok(status.contains("broken: datagrams to 127.") && status.contains(what))
            })
            .unwrap_or_else(|error| panic!("{error:#}\n{}", machine.fairlead(ADA, &["status"])));
        };
        let theirs = machine.inside(|| UdpSocket::bind("127.0.0.1:5353").expect("free"));
        let _echoes = thread::spawn(move || {
            let mut asked = [0; 64];
            while let Ok((length, from)) = theirs.recv_from(&mut asked) {
                // Whoever asked may have gone.
                drop(theirs.send_to(&asked[..length], from));
            }
        });
        for (rules, why) in [
            (DROPPED, "(nobody answers)"),
            (REFUSED_TO_ALL, "(Operation not permitted"),
            (TAKEN, "(another program answers)"),
        ] {
            machine.root_does(rules);
            says(why);
            machine.root_does("nft delete table ip theirs");
            machine.is_proven(ADA);
        }
        machine.fairlead(ADA, &["stop"]).ok().expect("stops");
        machine.leaves_nothing();
    }
}

/// Returns the sockets of UDP as the kernel lists them: `0248487F:2745` is port 10053 of 127.72.72.2.
fn udp_ports(machine: &Machine) -> String {
    machine.inside(|| fs::read_to_string("/proc/thread-self/net/udp").expect("readable"))
}

#[test]
fn a_daemon_that_is_back_has_its_listeners_again() {
    let machine = without_nft();
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    let killed = machine.daemon_pid(ADA).expect("runs");
    crate::machine::kill_9(killed);
    eventually(SOON, "another daemon answers", || {
        Ok(machine.daemon_pid(ADA).is_some_and(|pid| pid != killed))
    })
    .expect("back");
    machine.is_proven(ADA);
}

#[test]
fn an_nft_that_may_change_nothing_is_as_good_as_none() {
    let mut machine = Machine::new();
    let nft = machine.path("/mnt/nft");
    fs::write(&nft, "#!/bin/sh\necho 'Operation not permitted' >&2\nexit 1\n").expect("written");
    fs::set_permissions(&nft, Permissions::from_mode(0o755)).expect("mode");
    machine.start_supervisor(&["--nft", "/mnt/nft"]);
    let mut attached = Attached::to(&machine);
    let reply = attached.sets(&["shop/cart"]);
    assert!(
        matches!(&reply, Ok(Answer::Set { listeners: Some(listeners), .. }) if listeners.len() == 1),
        "{reply:?}"
    );
    drop(attached);
    machine.leaves_nothing();
}

#[test]
fn whoever_has_a_port_is_named_before_anything_is_changed() {
    let machine = without_nft();
    let theirs = machine.listens_everywhere(80).expect("free");
    let failure = Attached::to(&machine).sets(&["shop/cart"]).expect_err("taken");
    assert_eq!(failure.kind, FailureKind::Conflict);
    let us = format!("(pid {}, user root) on 0.0.0.0:80", std::process::id());
    assert!(failure.message.contains(&us), "{failure}");
    assert!(failure.hint.is_some_and(|hint| hint.contains("--remap")));
    assert_eq!(machine.hosts(), HOSTS);
    drop(theirs);
    // A program that another test is just starting may hold a copy for a moment.
    eventually(SOON, "the port is free again", || {
        Ok(Attached::to(&machine).sets(&["shop/cart"]).is_ok())
    })
    .expect("free");
}

#[test]
fn a_daemon_whose_port_is_taken_says_who_has_it_and_goes_on_when_it_is_free() {
    let machine = without_nft();
    let theirs = machine.listens_everywhere(80).expect("free");
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.fairlead(ADA, &["start"]).ok().expect("starts");
    eventually(SOON, "status names the program", || {
        let status = machine.fairlead(ADA, &["status"]).stdout;
        Ok(status.contains("broken: another program has a port") && status.contains("80: laptop"))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", machine.fairlead(ADA, &["status"])));
    assert_eq!(machine.hosts(), HOSTS);
    drop(theirs);
    machine.is_proven(ADA);
}

#[test]
fn two_users_with_the_same_service_are_kept_apart() {
    let machine = without_nft();
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    machine.has_consumed_and_may_remap(GRACE, &["shop/cart"], true);
    machine.starts(GRACE);
    let listed = machine.fairlead(GRACE, &["consume", "list"]).stdout;
    assert!(listed.contains("10080 (for 80)"), "{listed}");
    for (user, port) in [(ADA, 10_080), (GRACE, 80)] {
        let begun = std::time::Instant::now();
        let said = machine.connects(user, &format!("cart.shop:{port}"));
        let is_refused = REFUSED.contains(&said.code);
        assert!(is_refused && begun.elapsed().as_secs() < 2, "not theirs: {said}");
    }
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.is_proven(GRACE);
    machine.fairlead(GRACE, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

#[test]
fn a_program_on_every_address_and_a_redirect_are_in_nobodys_way() {
    let machine = Machine::with_supervisor();
    let before = machine.listens_everywhere(80).expect("free");
    answers(&before, "mine");
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    let is_apart = || {
        let own = machine.connects(ADA, "127.0.0.1");
        assert!(own.code == Some(0) && own.stdout.contains("mine"), "{own}");
        let cluster = machine.connects(ADA, "cart.shop");
        assert_eq!(cluster.code, RESET, "it went to the daemon: {cluster}");
    };
    is_apart();
    drop(before);
    // The thread above still has it; another port that comes later must be as free.
    let later = machine.listens_everywhere(8080).expect("a redirect holds no port");
    answers(&later, "mine");
    let own = machine.connects(ADA, "127.0.0.1:8080");
    assert!(own.stdout.contains("mine"), "{own}");
}
