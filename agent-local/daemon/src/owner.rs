//! Whose a loopback connection is: the kernel's table of sockets says it.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddrV4},
};

const TABLE: &str = "/proc/net/tcp";
/// A machine has fewer sockets; beyond that nobody is found.
const LINES_MAX: usize = 1 << 20;

/// Returns the uid of the socket that connects from here to there; `None` when it is closed already.
pub(crate) fn of(from: SocketAddrV4, to: SocketAddrV4) -> Option<u32> {
    let lines = BufReader::new(File::open(TABLE).ok()?).lines().map_while(Result::ok);
    found_in(lines.take(LINES_MAX), from, to)
}

fn found_in(
    lines: impl Iterator<Item = String>,
    from: SocketAddrV4,
    to: SocketAddrV4,
) -> Option<u32> {
    let ends = [from, to].map(in_table);
    lines.skip(1).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        if words.next()? != ends[0] || words.next()? != ends[1] {
            return None;
        }
        // State, queues, timer and retransmissions stand between.
        let (state, uid) = (words.next()?, words.nth(3)?);
        // What waits for its end belongs to nobody any more, and is shown as root's.
        if matches!(state, "06" | "07") { None } else { uid.parse().ok() }
    })
}

/// Writes an address as the table does: its bytes in the machine's order, hexadecimal.
fn in_table(address: SocketAddrV4) -> String {
    let bytes = u32::from_ne_bytes(Ipv4Addr::octets(address.ip()));
    format!("{bytes:08X}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use nix::unistd::Uid;

    use super::*;

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        let SocketAddr::V4(address) = address else { panic!("IPv4") };
        address
    }

    #[test]
    fn a_connection_of_ours_is_ours() {
        let listener = TcpListener::bind("127.75.250.9:0").expect("bound");
        let to = v4(listener.local_addr().expect("bound"));
        let near = TcpStream::connect(to).expect("connected");
        let from = v4(near.local_addr().expect("connected"));
        assert_eq!(of(from, to), Some(Uid::current().as_raw()));
        assert_eq!(of(SocketAddrV4::new(*from.ip(), 1), to), None);
    }

    #[test]
    fn the_other_end_and_what_waits_for_its_end_are_nobodys() {
        let line = |state: &str| {
            format!(
                "   0: 0100007F:D431 0248487F:1F90 {state} 00000000:00000000 00:00000000 00000000  1000        0 1 1"
            )
        };
        let (from, to) = ("127.0.0.1:54321", "127.72.72.2:8080");
        let [from, to] = [from, to].map(|text| text.parse().expect("valid"));
        let owner = |state| found_in(["head".to_owned(), line(state)].into_iter(), from, to);
        if cfg!(target_endian = "little") {
            assert_eq!([owner("01"), owner("06")], [Some(1000), None]);
        }
    }
}
