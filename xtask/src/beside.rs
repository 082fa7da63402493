//! Work that goes on beside a stage which mostly waits: its words are kept in a file, so that nobody has to read two things
//! at once, and said at the end when it failed.

use crate::workspace::{root, tell};
use anyhow::{Context, ensure};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    process::{Command, Stdio},
    thread::{self, JoinHandle},
};

/// Commands that run one after the other, until one fails.
#[derive(Debug)]
pub(crate) struct Beside {
    name: &'static str,
    words: PathBuf,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Beside {
    pub(crate) fn begin(name: &'static str, commands: Vec<Command>) -> anyhow::Result<Self> {
        let folder = root().join("target/beside");
        fs::create_dir_all(&folder)?;
        let words = folder.join(format!("{name}.log"));
        tell(&format!("── {name}: goes on beside; what it says is in {}", words.display()));
        let out = File::create(&words)?;
        let running = thread::spawn(move || commands.into_iter().try_for_each(|it| run(it, &out)));
        Ok(Self { name, words, running })
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// Waits for the end; when it failed, says what it said, and fails.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        let ended = self.running.join();
        let ended = ended.map_err(|_| anyhow::anyhow!("what ran {} panicked", self.name))?;
        if ended.is_err() {
            // Nobody reads any more: what came of it counts all the same.
            let _unread = io::copy(&mut File::open(&self.words)?, &mut io::stdout().lock());
        }
        ended
    }
}

fn run(mut command: Command, mut out: &File) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (stdout, stderr) = (out.try_clone()?, out.try_clone()?);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let status = command.status().with_context(|| format!("could not start `{program}`"))?;
    writeln!(out)?;
    ensure!(status.success(), "`{program}` failed ({status})");
    Ok(())
}
