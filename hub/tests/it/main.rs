//! The hub as a whole, on a real database: asked over real connections, by people and by agents and laptops that hold
//! real certificates.

mod access;
mod http;
mod links;
mod peers;
mod people;
mod sessions;
mod teamspaces;
mod world;
