//! Checks every statement of `hub/store` against the migrations, and writes what the check found to `hub/store/.sqlx`,
//! so that a build needs no database.
//!
//! The statements are checked while `hub-store` is compiled, by a private Postgres that is gone afterwards. What was
//! there is replaced only after all of them have passed.

use std::{
    fs,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use private_postgres::TestDatabase;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let database = TestDatabase::create()?;
    for migration in migrations(&root)? {
        database.run_file(&migration)?;
    }
    let (kept, new) = (root.join("hub/store/.sqlx"), root.join("hub/store/.sqlx-new"));
    start_empty(&new)?;
    // Cargo compiles only what looks changed, and only what is compiled is checked.
    let source = File::options().append(true).open(root.join("hub/store/src/lib.rs"))?;
    let modified = source.metadata()?.modified()?;
    source.set_modified(SystemTime::now())?;
    let checked = Command::new(env!("CARGO"))
        .current_dir(&root)
        // With these, its dependencies are the ones that lints and tests have.
        .args(["check", "--quiet", "--workspace", "--lib", "--example", "gen-queries"])
        .envs([("SQLX_OFFLINE", "false"), ("DATABASE_URL", &database.url())])
        .env("SQLX_OFFLINE_DIR", &new)
        .status()?;
    // And what was built of it before has not changed.
    source.set_modified(modified)?;
    if !checked.success() {
        fs::remove_dir_all(&new)?;
        return Err("a statement does not fit the schema".into());
    }
    start_empty(&kept)?;
    fs::remove_dir(&kept)?;
    Ok(fs::rename(new, kept)?)
}

/// Returns the migrations in the order in which they are applied.
fn migrations(root: &Path) -> io::Result<Vec<PathBuf>> {
    let files = fs::read_dir(root.join("migrations"))?.map(|entry| Ok(entry?.path()));
    let mut files = files.collect::<io::Result<Vec<PathBuf>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    Ok(files)
}

fn start_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir(folder)
}
