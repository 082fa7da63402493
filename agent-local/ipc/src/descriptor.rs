//! Passing a socket from the supervisor, who may make it, to the daemon, who uses it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Sends one descriptor, riding on one byte.
pub fn send_descriptor(stream: &UnixStream, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let descriptors = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::empty(), None)?;
    Ok(())
}

/// Receives the descriptor that the other side sends next.
pub fn receive_descriptor(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut payload = [IoSliceMut::new(&mut byte)];
    let mut room = vec![0_u8; nix::sys::socket::cmsg_space::<RawFd>()];
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut payload,
        Some(&mut room),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "no descriptor came along");
    let rights = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let raw = rights.and_then(|descriptors| descriptors.first().copied()).ok_or_else(missing)?;
    Ok(owned(raw))
}

#[expect(
    unsafe_code,
    reason = "the kernel has just made this descriptor for us, and for nobody else"
)]
fn owned(raw: RawFd) -> OwnedFd {
    // SAFETY: `raw` comes from SCM_RIGHTS of this very message, is open and has no other owner.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsFd as _,
    };

    use super::*;

    #[test]
    fn a_listener_works_after_it_was_passed() {
        let (near, far) = UnixStream::pair().expect("pair");
        let made = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = made.local_addr().expect("bound");
        send_descriptor(&near, made.as_fd()).expect("sent");
        drop(made);
        let passed = TcpListener::from(receive_descriptor(&far).expect("received"));
        TcpStream::connect(address).expect("still listening");
        passed.accept().expect("accepted");
    }

    #[test]
    fn a_byte_without_a_descriptor_is_an_error() {
        use std::io::Write as _;
        let (mut near, far) = UnixStream::pair().expect("pair");
        near.write_all(&[0]).expect("sent");
        receive_descriptor(&far).expect_err("nothing came along");
    }
}
