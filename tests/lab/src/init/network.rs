//! The hosts' networks: one bridge, a cable to each host, and the routes a company's router would know.

use crate::{Host, fence, place::Place, run};
use anyhow::Context;
use std::process::Command;

/// Builds the bridge, the hosts and the fence between them.
pub(crate) fn build(hosts: &[Host]) -> anyhow::Result<()> {
    run::line("ip link set lo up")?;
    run::line("ip link add br0 type bridge")?;
    run::line("ip link set br0 up")?;
    // The fence stands before the first cable is plugged in.
    fence::raise()?;
    hosts
        .iter()
        .try_for_each(|host| connect(*host).with_context(|| format!("cannot connect {host}")))
}

/// Returns a command that runs a program in a host's network, and with its mounts once it is furnished.
pub(crate) fn on_host(host: Host, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", Place::network(host).display()));
    if let Ok(holder) = std::fs::read_to_string(Place::mounts(host)) {
        command.arg(format!("--mount=/proc/{holder}/ns/mnt"));
    }
    command.arg(program);
    command
}

fn connect(host: Host) -> anyhow::Result<()> {
    let (port, address) = (host.port(), host.address());
    run::line(&format!("ip netns add {host}"))?;
    run::line(&format!("ip link add {port} type veth peer name eth0 netns {host}"))?;
    run::line(&format!("ip link set {port} master br0 up"))?;
    run::line(&format!("ip -n {host} link set lo up"))?;
    sysctl(host, "net.ipv6.conf.eth0.disable_ipv6", "1")?;
    run::line(&format!("ip -n {host} addr add {address}/24 dev eth0"))?;
    run::line(&format!("ip -n {host} link set eth0 up"))?;
    routes(host)?;
    if Host::NODES.contains(&host) {
        sysctl(host, "net.ipv4.ip_forward", "1")?;
    }
    Ok(())
}

/// Kubelet and kube-proxy refuse a node without a default route. The laptop and the hub get one to a node, so that
/// it is the fence that keeps them out of the cluster and not a missing route.
fn routes(host: Host) -> anyhow::Result<()> {
    for node in Host::NODES.into_iter().filter(|node| *node != host) {
        let range = node.pod_range().context("a node has pods")?;
        run::line(&format!("ip -n {host} route add {range} via {}", node.address()))?;
    }
    let gateway = if host == Host::Node1 { Host::Node2 } else { Host::Node1 };
    run::line(&format!("ip -n {host} route add default via {}", gateway.address()))?;
    Ok(())
}

fn sysctl(host: Host, name: &str, value: &str) -> anyhow::Result<()> {
    let file = format!("/proc/sys/{}", name.replace('.', "/"));
    let script = format!("if [ -e {file} ]; then echo {value} > {file}; fi");
    run::output(on_host(host, "sh").args(["-c", &script]))?;
    Ok(())
}

/// Puts the calling thread, and no other, into a host's network.
pub(crate) fn join(host: Host) -> anyhow::Result<()> {
    let network = std::fs::File::open(Place::network(host))?;
    nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET)?;
    Ok(())
}
