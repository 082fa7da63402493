//! Where Postgres is installed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::PostgresError;

/// The folder that holds `initdb`, `postgres` and `psql`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    binaries: PathBuf,
}

impl Installation {
    /// Finds an installed Postgres: on the path, by `pg_config`, or where Debian keeps its versions.
    pub fn find() -> Result<Self, PostgresError> {
        on_the_path()
            .or_else(asked_of_pg_config)
            .or_else(newest_of_debian)
            .ok_or(PostgresError::NotInstalled)
    }

    /// Uses the binaries of this folder.
    pub fn at(binaries: &Path) -> Result<Self, PostgresError> {
        complete(binaries).ok_or(PostgresError::NotInstalled)
    }

    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }
}

fn complete(binaries: &Path) -> Option<Installation> {
    let has = |name: &str| binaries.join(name).is_file();
    (has("initdb") && has("postgres") && has("psql"))
        .then(|| Installation { binaries: binaries.to_owned() })
}

#[expect(clippy::disallowed_methods, reason = "where programs lie is what PATH is for")]
fn on_the_path() -> Option<Installation> {
    env::split_paths(&env::var_os("PATH")?).find_map(|folder| complete(&folder))
}

fn asked_of_pg_config() -> Option<Installation> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    complete(Path::new(String::from_utf8(output.stdout).ok()?.trim()))
}

/// Debian installs each major version beside the others, outside of the path.
fn newest_of_debian() -> Option<Installation> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable();
    versions.iter().rev().find_map(|(_, binaries)| complete(binaries))
}
