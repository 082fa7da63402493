//! The folder in which `dev` keeps what it made.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use url::Url;

use crate::{config, seal::MasterKey};

/// The folder, while this process alone uses it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Folder {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        // Others may pass through, because Postgres runs as somebody else when we are root; they may not look around.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(path)
            .with_context(|| format!("could not make {}", path.display()))?;
        let path = path.canonicalize()?;
        Ok(Self { _lock: lock(&path.join("lock"))?, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.path.join("postgres")
    }

    pub(super) fn authority_certificate(&self) -> PathBuf {
        self.path.join("ca.pem")
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns the file that lets `admin` find this hub.
    pub(super) fn operator_config(&self) -> PathBuf {
        self.path.join("hub.toml")
    }

    /// Reads the master key, and makes it the first time.
    pub(super) fn master_key(&self) -> anyhow::Result<MasterKey> {
        let path = self.path.join("master.key");
        if !path.exists() {
            write_secret(&path, &MasterKey::new(rand::random()).expose_base64())?;
        }
        Ok(config::read_master_key(&path)?)
    }

    pub(super) fn write_operator_config(
        &self,
        public_url: &Url,
        database_url: &str,
    ) -> anyhow::Result<()> {
        let text = format!(
            "# Written by `fairlead-hub dev` at each start, for `fairlead-hub admin --config`.\n\
             public_url = \"{public_url}\"\ndatabase_url = \"{database_url}\"\n"
        );
        write_secret(&self.operator_config(), &text)
    }
}

/// Writes a file that only its owner can read.
pub(super) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let options =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        options?.write_all(text.as_bytes())
    };
    write().with_context(|| format!("could not write {}", path.display()))
}

fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("could not open {}", path.display()))?;
    let mut holder = String::new();
    file.read_to_string(&mut holder)?;
    let Ok(mut lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
        bail!(
            "another `fairlead-hub dev` (process {}) uses this folder: stop it, or choose another folder with --data",
            holder.trim()
        );
    };
    lock.set_len(0)?;
    std::io::Seek::rewind(&mut *lock)?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(lock)
}
