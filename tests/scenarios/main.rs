//! The whole path in one process: the real hub on a real Postgres, with a real identity provider beside it.

mod browser;
mod command_line;
mod issuer;
mod login;
mod organization;
mod world;
