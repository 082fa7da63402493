//! The handle on a lab: start it or find it, run programs on its hosts, ask its counters, end it.

use crate::{
    Cluster, Counters, Host, Image, Issuer, IssuerOptions, Options, Step,
    enter::{Entry, mounts_of, within},
    fence, keep,
    place::Place,
    plan::{News, Plan, State},
    programs, run, tools,
};
use anyhow::{Context, bail, ensure};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// An end that takes longer than this is reported as a failure.
const END_WITHIN: Duration = Duration::from_secs(30);

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    place: Place,
    state: State,
    program: PathBuf,
    /// Held by a lab that ends with us: its keeper sees when this closes.
    tether: Option<(Child, ChildStdin)>,
}

impl Lab {
    /// Starts a lab and returns when both nodes are ready and names are answered. Tells each step on standard error.
    pub fn up(options: &Options) -> anyhow::Result<Self> {
        let place = Place::of(&options.name)?;
        ensure!(crate::is_root(), "the lab makes namespaces and needs root: run this with sudo");
        ensure!(keep::door(&place)?.is_none(), "a lab named `{}` runs already", options.name);
        let program = programs::sibling("fairlead-lab")?;
        let plan = Plan {
            name: options.name.clone(),
            cluster: options.cluster.clone(),
            search_path: crate::config::search_path(),
        };
        let mut keeper = Command::new(&program)
            .arg("keep")
            .arg(serde_json::to_string(&plan)?)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the lab's keeper")?;
        let mut tether = keeper.stdin.take().context("the keeper has an input")?;
        let news = keeper.stdout.take().context("the keeper tells news")?;
        if let Err(error) = follow(BufReader::new(news)) {
            drop(tether);
            keeper.wait()?;
            return Err(error);
        }
        let state = read_state(&place)?;
        let tether = if options.ends_with_me {
            Some((keeper, tether))
        } else {
            tether.write_all(keep::STAY)?;
            None
        };
        Ok(Self { place, state, program, tether })
    }

    /// Finds a lab that runs.
    pub fn attach(name: &str) -> anyhow::Result<Self> {
        let place = Place::of(name)?;
        let running = keep::door(&place)?.is_some();
        ensure!(
            running,
            "no lab named `{name}` runs; start it with: cargo xtask lab up --lab {name}"
        );
        let (state, program) = (read_state(&place)?, programs::sibling("fairlead-lab")?);
        Ok(Self { place, state, program, tether: None })
    }

    /// Says whether a lab of this name runs.
    pub fn is_running(name: &str) -> anyhow::Result<bool> {
        Ok(Self::door(name)?.is_some())
    }

    /// Returns the door of a lab that runs: its end of stream says that the lab is gone and its name free.
    pub fn door(name: &str) -> anyhow::Result<Option<UnixStream>> {
        keep::door(&Place::of(name)?)
    }

    /// Ends a lab by its name and returns when nothing of it is left, also when it had died before.
    pub fn remove(name: &str) -> anyhow::Result<()> {
        let place = Place::of(name)?;
        if let Some(door) = keep::door(&place)? {
            // The keeper may be only beginning: its state comes a moment after its door.
            let state = read_state(&place).context("the lab is just starting; try again")?;
            kill(Pid::from_raw(state.keeper), Signal::SIGTERM)
                .context("cannot end the lab: this needs root")?;
            wait_for_end(door)?;
        }
        keep::clear(&place)
    }

    /// Ends the lab and returns when nothing of it is left.
    pub fn down(mut self) -> anyhow::Result<()> {
        self.end()
    }

    /// Returns a command that runs a program on a host, as root. It behaves like a plain child process: arguments,
    /// environment, folder, streams, signals and exit status pass through, and killing it kills the program.
    pub fn exec(&self, host: Host, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.enter(Some(host), None, program.as_ref())
    }

    /// Returns a command that runs a program on a host as a user, with the group of the same number.
    pub fn exec_as(&self, host: Host, uid: u32, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.enter(Some(host), Some(uid), program.as_ref())
    }

    /// Returns what is known of the lab's Kubernetes.
    pub fn cluster(&self) -> &Cluster {
        &self.state.plan.cluster
    }

    /// Returns `kubectl`: with all rights, on the host `api`, or on this machine with those that another cluster gives.
    pub fn kubectl<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = match self.cluster() {
            Cluster::Ours(ours) => {
                let kube = self.exec(Host::Api, &ours.kube);
                let mut command = tools::remembering_in(kube, &self.place.remembered());
                command.arg("kubectl").arg("--kubeconfig").arg(self.kubeconfig());
                command
            }
            Cluster::Another(another) => another.kubectl(),
        };
        command.args(arguments);
        command
    }

    /// Returns this Helm, with the rights and at the place that `kubectl` has.
    pub fn helm(&self, program: &Path) -> Command {
        match self.cluster() {
            Cluster::Ours(_) => {
                let helm = self.exec(Host::Api, program);
                let mut helm = tools::remembering_in(helm, &self.place.remembered());
                helm.arg("--kubeconfig").arg(self.kubeconfig());
                helm
            }
            Cluster::Another(another) => another.helm(program),
        }
    }

    /// Puts the image of a program of this workspace where pods find it, as `Cluster::image` calls it. Nodes of another
    /// cluster have it from a registry, or were given it.
    pub fn bring_image(&self, program: &str) -> anyhow::Result<()> {
        if let Cluster::Another(_) = self.cluster() {
            return Ok(());
        }
        let archive = self.folder().join(format!("{program}.tar"));
        let reference = self.cluster().image(program)?.reference();
        Image::new(&reference).program(program, programs::sibling(program)?).write(&archive)?;
        self.import_image(&archive)
    }

    /// Returns the kubeconfig with all rights; the address in it is reached from inside the lab.
    pub fn kubeconfig(&self) -> PathBuf {
        self.place.kubeconfig()
    }

    /// Returns the home folder of one of the laptop's people (`ada`, uid 7001; `grace`, 7002; `mary`, 7003).
    pub fn home(&self, person: &str) -> PathBuf {
        self.place.home(person)
    }

    /// Returns the folder of the lab, which goes with it: a place for what a test keeps on the lab's hosts.
    pub fn folder(&self) -> &Path {
        self.place.folder()
    }

    /// Returns the folder with a log per component.
    pub fn logs(&self) -> PathBuf {
        self.place.logs()
    }

    /// Returns the process outside that keeps the lab; for tests of what happens when it dies.
    pub fn keeper(&self) -> i32 {
        self.state.keeper
    }

    /// Returns the first process inside, whose namespaces are the lab's.
    pub fn first_process(&self) -> i32 {
        self.state.init
    }

    /// Returns what has passed between the hosts so far.
    pub fn counters(&self) -> anyhow::Result<Counters> {
        fence::read(self.enter(None, None, "nft".as_ref()))
    }

    /// Imports an image archive on both nodes.
    pub fn import_image(&self, archive: &Path) -> anyhow::Result<()> {
        std::thread::scope(|scope| {
            let imports =
                Host::NODES.map(|node| scope.spawn(move || self.import_on(node, archive)));
            imports
                .into_iter()
                .try_for_each(|import| import.join().expect("an import does not panic"))
        })
    }

    /// Starts the identity provider on the hub host; it ends when the handle is dropped.
    pub fn issuer(&self, options: &IssuerOptions) -> anyhow::Result<Issuer> {
        self.issuer_on(Host::Hub, options)
    }

    /// Starts the identity provider on another host, which has been given the address of the hub's.
    pub fn issuer_on(&self, host: Host, options: &IssuerOptions) -> anyhow::Result<Issuer> {
        Issuer::start(self, host, options)
    }

    /// Lets everything pass from one host to another and back, for a test that has parts of the cluster elsewhere than
    /// on its nodes.
    pub fn let_pass(&self, from: Host, to: Host) -> anyhow::Result<()> {
        let command = || self.enter(None, None, "nft".as_ref());
        fence::let_pass(command, from, to).and_then(|()| fence::let_pass(command, to, from))
    }

    /// Runs work on a thread of its own that stands in a host's network: sockets it opens are that host's.
    pub fn on<T: Send + 'static>(
        &self,
        host: Host,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<JoinHandle<T>> {
        let network = self.network_of(host)?;
        on_a_thread(move || setns(network, CloneFlags::CLONE_NEWNET), work)
    }

    /// Runs work on a thread of its own that is at home on a host: it has the host's network and the host's files, so
    /// that a name means there what it means to the host's programs. Threads that it starts are at home there, too.
    pub fn at_home_on<T: Send + 'static>(
        &self,
        host: Host,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<JoinHandle<T>> {
        let network = self.network_of(host)?;
        let mounts = File::open(mounts_of(&self.init(), host)?)?;
        let join = move || {
            setns(network, CloneFlags::CLONE_NEWNET)?;
            // The kernel lets a thread change its mounts only when it shares its folder with no other.
            unshare(CloneFlags::CLONE_FS)?;
            setns(mounts, CloneFlags::CLONE_NEWNS)
        };
        on_a_thread(join, work)
    }

    fn network_of(&self, host: Host) -> anyhow::Result<File> {
        Ok(File::open(within(&self.init(), &Place::network(host)))?)
    }

    fn init(&self) -> PathBuf {
        Path::new("/proc").join(self.state.init.to_string())
    }

    fn import_on(&self, node: Host, archive: &Path) -> anyhow::Result<()> {
        let mut ctr = self.exec(node, "ctr");
        ctr.args([
            "--address",
            &Place::containerd(node),
            "--namespace",
            "k8s.io",
            "images",
            "import",
        ]);
        run::output(ctr.arg(archive))?;
        Ok(())
    }

    fn enter(&self, host: Option<Host>, uid: Option<u32>, program: &std::ffi::OsStr) -> Command {
        let host = host.map(|host| host.name().to_owned());
        let entry = Entry {
            lab: self.place.name().to_owned(),
            host,
            uid,
            starter: std::process::id().cast_signed(),
            inside: None,
        };
        let entry = serde_json::to_string(&entry).expect("an entry is plain data");
        let mut command = Command::new(&self.program);
        command.arg("enter").arg(entry).arg(program);
        command
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let Some((mut keeper, tether)) = self.tether.take() else {
            return Self::remove(self.place.name());
        };
        drop(tether);
        keeper.wait()?;
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.tether.is_some() {
            // A failure to end it is the keeper's to report; nobody can be told here.
            let _ended = self.end();
        }
    }
}

fn on_a_thread<T: Send + 'static>(
    join: impl FnOnce() -> nix::Result<()> + Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    let (joined_tx, joined_rx) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        joined_tx.send(join()).expect("the starter waits for this");
        work()
    });
    joined_rx.recv()?.context("cannot join the host's namespaces: this needs root")?;
    Ok(thread)
}

fn follow(news: impl BufRead) -> anyhow::Result<()> {
    let mut step = None;
    for line in news.lines() {
        match serde_json::from_str(&line?).context("the lab tells something unknown")? {
            News::Begun(what) => step = Some(Step::begin(what)),
            News::Done => {
                step.take().map(Step::done);
            }
            News::Ready => return Ok(()),
            News::Failed(why) => bail!("the lab did not start: {why}"),
        }
    }
    bail!("the lab ended while it started")
}

fn read_state(place: &Place) -> anyhow::Result<State> {
    let state = fs::read(place.state())
        .with_context(|| format!("no state of the lab `{}`", place.name()))?;
    Ok(serde_json::from_slice(&state)?)
}

fn wait_for_end(mut door: UnixStream) -> anyhow::Result<()> {
    let deadline = Instant::now() + END_WITHIN;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        door.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match door.read(&mut [0]) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            // By a signal, of which whoever ends a lab gets some: a read with a timeout is not taken up again by itself.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("the lab is not gone after {} s", END_WITHIN.as_secs())
                });
            }
        }
    }
}
