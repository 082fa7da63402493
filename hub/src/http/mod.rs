//! How the hub is asked: one file per noun, one function per route. No rules and no SQL live here.

mod assets;
mod audit;
pub mod error;
mod events;
mod extract;
mod guard;
mod health;
mod join_tokens;
mod openapi;
mod router;
mod services;
mod sessions;
mod teamspaces;
mod version;

pub use openapi::document;
pub use router::router;
