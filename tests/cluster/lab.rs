//! The lab itself: two real nodes, a laptop that reaches only the hub, and a machine that is afterwards as before.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use anyhow::Context;
use fairlead_lab::{Cluster, Host, Image, Lab, Options, sibling};
use fairlead_tests::{eventually, proxy_mode, say, within};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::machine::{Inside, Machine};

const PATIENCE: Duration = Duration::from_secs(30);

/// Shared by the tests of this file. It ends with the test program: nothing else could end it after a panic.
pub(crate) static LAB: LazyLock<Lab> = LazyLock::new(|| {
    let name = format!("suite-{}", std::process::id());
    Lab::up(&options(&name)).expect("a lab starts")
});

#[test]
fn both_nodes_are_ready() {
    let nodes =
        output(LAB.kubectl(["get", "nodes", "--output=jsonpath={.items[*].metadata.name}"]));
    assert_eq!(nodes, "node1 node2");
    let wait = ["wait", "nodes", "--all", "--for=condition=Ready", "--timeout=0"];
    output(LAB.kubectl(wait));
}

#[test]
fn a_pod_reaches_a_pod_on_the_other_node_by_the_name_of_its_service() {
    open_two_pods().expect("two pods, one on each node");
    let ask = |pod: &str, url: &str| {
        say(LAB.kubectl(["exec", pod, "--", "/shop", "get", url])).and_then(|said| said.ok())
    };
    let address = output(LAB.kubectl(["get", "pod", "two", "--output=jsonpath={.status.podIP}"]));
    assert!(address.starts_with("10.244.2."), "pod `two` is on node2: {address}");
    let (answer, _) =
        within(PATIENCE, "two answers one", || ask("one", &format!("http://{address}:8080/")))
            .expect("by address");
    assert!(answer.stdout.contains("two"), "{answer}");
    within(PATIENCE, "two answers one by name", || {
        ask("one", "http://two.default.svc.cluster.local/")
    })
    .expect("by name");
    output(LAB.kubectl(["delete", "pod/one", "pod/two", "service/two", "--now"]));
}

/// In control groups of version 1 and 2 alike; a limit that is not there would let one pod starve a developer's machine.
#[test]
fn a_pod_is_held_to_its_limit_of_memory() {
    let limits = r#"{"spec":{"nodeName":"node1","containers":[{"name":"limited","resources":{"limits":{"memory":"48Mi","cpu":"1"}}}]}}"#;
    let (image, overrides) = ("--image=docker.io/local/pause:lab", format!("--overrides={limits}"));
    let strategic = "--override-type=strategic";
    output(LAB.kubectl([
        "run",
        "limited",
        image,
        "--image-pull-policy=Never",
        strategic,
        &overrides,
    ]));
    output(LAB.kubectl(["wait", "pod/limited", "--for=condition=Ready", "--timeout=60s"]));
    let uid = output(LAB.kubectl(["get", "pod/limited", "--output=jsonpath={.metadata.uid}"]));
    let group = format!("fairlead-lab-suite-{}/node1/kubepods/pod{uid}", std::process::id());
    let held_to: Vec<_> = ["memory/{}/memory.limit_in_bytes", "{}/memory.max"]
        .into_iter()
        .filter_map(|file| {
            std::fs::read_to_string(format!("/sys/fs/cgroup/{}", file.replace("{}", &group))).ok()
        })
        .collect();
    assert_eq!(held_to, [format!("{}\n", 48 << 20)]);
    output(LAB.kubectl(["delete", "pod/limited", "--now"]));
}

#[test]
fn the_laptop_reaches_the_hub_and_nothing_else() {
    let before = LAB.counters().expect("counters");
    let listening =
        on(Host::Hub, || TcpListener::bind(("0.0.0.0", 4711)).expect("the port is free"));
    let hub = SocketAddr::from((Host::Hub.address(), 4711));
    on(Host::Laptop, move || TcpStream::connect_timeout(&hub, PATIENCE))
        .expect("the hub is reached");
    drop(listening);

    for forbidden in cluster_addresses() {
        let refusal = on(Host::Laptop, move || {
            TcpStream::connect_timeout(&forbidden, Duration::from_millis(500))
        });
        let kind = refusal.expect_err("the fence holds").kind();
        assert_eq!(kind, ErrorKind::TimedOut, "{forbidden} is dropped, not refused by a host");
    }
    let after = LAB.counters().expect("counters");
    assert!(after.laptop_to_hub > before.laptop_to_hub, "{after:?}");
    let tried = u64::try_from(cluster_addresses().len()).expect("few");
    assert!(after.laptop_elsewhere >= before.laptop_elsewhere + tried, "{after:?}");
}

#[test]
fn nothing_opens_a_connection_towards_the_cluster_or_the_laptop() {
    let before = LAB.counters().expect("counters");
    let laptop = SocketAddr::from((Host::Laptop.address(), 22));
    let refused = |from: Host, to: SocketAddr| {
        on(from, move || TcpStream::connect_timeout(&to, Duration::from_millis(500)))
            .expect_err("dropped")
            .kind()
    };
    for address in cluster_addresses() {
        assert_eq!(refused(Host::Hub, address), ErrorKind::TimedOut, "{address}");
    }
    assert_eq!(refused(Host::Hub, laptop), ErrorKind::TimedOut);
    assert_eq!(refused(Host::Node1, laptop), ErrorKind::TimedOut);
    let after = LAB.counters().expect("counters");
    assert!(after.hub_to_cluster_opened > before.hub_to_cluster_opened, "{after:?}");
    assert!(after.hub_to_laptop_opened > before.hub_to_laptop_opened, "{after:?}");
    assert!(after.cluster_to_laptop > before.cluster_to_laptop, "{after:?}");
}

#[test]
fn the_cluster_opens_connections_to_the_hub() {
    let before = LAB.counters().expect("counters");
    let listening =
        on(Host::Hub, || TcpListener::bind(("0.0.0.0", 4712)).expect("the port is free"));
    let hub = SocketAddr::from((Host::Hub.address(), 4712));
    on(Host::Node2, move || TcpStream::connect_timeout(&hub, PATIENCE))
        .expect("the hub is reached");
    drop(listening);
    assert!(LAB.counters().expect("counters").cluster_to_hub_opened > before.cluster_to_hub_opened);
}

#[test]
fn a_program_on_a_host_is_a_child_like_any_other() {
    let mut listening = LAB.exec(Host::Hub, "sh");
    listening.args(["-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"]);
    let mut child = listening.stdout(Stdio::piped()).spawn().expect("sh starts");
    let mut said = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut said).expect("it speaks");
    kill(pid_of(child.id()), Signal::SIGTERM).expect("it lives");
    assert_eq!(
        child.wait().expect("it ends").code(),
        Some(7),
        "the signal and the status went through"
    );

    let mut sleeper = LAB.exec(Host::Laptop, "sleep").arg("86411").spawn().expect("sleep starts");
    let asleep = || Ok(running("sleep 86411"));
    eventually(PATIENCE, "it sleeps", asleep).expect("it sleeps");
    sleeper.kill().expect("it lives");
    sleeper.wait().expect("it ends");
    eventually(PATIENCE, "killing reaches it", || Ok(!running("sleep 86411"))).expect("it is gone");
}

#[test]
fn a_user_of_the_laptop_is_nobody_but_that_user() {
    let id = |uid| output(LAB.exec_as(Host::Laptop, uid, "id"));
    assert_eq!(id(7001).trim(), "uid=7001(ada) gid=7001(ada) groups=7001(ada)");
    let mut write = LAB.exec_as(Host::Laptop, 7001, "touch");
    assert!(!write.arg("/etc/hosts").stderr(Stdio::null()).status().expect("touch runs").success());
    output(with(
        LAB.exec_as(Host::Laptop, 7001, "touch"),
        &[&LAB.home("ada").join("mine").display().to_string()],
    ));
}

#[test]
fn the_laptops_own_etc_takes_a_file_renamed_over_another_and_keeps_it_to_itself() {
    let machines_own = std::fs::read_to_string("/etc/hosts").expect("this machine has one");
    let rename = "printf '127.0.0.1 renamed\\n' >> /etc/hosts.new && mv /etc/hosts.new /etc/hosts";
    let before = output(with(LAB.exec(Host::Laptop, "cat"), &["/etc/hosts"]));
    output(with(LAB.exec(Host::Laptop, "sh"), &["-c", rename]));
    assert_eq!(output(with(LAB.exec(Host::Laptop, "cat"), &["/etc/hosts"])), "127.0.0.1 renamed\n");
    assert_eq!(std::fs::read_to_string("/etc/hosts").expect("still there"), machines_own);
    let restore = format!("printf '{before}' > /etc/hosts");
    output(with(LAB.exec(Host::Laptop, "sh"), &["-c", &restore]));
}

#[test]
fn a_second_lab_runs_beside_the_first_and_leaves_nothing_behind() {
    LazyLock::force(&LAB);
    let name = format!("second-{}", std::process::id());
    let before = Machine::seen_by(&name).expect("a look at the machine");
    let second = Lab::up(&options(&name)).expect("a second lab");
    output(second.kubectl(["get", "nodes"]));
    output(LAB.kubectl(["get", "nodes"]));
    let inside = Inside::of(&second).expect("its namespace");
    assert!(inside.processes().expect("processes").len() > 10, "the look sees a running lab");
    freeze_pods(&name);

    let begun = Instant::now();
    second.down().expect("it ends");
    let took = begun.elapsed();
    assert_eq!(inside.processes().expect("processes"), Vec::<String>::new());
    assert_eq!(Machine::seen_by(&name).expect("a look at the machine"), before);
    assert!(took < Duration::from_secs(5), "it took {took:?}");
}

/// Freezes every pod of a lab, as a container is for a moment while it begins.
fn freeze_pods(lab: &str) {
    let [version_1, version_2] =
        ["freezer/fairlead-lab-{}/freezer.state", "fairlead-lab-{}/cgroup.freeze"]
            .map(|path| Path::new("/sys/fs/cgroup").join(path.replace("{}", lab)));
    let (file, word) = if version_1.exists() { (version_1, "FROZEN") } else { (version_2, "1") };
    fs::write(&file, word).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

#[test]
fn a_lab_whose_keeper_is_killed_takes_everything_along_but_what_the_next_one_clears() {
    let name = format!("killed-{}", std::process::id());
    let before = Machine::seen_by(&name).expect("a look at the machine");
    let lab = Lab::up(&options(&name)).expect("a lab");
    let inside = Inside::of(&lab).expect("its namespace");
    kill(Pid::from_raw(lab.keeper()), Signal::SIGKILL).expect("it lives");
    let silent = || Ok(inside.processes()?.is_empty());
    eventually(PATIENCE, "every process of the lab is gone", silent).expect("nothing lives on");
    drop(lab);
    Lab::remove(&name).expect("the rest is cleared");
    assert_eq!(Machine::seen_by(&name).expect("a look at the machine"), before);
}

#[test]
fn a_lab_that_cannot_start_says_why_and_leaves_nothing_behind() {
    let name = format!("twice-{}", std::process::id());
    let before = Machine::seen_by(&name).expect("a look at the machine");
    let taken = Lab::up(&options(&name)).expect("a lab");
    let error = Lab::up(&options(&name)).expect_err("the name is taken");
    assert!(error.to_string().contains("runs already"), "{error:#}");
    output(taken.kubectl(["get", "nodes"]));
    let inside = Inside::of(&taken).expect("its namespace");
    let mut door = Lab::door(&name).expect("its door").expect("it runs");
    kill(Pid::from_raw(taken.keeper()), Signal::SIGTERM).expect("it lives");
    // A caller whom the keeper had not yet let in is cut off instead.
    drop(door.read(&mut [0]));
    assert!(!Lab::is_running(&name).expect("its door"), "the name is free");
    assert_eq!(inside.processes().expect("processes"), Vec::<String>::new());
    taken.down().expect("it has ended");
    assert_eq!(Machine::seen_by(&name).expect("a look at the machine"), before);
}

/// In the mode that this run of the suite is for.
fn options(name: &str) -> Options {
    let proxy_mode = proxy_mode().expect("FAIRLEAD_PROXY_MODE names a mode");
    let cluster = Cluster::ours(proxy_mode).expect("Kubernetes is built");
    Options { name: name.to_owned(), cluster, ends_with_me: true }
}

/// The API server, a kubelet, the API server's Service, a pod's address: every kind of address a cluster has.
fn cluster_addresses() -> [SocketAddr; 4] {
    [
        SocketAddr::from((Host::Api.address(), 6443)),
        SocketAddr::from((Host::Node1.address(), 10250)),
        SocketAddr::from(([10, 96, 0, 1], 443)),
        SocketAddr::from(([10, 244, 2, 2], 1053)),
    ]
}

fn open_two_pods() -> anyhow::Result<()> {
    let archive = std::env::temp_dir().join(format!("shop-{}.tar", std::process::id()));
    Image::new("docker.io/local/shop:pods").program("shop", sibling("shop")?).write(&archive)?;
    let imported = LAB.import_image(&archive);
    std::fs::remove_file(&archive)?;
    imported?;
    for (pod, node) in [("one", Host::Node1), ("two", Host::Node2)] {
        let place = format!(r#"--overrides={{"spec":{{"nodeName":"{node}"}}}}"#);
        let image = "--image=docker.io/local/shop:pods";
        let run = ["run", pod, image, "--image-pull-policy=Never", &place, "--", "cart"];
        say(LAB.kubectl(run))?.ok()?;
    }
    say(LAB.kubectl(["expose", "pod", "two", "--port=80", "--target-port=8080"]))?.ok()?;
    say(LAB.kubectl(["wait", "pod/one", "pod/two", "--for=condition=Ready", "--timeout=60s"]))?
        .ok()?;
    Ok(())
}

fn on<T: Send + 'static>(host: Host, work: impl FnOnce() -> T + Send + 'static) -> T {
    LAB.on(host, work).expect("the host is there").join().expect("the work does not panic")
}

fn output(command: Command) -> String {
    say(command).and_then(|said| said.ok()).expect("it succeeds").stdout
}

fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

fn running(words: &str) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let words = format!("{}\0", words.replace(' ', "\0"));
    processes.into_iter().any(|process| {
        std::fs::read(process.path().join("cmdline")).is_ok_and(|line| line == words.as_bytes())
    })
}

fn pid_of(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).context("small").expect("a process number is small"))
}
