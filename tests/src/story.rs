//! Stories and how they are told: one world for all of them, and each must leave it as it found it.
//!
//! A suite of stories is a test program of its own: cargo's filters and `--list` mean stories, and what came of each is
//! said in the lines of Rust's own test programs, so that whatever reads those finds a story that failed.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use fairlead_lab::{Cluster, ProxyMode};

use crate::{
    Residue, World, WorldOptions,
    patience::within,
    switches::{self, Meant},
};

/// Restoring has its own bounds, which a bench measures; this is only for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

type Play = Box<dyn Fn(&World) -> anyhow::Result<()>>;

/// What happens to a world, told by what must be true in it.
pub struct Story {
    name: String,
    play: Play,
    kept: fn(Residue) -> Residue,
    in_both_modes: bool,
}

impl std::fmt::Debug for Story {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Story").field(&self.name).finish()
    }
}

impl Story {
    /// Makes a story after which cluster and laptop must be what they were.
    pub fn new(
        name: impl Into<String>,
        play: impl Fn(&World) -> anyhow::Result<()> + 'static,
    ) -> Self {
        Self { name: name.into(), play: Box::new(play), kept: Residue::whole, in_both_modes: true }
    }

    /// Makes a story in which the shop's owner changes the shop: only the laptop must be what it was.
    #[must_use]
    pub fn of_the_owner(self) -> Self {
        Self { kept: Residue::on_the_laptop, ..self }
    }

    /// Makes a story at whose end the agent is no longer installed: its pods are gone, and nothing else.
    #[must_use]
    pub fn without_the_agent(self) -> Self {
        Self { kept: Residue::without_pods, ..self }
    }

    /// Makes a story on which kube-proxy has no bearing: it is told in iptables mode, and in the other one only when it
    /// is asked for by name.
    #[must_use]
    pub fn in_one_mode(self) -> Self {
        Self { in_both_modes: false, ..self }
    }

    /// Returns its name as that of a test: one word.
    fn label(&self) -> String {
        self.name.replace(|c: char| !c.is_alphanumeric(), "_")
    }

    fn belongs_to(&self, mode: ProxyMode, meant: &Meant) -> bool {
        let in_this_mode = self.in_both_modes || mode == ProxyMode::Iptables;
        let is_meant = meant.includes(&self.name) || meant.includes(&self.label());
        is_meant && (in_this_mode || meant.names_some())
    }

    /// Tells it, says what came of it, and returns what went wrong.
    fn is_told(&self, world: &World, out: &mut impl Write) -> io::Result<Option<anyhow::Error>> {
        writeln!(out, "story: {}", self.name)?;
        let (begun, label) = (Instant::now(), self.label());
        let outcome = self.tell(world);
        let took = begun.elapsed().as_secs_f32();
        match &outcome {
            Ok(()) => writeln!(out, "test {label} ... ok ({took:.1} s)")?,
            Err(error) => {
                writeln!(out, "{}\n{error:#}\ntest {label} ... FAILED", world.last_words())?;
            }
        }
        Ok(outcome.err())
    }

    /// Plays it and looks at what it left behind.
    fn tell(&self, world: &World) -> anyhow::Result<()> {
        world.forgets_dead_connections()?;
        let before = (self.kept)(Residue::of(world.lab())?);
        (self.play)(world)?;
        within(PATIENCE, "nothing is left behind", || {
            (self.kept)(Residue::of(world.lab())?).is_the_same_as(&before)
        })?;
        Ok(())
    }
}

/// Tells the stories that the command line means; the exit status says whether each held.
#[must_use]
pub fn tell_stories(world: &str, stories: &[Story]) -> ExitCode {
    let mut out = io::stderr();
    match told(world, stories, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let told = writeln!(out, "error: {error:#}");
            if told.is_ok() { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
    }
}

fn told(name: &str, stories: &[Story], out: &mut impl Write) -> anyhow::Result<()> {
    let meant = Meant::read(std::env::args().skip(1))?;
    let proxy_mode = switches::proxy_mode()?;
    let stories: Vec<_> =
        stories.iter().filter(|story| story.belongs_to(proxy_mode, &meant)).collect();
    if meant.is_list {
        return list(&stories);
    }
    ensure!(!stories.is_empty(), "no story of `{name}` has a name like that; see --list");
    let cluster = Cluster::ours(proxy_mode)?;
    let world =
        World::up(&WorldOptions { name: format!("{name}-{}", proxy_mode.name()), cluster })?;
    let begun = Instant::now();
    let (mut told, mut failed, mut cleared) = (0, Vec::new(), Ok(()));
    for story in &stories {
        told += 1;
        if let Some(failure) = story.is_told(&world, out)? {
            failed.push((story.label(), failure));
            cleared = world.clears_up().context("the next story would inherit the trouble");
        }
        if cleared.is_err() {
            break;
        }
    }
    conclude(told, &failed, begun.elapsed(), out)?;
    cleared?;
    world.down()?;
    let failed = failed.len();
    ensure!(
        failed == 0,
        "{failed} of {told} stories failed with kube-proxy in {} mode",
        proxy_mode.name()
    );
    Ok(())
}

fn conclude(
    count: usize,
    failed: &[(String, anyhow::Error)],
    took: Duration,
    out: &mut impl Write,
) -> io::Result<()> {
    if !failed.is_empty() {
        writeln!(out, "\nfailures:")?;
        // Once more, where whoever reads the end of a long log finds it.
        for (label, error) in failed {
            writeln!(out, "\n---- {label} stdout ----\n{error:#}")?;
        }
        writeln!(out, "\nfailures:")?;
        failed.iter().try_for_each(|(label, _)| writeln!(out, "    {label}"))?;
    }
    let outcome = if failed.is_empty() { "ok" } else { "FAILED" };
    let (passed, failed, took) = (count - failed.len(), failed.len(), took.as_secs_f32());
    writeln!(
        out,
        "\ntest result: {outcome}. {passed} passed; {failed} failed; finished in {took:.1} s"
    )
}

/// As other test programs list their tests.
fn list(stories: &[&Story]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    stories.iter().try_for_each(|story| writeln!(out, "{}: test", story.label()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_of_one_mode_is_told_in_the_other_one_only_by_name() {
        let meant = |words: &[&str]| {
            Meant::read(words.iter().map(|word| (*word).to_owned())).expect("words")
        };
        let story = Story::new("a full disk", |_| Ok(())).in_one_mode();
        assert!(story.belongs_to(ProxyMode::Iptables, &meant(&[])));
        assert!(!story.belongs_to(ProxyMode::Nftables, &meant(&[])));
        assert!(story.belongs_to(ProxyMode::Nftables, &meant(&["disk"])));
        assert!(story.belongs_to(ProxyMode::Nftables, &meant(&["full_disk"])));
        assert!(!story.belongs_to(ProxyMode::Nftables, &meant(&["hub"])));
    }
}
