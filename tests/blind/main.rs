//! The hub is blind: while a developer and a service talk through it, neither its memory nor what passes its network
//! interfaces shows a word of it.
//!
//! A search that finds nothing proves little by itself. Built with `plain-for-tests`, on an agent and a daemon built the
//! same way, the very same search must find the canary in both places (`cargo xtask test cluster` does both).

mod capture;
mod memory;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use fairlead_lab::{Cluster, ProxyMode};
use fairlead_tests::{Person, TEAMSPACE, World, WorldOptions, say};

use crate::{capture::Capture, memory::dump_hub};

const SAID_BYTES: usize = 10 << 20;
const CANARY: &str = "the canary that nobody but the two applications may ever see";
/// Slow enough for a look at the memory while words are under way.
const PACE: &str = "2M";
const CONSUME: [&str; 2] = ["consume", "shop/*"];

#[test]
fn neither_the_memory_nor_the_wire_of_the_hub_shows_what_applications_say() {
    let world = World::up(&WorldOptions {
        name: format!("blind-{}", std::process::id()),
        cluster: Cluster::ours(ProxyMode::Iptables).expect("Kubernetes is built"),
    })
    .expect("a world");
    let looked = look_while_they_talk(&world);
    let evidence = looked.expect("they talked");
    let seen = [
        ("between laptop and hub", shows_the_canary(&evidence.laptop_side)),
        ("between cluster and hub", shows_the_canary(&evidence.cluster_side)),
        ("in the hub's memory", evidence.memory.iter().any(|dump| shows_the_canary(dump))),
    ];
    let expected = cfg!(feature = "plain-for-tests");
    assert!(seen.iter().all(|(_, seen)| *seen == expected), "the canary was seen: {seen:?}");
    world.down().expect("the machine is as before");
}

/// Files in which to search.
struct Evidence {
    laptop_side: PathBuf,
    cluster_side: PathBuf,
    memory: Vec<PathBuf>,
}

/// Has them talk twice. Over the raw port the kernel moves the bytes from socket to socket, so that there they are on the
/// wire as the agents wrote them; inside WebSockets they pass through the hub's memory.
fn look_while_they_talk(world: &World) -> anyhow::Result<Evidence> {
    let ada = world.ada();
    ada.signs_in()?;
    for words in [&["start"][..], &["teamspace", "use", TEAMSPACE], &CONSUME] {
        ada.fairlead(words)?.ok()?;
    }
    ada.is_answered_by("http://frontend.shop").context("the shop is there")?;
    let capture = Capture::begin(world)?;
    let while_spliced = talk(world, &ada)?;
    let (laptop_side, cluster_side) = capture.end()?;
    for side in [&laptop_side, &cluster_side] {
        let bytes = fs::metadata(side)?.len();
        ensure!(bytes > SAID_BYTES as u64, "only {bytes} bytes were captured on one side");
    }

    world.closes_the_raw_port()?;
    for words in [&["consume", "clear"][..], &CONSUME] {
        ada.fairlead(words)?.ok()?;
    }
    let status = ada.fairlead(&["status"])?.ok()?.stdout;
    ensure!(status.contains("wss"), "the carriers found another way:\n{status}");
    let in_web_sockets = talk(world, &ada)?;
    Ok(Evidence { laptop_side, cluster_side, memory: vec![while_spliced, in_web_sockets] })
}

/// Has developer and service say the same to each other, and returns the hub's memory of meanwhile.
fn talk(world: &World, ada: &Person<'_>) -> anyhow::Result<PathBuf> {
    let (said, heard) = (ada.home().join("said"), ada.home().join("heard"));
    fs::write(&said, CANARY.repeat(SAID_BYTES / CANARY.len() + 1))?;
    let mut curl = ada.command("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "120", "--limit-rate", PACE])
        .args(["--header", "Expect:", "--output"])
        .arg(&heard)
        .arg("--data-binary")
        .arg(format!("@{}", said.display()))
        .arg("http://frontend.shop/echo")
        .stderr(Stdio::inherit());
    let mut talk = curl.spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    let memory = world.folder().join(format!("hub-memory-{}", talk.id()));
    dump_hub(world, &memory)?;
    ensure!(talk.try_wait()?.is_none(), "they had talked before anybody looked");
    ensure!(talk.wait()?.success(), "they did not talk to the end");
    ensure!(fs::read(&said)? == fs::read(&heard)?, "the service says the same as the developer");
    Ok(memory)
}

fn shows_the_canary(file: &Path) -> bool {
    let mut grep = std::process::Command::new("grep");
    grep.args(["--quiet", "--text", "--fixed-strings", CANARY]).arg(file);
    match say(grep).expect("grep runs").code {
        Some(0) => true,
        Some(1) => false,
        other => panic!("grep ended with {other:?}"),
    }
}
