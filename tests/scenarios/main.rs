//! The whole path in one process: the real hub on a real Postgres, with a real identity provider beside it.

mod browser;
mod command_line;
mod device;
mod issuer;
mod members;
mod oauth;
mod organization;
mod refresh;
mod secrets;
mod service_accounts;
mod setup;
mod sign_in;
mod web_session;
mod world;
