//! Tools that people would use in our place, built from their Go modules once per machine: what a bench compares us with.

use crate::{Step, run, tools};
use anyhow::Context;
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A module whose own folder is built as it is, so that what its go.mod replaces is replaced.
#[derive(Debug, Clone, Copy)]
pub struct Rival {
    pub name: &'static str,
    module: &'static str,
    version: &'static str,
    /// The programs, by name, and where each lies in the module.
    programs: &'static [(&'static str, &'static str)],
}

pub const FRP: Rival = Rival {
    name: "frp",
    module: "github.com/fatedier/frp",
    version: "v0.71.0",
    programs: &[("frps", "./cmd/frps"), ("frpc", "./cmd/frpc")],
};

pub const KTUNNEL: Rival = Rival {
    name: "ktunnel",
    module: "github.com/omrikiei/ktunnel",
    version: "v1.6.1",
    programs: &[("ktunnel", ".")],
};

impl Rival {
    /// Returns the folder with its programs; fails where they can be neither found nor built.
    pub fn built(&self) -> anyhow::Result<PathBuf> {
        let Self { name, version, .. } = self;
        let folder = tools::folder()?.join(format!("{name}-{version}"));
        if !folder.exists() {
            let what = format!("{name} {version} is built (once per machine: 2 min on 2 cores)");
            Step::run(&what, || self.build(&folder))?;
        }
        Ok(folder)
    }

    /// The folder comes last: where it is, everything is.
    fn build(&self, folder: &Path) -> anyhow::Result<()> {
        let work = folder.with_extension(std::process::id().to_string());
        let source = work.join("source");
        fs::create_dir_all(&source)?;
        // The module cache is read-only, and cannot be a main module.
        let copied = format!("{}/.", self.downloaded()?.display());
        run::output(Command::new("cp").args(["-r", "--no-preserve=mode", &copied]).arg(&source))?;
        for (program, package) in self.programs {
            let mut go = Command::new("go");
            go.current_dir(&source).env("CGO_ENABLED", "0");
            go.args(["build", "-mod=readonly", "-tags", "noweb", "-trimpath", "-o"]);
            run::output(go.arg(work.join(program)).arg(package))?;
        }
        fs::remove_dir_all(&source)?;
        Ok(fs::rename(&work, folder)?)
    }

    fn downloaded(&self) -> anyhow::Result<PathBuf> {
        #[derive(Deserialize)]
        struct Downloaded {
            #[serde(rename = "Dir")]
            folder: PathBuf,
        }
        let exact = format!("{}@{}", self.module, self.version);
        // Elsewhere than in a module of somebody else's, which this one would become a part of.
        let mut go = Command::new("go");
        go.current_dir("/").args(["mod", "download", "-json", &exact]);
        let said = run::output(&mut go).with_context(|| format!("Go does not fetch {exact}"))?;
        Ok(serde_json::from_str::<Downloaded>(&said)?.folder)
    }
}
