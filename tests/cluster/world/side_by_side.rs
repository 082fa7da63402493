//! Services of two teamspaces are consumed at the same time, each by the names of its own and over carriers of its own.

use anyhow::{Context, ensure};
use fairlead_tests::{HUB_URL, Story, begin, within};

use crate::{
    intercepting::PATIENCE,
    stray_agent::{Stray, Teamspace, with_a_stray},
};

const HERE: &str = "cart.shop";
const BESIDE: &str = "cart.shop.stray.fairlead";

pub(crate) fn stories() -> Vec<Story> {
    let name = "two teamspaces are consumed side by side";
    vec![Story::new(name, |world| with_a_stray(world, side_by_side)).in_one_mode()]
}

fn side_by_side(stray: &Stray<'_>, teamspace: &Teamspace<'_>) -> anyhow::Result<()> {
    stray.installs(HUB_URL, true, &teamspace.join_token()?)?;
    stray.says(&["Linked to the hub"])?;
    let ada = stray.world.ada();
    ada.gets_ready()?;
    ada.fairlead(&["consume", "shop/cart"])?.ok()?;
    within(PATIENCE, "the other teamspace has a cart", || {
        ada.fairlead(&["consume", "-t", "stray", "shop/cart"])?.ok()
    })?;
    ada.fairlead(&["status", "--wait"])?.ok()?;
    let answers = |name: &str| ada.is_answered_by(&format!("http://{name}"));
    ensure!(answers(HERE)?.starts_with("cart-") && answers(BESIDE)?.starts_with("cart-"));
    let trace = ada.reads(&["trace", &format!("http://{BESIDE}/")])?;
    let hops = trace["hops"].as_array().context("hops")?;
    ensure!(trace["teamspace"] == "stray", "{trace}");
    ensure!(hops.iter().all(|hop| hop["state"] == "passed"), "{trace}");

    // What one of them loses is the other one's no matter: they are the same carts, and other carriers.
    stray.loses_its_agent()?;
    within(PATIENCE * 2, "nobody carries for the other teamspace", || {
        ensure!(answers(BESIDE).is_err(), "it answers");
        Ok(())
    })?;
    answers(HERE)?;
    ada.fairlead(&["consume", "clear", "-t", "stray"])?.ok()?;
    let mut asks = ada.command("getent");
    asks.args(["hosts", BESIDE]);
    ensure!(begin(asks)?.ends()?.code != Some(0), "its name is still there");
    answers(HERE)?;
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}
