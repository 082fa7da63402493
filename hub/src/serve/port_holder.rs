//! Who has a port: so that "address in use" names a process.
//!
//! Linux tells it through `/proc`; of other users' processes it tells root only. Elsewhere nobody is named.

use std::{fs, path::Path};

/// Linux writes socket states as numbers; this one is LISTEN.
const LISTENING: &str = "0A";

/// Returns "`name` (process 123)" of whoever listens on a TCP port.
pub(super) fn holder_of(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .map(|process| process.path())
        .filter(|process| is_numbered(process))
        .find(|process| has_one_of(process, &inodes))
        .map(name)
}

/// Leaves out `/proc/self` and its like, which are a process under another name.
fn is_numbered(process: &Path) -> bool {
    process.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
}

/// Reads the inodes of the sockets that listen on `port` from a table like `/proc/net/tcp`.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let inode = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (address, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
        (address.ends_with(&suffix) && *state == LISTENING).then(|| (*inode).to_owned())
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn has_one_of(process: &Path, inodes: &[String]) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).any(|target| {
        let target = target.to_string_lossy();
        inodes.iter().any(|inode| *target == *format!("socket:[{inode}]"))
    })
}

fn name(process: impl AsRef<Path>) -> String {
    let process = process.as_ref();
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let id = process.file_name().unwrap_or_default().to_string_lossy();
    format!("`{}` (process {id})", name.trim())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_sockets_that_listen_on_the_port_are_found() {
        let table = "  sl  local_address rem_address   st tx rx tr tm retr uid timeout inode\n\
                     0: 0100007F:24E3 00000000:0000 0A 0:0 0:0 0 0 0 4711 1 x\n\
                     1: 0100007F:24E3 0100007F:9999 01 0:0 0:0 0 0 0 4712 1 x\n\
                     2: 0100007F:0050 00000000:0000 0A 0:0 0:0 0 0 0 4713 1 x\n";
        assert_eq!(listening_inodes(table, 0x24E3), ["4711"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_holder_of_a_port_is_named() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let holder = holder_of(port).expect("it is us");
        assert!(holder.contains(&std::process::id().to_string()), "{holder}");
    }
}
