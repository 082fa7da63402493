//! A machine of its own: namespaces that end with it, our programs, and a supervisor that root started.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::{fs::chown, net::UnixStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use fairlead_lab::sibling;
use fairlead_model::{Callee, ServicePort, ServiceRef, TeamspaceId};
use fairlead_tests::{Said, eventually, say, within};
use laptop_ipc::{
    Call,
    supervisor::{Answer, DaemonFolders, Reached, Reply, Request},
};
use nix::sched::{CloneFlags, setns};

use crate::resolving::has_link;

/// What the hosts file says before anybody comes; the last line has no line break, as some do.
pub(crate) const HOSTS: &str = "127.0.0.1\tlocalhost\n::1 localhost\n# mine\n10.1.2.3 db";
pub(crate) const ADA: u32 = 7001;
pub(crate) const GRACE: u32 = 7002;
pub(crate) const SOON: Duration = Duration::from_secs(10);

const INIT: &str = "\
set -e
mount -t tmpfs -o size=4m tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/bin /mnt/home /mnt/lib
mount -t tmpfs -o size=1m tmpfs /mnt/lib
mount -t tmpfs tmpfs /var/lib
mkdir /var/lib/fairlead
mount --bind /mnt/lib /var/lib/fairlead
for user in 7001 7002; do mkdir /mnt/home/$user; chown $user:$user /mnt/home/$user; done
mount --bind \"$1\" /mnt/bin
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
mount -t tmpfs tmpfs /run
ip link set lo up
echo ready
exec sleep infinity";

pub(crate) struct Machine {
    init: Child,
    /// The process whose namespaces are the machine.
    first: u32,
    /// What else than network and mounts is its own.
    has_processes: bool,
    pub(crate) supervisor: Option<Child>,
}

impl Machine {
    /// Returns a machine on which nothing of Fairlead runs.
    pub(crate) fn new() -> Self {
        let uid = fs::read_to_string("/proc/self/status").expect("status");
        let is_root = uid.lines().any(|line| line.starts_with("Uid:\t0\t"));
        assert!(is_root, "this suite needs root: it makes namespaces and nftables rules");
        let bin = sibling("fairlead-supervisor").expect("built: cargo xtask test laptop builds it");
        let mut init = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "--", "sh", "-c", INIT, "sh"])
            .arg(bin.parent().expect("in a folder"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut ready = String::new();
        BufReader::new(init.stdout.take().expect("piped")).read_line(&mut ready).expect("read");
        assert_eq!(ready, "ready\n", "the namespaces could not be made");
        let first = init.id();
        let machine = Self { init, first, has_processes: false, supervisor: None };
        fs::write(machine.path("/etc/hosts"), HOSTS).expect("written");
        machine
    }

    /// Returns the one whose first process is the child of this one; it ends with it.
    pub(crate) fn begun_by(mut init: Child) -> Self {
        let path = format!("/proc/{0}/task/{0}/children", init.id());
        let first = || {
            let children = fs::read_to_string(&path)?;
            let first = children.split_whitespace().next().context("it has not begun")?.parse()?;
            let is_systemd = fs::read_to_string(format!("/proc/{first}/comm"))?.trim() == "systemd";
            ensure!(is_systemd, "it has not begun");
            Ok(first)
        };
        let first = within(SOON, "the machine begins", first).map(|(first, _)| first);
        let first = first.unwrap_or_else(|error| {
            drop(init.kill().and_then(|()| init.wait()));
            panic!("{error:#}")
        });
        Self { init, first, has_processes: true, supervisor: None }
    }

    /// Returns a machine on which root has started the supervisor.
    pub(crate) fn with_supervisor() -> Self {
        let mut machine = Self::new();
        machine.start_supervisor(&[]);
        machine
    }

    pub(crate) fn start_supervisor(&mut self, flags: &[&str]) {
        self.spawn_supervisor(flags);
        eventually(SOON, "the supervisor answers", || Ok(self.worker().is_some())).expect("up");
    }

    pub(crate) fn spawn_supervisor(&mut self, flags: &[&str]) {
        let mut command = self.root("/mnt/bin/fairlead-supervisor");
        command.args(flags).arg("run").stdin(Stdio::null());
        command.stderr(fs::File::create(self.path("/mnt/supervisor.log")).expect("log"));
        self.supervisor = Some(command.spawn().expect("starts"));
    }

    /// Returns a path of the machine as the test reaches it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first))
    }

    pub(crate) fn root(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.first.to_string(), "--net", "--mount"]);
        if self.has_processes {
            command.args(["--pid", "--uts", "--ipc", "--cgroup"]);
        }
        command.args(["--", program]);
        command
    }

    pub(crate) fn user(&self, uid: u32, program: &str) -> Command {
        let mut command = self.root("setpriv");
        let uid = uid.to_string();
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--", program]);
        command.env("HOME", format!("/mnt/home/{uid}"));
        command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
        command
    }

    /// Runs a closure in the machine's network.
    pub(crate) fn inside<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.first)).expect("there");
        // A thread of its own: whoever enters a namespace stays there.
        let entered = thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).expect("root may");
            act()
        });
        entered.join().expect("acted")
    }

    pub(crate) fn root_does(&self, script: &str) {
        let mut sh = self.root("sh");
        sh.args(["-c", script]);
        say(sh).expect("runs").ok().expect(script);
    }

    pub(crate) fn makes_hosts_read_only(&self) {
        self.root_does("mount --bind /etc/hosts /etc/hosts && mount -o remount,ro,bind /etc/hosts");
    }

    /// Runs the fairlead command as a user.
    pub(crate) fn fairlead(&self, uid: u32, words: &[&str]) -> Said {
        let mut command = self.user(uid, "/mnt/bin/fairlead");
        command.args(words);
        say(command).expect("runs")
    }

    /// Leaves a user with the session of an earlier daemon: these services, each on port 80 or on the one that is named
    /// (`shop/dns:53/udp`).
    pub(crate) fn has_consumed(&self, uid: u32, services: &[&str]) {
        self.has_consumed_of(uid, &[(TEAMSPACE, "staging")], services, false);
    }

    pub(crate) fn has_consumed_and_may_remap(&self, uid: u32, services: &[&str], may: bool) {
        self.has_consumed_of(uid, &[(TEAMSPACE, "staging")], services, may);
    }

    /// The same of several teamspaces, one after the other.
    pub(crate) fn has_consumed_of(
        &self,
        uid: u32,
        of: &[(&str, &str)],
        services: &[&str],
        may_remap: bool,
    ) {
        let home = format!("/mnt/home/{uid}");
        let state = format!("{home}/.local/state/fairlead");
        fs::create_dir_all(self.path(&state)).expect("made");
        let at = |name: &&str| {
            let (name, port) = name.split_once(':').unwrap_or((name, "80"));
            let port: ServicePort = port.parse().expect("a port");
            (Callee::from(reference(name)), [port])
        };
        let granted: Vec<_> = services.iter().map(at).collect();
        let session = |(n, (id, name)): (usize, &(&str, &str))| {
            serde_json::json!({
                "id": format!("01980a3f-0000-7000-8000-{:012}", n + 1),
                "teamspace": { "id": id, "name": name },
                "grant": "",
                "may_remap": may_remap,
                "wish": { "kind": "consume", "patterns": ["shop/*"], "services": granted },
            })
        };
        let sessions: serde_json::Value = of.iter().enumerate().map(session).collect();
        fs::write(self.path(&format!("{state}/sessions.json")), sessions.to_string())
            .expect("written");
        for folder in ["", "/.local", "/.local/state", "/.local/state/fairlead"] {
            chown(self.path(&format!("{home}{folder}")), Some(uid), Some(uid)).expect("owned");
        }
    }

    /// Starts a user's daemon and waits until names and redirects are proven.
    pub(crate) fn starts(&self, uid: u32) {
        self.fairlead(uid, &["start"]).ok().expect("starts");
        self.is_proven(uid);
    }

    pub(crate) fn is_proven(&self, uid: u32) {
        eventually(SOON, "names and redirects are proven", || {
            let status = self.fairlead(uid, &["status", "-o", "json"]);
            Ok(status.code == Some(0) && status.json()?["laptop"]["state"] == "proven")
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", self.fairlead(uid, &["status"])));
    }

    pub(crate) fn daemon_pid(&self, uid: u32) -> Option<i64> {
        let status = self.fairlead(uid, &["status", "-o", "json"]);
        status.json().ok()?["pid"].as_i64()
    }

    /// Returns the processes of this machine with this name; of all that run on the host, those in its namespace.
    pub(crate) fn pids_of(&self, name: &str) -> Vec<String> {
        let is_meant = |pid: &String| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
        };
        self.pids().into_iter().filter(is_meant).collect()
    }

    fn pids(&self) -> Vec<String> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let ours = namespace(&self.first.to_string());
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
        pids.filter(|pid| ours.is_some() && namespace(pid) == ours).collect()
    }

    /// Asks the supervisor on a connection of its own, as root.
    pub(crate) fn asks(&self, request: Request) -> anyhow::Result<Reply> {
        let mut stream = self.connection()?;
        Ok(laptop_ipc::ask_blocking(&mut stream, request)?)
    }

    pub(crate) fn connection(&self) -> anyhow::Result<UnixStream> {
        let path = self.path("/run/fairlead/supervisor.sock");
        let stream = UnixStream::connect(path).context("no supervisor")?;
        // One that hangs would be waited for.
        stream.set_read_timeout(Some(SOON))?;
        Ok(stream)
    }

    pub(crate) fn worker(&self) -> Option<u32> {
        match self.asks(Request::Status).ok()? {
            Ok(Answer::Status { pid, .. }) => Some(pid),
            _ => None,
        }
    }

    pub(crate) fn kill_guard(&mut self) {
        let mut guard = self.supervisor.take().expect("a supervisor was started");
        guard.kill().expect("killed");
        guard.wait().expect("reaped");
    }

    pub(crate) fn hosts(&self) -> String {
        fs::read_to_string(self.path("/etc/hosts")).expect("readable")
    }

    pub(crate) fn rules(&self) -> String {
        let mut nft = self.root("nft");
        nft.args(["list", "ruleset"]);
        say(nft).expect("runs").ok().expect("lists").stdout
    }

    /// Returns its links, addresses and routes.
    pub(crate) fn network(&self) -> String {
        let mut ip = self.root("sh");
        ip.args(["-c", "ip -oneline link; ip -oneline address; ip rule; ip route show table all"]);
        say(ip).expect("runs").ok().expect("lists").stdout
    }

    /// Says whether every byte is as it was, now or soon.
    pub(crate) fn leaves_nothing(&self) {
        let is_clean = || Ok(self.hosts() == HOSTS && self.rules().is_empty());
        eventually(SOON, "nothing of ours is left", is_clean).unwrap_or_else(|error| {
            panic!("{error:#}\n--- hosts\n{}\n--- nft\n{}", self.hosts(), self.rules())
        });
        assert!(!has_link(self), "the link is still there");
        let etc = fs::read_dir(self.path("/etc")).expect("readable").flatten();
        let leftover = etc.filter(|entry| entry.file_name().to_string_lossy().contains("fairlead"));
        assert_eq!(leftover.count(), 0, "no temporary file stays");
    }

    /// Lets a program of the developer listen on a port of all addresses, until it is dropped.
    pub(crate) fn listens_everywhere(&self, port: u16) -> std::io::Result<TcpListener> {
        self.inside(move || TcpListener::bind(("0.0.0.0", port)))
    }

    /// Opens a connection as a user, by name, and says how that ended.
    pub(crate) fn connects(&self, uid: u32, name: &str) -> Said {
        let mut curl = self.user(uid, "curl");
        curl.args(["--silent", "--show-error", "--max-time", "10", &format!("http://{name}/")]);
        say(curl).expect("runs")
    }
}

/// Far more than a guard starts again.
const LOOKS_MAX: usize = 100;

impl Drop for Machine {
    /// Ends whatever runs in the machine, daemons without a supervisor included.
    fn drop(&mut self) {
        if self.has_processes {
            // The kernel ends all others with it, and whoever began it when it is gone.
            let mut kill = Command::new("kill");
            drop(kill.args(["-KILL", &self.first.to_string()]).stderr(Stdio::null()).status());
            drop(self.init.wait());
            return;
        }
        // By its namespace the others are known: it goes last. A guard may start a daemon again between two looks.
        let init = self.init.id().to_string();
        for _ in 0..LOOKS_MAX {
            let others: Vec<_> = self.pids().into_iter().filter(|pid| *pid != init).collect();
            if others.is_empty() {
                break;
            }
            // Some may have ended with another one.
            let mut kill = Command::new("kill");
            drop(kill.arg("-KILL").args(&others).stderr(Stdio::null()).status());
        }
        drop(self.init.kill());
        for child in self.supervisor.iter_mut().chain([&mut self.init]) {
            drop(child.wait());
        }
    }
}

/// Ends a process of the machine as nobody expects it.
pub(crate) fn kill_9(pid: impl ToString) {
    signal("-KILL", pid);
}

/// Sends a process of the machine a signal, which is named as `kill` names it.
pub(crate) fn signal(name: &str, pid: impl ToString) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status().expect("kill");
    assert!(status.success(), "there was nothing to send {name} to");
}

/// A daemon as the supervisor sees one: attached, and wanting services.
pub(crate) struct Attached(UnixStream);

impl Attached {
    pub(crate) fn to(machine: &Machine) -> Self {
        let mut stream = machine.connection().expect("a supervisor");
        let folders = DaemonFolders { config: "/mnt/home/0".into(), state: "/mnt/home/0".into() };
        laptop_ipc::write_blocking(&mut stream, &Call::new(Request::Attach(folders)))
            .expect("sent");
        let reply: Reply = laptop_ipc::read_blocking(&mut stream).expect("answered");
        assert!(matches!(reply, Ok(Answer::Attached { .. })), "{reply:?}");
        laptop_ipc::receive_descriptor(&stream).expect("the listener");
        Self(stream)
    }

    pub(crate) fn sets(&mut self, services: &[&str]) -> Reply {
        let reached = services.iter().map(|name| Reached {
            teamspace: TEAMSPACE.parse::<TeamspaceId>().expect("valid"),
            callee: reference(name).into(),
            ports: vec!["80".parse().expect("valid")],
            is_home: true,
            beside: None,
        });
        let request = Request::Set { services: reached.collect(), may_remap: false };
        laptop_ipc::write_blocking(&mut self.0, &Call::new(request)).expect("sent");
        let reply: Reply = laptop_ipc::read_blocking(&mut self.0).expect("answered");
        if let Ok(Answer::Set { passed, passes_dns, .. }) = &reply {
            for _ in 0..passed.len() + if *passes_dns { 2 } else { 0 } {
                laptop_ipc::receive_descriptor(&self.0).expect("a socket");
            }
        }
        reply
    }
}

pub(crate) const TEAMSPACE: &str = "01980a3f-0000-7000-8000-00000000000a";
pub(crate) const PREVIEW: &str = "01980a3f-0000-7000-8000-00000000000b";

fn reference(name: &str) -> ServiceRef {
    name.parse().expect("a service")
}
