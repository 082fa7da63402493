//! One connection that is held for as long as a story lasts: bytes go there and back again and again, so that one that was
//! cut in between is found out.

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::command::ended_with;

/// An answer that takes longer is none.
const ANSWER: Duration = Duration::from_secs(30);
const SAID_EACH: Duration = Duration::from_millis(100);
const PIECE_BYTES: usize = 4096;

#[derive(Debug)]
pub struct Conversation {
    child: Child,
    to: ChildStdin,
    heard_rx: Receiver<Vec<u8>>,
}

impl Conversation {
    /// Connects to `host:port` with a command that is `curl`, and will run wherever it runs, as whoever.
    pub fn with(mut curl: Command, place: &str) -> anyhow::Result<Self> {
        curl.args(["--silent", "--show-error", "--no-buffer", &format!("telnet://{place}")]);
        curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = curl.spawn().context("cannot begin a conversation")?;
        let to = child.stdin.take().context("piped above")?;
        let heard_rx = hear(child.stdout.take().context("piped above")?);
        Ok(Self { child, to, heard_rx })
    }

    /// Says something and waits until something is said in which `wanted` is.
    pub fn is_answered(&mut self, said: &str, wanted: &str) -> anyhow::Result<()> {
        // Where the other end is gone, nothing is heard either.
        drop(self.to.write_all(said.as_bytes()));
        let (begun, mut heard) = (Instant::now(), Vec::new());
        loop {
            match self.heard_rx.recv_timeout(ANSWER.saturating_sub(begun.elapsed())) {
                Ok(piece) => heard.extend(piece),
                Err(RecvTimeoutError::Timeout) => bail!("no answer within {ANSWER:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("it was cut: {}", self.last_words()),
            }
            if String::from_utf8_lossy(&heard).contains(wanted) {
                return Ok(());
            }
        }
    }

    /// Says something again and again until the other end is gone; what is answered before is of no interest. Of an
    /// abort, curl hears only when it says something.
    pub fn is_cut(&mut self, said: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < ANSWER {
            drop(self.to.write_all(said.as_bytes()));
            match self.heard_rx.recv_timeout(SAID_EACH) {
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
        bail!("it goes on after {ANSWER:?}")
    }

    fn last_words(&mut self) -> String {
        let mut said = String::new();
        let stderr = self.child.stderr.take();
        let read = stderr.map_or(Ok(0), |mut stderr| stderr.read_to_string(&mut said));
        let status = self.child.wait().ok().and_then(|status| status.code());
        let read = read.map_or_else(|error| error.to_string(), |_| String::new());
        format!("curl ended with {}\n{said}{read}", ended_with(status))
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        ended.map(drop).unwrap_or_default();
    }
}

fn hear(mut from: ChildStdout) -> Receiver<Vec<u8>> {
    let (heard_tx, heard_rx) = channel();
    std::thread::spawn(move || {
        let mut piece = [0; PIECE_BYTES];
        while let Ok(bytes @ 1..) = from.read(&mut piece) {
            if heard_tx.send(piece[..bytes].to_vec()).is_err() {
                return;
            }
        }
    });
    heard_rx
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_is_said_is_answered_until_the_connection_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let place = listener.local_addr().expect("bound").to_string();
        let answering = std::thread::spawn(move || {
            let (mut tcp, _) = listener.accept().expect("it connects");
            for _ in 0..2 {
                let mut said = [0; 5];
                tcp.read_exact(&mut said).expect("it says something");
                tcp.write_all(&said).expect("it listens");
            }
        });
        let mut held = Conversation::with(Command::new("curl"), &place).expect("begun");
        held.is_answered("first", "first").expect("an echo");
        held.is_answered("again", "again").expect("an echo");
        answering.join().expect("no panic");
        let cut = held.is_answered("third", "third").expect_err("nobody is there");
        assert!(cut.to_string().starts_with("it was cut"), "{cut}");
    }
}
