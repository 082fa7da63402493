//! `fairlead run` as an ordinary user: the program sees names of its own, and nothing of the machine changes. The whole
//! path to a cluster is told in the world's stories.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use fairlead_tests::{Said, eventually, say};

use crate::{
    hub::Hub,
    machine::{ADA, GRACE, HOSTS, Machine, SOON},
};

const ADDRESS: &str = "127.72.1.2";
const NAMES: &str = "127.0.0.1 localhost\n127.72.1.2 frontend.shop # fairlead\n";

/// Returns the second process of `run`, as it is started for a program that sees `NAMES`.
fn inside(machine: &Machine, program: &str) -> Command {
    fs::write(machine.path("/mnt/names"), NAMES).expect("written");
    let mut sh = machine.user(ADA, "sh");
    let proof = format!("--proof frontend.shop {ADDRESS}");
    let line =
        format!("exec 9</mnt/names; exec /mnt/bin/fairlead inside --hosts 9 {proof} -- {program}");
    sh.args(["-c", &line]);
    sh
}

fn ends(command: Command) -> Said {
    say(command).expect("runs")
}

/// Serves one greeting per connection for as long as the test lives.
fn serves_greetings(machine: &Machine) -> u16 {
    let listener = machine.inside(|| TcpListener::bind((ADDRESS, 0)).expect("bound"));
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let mut request = [0; 1024];
            drop(tcp.read(&mut request));
            drop(tcp.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
            ));
        }
    });
    port
}

/// Returns everything of the machine that a tool like this could change.
fn state_of(machine: &Machine) -> String {
    let mut all = machine.root("sh");
    all.args(["-c", "cat /etc/hosts; ls -lai /etc /run; nft list ruleset; ip address; ip route; cat /proc/self/mountinfo"]);
    ends(all).ok().expect("said").stdout
}

#[test]
fn the_program_reaches_the_name_and_nobody_else_does() {
    let machine = Machine::new();
    let port = serves_greetings(&machine);
    let before = state_of(&machine);
    let get = format!("curl --silent --show-error --max-time 10 http://frontend.shop:{port}/");
    // What it starts sees the same, and so does its state of the machine's files: outside, nothing.
    let both = format!("sh -c '{get} && cat /etc/hosts && stat -c %u:%a /etc/hosts /etc/passwd'");
    let said = ends(inside(&machine, &both)).ok().expect("reached");
    assert_eq!(said.stdout, format!("hello{NAMES}7001:644\n65534:644\n"), "{said}");
    let outside = machine.connects(ADA, &format!("frontend.shop:{port}"));
    assert_eq!(outside.code, Some(6), "curl calls an unknown name 6: {outside}");
    assert_eq!(state_of(&machine), before);
    machine.leaves_nothing();
}

#[test]
fn names_stay_when_somebody_outside_renames_another_file_over_hosts() {
    let machine = Machine::new();
    let program = "sh -c 'echo ready; read line; cat /etc/hosts'";
    let mut child = inside(&machine, program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let (mut stdin, mut stdout) =
        (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut ready = [0; 6];
    stdout.read_exact(&mut ready).expect("it runs");
    machine.root_does("cp /etc/hosts /etc/hosts.new && mv /etc/hosts.new /etc/hosts");
    stdin.write_all(b"go on\n").expect("written");
    let mut seen = String::new();
    stdout.read_to_string(&mut seen).expect("read");
    assert_eq!(seen, NAMES);
    assert!(child.wait().expect("ends").success());
    assert_eq!(machine.hosts(), HOSTS);
}

#[test]
fn the_program_is_the_user_with_their_input_and_its_end_is_the_commands() {
    let machine = Machine::new();
    let mut id = inside(&machine, "sh -c 'id -u; id -g; cat; exit 7'");
    let mut child = id.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(b"typed\n").expect("written");
    let mut said = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("read");
    assert_eq!(said, "7001\n7001\ntyped\n");
    assert_eq!(child.wait().expect("ends").code(), Some(7));

    for (signal, number) in [("INT", 2), ("HUP", 1), ("QUIT", 3), ("TERM", 15), ("KILL", 9)] {
        let mut command =
            inside(&machine, &format!("sh -c 'ulimit -c 0; kill -{signal} $$; sleep 60'"));
        let ended = command.status().expect("runs");
        // `nsenter` and `setpriv` become the next program as well, so this is what a shell would see.
        assert_eq!(ended.signal(), Some(number), "{signal}");
    }
    assert_eq!(ends(inside(&machine, "no-such-program")).code, Some(127));
    fs::write(machine.path("/mnt/home/7001/data"), "text").expect("written");
    let said = ends(inside(&machine, "/mnt/home/7001/data"));
    assert_eq!(said.code, Some(126), "{said}");
    assert!(said.stderr.contains("could not be started"), "{said}");
}

#[test]
fn a_stopped_program_goes_on_when_it_is_told_to() {
    let machine = Machine::new();
    let mut program = inside(&machine, "sh -c 'echo $$; kill -STOP $$; echo again'");
    let mut child = program.stdout(Stdio::piped()).spawn().expect("starts");
    // The process that was started is the program: whoever stops or continues it needs nobody in between.
    let status = format!("/proc/{}/stat", child.id());
    eventually(SOON, "it is stopped", || {
        let stat = fs::read_to_string(&status)?;
        Ok(stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")))
    })
    .expect("stopped");
    let continued = Command::new("kill").args(["-CONT", &child.id().to_string()]).status();
    assert!(continued.expect("kill").success());
    let mut said = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("read");
    assert_eq!(said, format!("{}\nagain\n", child.id()));
    assert!(child.wait().expect("ends").success());
}

#[test]
fn where_namespaces_are_forbidden_it_says_so_before_anything_begins() {
    let machine = Machine::new();
    let hub = Hub::on(&machine);
    hub.has_signed_in(&machine, ADA);
    let mut forbidden = machine.user(ADA, "unshare");
    forbidden.args(["--user", "--map-root-user", "sh", "-c"]).arg(
        "echo 0 > /proc/sys/user/max_user_namespaces; \
         exec setpriv --bounding-set=-sys_admin /mnt/bin/fairlead run --consume shop/cart -- true",
    );
    let said = ends(forbidden);
    assert_eq!(said.code, Some(60), "{said}");
    for expected in ["allows no user namespace", "user.max_user_namespaces", "fairlead start"] {
        assert!(said.stderr.contains(expected), "{said}");
    }
    assert_eq!(hub.begun(), 0);
}

#[test]
fn it_brings_its_own_daemon_which_ends_after_it() {
    let machine = Machine::new();
    let hub = Hub::on(&machine);
    hub.has_signed_in(&machine, ADA);
    machine.root_does("printf '\n10.9.8.7 cart.shop\n' >> /etc/hosts");
    let before = state_of(&machine);

    let low = machine.fairlead(ADA, &["run", "--consume", "shop/cart", "--", "true"]);
    assert_eq!(low.code, Some(60), "{low}");
    for expected in ["shop/cart:80", "--remap", "ip_unprivileged_port_start", "fairlead start"] {
        assert!(low.stderr.contains(expected), "{low}");
    }
    assert_eq!((hub.begun(), hub.live()), (1, 0), "the hub was told");

    // This hub has no cluster behind it: nothing is ever proven, and the program must not start.
    let words = [
        "run",
        "--consume",
        "shop/cart",
        "--remap",
        "--timeout",
        "1",
        "--",
        "touch",
        "/mnt/home/7001/ran",
    ];
    let unproven = machine.fairlead(ADA, &words);
    assert_eq!(unproven.code, Some(70), "{unproven}");
    assert!(unproven.stderr.contains("the program was not started"), "{unproven}");
    let warned = "warning: a line of /etc/hosts that is not Fairlead's has cart.shop: ";
    assert!(unproven.stderr.contains(warned), "{unproven}");
    assert!(!machine.path("/mnt/home/7001/ran").exists());
    eventually(SOON, "the session ended with its command", || Ok(hub.live() == 0)).expect("ended");

    eventually(Duration::from_secs(30), "the daemon ends by itself", || {
        Ok(machine.fairlead(ADA, &["status"]).code == Some(80))
    })
    .expect("ended");
    assert!(!machine.path("/mnt/home/7001/.local/state/fairlead/daemon.sock").exists());
    assert_eq!(state_of(&machine), before);
}

#[test]
fn a_killed_command_leaves_no_session() {
    let machine = Machine::new();
    let hub = Hub::on(&machine);
    hub.has_signed_in(&machine, ADA);
    let words = ["run", "--consume", "shop/cart", "--remap", "--timeout", "45", "--", "true"];
    let mut command = machine.user(ADA, "/mnt/bin/fairlead");
    let mut child = command.args(words).stderr(Stdio::null()).spawn().expect("starts");
    eventually(SOON, "its session lives", || Ok(hub.live() == 1)).expect("lives");
    let listening = || {
        let mut ss = machine.root("ss");
        ss.args(["-Hltn", "sport = :8080"]);
        ends(ss).stdout
    };
    eventually(SOON, "its port is at 8080", || Ok(listening().contains(":8080"))).expect("opened");
    child.kill().expect("killed");
    child.wait().expect("reaped");
    eventually(SOON, "the session is over", || Ok(hub.live() == 0)).expect("over");
    eventually(SOON, "its listener is closed", || Ok(listening().is_empty())).expect("closed");
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
}

#[test]
fn a_program_has_ports_of_udp_and_they_end_with_it() {
    let machine = Machine::new();
    let hub = Hub::on(&machine);
    hub.has_dns();
    hub.has_signed_in(&machine, ADA);
    let low = machine.fairlead(ADA, &["run", "--consume", "shop/*", "--", "true"]);
    assert_eq!(low.code, Some(60), "{low}");
    assert!(low.stderr.contains("shop/dns:53/udp (only root may take port 53/udp)"), "{low}");

    let words = ["run", "--consume", "shop/*", "--remap", "--timeout", "45", "--", "true"];
    let mut command = machine.user(ADA, "/mnt/bin/fairlead");
    let mut child = command.args(words).stderr(Stdio::null()).spawn().expect("starts");
    let bound = || {
        let mut ss = machine.root("ss");
        ss.args(["-Hlun", "sport = :8053"]);
        ends(ss).stdout
    };
    eventually(SOON, "53 of UDP is at 8053", || Ok(bound().contains(":8053"))).expect("bound");
    child.kill().expect("killed");
    child.wait().expect("reaped");
    eventually(SOON, "its socket is closed", || Ok(bound().is_empty())).expect("closed");
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
}

#[test]
fn nobody_else_gets_in_by_a_programs_listener() {
    let machine = Machine::new();
    let hub = Hub::on(&machine);
    hub.has_signed_in(&machine, ADA);
    let words = ["run", "--consume", "shop/cart", "--remap", "--timeout", "45", "--", "true"];
    let mut command = machine.user(ADA, "/mnt/bin/fairlead");
    let mut child = command.args(words).stderr(Stdio::null()).spawn().expect("starts");
    let list = || machine.fairlead(ADA, &["list", "-o", "json"]).json();
    eventually(SOON, "its session is shown", || {
        Ok(list().is_ok_and(|list| list[0]["services"][0]["address"].is_string()))
    })
    .expect("shown");
    let address = list().expect("JSON")[0]["services"][0]["address"].clone();
    let address = format!("{}:8080", address.as_str().expect("text"));
    // Hers waits for a carrier, another user's is reset: curl calls the one 28.
    let connects = |uid| {
        let mut curl = machine.user(uid, "curl");
        curl.args(["--silent", "--max-time", "2", &format!("http://{address}/")]);
        ends(curl).code
    };
    assert_eq!(connects(ADA), Some(28), "she is let in");
    assert_ne!(connects(GRACE), Some(28), "the connection stays open");
    child.kill().expect("killed");
    child.wait().expect("reaped");
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
}

#[test]
fn start_takes_over_the_daemon_that_run_began() {
    let mut machine = Machine::new();
    let hub = Hub::on(&machine);
    hub.has_signed_in(&machine, ADA);
    let words = ["run", "--consume", "shop/cart", "--remap", "--timeout", "1", "--", "true"];
    assert_eq!(machine.fairlead(ADA, &words).code, Some(70));
    let pid = machine.daemon_pid(ADA).expect("it lingers");
    machine.start_supervisor(&[]);
    machine.fairlead(ADA, &["start"]).ok().expect("starts");
    assert_eq!(machine.daemon_pid(ADA), Some(pid), "two daemons would end each other's sessions");
    let socket = machine.path("/mnt/home/7001/.local/state/fairlead/daemon.sock");
    let mode = fs::metadata(&socket).expect("there").permissions().mode();
    assert_eq!(mode & 0o022, 0, "nobody else may write to it");
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}
