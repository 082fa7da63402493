//! The tools that tests run inside pods and on the laptop, where no other client is at hand.

pub mod connect;
pub mod datagram;
pub mod get;
pub mod tally;
pub mod tcp;
