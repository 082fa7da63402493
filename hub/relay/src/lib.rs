//! What is carried: redeems two tickets, splices the two halves without looking at them, cuts on revocation.
//!
//! ```text
//! offer ──▶ two tickets ──▶ laptop  ─ preface ─▶ ┐
//!                                                ├─ paired ─▶ splice ─▶ ended
//!                           cluster ─ preface ─▶ ┘
//! ```
//!
//! The relay knows neither users nor policy nor SQL, and has no key to what passes through it: that is TLS between the
//! laptop and the agent. Whoever holds a [`Relay`] decides which carriers may exist, by offering them.

mod carriers;
mod door;
mod half;
mod nouns;
#[cfg(target_os = "linux")]
mod pipe;
mod relay;
mod splice;
mod web;

pub use nouns::{CarrierMeta, Limits, Offer, OfferRefused};
pub use relay::Relay;
pub use web::Stranger;
