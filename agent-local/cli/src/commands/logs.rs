//! `fairlead logs`: what daemon and supervisor have written, and a bundle of it for whoever helps.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::Duration,
};

use laptop_ipc::{FailureKind, daemon::Request};
use tokio::{process::Command, time::sleep};

use super::{Context, doctor, status, version};
use crate::{bundle, errors::CliError, output::Shown as _};

const SUPERVISOR_LOG: &str = "/var/lib/fairlead/supervisor.log";
const LINES_SHOWN: usize = 200;
/// A log and the one before it are no longer.
const LOG_MAX_BYTES: u64 = 12 << 20;
/// inotify would tell it sooner, and nobody reads that fast.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn show(context: &Context<'_>, follow: bool) -> Result<(), CliError> {
    let path = context.folders.state.join("daemon.log");
    let text = read(&path).map_err(|error| {
        CliError::new(
            FailureKind::NotFound,
            format!("there is no log of the daemon ({}: {error})", path.display()),
            "it is written from the first start on: fairlead start",
        )
    })?;
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    for line in shown {
        context.output.raw(format!("{line}\n").as_bytes())?;
    }
    if follow { follow_from(&path, text.len() as u64, context).await } else { Ok(()) }
}

/// Shows what is added, for as long as somebody reads; when the log is begun anew, from its beginning.
async fn follow_from(path: &Path, mut seen: u64, context: &Context<'_>) -> Result<(), CliError> {
    loop {
        if let Ok(mut log) = File::open(path) {
            let length = log.metadata()?.size();
            if length < seen {
                seen = 0;
            }
            log.seek(SeekFrom::Start(seen))?;
            let mut added = Vec::new();
            log.take(LOG_MAX_BYTES).read_to_end(&mut added)?;
            seen += added.len() as u64;
            context.output.raw(&added)?;
            io::stdout().flush()?;
        }
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Err(CliError::Interrupted);
            }
        }
    }
}

/// Writes everything that helps to understand what happened, without secrets.
pub(super) async fn write_bundle(context: &Context<'_>, path: &Path) -> Result<(), CliError> {
    let folders = &context.folders;
    let log = |path: &Path| read(path).unwrap_or_else(|error| format!("not readable: {error}\n"));
    let doctor = doctor::look(context).await;
    let texts = [
        ("versions.txt", version::seen(context).await.to_text()),
        ("machine.txt", machine()),
        ("status.txt", status::text(context).await),
        ("status.json", raw_status(context).await),
        ("doctor.txt", doctor.to_text()),
        ("configuration.txt", configuration(&folders.config)),
        ("daemon.log", log(&folders.state.join("daemon.log"))),
        ("daemon.log.1", log(&folders.state.join("daemon.log.1"))),
        ("supervisor.log", supervisor_log().await),
    ];
    bundle::write(path, &texts).map_err(|error| {
        CliError::new(
            FailureKind::Input,
            format!("could not write {}: {error}", path.display()),
            "name a file that does not exist, in a folder of yours",
        )
    })?;
    context.output.say(format!(
        "Written: {}. Secrets are removed; names of services, hosts and people are in it: look before you send it.",
        path.display()
    ));
    Ok(())
}

async fn raw_status(context: &Context<'_>) -> String {
    match context.parts.ask_daemon(Request::Status).await {
        Ok(answer) => serde_json::to_string_pretty(&answer).unwrap_or_default(),
        Err(error) => format!("{error}\n"),
    }
}

/// The supervisor's own file, or what the journal of systemd has of it.
async fn supervisor_log() -> String {
    let of_file = match read(Path::new(SUPERVISOR_LOG)) {
        Ok(text) => return text,
        Err(error) => {
            format!("{SUPERVISOR_LOG}: {error}\n")
        }
    };
    let words = ["--unit", "fairlead-supervisor", "--lines", "5000", "--no-pager", "--quiet"];
    let of_journal = Command::new("journalctl").args(words).output().await;
    of_file
        + &of_journal
            .map(|said| String::from_utf8_lossy(&said.stdout).into_owned())
            .unwrap_or_default()
}

/// Which hubs there are and what is chosen; never tokens or keys.
fn configuration(folder: &Path) -> String {
    let mut text = format!("hub.json: {}\n", read(&folder.join("hub.json")).unwrap_or_default());
    let hubs = fs::read_dir(folder.join("hubs")).into_iter().flatten().flatten();
    for hub in hubs {
        text.push_str(&format!("{}:\n", hub.file_name().display()));
        for name in ["account.json", "teamspace.json", "pinned-names.json"] {
            if let Ok(value) = read(&hub.path().join(name)) {
                text.push_str(&format!("  {name}: {value}\n"));
            }
        }
    }
    text
}

/// The kernel and what resolves names here.
fn machine() -> String {
    let files = [
        "/proc/version",
        "/etc/os-release",
        "/etc/nsswitch.conf",
        "/etc/resolv.conf",
        "/etc/hosts",
    ];
    let said =
        files.map(|path| format!("== {path}\n{}\n", read(Path::new(path)).unwrap_or_default()));
    said.concat()
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LOG_MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
