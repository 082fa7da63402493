//! What developers do, and what they are told when they may not.

use std::io;

use anyhow::{Context, ensure};
use fairlead_tests::{
    Person, Story, TEAMSPACE, World, answered_by, end_callers, has_key, say, show, within,
};

use crate::intercepting::{CART, INTERCEPT, LEAVE, PATIENCE, PORT, scene, while_intercepting};

const CATALOG: &str = "shop/catalog";
/// Exit codes of the command.
const DENIED: i32 = 30;
const CONFLICT: i32 = 51;
const UNPROVEN: i32 = 70;

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("every line of the show holds", |world| show(world, &mut io::stderr())),
        Story::new("a pod may be deleted while it is consumed", a_pod_is_deleted).of_the_owner(),
        Story::new("plain TCP, headless and gRPC services are consumed by name", tcp_and_grpc),
        Story::new("a program that is run reaches services, and nothing else does", one_program),
        Story::new("who may not consume reaches nothing and hears why", may_not_consume),
        Story::new("one command takes several ports, or leaves one to the pods", several_ports),
        Story::new("leaving all gives every service back and goes on consuming", leaving_all),
        Story::new("active is said only while the laptop's process answers", active_when_proven),
        Story::new("a service that somebody has is refused with their name", somebody_has_it),
        Story::new("what I intercept leaves my own consume until I leave it", own_consume),
    ]
}

fn a_pod_is_deleted(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    ada.fairlead(&["consume", "shop/*"])?.ok()?;
    let url = "http://frontend.shop";
    let pod = ada.is_answered_by(url)?;
    world.kubectl(&["-n", "shop", "delete", "pod", &pod, "--wait=false"])?;
    within(PATIENCE, "another pod answers by the same name", || {
        let answered = ada.is_answered_by(url)?;
        ensure!(answered != pod, "the deleted pod still answers");
        Ok(())
    })?;
    ada.fairlead(&["stop"])?.ok()?;
    world.shop().is_open()
}

fn tcp_and_grpc(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    ada.fairlead(&["consume", "shop/ledger", "shop/ledger-nodes", "shop/recommend"])?.ok()?;

    for name in ["ledger.shop:7000", "ledger-nodes.shop:7000"] {
        let mut ledger = ada.command(world.laptop_program("shop"));
        ledger.args(["tcp", name, "one line"]);
        let said = say(ledger)?.ok()?.stdout;
        ensure!(said.contains("\"ledger-0\""), "nobody greeted at {name}: {said}");
        ensure!(said.lines().any(|line| line == "one line"), "the line did not come back: {said}");
    }

    // A process of hers that asks over gRPC, as the shop's frontend does.
    let asks = ["--ask=recommend=grpc://recommend.shop:50051"];
    let _own = ada.runs_with("sidecar", PORT, &ada.laptop(), &asks)?;
    let answer = ada.asks(&format!("http://127.0.0.1:{PORT}/"))?;
    let name = answer["calls"][0]["answer"]["answered_by"]["name"].to_string();
    ensure!(name.contains("recommend-"), "{answer}");
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

fn one_program(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    if ada.fairlead(&["whoami"])?.code != Some(0) {
        ada.signs_in()?;
    }
    // No daemon and no supervisor's help: what `run` needs it brings.
    let url = "http://frontend.shop:8080/";
    let run = ["run", "-t", TEAMSPACE, "--remap", "--consume", "shop/frontend", "--"];
    let get = ["curl", "--silent", "--show-error", "--fail", "--max-time", "10", url];
    let said = ada.fairlead(&[&run[..], &get[..]].concat())?.ok()?;
    ensure!(answered_by(&said.json()?)?.starts_with("frontend-"), "{said}");
    ensure!(said.stderr.contains("frontend.shop:80 is frontend.shop:8080"), "{said}");
    ensure!(ada.asks(url).is_err(), "the name leads somewhere outside");

    // Beside the names of everybody, too.
    ada.gets_ready()?;
    ada.fairlead(&["consume", "shop/*"])?.ok()?;
    let cart = ["curl", "--silent", "--fail", "--max-time", "10", "http://cart.shop/"];
    let said = ada.fairlead(&[&run[..], &cart[..]].concat())?.ok()?;
    ensure!(answered_by(&said.json()?)?.starts_with("cart-"), "{said}");
    ada.asks("http://frontend.shop")?;
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

fn may_not_consume(world: &World) -> anyhow::Result<()> {
    let grace = world.grace();
    grace.gets_ready()?;
    let said = grace.is_refused(&["consume", "shop/*"], DENIED)?;
    ensure!(said.contains("polic"), "the refusal names no policy: {said}");
    ensure!(grace.asks("http://frontend.shop").is_err(), "she reaches it all the same");
    grace.is_refused(&["trace", "http://frontend.shop"], DENIED)?;
    grace.fairlead(&["stop"])?.ok()?;
    Ok(())
}

fn several_ports(world: &World) -> anyhow::Result<()> {
    const PAGES: &str = "ada-pages";
    const METRICS: &str = "ada-metrics";
    scene(world, |scene| {
        let ada = &scene.ada;
        let _pages = ada.runs_with("catalog", 3001, PAGES, &[])?;
        let _metrics = ada.runs_with("sidecar", 3002, METRICS, &[])?;
        let pages = world.service(CATALOG)?.on_port(80);
        let metrics = world.service(CATALOG)?.on_port(9090);
        let is_hers = |name: &str| name.starts_with("ada-");

        ada.fairlead(&["intercept", CATALOG, "3001:80", "3002:9090"])?.ok()?;
        pages.is_answered_by(PAGES, |name| name == PAGES, PATIENCE)?;
        metrics.is_answered_by(METRICS, |name| name == METRICS, PATIENCE)?;
        ada.fairlead(&["leave", CATALOG])?.ok()?;
        pages.is_answered_by("a pod", |name| !is_hers(name), PATIENCE)?;
        metrics.is_answered_by("a pod", |name| !is_hers(name), PATIENCE)?;

        let callers = metrics.callers()?;
        ada.fairlead(&["intercept", CATALOG, "3001:80"])?.ok()?;
        pages.is_answered_by(PAGES, |name| name == PAGES, PATIENCE)?;
        let calls = end_callers(callers)?;
        calls.none_failed()?;
        ensure!(calls.answered_by(is_hers) == 0, "the other port came to the laptop, too");
        Ok(())
    })
}

fn leaving_all(world: &World) -> anyhow::Result<()> {
    scene(world, |scene| {
        let ada = &scene.ada;
        ada.fairlead(&["consume", "shop/frontend"])?.ok()?;
        ada.fairlead(&INTERCEPT)?.ok()?;
        ada.fairlead(&["intercept", CATALOG, "3000:80"])?.ok()?;
        let catalog = world.service(CATALOG)?;
        scene.cart_is_hers()?;
        catalog.is_answered_by("ada", |name| name == ada.laptop(), PATIENCE)?;

        ada.fairlead(&["leave", "--all"])?.ok()?;
        scene.cart_is_a_pod()?;
        catalog.is_answered_by("a pod", |name| name != ada.laptop(), PATIENCE)?;
        for service in [CART, CATALOG] {
            ensure!(ada.intercept_of(service)?.is_none(), "{service} is still shown");
        }
        ada.asks("http://frontend.shop").map(drop)
    })
}

fn active_when_proven(world: &World) -> anyhow::Result<()> {
    scene(world, |scene| {
        let ada = &scene.ada;
        let intercept = ["intercept", CART, "3005"];
        let said = ada.fairlead(&intercept)?.ok()?.stderr;
        ensure!(said.contains("nothing listens on localhost:3005"), "{said}");
        ensure!(said.contains("(preparing)"), "{said}");
        let watch = scene.cart.watch()?;
        watch.until(PATIENCE, "the key stands", has_key)?;
        ada.is_shown(CART, "preparing")?;
        let said = ada.is_refused(&["status", "--wait", "--timeout", "1"], UNPROVEN)?;
        ensure!(said.contains("the intercept of shop/cart is preparing"), "{said}");
        scene.cart_is_a_pod()?;

        let own = ada.runs("cart", 3005)?;
        scene.intercept_goes_on()?;
        ada.fairlead(&["status", "--wait"])?.ok()?;
        drop(own);
        scene.cart_is_a_pod()?;
        ada.is_shown(CART, "preparing")
    })
}

fn somebody_has_it(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        let mary = world.mary();
        mary.gets_ready()?;
        let said = mary.is_refused(&INTERCEPT, CONFLICT)?;
        ensure!(said.contains("intercepted by ada@example.test"), "{said}");
        scene.intercept_goes_on()?;

        scene.ada.fairlead(&LEAVE)?.ok()?;
        mary.fairlead(&INTERCEPT)?.ok()?;
        mary.is_shown(CART, "active")?;
        mary.fairlead(&["stop"])?.ok()?;
        Ok(())
    })
}

fn own_consume(world: &World) -> anyhow::Result<()> {
    scene(world, |scene| {
        let ada = &scene.ada;
        let reaches_the_cart = || -> anyhow::Result<bool> {
            Ok(ada.reads(&["consume", "list"])?.to_string().contains("\"cart\""))
        };
        let by_name = || ada.is_answered_by("http://cart.shop");
        ada.fairlead(&["consume", "shop/*"])?.ok()?;
        ensure!(reaches_the_cart()? && by_name()? != ada.laptop(), "she does not reach a pod");
        let hops = ["name", "redirect", "hub", "agent", "service", "answer"];
        ensure!(passes(ada, "http://cart.shop/")? == hops, "a hop is missing");

        scene.ada_intercepts()?;
        ensure!(!reaches_the_cart()?, "it is consumed still");
        ensure!(by_name().is_err(), "its name leads somewhere still");
        ensure!(
            passes(ada, CART)? == ["hub", "agent", "service", "laptop"],
            "it is not followed to her port"
        );
        ada.asks("http://frontend.shop")?;

        ada.fairlead(&LEAVE)?.ok()?;
        ensure!(reaches_the_cart()?, "it did not come back");
        within(PATIENCE, "its name leads to a pod again", by_name)?;
        Ok(())
    })
}

/// Traces, and returns the hops that were tried; each has passed.
fn passes(ada: &Person<'_>, what: &str) -> anyhow::Result<Vec<String>> {
    let trace = ada.reads(&["trace", what])?;
    let hops = trace["hops"].as_array().context("no hops")?.iter();
    let tried = hops.filter(|hop| hop["state"] != "not_tried");
    tried.map(|hop| Ok(hop["hop"].as_str().context("no name")?.to_owned())).collect()
}
