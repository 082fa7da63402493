//! The console in a real browser beside the real agent: what the pages show is what agent and laptop have reported.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use fairlead_lab::Host;
use fairlead_tests::{HUB_URL, Story, World, say};

use crate::intercepting::scene;

const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/web");

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new(
        "the console shows an intercept as it begins, and its owner ends it there",
        told,
    )]
}

/// Chromium is on the laptop host, where ada has it; it needs root's rights only to start without a sandbox.
fn told(world: &World) -> anyhow::Result<()> {
    let vitest = PathBuf::from(STORIES).join("node_modules/vitest/vitest.mjs");
    ensure!(vitest.exists(), "no modules in {STORIES}: cargo xtask test cluster installs them");
    scene(world, |scene| {
        let ada = scene.ada.home();
        let uid = "7001";
        let command = [
            "setpriv",
            "--reuid",
            uid,
            "--regid",
            uid,
            "--clear-groups",
            "env",
            &format!("HOME={}", ada.display()),
            &world.laptop_program("fairlead").display().to_string(),
        ];
        let mut node = world.lab().exec(Host::Laptop, "node");
        node.arg(vitest)
            .args(["run", "--config", "vitest.live.config.ts"])
            .current_dir(STORIES)
            .env("FAIRLEAD_LIVE_HUB", HUB_URL)
            .env("FAIRLEAD_LIVE_ADA", serde_json::to_string(&command)?)
            .env("NO_COLOR", "1");
        say(node)?.ok().context("the story in the browser").map(drop)
    })
}
