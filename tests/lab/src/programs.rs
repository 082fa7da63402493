//! Builds what the lab runs and nobody ships for it: Kubernetes and CoreDNS from their Go modules, images from programs.
//!
//! Built once per machine and kept in the user's cache under a hash of the sources, so that a fresh clone finds it.

use crate::{Image, Step, config, run};
use anyhow::{Context, ensure};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// A Go module of this folder and how it is built.
struct GoProgram {
    name: &'static str,
    /// Told while it is built, since it takes so long.
    about: &'static str,
    ldflags: &'static str,
}

/// The version goes in by hand: without it Kubernetes calls itself v0.0.0-master and clients stumble.
const KUBE: GoProgram = GoProgram {
    name: "kube",
    about: "Kubernetes 1.34.4 is built (once per machine: 7 min on 2 cores, 4 GB of Go caches)",
    ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.34.4 \
              -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34",
};

const COREDNS: GoProgram = GoProgram {
    name: "coredns",
    about: "CoreDNS 1.15.0 is built (once per machine: 2 min on 2 cores)",
    ldflags: "-s -w",
};

/// Builds what a cluster of ours needs and this machine does not have yet.
pub fn build() -> anyhow::Result<()> {
    kube()?;
    coredns_image()?;
    Ok(())
}

/// Returns the program that is all of Kubernetes.
pub(crate) fn kube() -> anyhow::Result<PathBuf> {
    KUBE.built()
}

/// Returns the archive of the image that answers names.
pub(crate) fn coredns_image() -> anyhow::Result<PathBuf> {
    let program = COREDNS.built()?;
    let archive = program.with_extension("tar");
    if !archive.exists() {
        Image::new("docker.io/local/coredns:lab").program("coredns", program).write(&archive)?;
    }
    Ok(archive)
}

/// Returns a program of this workspace, which lies where this process's own program lies, unless another one stands in
/// for it.
pub fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).take(2).map(Path::to_path_buf);
    config::programs()
        .into_iter()
        .chain(folders)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .with_context(|| format!("`{name}` is not built; build it with: cargo build --bin {name}"))
}

impl GoProgram {
    fn built(&self) -> anyhow::Result<PathBuf> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.name);
        let sources = ["go.mod", "go.sum", "main.go"].map(|file| fs::read(source.join(file)));
        let sources = sources.into_iter().collect::<Result<Vec<_>, _>>();
        let sources = sources.with_context(|| format!("{} is incomplete", source.display()))?;
        let folder = config::cache()?.join("lab").join(hash(sources));
        let program = folder.join(self.name);
        if program.exists() {
            return Ok(program);
        }
        fs::create_dir_all(&folder)?;
        // A second lab that starts meanwhile waits for the first one's program.
        let lock = Flock::lock(File::create(folder.join("lock"))?, FlockArg::LockExclusive);
        let _held = lock.map_err(|(_, error)| error).context("cannot lock the cache")?;
        if !program.exists() {
            Step::run(self.about, || self.build(&source, &program))?;
        }
        Ok(program)
    }

    fn build(&self, source: &Path, program: &Path) -> anyhow::Result<()> {
        let version = run::line("go version")
            .context("the lab builds Kubernetes with Go; install Go 1.26 or newer")?;
        ensure!(version.starts_with("go version"), "`go version` says {version}");
        let unfinished = program.with_extension("part");
        run::output(
            Command::new("go")
                .current_dir(source)
                .env("CGO_ENABLED", "0")
                .args(["build", "-mod=readonly", "-trimpath", "-ldflags", self.ldflags, "-o"])
                .arg(&unfinished)
                .arg("."),
        )?;
        fs::rename(&unfinished, program)?;
        Ok(())
    }
}

/// Returns a short name for the content of files. Each part is preceded by its length, so that bytes cannot move from one file to the next unnoticed.
pub(crate) fn hash(parts: impl IntoIterator<Item = Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..8])
}
