//! Laptops, and cluster agents, in networks that let nobody out but through a proxy, and a hub behind an ingress. They are
//! real ones: tinyproxy, microsocks, mitmproxy and nginx.

use std::{fs, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use fairlead_lab::Host;
use fairlead_tests::{Agent, Corporate, HUB_URL, Ingress, Person, Story, World, say, within};

use crate::{intercepting::while_intercepting, stray_agent::with_a_stray};

/// As long as a laptop's longest silence between two attempts.
const FOUND_WITHIN: Duration = Duration::from_secs(40);

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("a laptop carried behind a proxy is told of it and goes on", is_carried_behind),
        Story::new("behind a SOCKS proxy everything is as it is elsewhere", begins_behind),
        Story::new(
            "a proxy that opens TLS is passed through by laptop and agents",
            is_opened_at_both_ends,
        ),
        Story::new("behind an ingress that speaks no HTTP/2 to the hub all is well", is_led_inside),
    ]
}

/// What this shell says of proxies counts from now on.
fn starts_with(ada: &Person<'_>, proxy: &str) -> anyhow::Result<()> {
    let mut start = ada.fairlead_command(&["start"]);
    start.env("HTTPS_PROXY", proxy);
    say(start)?.ok()?;
    Ok(())
}

fn is_carried_behind(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        let ada = &scene.ada;
        ada.fairlead(&["consume", "shop/*"])?.ok()?;
        ada.asks("http://catalog.shop")?;
        goes(ada, "raw")?;

        let corporate = Corporate::around(world.lab(), world.folder(), &world.hub_ca())?;
        starts_with(ada, &Corporate::http_proxy())?;
        goes(ada, "wss through proxy 172.30.0.2:3128").context("behind the proxy")?;
        works(ada)?;
        scene.intercept_goes_on()?;
        let status = ada.fairlead(&["status"])?.ok()?;
        let shown = status.stdout.contains("172.30.0.2:3128") && !status.stdout.contains("s3cret");
        ensure!(shown, "{status}");

        drop(corporate);
        ada.fairlead(&["start"])?.ok()?;
        works(ada).context("at home again")?;
        scene.intercept_goes_on()
    })
}

fn begins_behind(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    ada.fairlead(&["stop"])?.ok()?;
    let corporate = Corporate::around(world.lab(), world.folder(), &world.hub_ca())?;
    starts_with(&ada, &Corporate::socks_proxy())?;
    ada.fairlead(&["consume", "shop/*"])?.ok()?;
    goes(&ada, "raw through proxy 172.30.0.2:1080")?;
    works(&ada)?;
    ada.fairlead(&["stop"])?.ok()?;
    drop(corporate);
    ada.fairlead(&["start"])?.ok()?;
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

/// It holds back what is streamed until it ends, as such proxies do.
fn is_opened_at_both_ends(world: &World) -> anyhow::Result<()> {
    let (ada, agent) = (world.ada(), world.agent());
    ada.gets_ready()?;
    let trusted = trusts_the_opening_proxy(world)?;
    ada.signs_in_trusting(&trusted)?;
    while_intercepting(world, |scene| {
        let ada = &scene.ada;
        ada.fairlead(&["consume", "shop/*"])?.ok()?;
        let corporate = Corporate::around(world.lab(), world.folder(), &world.hub_ca())?;
        starts_with(ada, &Corporate::opening_proxy())?;
        agent.goes_through(&Corporate::opening_proxy(), &trusted)?;
        goes(ada, "wss through proxy 172.30.0.2:8080")?;
        works(ada)?;
        scene.intercept_goes_on()?;
        let status = ada.fairlead(&["status"])?.ok()?;
        ensure!(status.stdout.contains(", inside a WebSocket)"), "{status}");
        let asked = corporate.asked_for_links(world.folder())?;
        let laptop = IpAddr::from(Host::Laptop.address());
        ensure!(asked.contains(&laptop) && asked.len() >= 2, "only {asked:?} came by");
        replicas_go_inside(&agent)?;

        agent.goes_through("", &world.hub_ca())?;
        drop(corporate);
        ada.fairlead(&["start"])?.ok()?;
        works(ada).context("at home again")?;
        scene.intercept_goes_on()
    })?;
    ada.signs_in()
}

/// Everything comes through the ingress: the sign-in, an enrolment, what the console hears of it, links and carriers.
fn is_led_inside(world: &World) -> anyhow::Result<()> {
    let (ada, agent) = (world.ada(), world.agent());
    ada.gets_ready()?;
    ada.fairlead(&["stop"])?.ok()?;
    let ingress = Ingress::before(world)?;
    agent.rolls_out()?;
    world.both_replicas_are_linked()?;
    replicas_go_inside(&agent)?;
    ada.signs_in()?;
    let console = ada.browser().listens("/api/v1/events")?;
    enrols_another(world)?;
    console.interrupt();
    let heard = console.ends()?;
    ensure!(heard.stdout.contains("teamspaces"), "nothing was heard of it: {heard}");
    while_intercepting(world, |scene| {
        let ada = &scene.ada;
        ada.fairlead(&["consume", "shop/*"])?.ok()?;
        goes(ada, "wss")?;
        works(ada)?;
        scene.intercept_goes_on()?;
        let status = ada.fairlead(&["status"])?.ok()?;
        ensure!(status.stdout.contains(", inside a WebSocket)"), "{status}");
        Ok(())
    })?;
    drop(ingress);
    agent.rolls_out()?;
    world.both_replicas_are_linked()
}

fn replicas_go_inside(agent: &Agent<'_>) -> anyhow::Result<()> {
    let log = agent.log()?;
    for replica in agent.replicas()? {
        let goes = |line: &str| line.contains(&replica) && line.contains("over=\"a WebSocket\"");
        ensure!(log.lines().any(goes), "{replica} goes another way:\n{log}");
    }
    Ok(())
}

fn enrols_another(world: &World) -> anyhow::Result<()> {
    with_a_stray(world, |stray, teamspace| {
        stray.installs(HUB_URL, true, &teamspace.join_token()?)?;
        stray.says(&["This cluster is enrolled as teamspace stray"])
    })
}

/// Returns a file with two authorities: the hub's, and that of the proxy, which makes it when it runs for the first time.
fn trusts_the_opening_proxy(world: &World) -> anyhow::Result<PathBuf> {
    drop(Corporate::around(world.lab(), world.folder(), &world.hub_ca())?);
    let both = world.folder().join("hub-and-proxy.pem");
    let hub = fs::read_to_string(world.hub_ca())?;
    fs::write(&both, hub + &fs::read_to_string(Corporate::authority(world.folder()))?)?;
    Ok(both)
}

/// Waits until every carrier of this laptop goes that way.
fn goes(ada: &Person<'_>, way: &str) -> anyhow::Result<()> {
    let look = || {
        let said = ada.fairlead(&["list"])?.ok()?;
        // Below the table is what there is to say about each.
        let table = said.stdout.lines().take_while(|line| !line.is_empty());
        let lines: Vec<_> = table.filter(|line| line.contains("shop/")).collect();
        let goes = |line: &&str| [1, 2].iter().any(|n| line.contains(&format!(" {n} {way} ")));
        let all = !lines.is_empty() && lines.iter().all(goes);
        ensure!(all, "not every carrier goes {way}:\n{said}");
        Ok(())
    };
    within(FOUND_WITHIN, "every carrier goes there", look).map(drop)
}

fn works(ada: &Person<'_>) -> anyhow::Result<()> {
    within(FOUND_WITHIN, "a service answers", || ada.asks("http://catalog.shop"))?;
    ada.fairlead(&["trace", "http://catalog.shop"])?.ok()?;
    Ok(())
}
