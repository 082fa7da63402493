//! How the hub is asked: one file per noun, one function per route. No rules and no SQL live here.

mod assets;
mod audit;
mod carrier;
mod deadline;
mod description;
mod devices;
pub mod error;
mod events;
mod extract;
mod groups;
mod guard;
mod health;
mod join_tokens;
mod knocks;
mod link;
mod me;
mod members;
mod openapi;
mod organization;
mod policies;
mod refusals;
mod roles;
mod router;
mod service_accounts;
mod services;
mod sessions;
mod setup;
mod teamspaces;
mod version;
mod visitor;

pub(crate) use extract::peer_of;
pub use openapi::document;
pub use router::router;
#[cfg(test)]
pub(crate) use visitor::coming_from;
pub(crate) use visitor::network_of;
