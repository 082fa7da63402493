//! The laptop's side on a real kernel: hosts file, nftables, journal, and every process killed. Needs root.
//!
//! Each test has a machine of its own: a network and a mount namespace with its own `/etc` and `/run`. Most need no hub:
//! a daemon that finds sessions of before takes them up before it knows whether they live.

mod bad_days;
mod booting;
mod chaos;
mod command_line;
mod deaths;
mod hosts;
mod hub;
mod listeners;
mod machine;
mod residue;
mod resolving;
mod roaming;
mod run;
mod service;
mod teamspaces;
mod tracing;
mod troubleshooting;
mod users;
