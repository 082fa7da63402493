//! A CI job: nobody signs in, a service account's token does, and what it began ends with it.

use std::fs;

use anyhow::{Context, ensure};
use fairlead_tests::{HUB_URL, Story, TEAMSPACE, World, within};
use serde_json::json;

use crate::intercepting::PATIENCE;

const ACCOUNTS: &str = "/api/v1/service-accounts";
/// Exit code of the command.
const SIGNED_OUT: i32 = 31;
/// Says what it sees of its environment, and asks until it is not answered any more. That it was is seen from outside.
const PROGRAM: &str = "env; while curl --silent --fail --max-time 5 http://frontend.shop:8080/; \
    do touch job-runs; sleep 0.1; done; echo cut";

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new("a job runs its program with a token, and is cut off with it", a_job)]
}

fn a_job(world: &World) -> anyhow::Result<()> {
    let (ada, olga) = (world.ada(), world.olga());
    let account = json!({ "name": "ci", "roles": ["developer"] });
    let account = olga.call("POST", ACCOUNTS, Some(&account))?.json()?;
    let account = account["id"].as_str().context("an account")?.to_owned();
    let tokens = format!("{ACCOUNTS}/{account}/tokens");
    let made = olga.call("POST", &tokens, Some(&json!({ "name": "tests" })))?.json()?;
    let token = made["token"].as_str().context("a token")?;

    // A machine on which nobody has ever signed in: no account, no daemon, no supervisor.
    let machine = ada.home().join("runner");
    let place = |folder: &str| machine.join(folder).display().to_string();
    let (config, state, run, ca) =
        (place("config"), place("state"), place("run"), world.hub_ca().display().to_string());
    let places = ["--config-dir", &config, "--state-dir", &state, "--run-dir", &run];
    let what = ["-t", TEAMSPACE, "--remap", "--consume", "shop/frontend"];
    let hub = ["run", "--hub", HUB_URL, "--ca-file", &ca];
    let words = [&places[..], &hub[..], &what[..], &["--", "sh", "-c", PROGRAM]].concat();
    let job = || {
        let mut command = ada.fairlead_command(&words);
        command.env("FAIRLEAD_TOKEN", token);
        command
    };
    let running = fairlead_tests::begin(job())?;
    let ran = ada.home().join("job-runs");
    within(PATIENCE, "the job's program is answered", || {
        ensure!(ran.exists(), "it has not been");
        Ok(())
    })?;
    let revoked = format!("/api/v1/api-tokens/{}", made["id"].as_str().context("an id")?);
    ensure!(olga.call("DELETE", &revoked, None)?.status == 204, "it was not revoked");
    let said = running.ends_within(PATIENCE)?.ok()?;
    ensure!(said.stdout.ends_with("cut\n") && said.stdout.contains("frontend-"), "{said}");
    ensure!(!said.stdout.contains(token) && !said.stdout.contains("FAIRLEAD_TOKEN"), "{said}");
    ensure!(said.stderr.contains("as ci"), "{said}");

    let again = fairlead_tests::say(job())?;
    ensure!(again.code == Some(SIGNED_OUT) && again.stderr.contains("was revoked"), "{again}");
    olga.call("DELETE", &format!("{ACCOUNTS}/{account}"), None)?;
    fs::remove_dir_all(&machine)?;
    Ok(fs::remove_file(ran)?)
}
