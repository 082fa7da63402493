//! What happens in a round: what ada has and does, and who is struck meanwhile. Dice determine it, and nothing else.

use std::{fmt, time::Duration};

use fairlead_tests::{Dice, Storm, blows_told};

/// One command of ada.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Consume,
    ConsumeNothing,
    Intercept,
    Leave,
}

/// A process, or the way between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Victim {
    Hub,
    /// The hub's Postgres.
    Database,
    /// One of the two.
    Replica(usize),
    Daemon,
    Supervisor,
    /// Between laptop and hub.
    LaptopsWay,
    /// Between the agents and the hub.
    AgentsWay,
    /// Between a node and everybody else.
    NodesWay(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    /// SIGKILL. What only somebody outside starts again is started when the time is over.
    Killed,
    /// SIGSTOP, then SIGCONT.
    Held,
    /// Nothing passes.
    Cut,
    /// Two of five packets are lost, so that what passes takes its time.
    Slowed,
    /// What passes takes a sixth of a second longer in a direction.
    Delayed,
}

pub(super) type Blow = fairlead_tests::Blow<Victim, How>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// What she has when it begins.
    pub(super) consumes: bool,
    pub(super) intercepts: bool,
    /// What she does meanwhile, and after how long.
    pub(super) steps: Vec<(Duration, Act)>,
    pub(super) blows: Vec<Blow>,
}

const FAULTS: &[((Victim, How), u64)] = &[
    ((Victim::Hub, How::Killed), 4),
    ((Victim::Hub, How::Held), 3),
    ((Victim::Database, How::Held), 5),
    ((Victim::Replica(0), How::Killed), 2),
    ((Victim::Replica(1), How::Killed), 2),
    ((Victim::Replica(0), How::Held), 2),
    ((Victim::Replica(1), How::Held), 2),
    ((Victim::Daemon, How::Killed), 4),
    ((Victim::Daemon, How::Held), 3),
    ((Victim::Supervisor, How::Killed), 3),
    ((Victim::Supervisor, How::Held), 2),
    ((Victim::LaptopsWay, How::Cut), 4),
    ((Victim::LaptopsWay, How::Slowed), 3),
    ((Victim::LaptopsWay, How::Delayed), 3),
    ((Victim::AgentsWay, How::Cut), 3),
    ((Victim::AgentsWay, How::Slowed), 2),
    ((Victim::AgentsWay, How::Delayed), 3),
    ((Victim::NodesWay(0), How::Cut), 2),
    ((Victim::NodesWay(1), How::Cut), 2),
];

/// About how long the storm lasts.
const STORM_MS: u64 = 5000;
/// Of one blow: a laptop that is away for as long as the grace has rightly lost its intercept.
const BLOW_MAX_MS: u64 = 3000;
const STORM: Storm<'_, Victim, How> =
    Storm { faults: FAULTS, length_ms: STORM_MS, each_lasts_ms: 200..=BLOW_MAX_MS };

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Plan {
    pub(super) fn of(mut dice: Dice) -> Self {
        let consumes = dice.among(&[(true, 3), (false, 1)]);
        let intercepts = dice.among(&[(true, 3), (false, 1)]);
        let mut steps: Vec<_> = (0..dice.between(0, 3)).map(|_| step(&mut dice)).collect();
        steps.sort_by_key(|(after, _)| *after);
        let blows = STORM.blows(&mut dice);
        Self { consumes, intercepts, steps, blows }
    }
}

fn step(dice: &mut Dice) -> (Duration, Act) {
    let act = dice.among(&[
        (Act::Consume, 3),
        (Act::ConsumeNothing, 1),
        (Act::Intercept, 3),
        (Act::Leave, 2),
    ]);
    (ms(dice.between(0, STORM_MS)), act)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (has, what) in [(self.consumes, "consuming, "), (self.intercepts, "intercepting, ")] {
            f.write_str(if has { what } else { "" })?;
        }
        for (after, act) in &self.steps {
            write!(f, "{act:?} at {} ms, ", after.as_millis())?;
        }
        f.write_str(&blows_told(&self.blows))
    }
}
