//! The commands that change the machine for us, each with an end to our patience.

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

/// Our table with all services of several users is shorter.
const SAID_MAX_BYTES: u64 = 16 << 20;

#[derive(Debug)]
pub(crate) enum CommandError {
    Run(io::Error),
    Refused(String),
    Hung,
}

/// Runs a command to its end and returns what it said; one that does not end in time is killed.
pub(crate) fn ask(
    program: &Path,
    words: &[&str],
    input: &str,
    patience: Duration,
) -> Result<String, CommandError> {
    let mut child = Command::new(program)
        .args(words)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(CommandError::Run)?;
    let heard = hear(&mut child, input.to_owned()).recv_timeout(patience);
    if matches!(heard, Err(RecvTimeoutError::Timeout)) {
        child.kill().map_err(CommandError::Run)?;
    }
    let status = child.wait().map_err(CommandError::Run)?;
    match heard {
        Err(_) => Err(CommandError::Hung),
        Ok(heard) if !status.success() => {
            Err(CommandError::Refused(heard.complaint.trim().to_owned()))
        }
        Ok(heard) => heard.sent.map_err(CommandError::Run).map(|()| heard.answer),
    }
}

/// What a command said until it ended.
struct Heard {
    sent: io::Result<()>,
    answer: String,
    complaint: String,
}

/// Gives a command its input and hears, when it has ended, what it said. In a thread of its own: whoever waits may give up.
fn hear(child: &mut Child, input: String) -> mpsc::Receiver<Heard> {
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let (heard_tx, heard_rx) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // These commands read all of their input before they say anything: this cannot wait for a full pipe on the way back.
        let sent = stdin.write_all(input.as_bytes());
        drop(stdin);
        let complaining = thread::spawn(move || text_of(stderr));
        let answer = text_of(stdout);
        let complaint = complaining.join().unwrap_or_default();
        drop(heard_tx.send(Heard { sent, answer, complaint }));
    });
    heard_rx
}

/// What cannot be read is only missing in the message.
fn text_of(pipe: impl io::Read) -> String {
    let mut said = Vec::new();
    drop(pipe.take(SAID_MAX_BYTES).read_to_end(&mut said));
    String::from_utf8_lossy(&said).into_owned()
}
