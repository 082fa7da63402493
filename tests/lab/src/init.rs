//! The first process inside: makes the hosts, starts Kubernetes on them, and buries whoever dies.
//!
//! It is process 1 of its namespace. Everything it starts and mounts ends with it, so nothing here is ever undone.

mod certificates;
mod components;
mod control_plane;
mod dns;
mod mounts;
mod network;
mod node;

use crate::{
    Cluster, Host,
    cluster::Ours,
    keep::tell,
    place::Place,
    plan::{News, Plan},
    run,
};
use anyhow::Context;
use components::Components;
use nix::{
    sched::{CloneFlags, unshare},
    sys::{prctl, signal::SigSet, signal::Signal, wait::waitpid},
};
use std::{fs::File, process::ExitCode};

/// Starts the lab's inside and stays as its first process.
pub fn init(plan: &str) -> anyhow::Result<ExitCode> {
    if let Err(error) = started(plan) {
        tell(&News::Failed(format!("{error:#}")));
        return Err(error);
    }
    tell(&News::Ready);
    // Nobody reads our news any more.
    nix::unistd::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
    bury_the_dead()
}

fn started(plan: &str) -> anyhow::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    SigSet::empty().thread_set_mask()?;
    let plan: Plan = serde_json::from_str(plan).context("not a plan of a lab")?;
    let place = Place::of(&plan.name)?;
    let own = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    unshare(own).context("no namespaces of our own")?;
    step("hosts and network", || {
        mounts::arrange()?;
        nix::unistd::sethostname("lab")?;
        network::build(plan.cluster.hosts())?;
        mounts::furnish(plan.cluster.hosts(), &place)
    })?;
    match &plan.cluster {
        Cluster::Ours(ours) => start_kubernetes(ours, &plan.search_path, &place),
        Cluster::Another(_) => Ok(()),
    }
}

fn start_kubernetes(ours: &Ours, search_path: &str, place: &Place) -> anyhow::Result<()> {
    let components = Components::new(ours, search_path, place);
    step("control plane answers", || {
        certificates::issue_all(place)?;
        // The images are imported while the API server starts.
        std::thread::scope(|scope| {
            let runtimes = scope.spawn(|| {
                Host::NODES
                    .into_iter()
                    .try_for_each(|node| node::start_runtime(node, &components))?;
                let pause = node::pack_pause(ours, place)?;
                Host::NODES
                    .into_iter()
                    .try_for_each(|node| node::import_images(node, &[&pause, &ours.coredns]))
            });
            control_plane::start(&components)?;
            runtimes.join().expect("importing images does not panic")
        })
    })?;
    step("both nodes are ready", || {
        Host::NODES.into_iter().try_for_each(|node| node::start(node, ours, &components))?;
        let manifest = include_str!("../manifests/coredns.yaml");
        run::feed(components.kubectl().args(["apply", "--filename=-"]), manifest)?;
        control_plane::wait_for_nodes(&components)
    })?;
    step("names are answered in the cluster", || dns::wait(&components))
}

fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    tell(&News::Begun(what.to_owned()));
    let result = work().with_context(|| format!("failed: {what}"))?;
    tell(&News::Done);
    Ok(result)
}

/// Waits for every child and orphan, for ever: the keeper ends this process with a signal it cannot refuse.
fn bury_the_dead() -> ! {
    loop {
        if let Err(nix::errno::Errno::ECHILD) = waitpid(None, None) {
            std::thread::park();
        }
    }
}
