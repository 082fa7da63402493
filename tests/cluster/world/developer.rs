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

const LAPTOP_DNS: &str = "127.72.0.53";
/// Record types, as DNS numbers them.
const A: u16 = 1;
const SRV: u16 = 33;

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("every line of the show holds", |world| show(world, &mut io::stderr())),
        Story::new("a pod may be deleted while it is consumed", a_pod_is_deleted).of_the_owner(),
        Story::new("plain TCP, headless and gRPC services are consumed by name", tcp_and_grpc),
        Story::new("a program that is run reaches services, and nothing else does", one_program),
        Story::new("the cluster's DNS is consumed over UDP", over_udp),
        Story::new("each pod of a StatefulSet has a name while it is there", pods_by_name)
            .of_the_owner(),
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

    for name in ["ledger.shop", "ledger-nodes.shop", "ledger-0.ledger-nodes.shop.svc"] {
        let said = greeted_at(&ada, name)?;
        ensure!(said.contains("\"ledger-0\""), "somebody else greeted at {name}: {said}");
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

/// Says one line to the ledger at a name, and returns what came back.
fn greeted_at(ada: &Person<'_>, name: &str) -> anyhow::Result<String> {
    let mut ledger = ada.command(ada.laptop_program("shop"));
    ledger.args(["tcp", &format!("{name}:7000"), "one line"]);
    Ok(say(ledger)?.ok()?.stdout)
}

/// Asks a DNS server about a name of the cluster, and returns its answer in hexadecimal digits.
fn asked(ada: &Person<'_>, server: &str, name: &str, record: u16) -> anyhow::Result<String> {
    let mut asks = ada.command(ada.laptop_program("shop"));
    asks.args(["datagram", &format!("{server}:53"), &question(name, record)]);
    let answer = say(asks)?.ok()?.stdout;
    ensure!(answer.starts_with("0007"), "an answer to another question: {answer}");
    Ok(answer)
}

fn question(name: &str, record: u16) -> String {
    let mut question = "000701000001000000000000".to_owned();
    for label in format!("{name}.svc.cluster.local").split('.') {
        question.push_str(&format!("{:02x}{}", label.len(), in_hex(label)));
    }
    question + &format!("00{record:04x}0001")
}

/// Says whether an answer ends in an address of 127.72.0.0/14.
fn ours(answer: &str) -> bool {
    let address = answer.trim_end().get(answer.trim_end().len().saturating_sub(8)..);
    address.is_some_and(|address| {
        ["7f48", "7f49", "7f4a", "7f4b"].iter().any(|n| address.starts_with(n))
    })
}

fn in_hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The cluster's own DNS has the same port twice: of UDP and of TCP.
fn over_udp(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    let said = ada.fairlead(&["consume", "kube-system/kube-dns"])?.ok()?.stdout;
    ensure!(said.contains("53,53/udp"), "both are reached: {said}");
    for _ in 0..3 {
        let answer = asked(&ada, "kube-dns.kube-system", "kubernetes.default", A)?;
        ensure!(answer.contains("0a600001"), "it is 10.96.0.1: {answer}");
    }
    for port in ["53", "53/udp"] {
        let tried = passes(&ada, &format!("kube-system/kube-dns:{port}"))?;
        ensure!(tried == ["name", "redirect", "hub", "agent", "service"], "{port}: {tried:?}");
    }
    ada.fairlead(&["stop"])?.ok()?;

    let run = ["run", "-t", TEAMSPACE, "--remap", "--consume", "kube-system/kube-dns", "--"];
    let (shop, question) = (ada.laptop_program("shop"), question("kubernetes.default", A));
    let shop = shop.to_string_lossy();
    let asks = [&*shop, "datagram", "kube-dns.kube-system:8053", &question];
    let answer = ada.fairlead(&[&run[..], &asks[..]].concat())?.ok()?.stdout;
    ensure!(answer.contains("0a600001"), "one program reaches it, too: {answer}");
    Ok(())
}

/// Names appear and vanish with the pods, and each leads to its own.
fn pods_by_name(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    ada.fairlead(&["consume", "shop/ledger-nodes"])?.ok()?;
    let scales_to = |replicas: &str| {
        world.kubectl(&["-n", "shop", "scale", "statefulset/ledger", "--replicas", replicas])
    };
    let greets = |pod: &str| {
        let said = greeted_at(&ada, &format!("{pod}.ledger-nodes.shop"))?;
        ensure!(said.contains(&format!("\"{pod}\"")), "somebody else greeted as {pod}: {said}");
        Ok(())
    };
    scales_to("2")?;
    for pod in ["ledger-0", "ledger-1"] {
        within(PATIENCE, "a pod is reached by its own name", || greets(pod))?;
    }
    let listed = ada.reads(&["consume", "list"])?.to_string();
    ensure!(listed.contains("\"pod\":\"ledger-1\""), "it is not shown: {listed}");
    let ports = asked(&ada, LAPTOP_DNS, "_lines._tcp.ledger-nodes.shop", SRV)?;
    for pod in ["ledger-0", "ledger-1"] {
        ensure!(ports.contains(&in_hex(pod)), "{pod} is not among them: {ports}");
        let address = asked(&ada, LAPTOP_DNS, &format!("{pod}.ledger-nodes.shop"), A)?;
        ensure!(ours(&address), "{pod} has no address of the laptop: {address}");
    }
    ensure!(ours(&ports), "the targets have the laptop's addresses: {ports}");
    scales_to("1")?;
    within(PATIENCE, "the name vanishes with its pod", || {
        let listed = ada.reads(&["consume", "list"])?.to_string();
        ensure!(!listed.contains("ledger-1"), "{listed}");
        Ok(())
    })?;
    greets("ledger-0")?;
    ada.fairlead(&["stop"])?.ok()?;
    world.shop().is_open()
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
