//! The whole product on the lab, with nothing doubled: hub, agent, daemon, supervisor and command, on a real cluster
//! with a real identity provider. First the show, then whatever can die, dies.
//!
//! One world for all stories; each one must leave it as it found it. `FAIRLEAD_PROXY_MODE=nftables` runs them with the
//! other kube-proxy, `FAIRLEAD_STORY=hub` only those whose names contain it. Bounds and figures of the agent alone are
//! in the suite `agent`.

#![expect(clippy::print_stderr, reason = "a suite tells what it measured")]

mod deaths;
mod stories;

use std::time::{Duration, Instant};

use anyhow::ensure;
use fairlead_lab::ProxyMode;
use fairlead_tests::{Residue, Witness, World, WorldOptions, within};

/// For everything that has no bound of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

type Story = (&'static str, fn(&World) -> anyhow::Result<()>);

/// The one story after which the shop has another pod than before, by its owner's own doing.
const A_POD_IS_DELETED: &str = "a pod may be deleted while it is consumed";

const STORIES: &[Story] = &[
    ("every line of the show holds", stories::the_show),
    (A_POD_IS_DELETED, stories::a_pod_is_deleted),
    ("start and restore fail no connection", stories::no_connection_fails),
    ("a killed daemon comes back or gives everything back", deaths::the_daemon),
    ("a killed supervisor leaves nothing once it is back", deaths::the_supervisor),
    ("a killed hub is found again by everybody", deaths::the_hub),
    ("a killed agent replica is not missed", deaths::one_replica),
    ("two killed agent replicas are missed only for a moment", deaths::both_replicas),
    ("a laptop whose network is cut loses the service to the pods", deaths::the_network),
];

#[test]
fn the_product_on_a_real_cluster() -> anyhow::Result<()> {
    let proxy_mode = match switch("FAIRLEAD_PROXY_MODE").as_deref() {
        Some("nftables") => ProxyMode::Nftables,
        _ => ProxyMode::Iptables,
    };
    let only = switch("FAIRLEAD_STORY").unwrap_or_default();
    let world = World::up(&WorldOptions { name: "world".to_owned(), proxy_mode })?;
    let mut failed = Vec::new();
    for (name, story) in STORIES.iter().filter(|(name, _)| name.contains(&only)) {
        let begun = Instant::now();
        let kept = if *name == A_POD_IS_DELETED { Residue::on_the_laptop } else { Residue::whole };
        match tell(&world, *story, kept) {
            Ok(()) => eprintln!("story ok in {:.1} s: {name}", begun.elapsed().as_secs_f32()),
            Err(error) => {
                eprintln!("story FAILED: {name}\n{error:#}");
                failed.push(*name);
                world.ada().clears_up();
            }
        }
    }
    world.down()?;
    ensure!(failed.is_empty(), "{} stories failed: {}", failed.len(), failed.join("; "));
    Ok(())
}

/// Plays a story and looks at what it left behind: on the laptop, and in the cluster.
fn tell(
    world: &World,
    story: fn(&World) -> anyhow::Result<()>,
    kept: fn(Residue) -> Residue,
) -> anyhow::Result<()> {
    let residue = kept(Residue::of(world.lab())?);
    story(world)?;
    within(PATIENCE, "nothing is left behind", || {
        kept(Residue::of(world.lab())?).is_the_same_as(&residue)
    })?;
    Ok(())
}

/// Plays a scene that must not touch a pod of the shop.
pub(crate) fn without_touching_a_pod(
    world: &World,
    scene: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let witness = Witness::begins(world.lab())?;
    scene()?;
    witness.saw_no_change()
}

#[expect(clippy::disallowed_methods, reason = "a suite's own switches, read once here")]
fn switch(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
