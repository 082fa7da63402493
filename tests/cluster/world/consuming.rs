//! What is consumed changes, by command and with the cluster, and nobody who is connected notices.

use std::fs;

use anyhow::{Context, ensure};
use fairlead_tests::{Handmade, Person, Story, World, begin, within};
use serde_json::Value;

use crate::intercepting::PATIENCE;

const UNPROVEN: i32 = 70;

/// Speaks with the ledger over one connection until it is told to end; each line must come back.
const CONVERSATION: &str = r#"
    exec 3<>/dev/tcp/ledger.shop/7000 && read -r -t 10 -u 3 greeting || exit 1
    until [ -e "$1" ]; do
        echo line >&3 && read -r -t 10 -u 3 line && [ "$line" = line ] || exit 2
        sleep 0.1
    done
    echo "$greeting"
"#;

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new("what is consumed changes without a cut", in_motion).in_one_mode()]
}

fn in_motion(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    ada.fairlead(&["consume", "shop/ledger"])?.ok()?;
    let session = the_session(&ada)?;
    let told = ada.home().join("end-the-conversation");
    let mut conversation = ada.command("bash");
    conversation.args(["-c", CONVERSATION, "conversation"]).arg(&told);
    let conversation = begin(conversation)?;

    let own = format!("{}/*", Handmade::NAMESPACE);
    ada.fairlead(&["consume", &own])?.ok()?;
    let wider = the_session(&ada)?;
    ensure!(wider["id"] == session["id"], "another session: {wider}");
    let fresh = format!("{}.{}", Handmade::NAME, Handmade::NAMESPACE);
    ensure!(!reaches(&ada, &fresh)?, "it is there before it appeared");
    let service = Handmade::appears(world)?;
    within(PATIENCE, "the new service has a name", || {
        ensure!(reaches(&ada, &fresh)?, "none");
        Ok(())
    })?;
    let said = ada.is_refused(&["trace", &format!("http://{fresh}/")], UNPROVEN)?;
    ensure!(said.contains("fails at its hop `service`"), "it has no endpoint: {said}");
    service.disappears()?;
    within(PATIENCE, "the deleted service has none any more", || {
        ensure!(!reaches(&ada, &fresh)?, "it has");
        Ok(())
    })?;
    ada.fairlead(&["consume", "shop/ledger", &format!("!{own}")])?.ok()?;
    ensure!(the_session(&ada)?["services"].as_array().map(Vec::len) == Some(1));

    fs::write(&told, "")?;
    let said = conversation.ends()?.ok().context("the connection was cut")?.stdout;
    ensure!(said.contains("\"ledger-0\""), "{said}");
    fs::remove_file(&told)?;
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

fn the_session(ada: &Person<'_>) -> anyhow::Result<Value> {
    let listed = ada.reads(&["list"])?;
    ensure!(listed.as_array().map(Vec::len) == Some(1), "{listed}");
    ensure!(listed[0]["phase"] == "active", "{listed}");
    Ok(listed[0].clone())
}

/// Says whether a name leads somewhere on the laptop.
fn reaches(ada: &Person<'_>, name: &str) -> anyhow::Result<bool> {
    let mut asked = ada.command("getent");
    asked.args(["hosts", name]);
    Ok(begin(asked)?.ends()?.code == Some(0))
}
