//! Pipes through which the kernel moves bytes from one socket to another without showing them to this process.
//!
//! A pipe is taken while bytes are in flight and given back when it is empty, so that carriers with nothing to carry
//! have none. Pipes are bounded, and so are the pages that the kernel gives a user for them: who gets no pipe, or one
//! that is too small to be of use, copies instead.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};
use tokio::{io::Interest, net::TcpStream};

/// Bytes that are in flight at once. More gains little, and costs pages.
pub(crate) const PIPE_BYTES: usize = 256 << 10;
/// Pipes of this process, in use or not; each is two descriptors. An unprivileged user's 16,384 pages are enough.
const PIPES_MAX: usize = 192;
/// Empty pipes that are kept for whoever comes next.
const IDLE_MAX: usize = 16;

static PIPES: Pipes = Pipes::new(PIPES_MAX);

/// The pipes of a process.
#[derive(Debug)]
pub(crate) struct Pipes {
    idle: Mutex<Vec<Ends>>,
    open: AtomicUsize,
    max: usize,
}

#[derive(Debug)]
struct Ends {
    out: OwnedFd,
    into: OwnedFd,
}

impl Pipes {
    pub(crate) const fn new(max: usize) -> Self {
        Self { idle: Mutex::new(Vec::new()), open: AtomicUsize::new(0), max }
    }

    /// Returns the pipes of this process.
    pub(crate) const fn of_process() -> &'static Self {
        &PIPES
    }

    /// Returns an empty pipe, if there may be one.
    pub(crate) fn take(&self) -> Option<Pipe<'_>> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let ends = kept.or_else(|| self.open_one())?;
        Some(Pipe { pipes: self, ends: Some(ends), holds: 0 })
    }

    fn open_one(&self) -> Option<Ends> {
        if self.open.fetch_add(1, Ordering::Relaxed) < self.max
            && let Some(ends) = Ends::open()
        {
            return Some(ends);
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
        None
    }

    fn give_back(&self, ends: Ends) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(ends);
        } else {
            self.close(ends);
        }
    }

    fn close(&self, ends: Ends) {
        drop(ends);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ends {
    /// Opens a pipe of use; `None` where the process has no descriptors left or the user no pages.
    fn open() -> Option<Self> {
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        let size = fcntl_setpipe_size(&into, PIPE_BYTES).or_else(|_| fcntl_getpipe_size(&into));
        // Past its pages a user gets pipes of one or two, with which splicing is slower than copying.
        (size.ok()? >= PIPE_BYTES).then_some(Self { out, into })
    }
}

/// One pipe, for as long as it is in use.
#[derive(Debug)]
pub(crate) struct Pipe<'p> {
    pipes: &'p Pipes,
    ends: Option<Ends>,
    holds: usize,
}

impl Pipe<'_> {
    /// Moves into the empty pipe what the socket has, and returns how much; 0 is the end.
    ///
    /// To be called with an empty pipe only: a full one and a socket without bytes give the same error.
    pub(crate) fn fill_from(&mut self, from: &TcpStream) -> io::Result<usize> {
        debug_assert_eq!(self.holds, 0, "the pipe is not empty");
        let into = &self.ends.as_ref().expect("taken when dropped").into;
        let moved = from.try_io(Interest::READABLE, || {
            Ok(splice(from, None, into, None, PIPE_BYTES, flags())?)
        })?;
        self.holds = moved;
        Ok(moved)
    }

    /// Moves everything out of the pipe. Dropped before it is done, the pipe is of no further use.
    pub(crate) async fn empty_into(&mut self, to: &TcpStream) -> io::Result<()> {
        let out = &self.ends.as_ref().expect("taken when dropped").out;
        while self.holds > 0 {
            let moved = to.try_io(Interest::WRITABLE, || {
                Ok(splice(out, None, to, None, self.holds, flags())?)
            });
            match moved {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(moved) => self.holds -= moved,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::NONBLOCK
}

impl Drop for Pipe<'_> {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        if self.holds == 0 {
            self.pipes.give_back(ends);
        } else {
            // Whoever got it next would send another carrier's bytes.
            self.pipes.close(ends);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connected"), far.expect("connected").0)
    }

    async fn filled(pipe: &mut Pipe<'_>, from: &TcpStream) -> usize {
        loop {
            from.readable().await.expect("watched");
            match pipe.fill_from(from) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                filled => return filled.expect("spliced"),
            }
        }
    }

    #[tokio::test]
    async fn what_goes_into_a_pipe_comes_out_of_it_and_the_pipe_is_used_again() {
        let pipes = Pipes::new(1);
        let ((mut said, from), (to, mut heard)) = (connection().await, connection().await);
        for word in [b"one", b"two"] {
            said.write_all(word).await.expect("taken");
            let mut pipe = pipes.take().expect("the only one");
            assert!(pipes.take().is_none(), "there is one at most");
            assert_eq!(filled(&mut pipe, &from).await, word.len());
            pipe.empty_into(&to).await.expect("moved");
            let mut got = [0; 3];
            heard.read_exact(&mut got).await.expect("arrived");
            assert_eq!(&got, word);
        }
        drop(said);
        assert_eq!(filled(&mut pipes.take().expect("given back"), &from).await, 0, "the end");
    }

    #[tokio::test]
    async fn a_pipe_with_bytes_in_it_is_closed_and_not_used_again() {
        let pipes = Pipes::new(1);
        let ((mut said, from), (to, mut heard)) = (connection().await, connection().await);
        said.write_all(b"of another carrier").await.expect("taken");
        let mut pipe = pipes.take().expect("the only one");
        filled(&mut pipe, &from).await;
        drop(pipe);
        assert!(pipes.idle.lock().expect("unpoisoned").is_empty());
        said.write_all(b"mine").await.expect("taken");
        let mut pipe = pipes.take().expect("a new one may be opened");
        filled(&mut pipe, &from).await;
        pipe.empty_into(&to).await.expect("moved");
        drop(to);
        let mut got = String::new();
        heard.read_to_string(&mut got).await.expect("ended");
        assert_eq!(got, "mine");
    }

    #[tokio::test]
    async fn a_reader_that_has_stopped_leaves_the_rest_in_the_pipe() {
        let pipes = Pipes::new(1);
        let ((mut said, from), (to, heard)) = (connection().await, connection().await);
        let filling =
            tokio::spawn(async move { while said.write_all(&[7; 64 << 10]).await.is_ok() {} });
        let mut pipe = pipes.take().expect("the only one");
        let stuck = async {
            loop {
                filled(&mut pipe, &from).await;
                if timeout(Duration::from_millis(300), pipe.empty_into(&to)).await.is_err() {
                    return;
                }
            }
        };
        stuck.await;
        assert!(pipe.holds > 0);
        drop((pipe, heard));
        filling.abort();
        assert_eq!(pipes.open.load(Ordering::Relaxed), 0, "it was closed");
    }
}
