//! Strikes, and repairs what only somebody outside repairs: who operates the hub, root on the laptop, who pulls cables.
//! What Fairlead itself has to bring back is left to it.

use std::{
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::Context;
use fairlead_lab::Host;
use fairlead_tests::{Agent, Cable, Cut, Held, Process, Wan, World};

use super::plan::{Blow, How, Victim};

const LONG_WAY: Cable = Cable {
    bytes_per_s: 25e6,
    delay: Duration::from_millis(160),
    queue: Duration::from_millis(100),
};

/// Lets the blows fall, each at its moment, and returns when all are over and repaired.
///
/// One may meet nobody, since another was faster: that is no failure. What must be there afterwards is looked at then.
pub(super) fn fall(world: &World, blows: &[Blow], begun: Instant) {
    thread::scope(|scope| {
        for blow in blows {
            scope.spawn(move || {
                sleep(blow.at.saturating_sub(begun.elapsed()));
                strike(world, blow).unwrap_or_default();
            });
        }
    });
}

fn strike(world: &World, blow: &Blow) -> anyhow::Result<()> {
    match blow.how {
        How::Killed => kill(world, blow),
        How::Held => {
            let _held = hold(world, blow.victim)?;
            sleep(blow.lasts);
            Ok(())
        }
        How::Cut | How::Slowed => {
            let lost = if blow.how == How::Cut { 100 } else { 40 };
            let (host, others) = way(blow.victim)?;
            let cut = Cut::between(world.lab(), host, &others, lost)?;
            sleep(blow.lasts);
            cut.mend().expect("a way can be mended");
            Ok(())
        }
        How::Delayed => {
            let lay = |(near, far)| Wan::between(world.lab(), near, far, LONG_WAY);
            let cables: anyhow::Result<Vec<_>> =
                ends(blow.victim).and_then(|ends| ends.into_iter().map(lay).collect());
            let _cables = cables.expect("a cable can be laid");
            sleep(blow.lasts);
            Ok(())
        }
    }
}

fn hold(world: &World, victim: Victim) -> anyhow::Result<Vec<Held>> {
    match victim {
        Victim::Database => world.hub().stops_database(),
        victim => victims(world, victim)?.into_iter().map(Process::hold).collect(),
    }
}

fn kill(world: &World, blow: &Blow) -> anyhow::Result<()> {
    match blow.victim {
        Victim::Hub => world.hub().kill()?,
        Victim::Supervisor => world.laptop().kill_supervisor(world.lab())?,
        victim => {
            for process in victims(world, victim)? {
                process.kill()?;
            }
            return Ok(());
        }
    }
    sleep(blow.lasts);
    repair(world)
}

/// Starts what nobody starts by itself, unless it runs.
pub(super) fn repair(world: &World) -> anyhow::Result<()> {
    let mut hub = world.hub();
    if hub.has_ended() {
        hub.start_again(world.lab())?;
    }
    drop(hub);
    let mut laptop = world.laptop();
    if !laptop.has_supervisor(world.lab()) {
        laptop.start_supervisor(world.lab())?;
        drop(laptop);
        // As the login of a person would.
        world.ada().fairlead(&["start"])?;
    }
    Ok(())
}

fn victims(world: &World, victim: Victim) -> anyhow::Result<Vec<Process>> {
    Ok(match victim {
        Victim::Hub => vec![world.hub().process()?],
        Victim::Daemon => vec![world.ada().daemon()?],
        Victim::Supervisor => world.laptop().supervisors()?,
        Victim::Replica(number) => {
            let mut replicas = world.agent().replicas()?;
            replicas.sort();
            let replica = replicas.get(number).context("it is being replaced")?;
            vec![Agent::process_of(replica)?]
        }
        Victim::Database | Victim::LaptopsWay | Victim::AgentsWay | Victim::NodesWay(_) => {
            Vec::new()
        }
    })
}

/// Returns the end of a way at which it is cut, and the addresses at its other end; none means everybody.
fn way(victim: Victim) -> anyhow::Result<(Host, Vec<String>)> {
    let address = |host: Host| host.address().to_string();
    Ok(match victim {
        Victim::LaptopsWay => (Host::Laptop, vec![address(Host::Hub)]),
        Victim::AgentsWay => {
            let pods = Host::NODES.iter().filter_map(|node| node.pod_range()).map(str::to_owned);
            (Host::Hub, Host::NODES.map(address).into_iter().chain(pods).collect())
        }
        Victim::NodesWay(number) => (Host::NODES[number], Vec::new()),
        Victim::Hub
        | Victim::Database
        | Victim::Replica(_)
        | Victim::Daemon
        | Victim::Supervisor => anyhow::bail!("it is no way"),
    })
}

/// Returns the hosts between which a way is, as pairs.
fn ends(victim: Victim) -> anyhow::Result<Vec<(Host, Host)>> {
    match victim {
        Victim::LaptopsWay => Ok(vec![(Host::Laptop, Host::Hub)]),
        Victim::AgentsWay => Ok(Host::NODES.map(|node| (node, Host::Hub)).into()),
        Victim::NodesWay(_)
        | Victim::Hub
        | Victim::Database
        | Victim::Replica(_)
        | Victim::Daemon
        | Victim::Supervisor => anyhow::bail!("it is no way between two hosts"),
    }
}
