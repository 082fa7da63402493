//! The program as its operator runs it: files, flags, signals, exit codes, and words that say what to do.

mod admin;
mod place;
mod refusals;
mod serve;
