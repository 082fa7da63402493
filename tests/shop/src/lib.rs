//! The shop: the sample application that Fairlead is shown and tested with.
//!
//! One program, one role per process. Every answer says which pod or process gave it and what those
//! it asked answered, so that a test can read from the outside which way a request went. README.md
//! beside this crate says who calls whom.

pub mod answer;
pub mod args;
pub mod forwarded;
pub mod ledger;
pub mod page;
pub mod recommend;
pub mod run;
pub mod serve;
pub mod tools;
pub mod upstream;

/// The gRPC code made from `proto/`.
#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod proto {
    include!("gen/shop.v1.rs");
}
