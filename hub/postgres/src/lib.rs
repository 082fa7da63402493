//! A Postgres of one's own, from installed binaries.
//!
//! It listens on a Unix socket in its own directory only, never runs as root, and ends with the process that started
//! it, however that ends. Postgres itself is not bundled: [`Installation::find`] looks where distributions put it.
//! Nothing here speaks SQL; what a database is for is its user's matter.

mod databases;
mod installation;
mod owner;
mod running;
mod testing;

use std::{io, path::PathBuf};

pub use installation::Installation;
pub use running::{Durability, PrivatePostgres};
pub use testing::TestDatabase;

/// Why there is no Postgres.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error(
        "no Postgres is installed here: install it (Debian, Ubuntu: `apt install postgresql`; Fedora: `dnf install \
         postgresql-server`; macOS: `brew install postgresql`), or name the folder of `initdb` and `postgres`"
    )]
    NotInstalled,
    #[error(
        "Postgres refuses to run as root, and this machine has neither a user `postgres` nor `nobody` to run it as"
    )]
    NoOtherUser,
    #[error(
        "the path of the database folder is too long for a Unix socket: {path} (choose a shorter one, up to {limit} bytes)"
    )]
    PathTooLong { path: PathBuf, limit: usize },
    #[error(
        "the user `{user}`, as whom Postgres runs, may not enter {path}: choose a folder outside of private homes, \
         for example under /var/lib"
    )]
    Unreachable { user: String, path: PathBuf },
    #[error("could not prepare {path}")]
    Prepare { path: PathBuf, source: io::Error },
    #[error("could not run {program}")]
    Run { program: PathBuf, source: io::Error },
    #[error("{program} failed: {said}")]
    Failed { program: String, said: String },
    #[error("Postgres did not become ready; its log ({log}) ends with: {said}")]
    NotReady { log: PathBuf, said: String },
}
