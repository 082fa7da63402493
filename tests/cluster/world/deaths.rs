//! Whatever can die is killed at separate moments of an intercept. Afterwards the intercept goes on, or is given back
//! as it was about to be, and a look at the list tells the truth about it.

use std::fmt;

use fairlead_lab::Host;
use fairlead_tests::{Agent, Cut, Process, Story, World, has_key, within};

use crate::intercepting::{CART, INTERCEPT, LEAVE, PATIENCE, Scene, scene};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Daemon,
    Supervisor,
    /// The replica that writes Services and slices.
    Writer,
    OtherReplica,
    BothReplicas,
    Hub,
    /// The laptop's network: nothing dies, nothing passes.
    Network,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// The key has just been put on; nothing is proven yet.
    Preparing,
    Active,
    /// The laptop's network is cut, and the pods answer in its place.
    Away,
    /// The key has just been taken off; the slice is still there.
    GivingBack,
}

use Moment::{Active, Away, GivingBack, Preparing};
use Victim::{BothReplicas, Daemon, Hub, Network, OtherReplica, Supervisor, Writer};

/// Who dies when. Each victim meets at least two moments, and each moment several victims.
const DEATHS: &[(Victim, Moment)] = &[
    (Daemon, Preparing),
    (Daemon, Active),
    (Daemon, GivingBack),
    (Supervisor, Active),
    (Supervisor, Away),
    (Writer, Preparing),
    (Writer, Active),
    (Writer, Away),
    (Writer, GivingBack),
    (OtherReplica, Preparing),
    (OtherReplica, Active),
    (OtherReplica, GivingBack),
    (BothReplicas, Active),
    (BothReplicas, Away),
    (Hub, Preparing),
    (Hub, GivingBack),
    (Network, Preparing),
    (Network, Active),
    (Network, GivingBack),
];

pub(crate) fn stories() -> Vec<Story> {
    let story = |(victim, moment): &(Victim, Moment)| {
        let (victim, moment) = (*victim, *moment);
        Story::new(format!("{victim} {moment}"), move |world| dies(world, victim, moment))
    };
    assert_each_meets_several();
    DEATHS.iter().map(story).collect()
}

/// The table itself can be wrong, and nobody would miss what is not told.
fn assert_each_meets_several() {
    for (victim, moment) in DEATHS {
        let moments = DEATHS.iter().filter(|(other, _)| other == victim).count();
        let victims = DEATHS.iter().filter(|(_, other)| other == moment).count();
        assert!(moments >= 2, "{victim} at one moment only");
        assert!(victims >= 2, "only one victim {moment}");
    }
}

fn dies(world: &World, victim: Victim, moment: Moment) -> anyhow::Result<()> {
    scene(world, |scene| {
        scene.ada.fairlead(&["consume", "shop/*"])?.ok()?;
        let blow = Blow::prepared(scene, victim)?;
        match moment {
            Preparing => while_preparing(scene, blow)?,
            Active => {
                scene.ada_intercepts()?;
                blow.strikes()?.heals(scene)?;
                scene.intercept_goes_on()?;
            }
            Away => while_away(scene, blow)?,
            GivingBack => while_giving_back(scene, blow)?,
        }
        within(PATIENCE, "consume works again", || scene.ada.asks("http://frontend.shop"))?;
        Ok(())
    })?;
    world.agent().renews_what_died()?;
    world.both_replicas_are_linked()
}

fn while_preparing(scene: &Scene<'_>, blow: Blow<'_>) -> anyhow::Result<()> {
    let watch = scene.cart.watch()?;
    let command = scene.ada.begins(&INTERCEPT)?;
    watch.until(PATIENCE, "the key is put on", has_key)?;
    blow.strikes()?.heals(scene)?;
    // Whether the command could still tell what became of it depends on who died; the intercept does not.
    command.ends()?;
    scene.intercept_goes_on()
}

fn while_away(scene: &Scene<'_>, blow: Blow<'_>) -> anyhow::Result<()> {
    scene.ada_intercepts()?;
    let cut = Cut::off(scene.world.lab(), Host::Laptop)?;
    scene.cart_is_a_pod()?;
    let wound = blow.strikes()?;
    cut.mend()?;
    wound.heals(scene)?;
    scene.intercept_goes_on()
}

fn while_giving_back(scene: &Scene<'_>, blow: Blow<'_>) -> anyhow::Result<()> {
    scene.ada_intercepts()?;
    let watch = scene.cart.watch()?;
    watch.until(PATIENCE, "the key stands", has_key)?;
    let command = scene.ada.begins(&LEAVE)?;
    watch.until(PATIENCE, "the key is taken off", |published| !has_key(published))?;
    blow.strikes()?.heals(scene)?;
    command.ends()?;
    scene.cart_is_a_pod()?;
    scene.cart.is_given_back(PATIENCE)?;
    scene.ada.has_lost(CART, PATIENCE)
}

/// A death that needs nothing but its moment: whatever must be looked up was looked up before.
struct Blow<'w> {
    world: &'w World,
    victim: Victim,
    kills: Vec<Process>,
}

/// What a blow did, and must be undone by whoever repairs machines.
enum Wound<'w> {
    /// Somebody starts it again by themselves.
    Healing,
    Agent,
    Supervisor,
    Hub,
    Network(Cut<'w>),
}

impl<'w> Blow<'w> {
    fn prepared(scene: &Scene<'w>, victim: Victim) -> anyhow::Result<Self> {
        let world = scene.world;
        let agent = world.agent();
        let pods = match victim {
            Writer => vec![agent.writer()?],
            OtherReplica => vec![agent.other_replica()?],
            BothReplicas => agent.replicas()?,
            Daemon | Supervisor | Hub | Network => Vec::new(),
        };
        let mut kills: Vec<_> =
            pods.iter().map(|pod| Agent::process_of(pod)).collect::<anyhow::Result<_>>()?;
        if victim == Daemon {
            kills.push(scene.ada.daemon()?);
        }
        Ok(Self { world, victim, kills })
    }

    fn strikes(self) -> anyhow::Result<Wound<'w>> {
        for process in self.kills {
            process.kill()?;
        }
        let lab = self.world.lab();
        Ok(match self.victim {
            Daemon => Wound::Healing,
            Writer | OtherReplica | BothReplicas => Wound::Agent,
            Supervisor => {
                self.world.laptop().kill_supervisor(lab)?;
                Wound::Supervisor
            }
            Hub => {
                self.world.hub().kill()?;
                Wound::Hub
            }
            Network => Wound::Network(Cut::off(lab, Host::Laptop)?),
        })
    }
}

impl Wound<'_> {
    fn heals(self, scene: &Scene<'_>) -> anyhow::Result<()> {
        let world = scene.world;
        match self {
            Self::Healing => {}
            Self::Agent => world.agent().wait_ready()?,
            Self::Supervisor => {
                world.laptop().start_supervisor(world.lab())?;
                scene.ada.fairlead(&["start"])?.ok()?;
            }
            Self::Hub => world.hub().start_again(world.lab())?,
            Self::Network(cut) => {
                scene.cart_is_a_pod()?;
                cut.mend()?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Daemon => "the daemon is killed",
            Supervisor => "the supervisor is killed",
            Writer => "the writing replica is killed",
            OtherReplica => "the other replica is killed",
            BothReplicas => "both replicas are killed",
            Hub => "the hub is killed",
            Network => "the laptop's network is cut",
        })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Preparing => "while the intercept is prepared",
            Active => "while it is active",
            Away => "while the laptop is away",
            GivingBack => "while the service is given back",
        })
    }
}
