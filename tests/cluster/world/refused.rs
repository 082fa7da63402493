//! What must be refused, each on the real hub, the real agent and a real cluster. Every story also does the permitted
//! thing beside the forbidden one, so that a refusal is no broken laptop.

use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use fairlead_lab::Host;
use fairlead_model::TeamspaceId;
use fairlead_tests::{Agent, Browser, Person, Process, Said, Story, TEAMSPACE, World, say};
use fairlead_tunnel::{HandshakeError, PeerExpectation, TlsIdentity, connect::RelayError};
use fairlead_wire::{
    authority::TeamspaceAuthority,
    grant::{Grant, GrantSigner},
    key::Key,
    preface::Side,
};
use laptop_account::SelectedTeamspace;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    by_hand::{LaptopByHand, Linked, handshake, opens, shows, to_relay},
    globex, live_sessions,
    pen::Pen,
};

/// A grant made out to end soon ends within this, and the agent notices.
const RUNS_OUT_WITHIN: Duration = Duration::from_secs(15);
const NO_SESSION: &str = "there is no such session";

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("a grant counts on its own laptop only", a_grant_of_another_laptop),
        Story::new("a grant counts until it expires", an_expired_grant),
        Story::new("a stream goes where its grant says", a_stream_outside_the_grant),
        Story::new("a ticket is good once and on its own side", a_ticket_misused),
        Story::new("nothing of another organization exists", another_organizations_teamspace),
        Story::new(
            "a certificate of another organization opens no carrier",
            a_certificate_of_another_organization,
        ),
        Story::new("an agent whose key is not the pinned one is refused", an_agent_of_another_key),
    ]
}

fn a_grant_of_another_laptop(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    let first = LaptopByHand::of(world, "first", &ada.browser())?.accounts();
    let second = LaptopByHand::of(world, "second", &ada.browser())?;
    second.does(async move |second: &mut Linked| {
        let mut first = Linked::open(&first).await?;
        let others = first.consumes(&["shop/*"]).await?;
        let own = second.consumes(&["shop/*"]).await?;
        let no_carrier = second.asks_for_carrier(others.session.id).await?.map(drop);
        is_refused(no_carrier, NO_SESSION)?;

        let carrier = second.carrier(own.session.id).await?;
        is_refused(shows(&carrier, &others.grant).await?, "the grant is for another device")?;
        let stream = opens(&carrier, own.session.id, "shop/cart", 80).await?;
        is_refused(stream, "no grant was shown on this carrier")?;
        is_allowed(shows(&carrier, &own.grant).await?)?;
        is_allowed(opens(&carrier, own.session.id, "shop/cart", 80).await?)?;
        first.hangs_up().await
    })
}

fn an_expired_grant(world: &World) -> anyhow::Result<()> {
    let laptop = LaptopByHand::of(world, "first", &world.ada().browser())?;
    let hub = world.folder().join("hub");
    laptop.does(async move |laptop: &mut Linked| {
        let begun = laptop.consumes(&["shop/*"]).await?;
        let session = begun.session.id;
        let pen = Pen::of(&hub, &laptop.device).await?;
        let grant = pen.read(&begun.grant, &laptop.device)?;
        let now = SystemTime::now();
        let carrier = laptop.carrier(session).await?;

        let forged = GrantSigner::new(&Key::generate()?).sign(&grant);
        let refusal = "the grant was not signed by this organization's hub";
        is_refused(shows(&carrier, &forged).await?, refusal)?;
        let (issued_at, expires_at) =
            (now - Duration::from_secs(900), now - Duration::from_secs(1));
        let old = pen.sign(&Grant { issued_at, expires_at, ..grant.clone() });
        is_refused(shows(&carrier, &old).await?, "the grant has expired")?;
        let stream = opens(&carrier, session, "shop/cart", 80).await?;
        is_refused(stream, "no grant was shown on this carrier")?;

        let brief = Grant { expires_at: now + Duration::from_secs(5), ..grant };
        is_allowed(shows(&carrier, &pen.sign(&brief)).await?)?;
        is_allowed(opens(&carrier, session, "shop/cart", 80).await?)?;
        let closed = timeout(RUNS_OUT_WITHIN, carrier.closed()).await;
        closed.context("a carrier outlived its grant").map(drop)
    })
}

fn a_stream_outside_the_grant(world: &World) -> anyhow::Result<()> {
    let laptop = LaptopByHand::of(world, "first", &world.ada().browser())?;
    laptop.does(async move |laptop: &mut Linked| {
        let other = laptop.consumes(&["shop/cart"]).await?;
        let begun = laptop.consumes(&["shop/catalog:80"]).await?;
        let session = begun.session.id;
        let carrier = laptop.carrier(session).await?;
        is_allowed(shows(&carrier, &begun.grant).await?)?;
        let does_not_cover = "the grant does not cover";
        for (of, service, port) in [
            (session, "shop/cart", 80),
            (session, "shop/catalog", 9090),
            (session, "kube-system/kube-dns", 53),
            (other.session.id, "shop/catalog", 80),
        ] {
            let refusal = format!("{does_not_cover} {service}:{port}");
            is_refused(opens(&carrier, of, service, port).await?, &refusal)?;
        }
        is_refused(
            shows(&carrier, &other.grant).await?,
            "the grant is for another session than this carrier",
        )?;
        is_allowed(opens(&carrier, session, "shop/catalog", 80).await?)
    })
}

fn a_ticket_misused(world: &World) -> anyhow::Result<()> {
    let laptop = LaptopByHand::of(world, "first", &world.ada().browser())?;
    let replicas = world.agent().replicas()?;
    let replicas: Vec<_> =
        replicas.iter().map(|pod| Agent::process_of(pod)).collect::<anyhow::Result<_>>()?;
    laptop.does(async move |laptop: &mut Linked| {
        let begun = laptop.consumes(&["shop/*"]).await?;
        let (session, identity) = (begun.session.id, laptop.identity()?);
        let offer = laptop.offer(session).await?;
        let carrier = laptop.carrier_as(&offer, &identity).await??;
        ticket_is_refused(to_relay(&offer, Side::Laptop).await.map(drop))?;
        is_allowed(shows(&carrier, &begun.grant).await?)?;
        is_allowed(opens(&carrier, session, "shop/cart", 80).await?)?;

        let offer = laptop.offer(session).await?;
        ticket_is_refused(to_relay(&offer, Side::Cluster).await.map(drop))?;
        // It is spent by that: the right side comes too late.
        ticket_is_refused(to_relay(&offer, Side::Laptop).await.map(drop))?;

        // While nobody comes from the cluster, two with the same ticket must not be joined with each other.
        let held = replicas.into_iter().map(Process::hold).collect::<anyhow::Result<Vec<_>>>()?;
        let offer = laptop.offer(session).await?;
        let mut shown = JoinSet::new();
        for offer in [offer.clone(), offer] {
            shown.spawn(async move { to_relay(&offer, Side::Laptop).await.map(drop) });
        }
        ticket_is_refused(shown.join_next().await.context("two were shown")??)?;
        drop(held);
        Ok(shown.join_next().await.context("two were shown")???)
    })
}

fn another_organizations_teamspace(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    ada.fairlead(&["consume", "shop/*"])?.ok()?;
    let id = |list: Value| list[0]["id"].as_str().map(str::to_owned).context("one, with its id");
    let session = id(ada.reads(&["list"])?)?;
    let teamspace = id(ada.reads(&["teamspace", "list"])?)?;
    let eve = globex::eve(world)?;
    let laptop = LaptopByHand::of(world, "eve", &eve)?;

    of_ours_does_not_exist(world, &eve, &teamspace, &session)?;
    let device = laptop.device()?.id.to_string();
    let consume = json!({"kind": "consume", "teamspace_id": teamspace, "device_id": device, "patterns": ["shop/*"]});
    let intercept = json!({"kind": "intercept", "teamspace_id": teamspace, "device_id": device,
        "service": "shop/cart", "ports": [{"service_port": 80, "laptop_port": 3000}]});
    for wish in [consume, intercept] {
        let answer = eve.call("POST", "/api/v1/sessions", Some(&wish))?;
        ensure!(answer.status == 404, "{wish}: {} {}", answer.status, answer.body);
    }
    the_command_knows_none(world, &laptop, &teamspace)?;

    let of_ada = session.parse()?;
    laptop.does(async move |laptop: &mut Linked| {
        is_refused(laptop.asks_for_carrier(of_ada).await?.map(drop), NO_SESSION)
    })?;
    ada.asks("http://frontend.shop").context("nobody has disturbed ada")?;
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

/// Asks for everything of ada's organization by its id: eve gets what a stranger gets, olga gets the thing.
fn of_ours_does_not_exist(
    world: &World,
    eve: &Browser<'_>,
    teamspace: &str,
    session: &str,
) -> anyhow::Result<()> {
    let teamspace = format!("/api/v1/teamspaces/{teamspace}");
    let session = format!("/api/v1/sessions/{session}");
    let [services, tokens] = ["services", "join-tokens"].map(|noun| format!("{teamspace}/{noun}"));
    let olga = world.olga();
    for path in [&teamspace, &services, &tokens, &session] {
        let (theirs, ours) = (eve.call("GET", path, None)?, olga.call("GET", path, None)?);
        ensure!(theirs.status == 404, "GET {path}: {} {}", theirs.status, theirs.body);
        ensure!(ours.status == 200, "GET {path} for its owner: {} {}", ours.status, ours.body);
    }
    let none = json!({});
    for (method, path, body) in
        [("POST", &tokens, Some(&none)), ("DELETE", &session, None), ("DELETE", &teamspace, None)]
    {
        let answer = eve.call(method, path, body)?;
        ensure!(answer.status == 404, "{method} {path}: {} {}", answer.status, answer.body);
    }
    for (path, noun) in [("/api/v1/teamspaces", "teamspaces"), ("/api/v1/sessions", "sessions")] {
        let list = eve.call("GET", path, None)?.json()?;
        ensure!(list[noun].as_array().is_some_and(Vec::is_empty), "{path}: {list}");
    }
    Ok(())
}

/// By its name, and by its id as a laptop remembers the one that it chose.
fn the_command_knows_none(
    world: &World,
    laptop: &LaptopByHand<'_>,
    teamspace: &str,
) -> anyhow::Result<()> {
    let fairlead = |words: &[&str]| -> anyhow::Result<Said> {
        let mut command = world.lab().exec(Host::Laptop, world.laptop_program("fairlead"));
        command.arg("--config-dir").arg(laptop.accounts().folder()).args(words);
        say(command)
    };
    let is_unknown = |said: Said, message: &str| {
        ensure!(said.code == Some(50) && said.stderr.contains(message), "{said}");
        Ok(())
    };
    let named = format!("there is no teamspace `{TEAMSPACE}`");
    is_unknown(fairlead(&["teamspace", "use", TEAMSPACE])?, &named)?;
    is_unknown(fairlead(&["services", "--teamspace", TEAMSPACE])?, &named)?;
    let id: TeamspaceId = teamspace.parse()?;
    let remembered = SelectedTeamspace { id, name: TEAMSPACE.to_owned() };
    laptop.accounts().current()?.select_teamspace(&remembered)?;
    is_unknown(fairlead(&["services"])?, "no such teamspace")
}

fn a_certificate_of_another_organization(world: &World) -> anyhow::Result<()> {
    let laptop = LaptopByHand::of(world, "first", &world.ada().browser())?;
    // The same key at both organizations: only who signed its certificate tells them apart.
    LaptopByHand::with_the_key_of(world, "double", &laptop)?;
    let double = LaptopByHand::of(world, "double", &globex::eve(world)?)?.device()?;
    laptop.does(async move |laptop: &mut Linked| {
        ensure!(double.key.thumbprint() == laptop.device.key.thumbprint(), "it is the same key");
        let begun = laptop.consumes(&["shop/*"]).await?;
        let offer = laptop.offer(begun.session.id).await?;
        let theirs = TlsIdentity::new(vec![double.certificate], &double.key)?;
        let refused = laptop.carrier_as(&offer, &theirs).await?;
        ensure!(matches!(refused, Err(HandshakeError::NotAccepted(_))), "{refused:?}");
        laptop.carrier(begun.session.id).await.context("with the right certificate").map(drop)
    })
}

fn an_agent_of_another_key(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    let teamspaces = ada.reads(&["teamspace", "list"])?;
    let presented = teamspaces[0]["key_thumbprint"].as_str().context("a key")?;
    let known = format!("SHA256:{}", "A".repeat(43));
    ada.fairlead(&["teamspace", "trust", TEAMSPACE, &known])?.ok()?;
    let refused = refuses_the_key(world, &ada, &known, presented);
    ada.fairlead(&["teamspace", "trust", TEAMSPACE, presented])?.ok()?;
    refused?;
    ada.fairlead(&["consume", "shop/*"])?.ok()?;
    ada.asks("http://frontend.shop")?;
    ada.fairlead(&["stop"])?.ok()?;

    let laptop = LaptopByHand::of(world, "first", &ada.browser())?;
    laptop.does(async move |laptop: &mut Linked| {
        let begun = laptop.consumes(&["shop/*"]).await?;
        let offer = laptop.offer(begun.session.id).await?;
        let other = TeamspaceAuthority::create(Key::generate()?, SystemTime::now())?;
        let expected = PeerExpectation::replica(other.certificate().clone(), &other.thumbprint())?;
        let tcp = to_relay(&offer, Side::Laptop).await?;
        let refused = handshake(tcp, &laptop.identity()?, &expected).await;
        ensure!(matches!(refused, Err(HandshakeError::NotTrusted(_))), "{refused:?}");
        Ok(())
    })
}

/// The real daemon, which knows another key: the command says so, status says so, and nothing is left.
fn refuses_the_key(
    world: &World,
    ada: &Person<'_>,
    known: &str,
    presented: &str,
) -> anyhow::Result<()> {
    let says_so = |said: &Said| {
        let words = [known, presented, "fairlead teamspace trust NAME THUMBPRINT"];
        let all = format!("{}{}", said.stdout, said.stderr);
        ensure!(words.iter().all(|word| all.contains(word)), "{said}");
        Ok(())
    };
    for wish in [&["consume", "shop/*"][..], &["intercept", "shop/cart", "3000"]] {
        let said = ada.fairlead(wish)?;
        ensure!(said.code == Some(41), "a changed key is exit code 41: {said}");
        says_so(&said)?;
        says_so(&ada.fairlead(&["status"])?)?;
        live_sessions::there_are_none(world)?;
    }
    Ok(())
}

fn is_refused(outcome: Result<(), String>, why: &str) -> anyhow::Result<()> {
    ensure!(outcome.as_ref().is_err_and(|said| said.contains(why)), "`{why}`, but: {outcome:?}");
    Ok(())
}

fn is_allowed(outcome: Result<(), String>) -> anyhow::Result<()> {
    ensure!(outcome.is_ok(), "this is allowed, but: {outcome:?}");
    Ok(())
}

fn ticket_is_refused(outcome: Result<(), RelayError>) -> anyhow::Result<()> {
    ensure!(
        matches!(outcome, Err(RelayError::Refused)),
        "the ticket should be refused: {outcome:?}"
    );
    Ok(())
}
