//! An end of a cable that a program holds: a TAP device, whose frames are read and written like a file.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::Context as _;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc::{IFF_NO_PI, IFF_TAP, TUNSETIFF, c_char, c_short, ifreq, ioctl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// How long nothing comes before somebody looks whether there is still anything to do.
const LOOK_EVERY_MS: u16 = 100;

#[derive(Debug)]
pub(super) struct Tap(File);

impl Tap {
    /// Makes the device in the network in which the calling thread stands. It goes with the last handle on it.
    pub(super) fn make(name: &str) -> anyhow::Result<Self> {
        let file = File::options().read(true).write(true).open("/dev/net/tun");
        let file = file.context("this kernel has no TAP devices: modprobe tun")?;
        attach(&file, name).with_context(|| format!("cannot make the TAP device {name}"))?;
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self(file))
    }

    pub(super) fn again(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Reads one frame, or says after a while that there was none.
    pub(super) fn read(&self, frame: &mut [u8]) -> io::Result<Option<usize>> {
        let mut wait = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut wait, PollTimeout::from(LOOK_EVERY_MS))?;
        match io::Read::read(&mut &self.0, frame) {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes one frame. What the host does not take is lost, as on any cable.
    pub(super) fn write(&self, frame: &[u8]) {
        drop(io::Write::write(&mut &self.0, frame));
    }
}

#[expect(
    unsafe_code,
    clippy::cast_possible_truncation,
    reason = "a TAP device is named by an ioctl for which no crate in the tree has a safe function"
)]
fn attach(file: &File, name: &str) -> io::Result<()> {
    let mut request: ifreq = ifreq {
        ifr_name: [0; 16],
        ifr_ifru: nix::libc::__c_anonymous_ifr_ifru {
            ifru_flags: (IFF_TAP | IFF_NO_PI) as c_short,
        },
    };
    for (into, byte) in request.ifr_name.iter_mut().zip(name.bytes().take(15)) {
        *into = byte as c_char;
    }
    // SAFETY: the request outlives the call, ends its name with 0 and has the type that TUNSETIFF reads.
    let answer = unsafe { ioctl(file.as_raw_fd(), TUNSETIFF, &raw const request) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
