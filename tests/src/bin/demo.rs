//! `cargo xtask demo`: brings the world up, plays the show, and leaves the stage to whoever watches.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use fairlead_lab::ProxyMode;
use fairlead_tests::{World, WorldOptions, show};

fn main() -> ExitCode {
    let once = std::env::args().any(|argument| argument == "--once");
    match demo(once, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let told = writeln!(io::stderr(), "\nthe demo does not hold: {error:#}");
            if told.is_ok() { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
    }
}

fn demo(once: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let world =
        World::up(&WorldOptions { name: "demo".to_owned(), proxy_mode: ProxyMode::Iptables })?;
    show(&world, out)?;
    writeln!(out, "\nEach line held.")?;
    if !once {
        stay(&world, out)?;
    }
    world.down()
}

/// Says what can be tried and waits until the input ends or Ctrl-C ends everything.
fn stay(world: &World, out: &mut impl Write) -> anyhow::Result<()> {
    let fairlead = world.laptop_program("fairlead");
    writeln!(
        out,
        "
Everything stays up until Ctrl-C. Try it in another terminal:
  cargo xtask lab exec laptop --lab demo --uid 7001 -- {} status
  cargo xtask lab kubectl --lab demo -- get pods -A
The hub is https://hub.fairlead.test:8443 on the lab's hosts; its log is {}.",
        fairlead.display(),
        world.folder().join("hub/hub.log").display(),
    )?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}
