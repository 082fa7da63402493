//! Who has which socket of this machine, as `/proc` says.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    path::Path,
};

use fairlead_model::Port;

const LISTENING: &str = "0A";
/// What waits for its end (TIME_WAIT, CLOSE) belongs to nobody any more, and is shown as root's.
const OVER: [&str; 2] = ["06", "07"];

/// Who listens on a port. Of another user's process only root sees more than the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub address: SocketAddr,
    pub uid: u32,
    pub process: Option<Process>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub program: String,
}

/// In the words for a person.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some(Process { pid, program }) => write!(f, "{program} (pid {pid}, ")?,
            None => write!(f, "a program (")?,
        }
        write!(f, "user {}) on {}", user_name(self.uid), self.address)
    }
}

/// Returns who listens on `port`, whatever the address.
#[must_use]
pub fn listener_on(port: Port) -> Option<Holder> {
    holder(listening().filter(|socket| socket.local.port() == port.get()))
}

/// Returns who keeps others from listening on this address: on itself, or on all addresses at once.
#[must_use]
pub fn holder_of(address: SocketAddrV4) -> Option<Holder> {
    holder(listening().filter(|socket| socket.keeps_from(address)))
}

/// The same of UDP, where whoever has the port receives what is sent to it.
#[must_use]
pub fn receiver_of(address: SocketAddrV4) -> Option<Holder> {
    holder(udp_sockets().filter(|socket| socket.keeps_from(address)))
}

/// Returns the user at the other end of a connection that was accepted on this machine.
#[must_use]
pub fn user_of_connection(accepted_on: SocketAddr, from: SocketAddr) -> Option<u32> {
    let same = |a: SocketAddr, b: SocketAddr| {
        (a.ip().to_canonical(), a.port()) == (b.ip().to_canonical(), b.port())
    };
    let is_it = |s: &Socket| !s.is_over && same(s.local, from) && same(s.remote, accepted_on);
    sockets().find(is_it).map(|s| s.uid)
}

/// Returns the user whose socket a datagram on this machine came from; `None` where sockets of several users could be it.
#[must_use]
pub fn user_of_sender(from: SocketAddr) -> Option<u32> {
    let is_it = |socket: &Socket| {
        let ip = socket.local.ip().to_canonical();
        let is_any = ip.is_unspecified();
        socket.local.port() == from.port() && (is_any || ip == from.ip().to_canonical())
    };
    let mut users = udp_sockets().filter(is_it).map(|s| s.uid);
    let first = users.next()?;
    users.all(|uid| uid == first).then_some(first)
}

fn holder(sockets: impl Iterator<Item = Socket>) -> Option<Holder> {
    let found: Vec<Socket> = sockets.collect();
    let first = found.first()?;
    let with =
        |socket: &Socket, process| Holder { address: socket.local, uid: socket.uid, process };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let seen = pids.find_map(|pid| Some((pid, found.iter().find(|s| holds(pid, &s.inode))?)));
    let Some((pid, socket)) = seen else { return Some(with(first, None)) };
    let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(with(socket, Some(Process { pid, program: program.trim().to_owned() })))
}

/// One line of `/proc/net/tcp`, `tcp6`, `udp` or `udp6`.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    is_listening: bool,
    is_over: bool,
    uid: u32,
    inode: String,
}

impl Socket {
    /// Says whether nobody else can have this address while it is there.
    fn keeps_from(&self, address: SocketAddrV4) -> bool {
        let ip = self.local.ip().to_canonical();
        self.local.port() == address.port()
            && (ip == IpAddr::V4(*address.ip())
                || ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED)
                || ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    }
}

fn listening() -> impl Iterator<Item = Socket> {
    sockets().filter(|socket| socket.is_listening)
}

fn udp_sockets() -> impl Iterator<Item = Socket> {
    sockets_in(["/proc/net/udp", "/proc/net/udp6"])
}

fn sockets() -> impl Iterator<Item = Socket> {
    sockets_in(["/proc/net/tcp", "/proc/net/tcp6"])
}

fn sockets_in(tables: [&'static str; 2]) -> impl Iterator<Item = Socket> {
    tables.into_iter().filter_map(|path| fs::read_to_string(path).ok()).flat_map(|table| {
        let sockets: Vec<Socket> = table.lines().skip(1).filter_map(socket).collect();
        sockets
    })
}

fn socket(line: &str) -> Option<Socket> {
    let words: Vec<&str> = line.split_whitespace().collect();
    Some(Socket {
        local: address(words.get(1)?)?,
        remote: address(words.get(2)?)?,
        is_listening: *words.get(3)? == LISTENING,
        is_over: OVER.contains(words.get(3)?),
        uid: words.get(7)?.parse().ok()?,
        inode: (*words.get(9)?).to_owned(),
    })
}

/// Reads an address as the kernel prints it: words of 32 bits, each in the machine's own order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<u32>> = (0..ip.len() / 8)
        .map(|n| u32::from_str_radix(ip.get(n * 8..n * 8 + 8)?, 16).ok())
        .collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn holds(pid: u32, inode: &str) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(descriptors) = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else {
        return false;
    };
    let mut targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.any(|target| target.as_os_str() == wanted.as_str())
}

/// Returns a user's name as `/etc/passwd` says; elsewhere nobody is asked, since that may need a network.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use nix::unistd::Uid;

    use super::*;

    #[test]
    fn a_listener_is_found_with_its_process_and_not_after_it_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let port = Port::new(address.port()).expect("not 0");
        let holder = listener_on(port).expect("it listens");
        assert_eq!((holder.address, holder.uid), (address, Uid::current().as_raw()));
        assert_eq!(holder.process.expect("ours").pid, std::process::id());
        let elsewhere = SocketAddrV4::new(Ipv4Addr::new(127, 72, 1, 2), port.get());
        assert_eq!(holder_of(elsewhere), None, "it keeps nobody from another address");
        drop(listener);
        assert_eq!(listener_on(port), None);
    }

    #[test]
    fn whoever_listens_on_all_addresses_keeps_others_from_each() {
        for all in ["0.0.0.0:0", "[::]:0"] {
            let listener = TcpListener::bind(all).expect("bound");
            let port = listener.local_addr().expect("bound").port();
            let wanted = SocketAddrV4::new(Ipv4Addr::new(127, 72, 1, 2), port);
            assert!(TcpListener::bind(wanted).is_err(), "{all}");
            let holder = holder_of(wanted).expect("held");
            assert_eq!(holder.process.clone().expect("ours").pid, std::process::id());
            assert!(
                holder.to_string().contains(&format!("pid {}", std::process::id())),
                "{holder}"
            );
        }
    }

    #[test]
    fn whoever_has_a_port_of_udp_is_found() {
        for on in ["127.72.0.78:0", "0.0.0.0:0", "[::]:0"] {
            let socket = UdpSocket::bind(on).expect("bound");
            let port = socket.local_addr().expect("bound").port();
            let wanted = SocketAddrV4::new(Ipv4Addr::new(127, 72, 0, 78), port);
            let holder = receiver_of(wanted).expect("held");
            assert_eq!(holder.process.expect("ours").pid, std::process::id(), "{on}");
            drop(socket);
            assert_eq!(receiver_of(wanted), None, "{on}");
        }
    }

    #[test]
    fn the_user_of_a_connection_is_known_while_it_lives() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let on = listener.local_addr().expect("bound");
        let client = TcpStream::connect(on).expect("connected");
        let from = client.local_addr().expect("bound");
        assert_eq!(user_of_connection(on, from), Some(Uid::current().as_raw()));
        drop(client);
        let nobody = "127.0.0.1:1".parse().expect("address");
        assert_eq!(user_of_connection(on, nobody), None);
    }

    #[test]
    fn the_user_of_a_datagram_is_known_while_its_socket_is_there() {
        for on in ["127.72.0.79:0", "0.0.0.0:0", "[::]:0"] {
            let socket = UdpSocket::bind(on).expect("bound");
            let port = socket.local_addr().expect("bound").port();
            let from = SocketAddr::from(([127, 72, 0, 79], port));
            assert_eq!(user_of_sender(from), Some(Uid::current().as_raw()), "{on}");
            drop(socket);
            assert_eq!(user_of_sender(from), None, "{on}");
        }
    }

    #[test]
    fn what_waits_for_its_end_is_nobodys() {
        let line = |state: &str| {
            let ends = "0: 0100007F:D431 0248487F:1F90";
            socket(&format!("{ends} {state} 00000000:00000000 00:00000000 00000000 1000 0 1 1"))
        };
        let [lives, over] = ["01", "06"].map(|state| line(state).expect("a socket"));
        assert_eq!((lives.uid, lives.is_over, over.is_over), (1000, false, true));
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        assert_eq!(address("0100007F:0BB8"), Some("127.0.0.1:3000".parse().expect("address")));
        let mapped = address("0000000000000000FFFF00000248487F:0050").expect("an address");
        assert_eq!(mapped.ip().to_canonical(), IpAddr::from([127, 72, 72, 2]));
        assert_eq!((address("01:0"), address("0100007F")), (None, None));
    }
}
