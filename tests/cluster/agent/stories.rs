//! What is done to the agent, one story after the other, and what must be true.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use fairlead_lab::Host;
use fairlead_tests::{Shop, say, within};
use fairlead_wire::link::v1::Phase;

use crate::{
    PATIENCE, World,
    laptop::{NAME, TestLaptop},
    owners,
};

pub(crate) type Story = (&'static str, fn(&mut World) -> anyhow::Result<()>);

pub(crate) const ALL: &[Story] = &[
    ("a catalogue is reported and follows changes", the_catalogue),
    ("an agent whose connections to the API went dead sees again", dead_connections),
    ("start and restore fail no connection", start_and_restore),
    ("a hard service is refused before anything is changed", refusals),
    ("the owner may apply, and the intercept is there again", other_writers),
    ("owners upgrade with Helm 3 and 4, apply on the server and restart", owners::owners_upgrade),
    ("a killed laptop gives the service back", killed_laptop),
    ("a laptop that falls silent gives the service back", silent_laptop),
    ("a laptop that returns within the grace goes on", returning_laptop),
    ("one replica is killed", killed_replica),
    ("one replica's pod is deleted", deleted_replica),
    ("one replica's node is cut off", cut_node),
    ("both replicas are killed and come back", killed_replicas),
    ("both replicas are gone for good", no_replica),
    ("a rollout of the agent keeps the intercept", rollout),
    ("uninstalling gives the service back", uninstall),
];

fn by_laptop(name: &str) -> bool {
    name == NAME
}

fn by_pod(name: &str) -> bool {
    name != NAME
}

fn end(world: &World, session: fairlead_model::SessionId) -> anyhow::Result<Duration> {
    world.hub.end(session);
    world.becomes(session, Phase::Ended, PATIENCE)
}

fn the_catalogue(world: &mut World) -> anyhow::Result<()> {
    let ready = |service: &str| {
        world
            .hub
            .shared
            .catalogue
            .borrow()
            .get(service)
            .map(|s| (s.ready_endpoints, s.workload.clone()))
    };
    within(PATIENCE, "cart and its workload are known", || {
        ensure!(
            ready("shop/cart") == Some((2, "Deployment/cart".to_owned())),
            "{:?}",
            ready("shop/cart")
        );
        Ok(())
    })?;
    let refusal =
        world.hub.shared.catalogue.borrow()["shop/ledger-nodes"].intercept_refusal.clone();
    ensure!(refusal.contains("headless"), "{refusal}");
    world.kubectl(&["-n", "shop", "create", "service", "clusterip", "fresh", "--tcp=80"])?;
    // Meant to be known within a second, which is told and not asserted: a busy machine is no fault of the agent.
    let ((), took) = within(PATIENCE, "a new service is known", || {
        ready("shop/fresh").map(drop).context("not yet")
    })?;
    eprintln!("  a new service is in the catalogue after {} ms", took.as_millis());
    world.kubectl(&["-n", "shop", "delete", "service", "fresh"])?;
    within(PATIENCE, "a deleted service is forgotten", || {
        ensure!(ready("shop/fresh").is_none(), "it is still known");
        Ok(())
    })?;
    Ok(())
}

/// The nodes forget every connection they translate, those of the agents to the API among them: packets get lost on
/// both sides and nobody is told.
fn dead_connections(world: &mut World) -> anyhow::Result<()> {
    for node in [Host::Node1, Host::Node2] {
        let mut conntrack = world.lab.exec(node, "conntrack");
        conntrack.arg("--flush");
        say(conntrack)?.ok()?;
    }
    let known = || world.hub.shared.catalogue.borrow().contains_key("shop/fresh");
    world.kubectl(&["-n", "shop", "create", "service", "clusterip", "fresh", "--tcp=80"])?;
    let ((), took) = within(Duration::from_secs(40), "a new service is known", || {
        ensure!(known(), "not yet");
        Ok(())
    })?;
    eprintln!("  the agent sees again after {} ms", took.as_millis());
    world.kubectl(&["-n", "shop", "delete", "service", "fresh"])?;
    world.both_replicas_are_linked()?;
    let session = world.active_cart(15)?;
    world.answered_by(by_laptop, PATIENCE)?;
    end(world, session)?;
    Ok(())
}

fn start_and_restore(world: &mut World) -> anyhow::Result<()> {
    const CYCLES: usize = 5;
    let shop = Shop::attached(&world.lab);
    let mut first = Vec::new();
    for _ in 0..CYCLES {
        let clients: Vec<_> = [Host::Node1, Host::Node2]
            .into_iter()
            .map(|node| shop.steady_client(node, "cart", 12))
            .collect::<anyhow::Result<_>>()?;
        std::thread::sleep(Duration::from_millis(1500));
        let begun = Instant::now();
        let session = world.cart(15)?;
        within(PATIENCE, "the first request arrives", || {
            ensure!(by_laptop(&shop.who_answers(Host::Node1, "cart")?), "not yet");
            Ok(())
        })?;
        first.push(begun.elapsed());
        let active = world.becomes(session, Phase::Active, PATIENCE)?;
        let all = world.answered_by(by_laptop, PATIENCE)?;
        let ended = end(world, session)?;
        for client in clients {
            let tally = client.tally()?;
            eprintln!("  {}", brief(&tally));
            ensure!(tally["failed"] == 0, "connections failed: {tally}");
        }
        eprintln!(
            "  first {} ms, active after {} ms more, five each from both nodes {} ms later, restored in {} ms",
            first[first.len() - 1].as_millis(),
            active.as_millis(),
            all.as_millis(),
            ended.as_millis()
        );
    }
    Ok(())
}

fn brief(tally: &serde_json::Value) -> String {
    let mut tally = tally.clone();
    if let Some(fields) = tally.as_object_mut() {
        fields
            .retain(|_, value| !value.is_array() || value.as_array().is_some_and(|a| a.len() < 12));
    }
    tally.to_string()
}

fn refusals(world: &mut World) -> anyhow::Result<()> {
    for (service, service_port, word) in [
        ("shop/ledger-nodes", 7000, "headless"),
        ("shop/cart", 81, "has no port 81"),
        ("shop/nothing", 80, "does not exist"),
    ] {
        let intercept =
            crate::hub::Intercept { service, service_port, laptop_port: 3000, grace_s: 15 };
        let session = world.hub.intercept(intercept, world.device.thumbprint)?;
        world.becomes(session, Phase::Refused, PATIENCE)?;
        ensure!(world.detail(session).contains(word), "{}", world.detail(session));
        world.hub.end(session);
    }
    ensure!(world.key()?.is_empty(), "cart was changed");
    Ok(())
}

/// Manifests as their owner would keep them.
const CART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shop/manifests/shop.yaml");

fn other_writers(world: &mut World) -> anyhow::Result<()> {
    let session = world.active_cart(15)?;
    let again = |what: &str| -> anyhow::Result<()> {
        let ((), took) =
            within(Duration::from_secs(5), &format!("the key is there after {what}"), || {
                ensure!(!world.key()?.is_empty(), "no key");
                Ok(())
            })?;
        world.answered_by(by_laptop, PATIENCE)?;
        eprintln!("  after {what}: key there in {} ms", took.as_millis());
        Ok(())
    };
    let said = world.kubectl(&["apply", "-f", CART])?;
    ensure!(said.contains("service/cart unchanged"), "{said}");
    again("kubectl apply")?;
    world.kubectl(&["-n", "shop", "label", "service", "cart", "lab=yes"])?;
    again("kubectl label")?;
    world.kubectl(&["-n", "shop", "label", "service", "cart", "lab-"])?;
    end(world, session)?;
    world.answered_by(by_pod, PATIENCE)?;
    Ok(())
}

fn killed_laptop(world: &mut World) -> anyhow::Result<()> {
    let session = world.active_cart(3)?;
    world.answered_by(by_laptop, PATIENCE)?;
    let shop = Shop::attached(&world.lab);
    let client = shop.steady_client(Host::Node1, "cart", 8)?;
    std::thread::sleep(Duration::from_secs(1));
    world.laptop.take().context("a laptop")?.kill();
    let killed = Instant::now();
    within(Duration::from_secs(2), "a pod answers", || {
        ensure!(by_pod(&shop.who_answers(Host::Node2, "cart")?), "still the laptop");
        Ok(())
    })?;
    let pod_after = killed.elapsed();
    world.becomes(session, Phase::Ended, Duration::from_secs(3 + 2 + 1))?;
    let restored = killed.elapsed();
    ensure!(world.detail(session).starts_with("lost"), "{}", world.detail(session));
    ensure!(restored < Duration::from_secs(3 + 2), "restored after {restored:?}");
    let tally = client.tally()?;
    eprintln!(
        "  a pod answered after {} ms (bound 100 ms and the time to ask), restored after {} ms; {}",
        pod_after.as_millis(),
        restored.as_millis(),
        brief(&tally)
    );
    // It comes back while the hub still wants the session: it must not steal the Service again.
    world.laptop = Some(TestLaptop::start(&world.lab, &world.hub, &world.device)?);
    world.hub.offer_again(session);
    std::thread::sleep(Duration::from_secs(2));
    ensure!(world.key()?.is_empty(), "the Service was stolen back");
    world.hub.end(session);
    Ok(())
}

fn silent_laptop(world: &mut World) -> anyhow::Result<()> {
    let session = world.active_cart(3)?;
    world.answered_by(by_laptop, PATIENCE)?;
    let shop = Shop::attached(&world.lab);
    let client = shop.steady_client(Host::Node1, "cart", 12)?;
    std::thread::sleep(Duration::from_secs(1));
    cut(world, Host::Laptop)?;
    let since = Instant::now();
    let ((), _) = within(Duration::from_millis(4500), "pods answer", || {
        for host in [Host::Node1, Host::Node2] {
            ensure!(by_pod(&shop.who_answers(host, "cart")?), "still the laptop");
        }
        Ok(())
    })?;
    let pods_after = since.elapsed();
    world.becomes(session, Phase::Ended, Duration::from_secs(3 + 4 + 3))?;
    let restored = since.elapsed();
    mend(world, Host::Laptop)?;
    let tally = client.tally()?;
    eprintln!(
        "  pods answered after {} ms (bound 3.5 s), restored after {} ms (grace 3 s); {}",
        pods_after.as_millis(),
        restored.as_millis(),
        brief(&tally)
    );
    world.hub.end(session);
    world.laptop.take().context("a laptop")?.kill();
    world.laptop = Some(TestLaptop::start(&world.lab, &world.hub, &world.device)?);
    Ok(())
}

/// Drops every packet of a host, both ways, as a pulled cable does; addresses and routes stay.
fn cut(world: &World, host: Host) -> anyhow::Result<()> {
    let table = "table inet cut {
        chain before {
            type filter hook prerouting priority -400
            iifname eth0 drop
        }
        chain after {
            type filter hook postrouting priority 400
            oifname eth0 drop
        }
    }";
    let mut nft = world.lab.exec(host, "nft");
    nft.arg(table);
    say(nft)?.ok()?;
    Ok(())
}

fn mend(world: &World, host: Host) -> anyhow::Result<()> {
    let mut nft = world.lab.exec(host, "nft");
    nft.args(["delete", "table", "inet", "cut"]);
    say(nft)?.ok()?;
    Ok(())
}

fn returning_laptop(world: &mut World) -> anyhow::Result<()> {
    let session = world.active_cart(10)?;
    world.laptop.take().context("a laptop")?.kill();
    world.becomes(session, Phase::Away, PATIENCE)?;
    world.answered_by(by_pod, PATIENCE)?;
    world.laptop = Some(TestLaptop::start(&world.lab, &world.hub, &world.device)?);
    world.hub.offer_again(session);
    world.becomes(session, Phase::Active, PATIENCE)?;
    world.answered_by(by_laptop, PATIENCE)?;
    end(world, session)?;
    Ok(())
}

/// Kills the process of one replica as the kernel would; its container is restarted by the kubelet.
fn kill_container(world: &World, pod: &str) -> anyhow::Result<()> {
    let pid = process_of(world, pod)?;
    let mut kill = std::process::Command::new("kill");
    kill.args(["-9", &pid.to_string()]).stderr(Stdio::inherit());
    ensure!(kill.status()?.success(), "pid {pid} could not be killed");
    Ok(())
}

/// Finds a replica's process by its environment: the lab's processes are visible from outside.
fn process_of(world: &World, pod: &str) -> anyhow::Result<u32> {
    let wanted = format!("FAIRLEAD_POD_NAME={pod}");
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        let is_it = environment.split(|byte| *byte == 0).any(|line| line == wanted.as_bytes());
        let Ok(exe) = std::fs::read_link(entry.path().join("exe")) else { continue };
        if is_it && exe.ends_with("fairlead-agent") {
            return Ok(pid);
        }
    }
    anyhow::bail!("no process of {pod} (lab {:?})", world.folder())
}

fn loss_of_a_replica(
    world: &World,
    bound: Duration,
    lose: impl FnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let session = world.active_cart(15)?;
    world.answered_by(by_laptop, PATIENCE)?;
    let victim = world.agent().replicas()?.first().cloned().context("a replica")?;
    let node = world.kubectl(&[
        "-n",
        "fairlead-system",
        "get",
        "pod",
        &victim,
        "-o",
        "jsonpath={.spec.nodeName}",
    ])?;
    let other = if node == "node1" { Host::Node2 } else { Host::Node1 };
    let shop = Shop::attached(&world.lab);
    let seconds = u32::try_from(bound.as_secs())? + 8;
    let client = shop.steady_client(other, "cart", seconds)?;
    std::thread::sleep(Duration::from_secs(1));
    lose(&victim)?;
    let tally = client.tally()?;
    let (failed, attempts) =
        (tally["failed"].as_u64().unwrap_or(0), tally["ok"].as_u64().unwrap_or(0));
    let attempts = attempts + failed;
    let (span, strays) = failing_span(&tally);
    eprintln!(
        "  lost {victim} on {node}: {failed} of {attempts} new connections failed, for {} ms (bound {} s) and \
         {strays} strays later; {}",
        span.as_millis(),
        bound.as_secs(),
        brief(&tally)
    );
    ensure!(span <= bound, "new connections failed for {span:?}: {tally}");
    ensure!(strays * 20 <= usize::try_from(attempts)?, "{strays} strays: {tally}");
    world.hub.end(session);
    Ok(())
}

/// How long new connections failed in a row of others, and how many strays came after that.
///
/// While a replica is listed and dead, every second connection fails, so a failure has another one close before it.
/// Strays are single ones: a node remembers, per source port, where it had sent a first packet, and a later
/// connection from the same port follows it to the dead. No agent can make a node forget.
fn failing_span(tally: &serde_json::Value) -> (Duration, usize) {
    const CLOSE_MS: u64 = 300;
    let failed: Vec<u64> = tally["failed_at_ms"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|ms| ms.as_u64())
        .collect();
    let in_a_row = failed.windows(2).take_while(|pair| pair[1] - pair[0] <= CLOSE_MS).count();
    match (failed.first(), failed.get(in_a_row)) {
        (Some(first), Some(last)) => {
            (Duration::from_millis(last - first), failed.len() - in_a_row - 1)
        }
        _ => (Duration::ZERO, 0),
    }
}

fn killed_replica(world: &mut World) -> anyhow::Result<()> {
    loss_of_a_replica(world, Duration::from_secs(2), |victim| kill_container(world, victim))?;
    world.agent().wait_ready()?;
    world.both_replicas_are_linked()
}

fn deleted_replica(world: &mut World) -> anyhow::Result<()> {
    loss_of_a_replica(world, Duration::from_secs(2), |victim| {
        world.kubectl(&[
            "-n",
            "fairlead-system",
            "delete",
            "pod",
            victim,
            "--force",
            "--grace-period=0",
        ])?;
        Ok(())
    })?;
    world.agent().wait_ready()?;
    world.both_replicas_are_linked()
}

fn cut_node(world: &mut World) -> anyhow::Result<()> {
    let mut host = None;
    let lost = loss_of_a_replica(world, Duration::from_secs(8), |victim| {
        let of_pod = "jsonpath={.spec.nodeName}";
        let node = world.kubectl(&["-n", "fairlead-system", "get", "pod", victim, "-o", of_pod])?;
        let is = if node == "node1" { Host::Node1 } else { Host::Node2 };
        host = Some(is);
        cut(world, is)
    });
    let host = host.context("a node")?;
    mend(world, host)?;
    within(Duration::from_secs(60), "the node is ready again", || {
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        let status = world.kubectl(&["get", "node", host.name(), "-o", ready])?;
        ensure!(status == "True", "{status}");
        Ok(())
    })?;
    world.agent().wait_ready()?;
    world.both_replicas_are_linked()?;
    world.shop()?;
    lost
}

fn killed_replicas(world: &mut World) -> anyhow::Result<()> {
    let session = world.active_cart(15)?;
    for replica in world.agent().replicas()? {
        kill_container(world, &replica)?;
    }
    let killed = Instant::now();
    world.answered_by(|_| true, Duration::from_secs(20))?;
    eprintln!(
        "  somebody answers every connection {} ms after both were killed",
        killed.elapsed().as_millis()
    );
    world.agent().wait_ready()?;
    world.becomes(session, Phase::Active, Duration::from_secs(30))?;
    world.answered_by(by_laptop, PATIENCE)?;
    world.both_replicas_are_linked()?;
    end(world, session)?;
    Ok(())
}

/// Both replicas killed, and no node may run new ones: the janitor gives the Service back.
fn no_replica(world: &mut World) -> anyhow::Result<()> {
    let session = world.active_cart(15)?;
    world.kubectl(&["cordon", "node1", "node2"])?;
    let replicas = world.agent().replicas()?;
    let client = Shop::attached(&world.lab).steady_client(Host::Node1, "cart", 28)?;
    std::thread::sleep(Duration::from_secs(1));
    for replica in &replicas {
        kill_container(world, replica)?;
    }
    let force = ["--force", "--grace-period=0", "--wait=false"];
    let delete = ["-n", "fairlead-system", "delete", "pod", &replicas[0], &replicas[1]];
    world.kubectl(&[&delete[..], &force[..]].concat())?;
    let tally = client.tally()?;
    let answered = world.answered_by(by_pod, PATIENCE);
    world.kubectl(&["uncordon", "node1", "node2"])?;
    answered?;
    world.hub.end(session);
    // Until a pod answers. Single connections may time out for a while longer: the nodes remember, per source port,
    // where they had sent the first packet of a connection to the dead.
    let span = Duration::from_millis(tally["longest_failure_ms"].as_u64().context("a tally")?);
    eprintln!(
        "  pods answered {} ms after both replicas were killed; {}",
        span.as_millis(),
        brief(&tally)
    );
    ensure!(span < Duration::from_secs(20), "pods answered only after {span:?}");
    world.agent().wait_ready()?;
    world.both_replicas_are_linked()
}

fn rollout(world: &mut World) -> anyhow::Result<()> {
    let session = world.active_cart(15)?;
    world.answered_by(by_laptop, PATIENCE)?;
    let shop = Shop::attached(&world.lab);
    let client = shop.steady_client(Host::Node1, "cart", 40)?;
    world.kubectl(&["-n", "fairlead-system", "rollout", "restart", "deployment/fairlead-agent"])?;
    world.kubectl(&[
        "-n",
        "fairlead-system",
        "rollout",
        "status",
        "deployment/fairlead-agent",
        "--timeout=90s",
    ])?;
    world.becomes(session, Phase::Active, PATIENCE)?;
    world.answered_by(by_laptop, PATIENCE)?;
    let tally = client.tally()?;
    eprintln!("  {}", brief(&tally));
    ensure!(tally["failed"] == 0, "connections failed: {tally}");
    world.both_replicas_are_linked()?;
    end(world, session)?;
    Ok(())
}

fn uninstall(world: &mut World) -> anyhow::Result<()> {
    let session = world.active_cart(15)?;
    world.answered_by(by_laptop, PATIENCE)?;
    let shop = Shop::attached(&world.lab);
    let client = shop.steady_client(Host::Node1, "cart", 15)?;
    world.agent().uninstall()?;
    ensure!(world.key()?.is_empty(), "the key is still there");
    let tally = client.tally()?;
    eprintln!("  {}", brief(&tally));
    ensure!(tally["failed"] == 0, "connections failed: {tally}");
    world.hub.end(session);
    Ok(())
}
