//! The harness of the suites: a world in which the real hub, agent, daemon and command run on the lab's hosts.
//!
//! `World` is everything around a developer: cluster, shop, hub, issuer. A `Person` is somebody in it. `Residue` is
//! what must be the same afterwards. Not here: the lab itself, which knows nothing of Fairlead.

mod agent;
mod browser;
mod caller;
mod command;
mod figure;
mod hub;
mod laptop;
mod patience;
mod person;
mod residue;
mod shop;
mod show;
mod witness;
mod world;

pub use agent::Agent;
pub use browser::{Answer, Browser};
pub use caller::{Call, Caller};
pub use command::{Said, say};
pub use figure::{Figure, print as print_figures};
pub use hub::Hub;
pub use laptop::Laptop;
pub use patience::{eventually, within};
pub use person::Person;
pub use residue::Residue;
pub use shop::{OwnProcess, Shop, SteadyClient, answered_by};
pub use show::show;
pub use witness::Witness;
pub use world::{TEAMSPACE, World, WorldOptions};
