//! What happens in a round: what ada does, and who is struck meanwhile. Dice determine it, and nothing else.

use std::{fmt, time::Duration};

use fairlead_tests::{Dice, Storm, blows_told};

/// One command of ada.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Start,
    Consume,
    Intercept,
    Leave,
    Stop,
}

/// What ends a command before it has ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Ctrl-C.
    Interrupted,
    Killed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) act: Act,
    pub(super) cut: Option<(Cut, Duration)>,
}

/// A process, or the hub's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Victim {
    Daemon,
    /// The part of the supervisor that works.
    Worker,
    /// The part of it that starts the other again.
    Guard,
    Hub,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    /// SIGKILL. Whoever starts it on a real machine does so when the time is over. Of the hub: the way to it is cut.
    Killed,
    /// SIGSTOP until the time is over. Of the hub: it answers no wish for a session.
    Held,
    /// SIGSTOP and SIGCONT by turns.
    Slowed,
}

pub(super) type Blow = fairlead_tests::Blow<Victim, How>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// She had a consume when the machine was switched off.
    pub(super) has_consumed: bool,
    pub(super) steps: Vec<Step>,
    pub(super) blows: Vec<Blow>,
}

const FAULTS: &[((Victim, How), u64)] = &[
    ((Victim::Daemon, How::Killed), 4),
    ((Victim::Daemon, How::Held), 2),
    ((Victim::Daemon, How::Slowed), 2),
    ((Victim::Worker, How::Killed), 4),
    ((Victim::Worker, How::Held), 2),
    ((Victim::Worker, How::Slowed), 2),
    ((Victim::Guard, How::Killed), 3),
    ((Victim::Guard, How::Held), 1),
    ((Victim::Hub, How::Killed), 2),
    ((Victim::Hub, How::Held), 1),
];

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Plan {
    pub(super) fn of(mut dice: Dice) -> Self {
        let has_consumed = dice.among(&[(true, 2), (false, 1)]);
        let start = Step { act: Act::Start, cut: None };
        let further = (0..dice.between(1, 4)).map(|_| step(&mut dice)).collect::<Vec<_>>();
        let steps: Vec<_> = [start].into_iter().chain(further).collect();
        // About as long as the steps take together.
        let length_ms = 500 * steps.len() as u64;
        let storm = Storm { faults: FAULTS, length_ms, each_lasts_ms: 50..=1500 };
        let blows = storm.blows(&mut dice);
        Self { has_consumed, steps, blows }
    }
}

fn step(dice: &mut Dice) -> Step {
    let act = dice.among(&[
        (Act::Start, 2),
        (Act::Consume, 4),
        (Act::Intercept, 3),
        (Act::Leave, 2),
        (Act::Stop, 2),
    ]);
    let cut = dice.among(&[(Cut::Interrupted, 1), (Cut::Killed, 1)]);
    let after = ms(dice.between(1, 900));
    // Nothing is consumed without a carrier, and this machine has none: whoever waits for it gives up.
    let is_cut = act == Act::Consume || dice.among(&[(true, 1), (false, 3)]);
    Step { act, cut: is_cut.then_some((cut, after)) }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.has_consumed {
            f.write_str("consumed before, ")?;
        }
        for step in &self.steps {
            write!(f, "{:?}", step.act)?;
            if let Some((cut, after)) = step.cut {
                write!(f, " ({cut:?} after {} ms)", after.as_millis())?;
            }
            f.write_str(", ")?;
        }
        f.write_str(&blows_told(&self.blows))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plans() -> impl Iterator<Item = Plan> {
        (1..=500).map(|round| Plan::of(Dice::of(7, round)))
    }

    #[test]
    fn a_seed_determines_each_round_by_itself() {
        let plan = |seed, round| Plan::of(Dice::of(seed, round)).to_string();
        assert_eq!(plan(7, 12), plan(7, 12));
        assert_ne!(plan(7, 12), plan(7, 13));
        assert_ne!(plan(7, 12), plan(8, 12));
    }

    #[test]
    fn whatever_can_go_wrong_does() {
        let met: BTreeSet<_> =
            plans().flat_map(|plan| plan.blows).map(|blow| (blow.victim, blow.how)).collect();
        assert_eq!(met.len(), FAULTS.len(), "a fault stands twice or is never chosen");
        for act in [Act::Start, Act::Consume, Act::Intercept, Act::Leave, Act::Stop] {
            let killed =
                |step: &Step| step.act == act && matches!(step.cut, Some((Cut::Killed, _)));
            assert!(plans().any(|plan| plan.steps.iter().any(killed)), "{act:?} is never killed");
        }
    }
}
