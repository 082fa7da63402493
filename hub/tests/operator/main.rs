//! The program as its operator runs it: files, flags, signals, exit codes, and words that say what to do.

mod admin;
mod claim;
mod lost_database;
mod place;
mod proxy;
mod refusals;
mod serve;
