//! An empty database for one test, on a Postgres that the tests of a process share.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

use crate::{Durability, Installation, PostgresError, PrivatePostgres};

/// Shared while any test holds it; the last one out stops Postgres and removes its folder.
#[derive(Debug)]
struct Shared {
    // Fields drop in this order: Postgres stops before its folder goes.
    postgres: PrivatePostgres,
    _folder: TempDir,
}

static SHARED: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
static NEXT: AtomicU32 = AtomicU32::new(0);

/// An empty database of one's own; dropping it removes it.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    shared: Arc<Shared>,
}

impl TestDatabase {
    /// Makes an empty database, and starts Postgres for it when no other test has.
    pub fn create() -> Result<Self, PostgresError> {
        let shared = shared()?;
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        shared.postgres.ensure_database(&name)?;
        Ok(Self { name, shared })
    }

    #[must_use]
    pub fn url(&self) -> String {
        self.shared.postgres.url(&self.name)
    }

    /// Takes it away from whoever is connected, and makes it anew under the same name: empty.
    pub fn make_anew(&self) -> Result<(), PostgresError> {
        self.shared.postgres.drop_database(&self.name)?;
        self.shared.postgres.ensure_database(&self.name)
    }

    /// Runs a file of SQL in it.
    pub fn run_file(&self, file: &std::path::Path) -> Result<(), PostgresError> {
        self.shared.postgres.run_file(&self.name, file)
    }
}

impl TestDatabase {
    /// Runs statements in it and returns what they print, one line for each row.
    pub fn rows(&self, statements: &str) -> Result<Vec<String>, PostgresError> {
        let arguments = ["--no-align", "--tuples-only", "-c", statements];
        let printed = self.shared.postgres.psql(&self.name, &arguments)?;
        Ok(printed.lines().map(ToOwned::to_owned).collect())
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // It goes with its Postgres at the latest.
        drop(self.shared.postgres.drop_database(&self.name));
    }
}

fn shared() -> Result<Arc<Shared>, PostgresError> {
    let mut known = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = known.upgrade() {
        return Ok(shared);
    }
    let folder = TempDir::with_prefix("fl-pg-")
        .map_err(|source| PostgresError::Prepare { path: std::env::temp_dir(), source })?;
    let postgres =
        PrivatePostgres::start(Installation::find()?, folder.path(), Durability::Throwaway)?;
    let shared = Arc::new(Shared { postgres, _folder: folder });
    *known = Arc::downgrade(&shared);
    Ok(shared)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn two_tests_share_a_postgres_and_the_last_one_leaves_nothing() {
        let one = TestDatabase::create().expect("Postgres is installed");
        let two = TestDatabase::create().expect("Postgres is installed");
        assert_ne!(one.url(), two.url());
        let folder = one.shared._folder.path().to_owned();
        let pid = fs::read_to_string(folder.join("data/postmaster.pid")).expect("it runs");
        let process = Path::new("/proc").join(pid.lines().next().expect("a pid"));
        drop(one);
        assert!(process.exists(), "still in use");
        drop(two);
        assert!(!process.exists(), "stopped");
        assert!(!folder.exists(), "removed");
    }
}
