//! Who listens on a port of this laptop, from `/proc`.

use std::{fs, path::Path};

use fairlead_model::Port;

/// A process that listens. Of another user's process only that it is there can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    Process { pid: u32, name: String },
    Somebody,
}

/// Returns who listens on `port`, or `None` when nobody does.
pub(crate) fn listener_on(port: Port) -> Option<Holder> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| inodes_listening_on(&table, port))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    Some(process_with(&inodes).unwrap_or(Holder::Somebody))
}

/// Reads the lines of `/proc/net/tcp` that are in state LISTEN (0A) on the port.
fn inodes_listening_on(table: &str, port: Port) -> Vec<String> {
    let suffix = format!(":{:04X}", port.get());
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|words| words.len() > 9 && words[1].ends_with(&suffix) && words[3] == "0A")
        .map(|words| words[9].to_owned())
        .collect()
}

fn process_with(inodes: &[String]) -> Option<Holder> {
    let sockets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| holds_one_of(*pid, &sockets))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder::Process { pid, name: name.trim().to_owned() })
}

fn holds_one_of(pid: u32, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else {
        return false;
    };
    let mut targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.any(|target| target.to_str().is_some_and(|target| sockets.iter().any(|s| s == target)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_found_with_its_process_and_not_after_it_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = Port::new(listener.local_addr().expect("bound").port()).expect("not 0");
        match listener_on(port) {
            Some(Holder::Process { pid, .. }) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        drop(listener);
        assert_eq!(listener_on(port), None);
    }

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 4711 1\n   \
                     1: 0100007F:0BB8 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000 0 4712 1\n";
        assert_eq!(inodes_listening_on(table, Port::new(3000).expect("not 0")), ["4711"]);
    }
}
