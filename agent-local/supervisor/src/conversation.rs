//! One connection to the supervisor: who is it, what do they ask, what may they have.

use std::{
    collections::HashSet,
    os::{fd::AsFd as _, unix::net::UnixStream},
    time::Duration,
};

use fairlead_model::{Port, Protocol};
use laptop_footprint::{CANARY, FootprintError, ListenError};
use laptop_ipc::{
    AnyCall, Failure, FailureKind, Peer, send_descriptor,
    supervisor::{
        Answer, DATAGRAM_PORTS_MAX, DaemonFolders, Listening, PORTS_MAX, Reached, Reply, Request,
        SERVICES_MAX,
    },
};
use tracing::{debug, info};

use crate::{
    datagrams::DatagramError,
    dns_sockets::Dns,
    machine::{Attachment, Machine, NotPlaced, NotTakenBack, Passed, Placed},
};

/// A caller that says nothing is a caller that hangs; only an attached daemon may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Port of the canary address.
const CANARY_PORT: Port = Port::new(1).expect("not 0");

/// Answers calls until the caller goes away. A daemon that goes away leaves its footprint to be removed.
pub(crate) fn hold(mut stream: UnixStream, peer: Peer, machine: &Machine) {
    if stream.set_read_timeout(Some(SILENCE_MAX)).is_err()
        || stream.set_write_timeout(Some(SILENCE_MAX)).is_err()
    {
        return;
    }
    let mut attachment = None;
    let mut passed = HashSet::new();
    while let Ok(call) = laptop_ipc::read_blocking::<AnyCall>(&mut stream) {
        let reply = match call.understood() {
            Ok(Request::Attach(folders)) => match attach(&stream, peer, folders, machine) {
                Ok(attached) => {
                    attachment = Some(attached);
                    continue;
                }
                Err(failure) => Err(failure),
            },
            Ok(Request::Set { services, may_remap }) => {
                match set(attachment.as_ref(), services, may_remap, machine) {
                    Ok(placed) => match pass(&stream, placed, &mut passed) {
                        Ok(()) => continue,
                        Err(_) => break,
                    },
                    Err(failure) => Err(failure),
                }
            }
            Ok(request) => answer(request, peer, machine),
            Err(failure) => Err(failure),
        };
        if laptop_ipc::write_blocking(&mut stream, &reply).is_err() {
            break;
        }
    }
    debug!(uid = peer.uid, pid = peer.pid, "Conversation ended");
    if let Some(attachment) = attachment {
        machine.daemon_is_gone(&attachment);
    }
}

fn answer(request: Request, peer: Peer, machine: &Machine) -> Reply {
    match request {
        Request::Start(folders) => machine.start_daemon(peer, folders),
        Request::Prepare => machine.prepare_for(peer),
        Request::Stop => match machine.stop_daemon(peer.uid) {
            Ok(was_running) => Ok(Answer::Stopped { was_running }),
            Err(left) => Err(not_taken_back(&left)),
        },
        Request::Status => Ok(machine.status(peer.uid)),
        Request::Cleanup { dry_run } => match machine.clean_up(peer.uid, dry_run) {
            Ok(found) => Ok(Answer::Residue { found }),
            Err(left) => Err(not_taken_back(&left)),
        },
        Request::Attach(_) | Request::Set { .. } => unreachable!("answered by the caller"),
    }
}

fn attach(
    stream: &UnixStream,
    peer: Peer,
    folders: DaemonFolders,
    machine: &Machine,
) -> Result<Attachment, Failure> {
    let broken = |error: std::io::Error| {
        Failure::new(FailureKind::Supervisor, format!("could not pass the listener: {error}"))
    };
    let (attachment, listener) = machine.attach(peer, folders).map_err(broken)?;
    let answer: Reply = Ok(Answer::Attached { canary: CANARY, canary_port: CANARY_PORT });
    laptop_ipc::write_blocking(&mut &*stream, &answer)
        .map_err(|error| Failure::new(FailureKind::Supervisor, error.to_string()))?;
    send_descriptor(stream, listener.as_fd()).map_err(broken)?;
    stream.set_read_timeout(None).map_err(broken)?;
    info!(uid = peer.uid, pid = peer.pid, "Daemon attached");
    Ok(attachment)
}

fn set(
    attachment: Option<&Attachment>,
    services: Vec<Reached>,
    may_remap: bool,
    machine: &Machine,
) -> Result<Placed, Failure> {
    let Some(attachment) = attachment else {
        return Err(Failure::new(FailureKind::Input, "only an attached daemon has a footprint"));
    };
    let udp = |service: &Reached| {
        service.ports.iter().filter(|port| port.protocol == Protocol::Udp).count()
    };
    let ports = services.iter().map(|service| service.ports.len()).sum();
    must_have_room(services.len(), ports, services.iter().map(udp).sum())?;
    machine.set(attachment, services, may_remap).map_err(|error| match error {
        NotPlaced::Footprint(error) => refusal(&error),
        NotPlaced::Datagrams(DatagramError::Taken(taken)) => {
            refusal(&ListenError::from(taken).into())
        }
        NotPlaced::Datagrams(DatagramError::Socket(error)) => {
            Failure::new(FailureKind::LaptopNetwork, format!("no socket for datagrams: {error}"))
                .hint("does the supervisor have too many files open? restart it")
        }
    })
}

fn must_have_room(services: usize, ports: usize, datagrams: usize) -> Result<(), Failure> {
    if datagrams > DATAGRAM_PORTS_MAX {
        return Err(Failure::new(
            FailureKind::LaptopNetwork,
            format!("{datagrams} UDP ports are too many: each takes a socket"),
        )
        .hint(format!("consume fewer: at most {DATAGRAM_PORTS_MAX} UDP ports at a time")));
    }
    if services <= SERVICES_MAX && ports <= PORTS_MAX {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::LaptopNetwork,
        format!("{services} services with {ports} ports are too many for a hosts file"),
    )
    .hint(format!(
        "consume fewer: at most {SERVICES_MAX} services and {PORTS_MAX} ports at a time"
    )))
}

/// Answers a daemon, and passes it the sockets that it does not have yet.
fn pass(
    stream: &UnixStream,
    placed: Placed,
    passed: &mut HashSet<u64>,
) -> Result<(), Box<dyn std::error::Error>> {
    let Placed { addresses, listeners, datagrams, to_pass, dns, split_dns } = placed;
    let listening = |of: &Passed| Listening {
        destination: of.destination,
        on: of.on,
        is_new: !passed.contains(&of.number),
    };
    let reply: Reply = Ok(Answer::Set {
        addresses,
        listeners: listeners.as_ref().map(|of| of.iter().map(listening).collect()),
        datagrams,
        passed: to_pass.iter().map(|(to, _)| *to).collect(),
        passes_dns: matches!(dns, Some(Dns::Passed(..))),
        dns_refusal: match &dns {
            Some(Dns::Refused(why)) => Some(why.clone()),
            _ => None,
        },
        split_dns,
    });
    laptop_ipc::write_blocking(&mut &*stream, &reply)?;
    let listeners = listeners.unwrap_or_default();
    for new in listeners.iter().filter(|listener| !passed.contains(&listener.number)) {
        send_descriptor(stream, new.listener.as_fd())?;
    }
    // A number is never given twice, so what is gone may be forgotten.
    *passed = listeners.iter().map(|listener| listener.number).collect();
    for (_, socket) in &to_pass {
        send_descriptor(stream, socket.as_fd())?;
    }
    if let Some(Dns::Passed(udp, tcp)) = &dns {
        send_descriptor(stream, udp.as_fd())?;
        send_descriptor(stream, tcp.as_fd())?;
    }
    Ok(())
}

fn not_taken_back(NotTakenBack { why, left }: &NotTakenBack) -> Failure {
    let Failure { message, hint, .. } = refusal(why);
    let left = left.iter().map(|change| format!("\n  still there: {change}")).collect::<String>();
    let message = format!("not everything could be taken back: {message}{left}");
    Failure { kind: FailureKind::Cleanup, message, hint }
}

/// Says what failed and what the developer can do about it.
fn refusal(error: &FootprintError) -> Failure {
    use laptop_footprint::{HostsError, RedirectError};
    let hint = match error {
        _ if is_full(error) => "the disk is full: free some space, then try again",
        FootprintError::Hosts(HostsError::ReadOnly { .. }) => {
            "make the file writable for root (mount -o remount,rw FILE, or chattr -i FILE), then try again"
        }
        FootprintError::Hosts(HostsError::Contested { .. }) => {
            "find out who writes it (a VPN client, a configuration tool?), then try again"
        }
        FootprintError::Listen(ListenError::Taken(_)) => {
            let hint = "end that program, leave the service out (fairlead consume '!NAMESPACE/SERVICE'), take \
                        another port (fairlead consume --remap), or install nftables: with it nothing is in the way";
            return Failure::new(FailureKind::Conflict, with_causes(error)).hint(hint);
        }
        FootprintError::Listen(ListenError::Listen { .. }) => {
            "consume fewer services, or install nftables (Debian: apt install nftables)"
        }
        FootprintError::Redirect(RedirectError::Run { .. }) => {
            "install nftables (Debian: apt install nftables), or name the program: --nft FILE"
        }
        FootprintError::Redirect(RedirectError::Refused { .. }) => {
            "is the kernel built with nf_tables and nft_redir?"
        }
        FootprintError::Redirect(RedirectError::Hung { .. }) => {
            "see whether `nft list ruleset` answers: another program may hold the ruleset"
        }
        FootprintError::Resolver(_) => "delete the link by hand: sudo ip link delete fairlead0",
        FootprintError::Hosts(_) | FootprintError::Journal(_) | FootprintError::Addresses(_) => {
            "see the supervisor's log"
        }
    };
    Failure::new(FailureKind::LaptopNetwork, with_causes(error)).hint(hint)
}

/// The journal and the addresses are on a disk, too.
fn is_full(error: &FootprintError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull) {
            return true;
        }
        cause = error.source();
    }
    matches!(error, FootprintError::Hosts(laptop_footprint::HostsError::DiskFull { .. }))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_of_five_thousand_services_has_room_and_more_is_refused_in_words() {
        assert!(must_have_room(5_000, 5_000, 0).is_ok());
        assert!(must_have_room(SERVICES_MAX, PORTS_MAX, DATAGRAM_PORTS_MAX).is_ok());
        let refused = must_have_room(SERVICES_MAX + 1, SERVICES_MAX + 1, 0).expect_err("too many");
        assert_eq!(refused.message, "6001 services with 6001 ports are too many for a hosts file");
        assert!(refused.hint.is_some_and(|hint| hint.contains("at most 6000 services")));
        assert!(must_have_room(1, PORTS_MAX + 1, 0).is_err());
        let refused =
            must_have_room(1, 1, DATAGRAM_PORTS_MAX + 1).expect_err("each takes a socket");
        assert_eq!(refused.message, "257 UDP ports are too many: each takes a socket");
    }
}
