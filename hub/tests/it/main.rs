//! The hub as a whole, on a real database: asked over real connections, by people and by agents and laptops that hold
//! real certificates.

mod access;
mod catalogue;
mod hosts;
mod http;
mod links;
mod lost_database;
mod members;
mod peers;
mod people;
mod scope;
mod service_accounts;
mod sessions;
mod sign_ins;
mod teamspaces;
mod websockets;
mod welcome;
mod world;
