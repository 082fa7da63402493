//! The harness of the suites: a world in which the real hub, agent, daemon and command run on the lab's hosts.
//!
//! `World` is everything around a developer: cluster, shop, hub, issuer. A `Person` is somebody in it. `Residue` is
//! what must be the same afterwards. Not here: the lab itself, which knows nothing of Fairlead.

mod agent;
mod browser;
mod cable;
mod caller;
mod calls;
mod chaos;
mod command;
mod conversation;
mod door;
mod figure;
mod handmade;
mod hub;
mod laptop;
mod line;
mod own_shop;
mod patience;
mod performance;
mod person;
mod pods;
mod process;
mod residue;
mod service;
mod shop;
mod show;
mod story;
mod switches;
mod table;
mod visit;
mod watch;
mod witness;
mod world;

pub use agent::{Agent, NAMESPACE as AGENT_NAMESPACE};
pub use browser::{Answer, Browser};
pub use cable::Cut;
pub use caller::{Caller, end_callers};
pub use calls::{Call, Calls, Moved, Trouble};
pub use chaos::{Dice, Rounds};
pub use command::{Running, Said, begin, say};
pub use conversation::Conversation;
pub use door::open_door;
pub use figure::{Figure, Gate};
pub use handmade::Handmade;
pub use hub::{Hub, URL as HUB_URL};
pub use laptop::Laptop;
pub use line::{Line, Tied};
pub use own_shop::{OwnShop, Way};
pub use patience::{eventually, within};
pub use performance::{Machine, Report, record};
pub use person::Person;
pub use process::{Held, Process};
pub use residue::Residue;
pub use service::{KEY, Service, has_key};
pub use shop::{OwnProcess, Shop, answered_by};
pub use show::show;
pub use story::{Story, tell_stories};
pub use switches::{chaos_rounds, proxy_mode};
pub use table::{markdown, print as print_figures};
pub use visit::Visit;
pub use watch::{Published, Watch};
pub use witness::Witness;
pub use world::{TEAMSPACE, World, WorldOptions};
