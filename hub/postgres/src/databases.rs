//! Making and removing databases, and running files of SQL in them: what `psql` is asked to do.

use std::{path::Path, process::Command};

use crate::{PostgresError, PrivatePostgres, running::SUPERUSER};

impl PrivatePostgres {
    /// Makes an empty database unless it is there.
    pub fn ensure_database(&self, name: &str) -> Result<(), PostgresError> {
        let exists = format!("select 1 from pg_database where datname = '{name}'");
        if self.psql("postgres", &["-tAc", &exists])?.trim() == "1" {
            return Ok(());
        }
        self.psql("postgres", &["-c", &format!("create database \"{name}\"")]).map(drop)
    }

    pub fn drop_database(&self, name: &str) -> Result<(), PostgresError> {
        let drop_it = format!("drop database if exists \"{name}\" with (force)");
        self.psql("postgres", &["-c", &drop_it]).map(drop)
    }

    /// Runs a file of SQL in one transaction.
    pub fn run_file(&self, database: &str, file: &Path) -> Result<(), PostgresError> {
        let file = file.to_string_lossy();
        self.psql(database, &["--single-transaction", "-f", &file]).map(drop)
    }

    pub(crate) fn psql(&self, database: &str, arguments: &[&str]) -> Result<String, PostgresError> {
        let program = self.installation.program("psql");
        let output = Command::new(&program)
            .env_clear()
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", SUPERUSER, "-d", database, "-h"])
            .arg(&self.folder)
            .args(arguments)
            .output()
            .map_err(|source| PostgresError::Run { program, source })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(PostgresError::Failed { program: "psql".to_owned(), said });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
