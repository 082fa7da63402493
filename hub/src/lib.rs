//! The hub: it knows who everybody is and decides what may happen; what it decides, others carry out.
//!
//! `http` is how it is asked, `actions` what happens, `hub-policy` who may and `hub-store` what is remembered. `login`
//! turns a credential into a caller, `links` a connection of an agent into one. [`assemble`] is the only place that
//! knows every part.

pub mod actions;
pub mod admin;
pub mod assemble;
pub mod clock;
pub mod config;
pub mod dev;
pub mod grants;
pub mod http;
pub mod keys;
pub mod links;
pub mod login;
pub mod output;
pub mod seal;
pub mod serve;
pub mod tasks;

pub use assemble::Hub;
