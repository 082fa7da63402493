//! A replica of the agent is lost, or both: for how long, and which share of new connections fails.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use fairlead_lab::Host;
use fairlead_tests::{AGENT_NAMESPACE, Agent, Cut, Watch, end_callers, within};

use super::{Event, Sample};
use crate::stage::{PATIENCE, SETTLED, Stage, ms, tell};

const KILLED_MS: u32 = 2000;
const DELETED_MS: u32 = 2000;
const CUT_MS: u32 = 8000;
const BOTH_MS: u32 = 20_000;
/// A dead one of two is chosen for every second connection.
const HALF: f64 = 50.0;

pub(super) fn events() -> Vec<Event> {
    vec![
        Event {
            what: "one replica is killed",
            happens: killed,
            samples: vec![
                Sample::of("replica killed: connections fail for", "ms", f64::from(KILLED_MS)),
                Sample::of("replica killed: share that fails in 2 s", "%", HALF),
            ],
        },
        Event {
            what: "one replica's pod is deleted",
            happens: deleted,
            samples: vec![
                Sample::of("pod deleted: connections fail for", "ms", f64::from(DELETED_MS)),
                Sample::of("pod deleted: share that fails in 2 s", "%", HALF),
            ],
        },
        Event {
            what: "one replica's node is cut off",
            happens: cut_off,
            samples: vec![
                Sample::of("node cut: connections fail for", "ms", f64::from(CUT_MS)),
                Sample::of("node cut: share that fails in 8 s", "%", HALF),
            ],
        },
        Event {
            what: "both replicas are gone for good",
            happens: both,
            samples: vec![Sample::of(
                "both replicas gone: pods answer after",
                "ms",
                f64::from(BOTH_MS),
            )],
        },
    ]
}

fn killed(stage: &Stage<'_>, round: u32) -> anyhow::Result<Vec<f64>> {
    let victim = intercepted(stage, round)?;
    let values = trouble(stage, &Host::NODES, KILLED_MS, || Agent::kill_replica(&victim))?;
    is_whole_again(stage)?;
    Ok(values)
}

fn deleted(stage: &Stage<'_>, round: u32) -> anyhow::Result<Vec<f64>> {
    let victim = intercepted(stage, round)?;
    let named = format!("metadata.name={victim}");
    let words = ["-n", AGENT_NAMESPACE, "pods", "--field-selector", &named];
    let pod = Watch::begins(stage.world.lab(), &words)?.has_begun(PATIENCE)?;
    let values = trouble(stage, &Host::NODES, DELETED_MS, || {
        stage.world.agent().delete_replicas(std::slice::from_ref(&victim))?;
        Ok(pod.until(PATIENCE, "the pod is deleted", |published| published.is_deleted)?.at)
    })?;
    is_whole_again(stage)?;
    Ok(values)
}

/// Seen from the other node: on the one that is cut off nobody can call.
fn cut_off(stage: &Stage<'_>, round: u32) -> anyhow::Result<Vec<f64>> {
    let victim = intercepted(stage, round)?;
    let node = stage.world.agent().host_of(&victim)?;
    for replica in stage.world.agent().replicas()? {
        let apart = replica == victim || stage.world.agent().host_of(&replica)? != node;
        ensure!(apart, "both replicas run on {}, and none is left when it is cut off", node.name());
    }
    let others: Vec<_> = Host::NODES.into_iter().filter(|other| *other != node).collect();
    let mut cut = None;
    let values = trouble(stage, &others, CUT_MS, || {
        let off = cut.insert(Cut::off(stage.world.lab(), node)?);
        Ok(off.since())
    })?;
    cut.context("a cut node")?.mend()?;
    is_whole_again(stage)?;
    Ok(values)
}

/// No node may run new ones: only the janitor is left.
fn both(stage: &Stage<'_>, round: u32) -> anyhow::Result<Vec<f64>> {
    intercepted(stage, round)?;
    let agent = stage.world.agent();
    let nodes = |verb: &str| -> anyhow::Result<()> {
        let each = Host::NODES.iter();
        each.map(|node| stage.world.kubectl(&[verb, node.name()]))
            .try_for_each(|said| said.map(drop))
    };
    nodes("cordon")?;
    let replicas = agent.replicas()?;
    let processes: Vec<_> =
        replicas.iter().map(|pod| Agent::process_of(pod)).collect::<anyhow::Result<_>>()?;
    let callers = stage.cart.callers()?;
    // Killed first, they would be started again before their pods are deleted, and renew the Lease once more.
    let held: Vec<_> = processes.iter().map(|each| each.hold()).collect::<anyhow::Result<_>>()?;
    agent.delete_replicas(&replicas)?;
    let mut killed = Instant::now();
    for process in processes {
        killed = process.kill()?;
    }
    drop(held);
    stage.cart_is_a_pod()?;
    std::thread::sleep(SETTLED);
    let trouble = end_callers(callers)?.trouble(killed);
    nodes("uncordon")?;
    is_whole_again(stage)?;
    Ok(vec![ms(trouble.lasted)])
}

/// Has the cart intercepted and names the replica that is lost in this round: every other time it is the writer, which
/// the one that is left has to stand in for.
fn intercepted(stage: &Stage<'_>, round: u32) -> anyhow::Result<String> {
    stage.world.both_replicas_are_linked()?;
    stage.ada_intercepts()?;
    let agent = stage.world.agent();
    if round.is_multiple_of(2) { agent.writer() } else { agent.other_replica() }
}

/// Calls from these hosts while something is lost; returns for how long connections failed after it, and which share
/// of those that were begun within the gate.
fn trouble(
    stage: &Stage<'_>,
    from: &[Host],
    gate_ms: u32,
    lose: impl FnOnce() -> anyhow::Result<Instant>,
) -> anyhow::Result<Vec<f64>> {
    let gate = Duration::from_millis(gate_ms.into());
    let callers: Vec<_> =
        from.iter().map(|host| stage.cart.caller(*host)).collect::<anyhow::Result<_>>()?;
    let lost = lose()?;
    std::thread::sleep(gate + SETTLED);
    let calls = end_callers(callers)?;
    let trouble = calls.trouble(lost);
    let within = calls.between(lost, lost + gate);
    tell(&format!("{} of {} failed, {} strays", trouble.failed, calls.number(), trouble.strays));
    let failed = f64::from(u32::try_from(within.failed())?);
    let number = f64::from(u32::try_from(within.number())?);
    Ok(vec![ms(trouble.lasted), 100.0 * failed / number])
}

/// Ends the intercept and waits until the agent is as it was, with new pods for those whose containers died.
fn is_whole_again(stage: &Stage<'_>) -> anyhow::Result<()> {
    let world = stage.world;
    within(PATIENCE, "both nodes are ready", || {
        let nodes = ["wait", "nodes", "--all", "--for=condition=Ready", "--timeout=1s"];
        world.kubectl(&nodes)
    })?;
    stage.ada_leaves()?;
    world.agent().renews_what_died()?;
    world.both_replicas_are_linked()?;
    world.forgets_dead_connections()
}
