//! `cargo xtask demo`: brings the world up, plays the show, and leaves the stage to whoever watches.

mod guard;
mod images;

use std::{
    io::{self, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::Context;
use clap::Parser;
use fairlead_lab::{Another, Cluster, Host, Lab, ProxyMode};
use fairlead_tests::{HUB_URL, World, WorldOptions, open_door, show};
use nix::sys::signal::{SigSet, Signal};

const LAB: &str = "demo";
/// The hosts beside another cluster.
const LAB_OF_A_GUEST: &str = "demo-guest";
/// What a shell says of a program that Ctrl-C ended.
const ENDED_BY_CTRL_C: i32 = 130;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

#[derive(Debug, Parser)]
struct Demo {
    #[arg(long)]
    once: bool,
    #[arg(long, default_value = "iptables")]
    proxy_mode: ProxyMode,
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    #[arg(long)]
    hub_address: Option<Ipv4Addr>,
    #[arg(long)]
    images: Option<String>,
    #[arg(long)]
    save_images: Option<PathBuf>,
    /// What the guard says to the show: the cluster that was found
    #[arg(long, hide = true)]
    guest_of: Option<String>,
}

fn main() -> ExitCode {
    let outcome = play(Demo::parse(), &mut io::stdout().lock());
    match outcome {
        Ok(code) => code,
        // Everything fails when the lab is taken away. Whoever does that ends this process.
        Err(_) if INTERRUPTED.load(Ordering::SeqCst) => loop {
            thread::park();
        },
        Err(error) => {
            let told = writeln!(io::stderr(), "\nerror: {error:#}");
            if told.is_ok() { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
    }
}

fn play(demo: Demo, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    if let Some(folder) = demo.save_images {
        images::save(&folder, demo.images.as_deref(), out)?;
    } else if let Some(kubeconfig) = demo.kubeconfig {
        let found =
            |folder: &Path| Another::found(&kubeconfig, folder, demo.hub_address, demo.images);
        return guard::visit(found, demo.once, out);
    } else if let Some(guest_of) = demo.guest_of {
        interruptions_end(LAB_OF_A_GUEST)?;
        let cluster = Cluster::Another(serde_json::from_str(&guest_of)?);
        on_stage(LAB_OF_A_GUEST, cluster, demo.once, out)?;
    } else {
        interruptions_end(LAB)?;
        on_stage(LAB, Cluster::ours(demo.proxy_mode)?, demo.once, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ctrl-C at any moment ends the lab and everything in it, and then this process: whoever gets the prompt back has the
/// machine as it was.
fn interruptions_end(lab: &'static str) -> anyhow::Result<()> {
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
        if let Err(error) = Lab::remove(lab) {
            let next = format!("cargo xtask lab down --lab {lab}");
            drop(writeln!(io::stderr(), "error: {error:#}\nclear what is left with: {next}"));
        }
        std::process::exit(ENDED_BY_CTRL_C);
    });
    Ok(())
}

fn on_stage(lab: &str, cluster: Cluster, once: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let world = World::up(&WorldOptions { name: lab.to_owned(), cluster })?;
    show(&world, out).context("the show does not hold")?;
    writeln!(out, "\nEach line held.")?;
    if !once {
        stay(&world, lab, out)?;
    }
    world.down()
}

/// Says what can be tried and waits until the input ends or Ctrl-C ends everything.
fn stay(world: &World, lab: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let programs = world.laptop_program("fairlead");
    let programs = programs.parent().context("a program is in a folder")?;
    let [console, issuer] = [8443, 9090].map(|port| open_door(world.lab(), Host::Hub, port));
    writeln!(
        out,
        "
Be ada, in another terminal of this checkout:

  ada() {{ cargo xtask lab exec --lab {lab} --uid 7001 laptop -- env PATH={programs}:/usr/bin:/bin \"$@\"; }}
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

  cargo xtask lab kubectl --lab {lab} -- get pods -A

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
