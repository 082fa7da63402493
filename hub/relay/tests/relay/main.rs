//! The whole way of a byte between two applications, with the relay in its middle: what a carrier promises.

mod blind;
mod bytes;
mod carriers;
mod cuts;
#[cfg(not(feature = "plain-for-tests"))]
mod identities;
mod proxy;
mod tickets;
mod web;
mod world;
