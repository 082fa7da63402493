//! `cargo xtask demo`: brings the world up, plays the show, and leaves the stage to whoever watches.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::Context;
use fairlead_lab::{Cluster, Host, Lab, ProxyMode};
use fairlead_tests::{HUB_URL, World, WorldOptions, open_door, show};
use nix::sys::signal::{SigSet, Signal};

const LAB: &str = "demo";
/// What a shell says of a program that Ctrl-C ended.
const ENDED_BY_CTRL_C: i32 = 130;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let told = interruptions_end_the_lab().and_then(|()| arguments());
    match told.and_then(|(once, mode)| demo(once, mode, &mut io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        // Everything fails when the lab is taken away. Whoever does that ends this process.
        Err(_) if INTERRUPTED.load(Ordering::SeqCst) => loop {
            thread::park();
        },
        Err(error) => {
            let told = writeln!(io::stderr(), "\nthe demo does not hold: {error:#}");
            if told.is_ok() { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
    }
}

fn arguments() -> anyhow::Result<(bool, ProxyMode)> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let mode = words.iter().find_map(|word| word.strip_prefix("--proxy-mode="));
    let mode = mode.map_or(Ok(ProxyMode::Iptables), str::parse)?;
    Ok((words.iter().any(|word| word == "--once"), mode))
}

/// Ctrl-C at any moment ends the lab and everything in it, and then this process: whoever gets the prompt back has the
/// machine as it was.
fn interruptions_end_the_lab() -> anyhow::Result<()> {
    let mut awaited = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        awaited.add(signal);
    }
    // Before the first thread, so that none of them is interrupted; programs that are started hear signals again.
    awaited.thread_block()?;
    thread::spawn(move || {
        if awaited.wait().is_err() {
            return;
        }
        INTERRUPTED.store(true, Ordering::SeqCst);
        // Nobody may be listening any more.
        drop(writeln!(io::stderr(), "\nEnding the demo…"));
        // One that has only begun has no state yet, and ends with this process.
        drop(Lab::remove(LAB));
        std::process::exit(ENDED_BY_CTRL_C);
    });
    Ok(())
}

fn demo(once: bool, proxy_mode: ProxyMode, out: &mut impl Write) -> anyhow::Result<()> {
    let cluster = Cluster::ours(proxy_mode)?;
    let world = World::up(&WorldOptions { name: LAB.to_owned(), cluster })?;
    show(&world, out)?;
    writeln!(out, "\nEach line held.")?;
    if !once {
        stay(&world, out)?;
    }
    world.down()
}

/// Says what can be tried and waits until the input ends or Ctrl-C ends everything.
fn stay(world: &World, out: &mut impl Write) -> anyhow::Result<()> {
    let programs = world.laptop_program("fairlead");
    let programs = programs.parent().context("a program is in a folder")?;
    let [console, issuer] = [8443, 9090].map(|port| open_door(world.lab(), Host::Hub, port));
    writeln!(
        out,
        "
Be ada, in another terminal of this checkout:

  ada() {{ cargo xtask lab exec --lab {LAB} --uid 7001 laptop -- env PATH={programs}:/usr/bin:/bin \"$@\"; }}
  ada fairlead start
  ada fairlead consume 'shop/*'
  ada curl -s http://frontend.shop
  ada shop cart --listen 127.0.0.1:3000 --name ada-laptop &
  ada fairlead intercept shop/cart 3000
  ada sh -c 'until curl -s http://frontend.shop | grep ada-laptop; do sleep 1; done'
  ada fairlead list
  ada fairlead leave --all
  ada fairlead stop

Look at the cluster, which ada cannot:

  cargo xtask lab kubectl --lab {LAB} -- get pods -A

Open the console as ada, grace or olga (nobody has a password); its names are known in the lab only, so tell the browser:

  chromium --user-data-dir=\"$(mktemp -d)\" --ignore-certificate-errors \\
    --host-resolver-rules='MAP hub.fairlead.test:8443 127.0.0.1:{console}, MAP idp.fairlead.test:9090 127.0.0.1:{issuer}' \\
    {HUB_URL}

The hub's log is {log}.
Everything stays up until Ctrl-C.",
        programs = programs.display(),
        console = console?,
        issuer = issuer?,
        log = world.folder().join("hub/hub.log").display(),
    )?;
    out.flush()?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}
