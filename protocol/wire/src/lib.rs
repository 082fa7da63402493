//! What is said between hub, agents and laptops: messages, frames, grants, keys and certificates.
//!
//! Nothing here opens a socket, reads a clock or decides who may do what. Time comes in as an argument, and a value
//! that was parsed here was checked here.

pub mod authority;
pub mod chain;
pub mod challenge;
pub mod dpop;
pub mod enrolment;
pub mod grant;
pub mod identity;
pub mod key;
pub mod open;
pub mod preface;
pub mod resolve;
pub mod ticket;
pub mod words;

/// The links' messages and services.
pub mod link {
    pub mod v1 {
        pub use crate::link_v1::*;
    }
}

#[rustfmt::skip]
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated: `cargo xtask gen` writes it, and a test compares it with a fresh generation"
)]
#[path = "gen/fairlead.link.v1.rs"]
mod link_v1;
