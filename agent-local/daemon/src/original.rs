//! Where a redirected connection was really going.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsFd,
};

use nix::sys::socket::{getsockopt, sockopt::OriginalDst};

/// Asks the kernel for the destination before the redirect; `None` for a connection that was not redirected.
pub(crate) fn destination(tcp: &impl AsFd) -> Option<SocketAddrV4> {
    let raw = getsockopt(tcp, OriginalDst).ok()?;
    let address = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
    Some(SocketAddrV4::new(address, u16::from_be(raw.sin_port)))
}
