//! What people get wrong and what fails around them: each is a message that says what to do, its exit code, and nothing
//! half done, neither on the laptop nor at the hub.

use std::process::Stdio;

use anyhow::{Context, ensure};
use fairlead_lab::{Host, sibling};
use fairlead_tests::{HUB_URL, Person, Residue, Story, World, say, within};

use crate::{
    by_hand::{LaptopByHand, Linked, on_the_laptop},
    intercepting::PATIENCE,
    live_sessions, stray_agent,
};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("an unknown service is told with similar ones", an_unknown_service),
        Story::new("a hub that cannot be reached is told", an_unreachable_hub),
        Story::new("a dead supervisor is told", a_dead_supervisor),
        Story::new("a read-only hosts file is told", a_read_only_hosts_file),
        Story::new("a full disk is told", a_full_disk),
        Story::new("a port in use is told with its holder", a_port_in_use),
        Story::new("a clock that is off is told by how much", a_clock_off_by_an_hour),
        Story::new("an agent that cannot join tells why", stray_agent::cannot_join),
    ]
}

/// What a wrong command must say, on standard error.
struct Answer<'a> {
    code: i32,
    says: &'a [&'a str],
}

/// Runs a command that cannot succeed, and looks whether it left anything behind.
fn fails(
    world: &World,
    ada: &Person<'_>,
    words: &[&str],
    answer: &Answer<'_>,
) -> anyhow::Result<()> {
    let before = Residue::of(world.lab())?;
    let said = ada.fairlead(words)?;
    ensure!(said.code == Some(answer.code), "exit code {} is wanted: {said}", answer.code);
    ensure!(said.stdout.is_empty(), "standard output is for data: {said}");
    for wanted in answer.says {
        ensure!(said.stderr.contains(wanted), "`{wanted}` is wanted: {said}");
    }
    Residue::of(world.lab())?.is_the_same_as(&before)
}

fn an_unknown_service(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    for words in [&["consume", "shop/kart"][..], &["intercept", "shop/kart", "3000"]] {
        let says = &["shop/kart", "hint: ", "`shop/cart`"];
        fails(world, &ada, words, &Answer { code: 50, says })?;
        live_sessions::there_are_none(world)?;
    }
    // Beside one that exists it is no failure, but it is said.
    let said = ada.fairlead(&["consume", "shop/frontend", "shop/kart"])?.ok()?;
    ensure!(said.stderr.contains("`shop/kart`"), "{said}");
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

fn an_unreachable_hub(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    let mut hub = world.hub();
    hub.kill()?;
    let says = &["could not reach https://hub.fairlead.test:8443", "hint: check the address"];
    let checked = [
        &["services"][..],
        &["teamspace", "list"],
        &["consume", "shop/*"],
        &["intercept", "shop/cart", "3000"],
    ]
    .into_iter()
    .try_for_each(|words| fails(world, &ada, words, &Answer { code: 40, says }));
    let status = within(PATIENCE, "status says so", || {
        let status = ada.reads(&["status"])?;
        ensure!(status["hub"]["state"] == "connecting", "{status}");
        Ok(status)
    });
    hub.start_again(world.lab())?;
    drop(hub);
    checked?;
    let (status, _) = status?;
    let reason = status["hub"]["reason"].as_str().unwrap_or_default();
    ensure!(!reason.is_empty(), "status says why: {status}");
    live_sessions::there_are_none(world)?;
    ada.is_connected(PATIENCE)?;
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

fn a_dead_supervisor(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    let mut laptop = world.laptop();
    ada.fairlead(&["consume", "shop/frontend"])?.ok()?;
    ada.asks("http://frontend.shop")?;
    laptop.kill_supervisor(world.lab())?;
    let seen = names_are_gone_and_status_says_why(&ada)
        .and_then(|()| ada.fairlead(&["consume", "clear"]))
        .and_then(|_| {
            let says = &["no supervisor is running, so no name can be added", "hint: start it"];
            fails(world, &ada, &["consume", "shop/*"], &Answer { code: 81, says })?;
            live_sessions::there_are_none(world)
        });
    laptop.start_supervisor(world.lab())?;
    seen?;
    ada.fairlead(&["start"])?.ok()?;
    ada.fairlead(&["consume", "shop/*"])?.ok()?;
    ada.asks("http://frontend.shop")?;
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

fn names_are_gone_and_status_says_why(ada: &Person<'_>) -> anyhow::Result<()> {
    within(PATIENCE, "no name leads anywhere without a supervisor", || {
        let mut curl = ada.command("curl");
        curl.args(["--silent", "--show-error", "--max-time", "5", "http://frontend.shop"]);
        let said = say(curl)?;
        // 6: the name is not known. Better than an address at which nobody is.
        ensure!(said.code == Some(6), "{said}");
        let said = ada.fairlead(&["status"])?.ok()?;
        ensure!(said.stdout.contains("no supervisor is running"), "{said}");
        Ok(())
    })?;
    Ok(())
}

fn a_read_only_hosts_file(world: &World) -> anyhow::Result<()> {
    hosts_file_refuses(
        world,
        "mount --bind /etc/hosts /etc/hosts && mount -o remount,ro,bind /etc/hosts",
        "umount /etc/hosts",
        &["could not write /etc/hosts: it is read-only", "hint: make the file writable for root"],
    )
}

/// A file system of two pages, of which one is the hosts file and the other one is full, and so is the file's page.
fn a_full_disk(world: &World) -> anyhow::Result<()> {
    hosts_file_refuses(
        world,
        "mkdir /run/small && mount -t tmpfs -o size=8k tmpfs /run/small && cp /etc/hosts /run/small/hosts \
         && printf '#%*s\\n' $((4090 - $(stat -c %s /etc/hosts))) '' >> /run/small/hosts \
         && (cat /dev/zero > /run/small/filler 2>/dev/null || true) && mount --bind /run/small/hosts /etc/hosts",
        "umount /etc/hosts && umount /run/small && rmdir /run/small",
        &[
            "could not write /etc/hosts: the disk is full",
            "hint: the disk is full: free some space",
        ],
    )
}

fn hosts_file_refuses(world: &World, spoil: &str, mend: &str, says: &[&str]) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    let root_does = |script: &str| {
        let mut sh = world.lab().exec(Host::Laptop, "sh");
        sh.args(["-ec", script]);
        say(sh)?.ok()
    };
    root_does(spoil)?;
    let refused = fails(world, &ada, &["consume", "shop/*"], &Answer { code: 60, says })
        .and_then(|()| live_sessions::there_are_none(world));
    root_does(mend)?;
    refused?;
    ada.fairlead(&["consume", "shop/*"])?.ok().context("once it is mended")?;
    ada.asks("http://frontend.shop")?;
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

/// The hub's own ports: whoever starts a second one learns who has them.
fn a_port_in_use(world: &World) -> anyhow::Result<()> {
    let folder = world.folder().join("second-hub");
    let mut hub = world.lab().exec(Host::Hub, sibling("fairlead-hub")?);
    hub.args(["dev", "--host", "hub.fairlead.test", "--listen", "0.0.0.0:8443"])
        .args(["--relay-listen", "0.0.0.0:9444", "--data"])
        .arg(&folder)
        .stdin(Stdio::null());
    let said = say(hub)?;
    std::fs::remove_dir_all(&folder)?;
    ensure!(said.code == Some(1), "{said}");
    for wanted in ["8443", "fairlead-hub", "process"] {
        ensure!(said.stderr.contains(wanted), "`{wanted}` is wanted: {said}");
    }
    let mut curl = world.lab().exec(Host::Hub, "curl");
    curl.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(world.hub_ca());
    curl.arg(format!("{HUB_URL}/readyz"));
    say(curl)?.ok().context("the first hub goes on")?;
    Ok(())
}

/// No process of the lab can be given another wall clock, so the laptop by hand says the wrong time in its greeting.
fn a_clock_off_by_an_hour(world: &World) -> anyhow::Result<()> {
    let accounts = LaptopByHand::of(world, "first", &world.ada().browser())?.accounts();
    on_the_laptop(world, async move || {
        for (ahead_s, words) in [(3600, "3600 s ahead of"), (-3600, "3600 s behind")] {
            let refused = Linked::open_with_clock(&accounts, ahead_s).await.err();
            let said = format!("{:#}", refused.context("it was welcomed all the same")?);
            // A second may pass on the way.
            let said = said.replace("3599", "3600").replace("3601", "3600");
            ensure!(said.contains(words) && said.contains("NTP"), "{said}");
        }
        Ok(())
    })
}
