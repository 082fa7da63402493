//! The second process of `fairlead run`: it takes namespaces of its own, sees its own hosts file there, and becomes the
//! program. The machine outside stays as it is, byte for byte.

mod forbidden;
mod view;

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, ToSocketAddrs as _},
    os::unix::process::CommandExt as _,
    process::Command,
};

use laptop_ipc::FailureKind;
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    unistd::{Gid, Uid, close},
};

use crate::{args::Inside, config::is_in_path, errors::CliError};

pub(crate) use view::HOSTS;

/// Returns when there was no program to become: then it has only been seen that one could.
pub(crate) fn run(inside: &Inside) -> Result<(), CliError> {
    let hosts = match inside.hosts {
        Some(descriptor) => {
            let hosts = fs::read(format!("/proc/self/fd/{descriptor}"));
            // The program has no use for it; that it was open is what `hosts` says.
            let _is_closed = close(descriptor);
            hosts.map_err(|error| odd(format!("no hosts file was passed: {error}")))?
        }
        None => b"127.0.0.1 localhost\n".to_vec(),
    };
    take_namespaces().map_err(forbidden::explained)?;
    view::show(&hosts).map_err(forbidden::explained)?;
    if let [name, address] = &inside.proof[..] {
        must_lead_to(name, address)?;
    }
    let Some((program, arguments)) = inside.program.split_first() else { return Ok(()) };
    let source = Command::new(program).args(arguments).exec();
    // A folder of the PATH that is closed to us is the reason that the kernel gives, though nothing was found anywhere.
    let nowhere = || io::Error::new(io::ErrorKind::NotFound, "the PATH has no such program");
    let source = if is_in_path(program) { source } else { nowhere() };
    Err(CliError::NotStarted { program: program.display().to_string(), source })
}

/// Takes a mount namespace, and a user namespace where only that allows one. Everybody keeps their own uid and gid in it.
fn take_namespaces() -> Result<(), Errno> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    if uid.is_root() && unshare(CloneFlags::CLONE_NEWNS).is_ok() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    let write = |file: &str, text: String| {
        let written = fs::write(format!("/proc/self/{file}"), text);
        written.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    };
    // The kernel wants it before a gid may be mapped; supplementary groups go on counting all the same.
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{uid} {uid} 1"))?;
    write("gid_map", format!("{gid} {gid} 1"))
}

/// A machine may look names up where the hosts file counts nothing.
fn must_lead_to(name: &str, address: &str) -> Result<(), CliError> {
    let address: Ipv4Addr = address.parse().map_err(|_| odd(format!("`{address}`: no address")))?;
    let mut found = (name, 0).to_socket_addrs().into_iter().flatten();
    if found.any(|found| found.ip() == IpAddr::V4(address)) {
        return Ok(());
    }
    Err(CliError::new(
        FailureKind::LaptopNetwork,
        format!("the name {name} does not lead to {address} for the program"),
        "/etc/nsswitch.conf must look into `files` for hosts",
    ))
}

fn odd(message: String) -> CliError {
    CliError::new(FailureKind::Internal, message, "this verb is for `fairlead run` itself")
}
