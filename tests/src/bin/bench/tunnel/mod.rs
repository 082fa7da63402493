//! How fast bytes travel from an application on the laptop through daemon, hub and agent to a service, beside the same
//! bytes without us, through haproxy, and through other tools.
//!
//! The real programs in their release build, each a process of its own, on this machine. The laptop's daemon takes the
//! connection at its redirect as on any laptop; the hub's raw relay port splices; the agent is a process with the
//! kubeconfig of the lab, and the service's ClusterIP is an address of the same host (`fairlead_tests::Line`). So the
//! whole path is on the loopback interface, as are the two it is compared with: with cables between lab hosts, their
//! cost would be the larger part of every figure, and of the raw one most of all.
//!
//! - *raw*: the application is connected to the service.
//! - *haproxy*: two of them in a row in TCP mode, two threads each and otherwise as they come: what two hops cost at
//!   least, without encryption. Our path has three.
//! - *three plain hops*: one haproxy more.
//! - others that can be had as packages (`rivals`).
//! - *wss*: ours in a network that lets the laptop through to the hub's own port only.
//!
//! Every round measures all of them, one after the other, and a ratio is one of the same round: what else the machine
//! does then is in both. What is measured without us is kept out of the kernel's connection table, which our redirect
//! needs and they do not.

mod far;
mod gates;
mod haproxy;
mod loads;
mod memory;
mod path;
mod rivals;
mod round;
mod samples;
mod wss;

use anyhow::Context as _;
use fairlead_lab::Host;
use fairlead_tests::{Figure, Line};

use crate::stage::tell;
use haproxy::Haproxy;
use loads::Loads;
use path::Path;
use samples::Samples;

const ROUNDS: u32 = 5;
const NAME: &str = "bench";

pub(crate) fn bench(rounds: Option<u32>) -> anyhow::Result<Vec<Figure>> {
    let rounds = rounds.unwrap_or(ROUNDS);
    let line = Line::up(NAME, Host::Laptop)?;
    let loads = Loads::of(&line);
    let haproxy = Haproxy::start(&line)?;
    haproxy::keep_untracked(&line)?;
    let mut figures = memory::of_idle_streams(&line, &loads).context("memory of idle streams")?;
    figures.push(memory::of_idle_pairs().context("memory of idle pairs")?);
    let rivals = rivals::start(&line);
    let others =
        rivals.iter().map(|rival| rival.path(&line)).collect::<anyhow::Result<Vec<_>>>()?;
    let paths = [Path::raw(&line)?, Path::haproxy(&line, &haproxy)?, Path::ours(&line)?];
    let plain = Path::plain(&line, &haproxy)?;
    let mut samples = Samples::default();
    for number in 1..=rounds {
        samples.begin_round();
        for path in &paths {
            tell(&format!("round {number} of {rounds}: {}", path.name));
            round::measure(path, &loads, &mut samples);
        }
        tell(&format!("round {number} of {rounds}: {}", plain.name));
        round::small(&plain, &loads, &mut samples);
        round::one_stream(&plain, &loads, &mut samples);
        for other in &others {
            tell(&format!("round {number} of {rounds}: {}", other.name));
            rivals::measure(other, &loads, &mut samples);
        }
    }
    figures.extend(memory::beside_stalled_readers(&line, &loads, rounds)?);
    figures.extend(wss::bench(&line, &loads, rounds).context("through WebSockets")?);
    let names: Vec<_> = rivals.iter().map(|rival| rival.name).collect();
    drop((haproxy, rivals));
    line.down()?;
    let near = gates::figures(&samples).into_iter().chain(rivals::figures(&samples, &names));
    let near = near.chain(figures);
    Ok(near.chain(far::bench(rounds)?).collect())
}
