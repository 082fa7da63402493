//! Questions of laptops to the cluster's DNS: only about names of Services that the grant covers, so that nobody learns
//! of others, and a laptop that forwards to itself cannot make a loop.
//!
//! What is asked is built here, from a checked name; what comes back is passed on as it is. Only its first bytes are
//! looked at: whether it is an answer, and to this question.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use fairlead_tunnel::Questioned;
use fairlead_wire::{
    open::Refusal,
    resolve::{ClusterName, RESOLVED_MAX_BYTES},
};
use tokio::{net::UdpSocket, sync::Semaphore, time::timeout};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// A name server that says nothing for this long is asked once more.
const PATIENCE: Duration = Duration::from_millis(1500);
const TRIES: usize = 2;
/// Questions of all laptops at a time; one more is refused.
const QUESTIONS_MAX: usize = 256;

/// How this pod asks the cluster's DNS.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    server: Option<SocketAddr>,
    domain: String,
    room: Arc<Semaphore>,
}

impl Resolver {
    /// Reads what the kubelet gave this pod.
    pub(crate) fn of_this_pod() -> Self {
        Self::read(&fs::read_to_string(RESOLV_CONF).unwrap_or_default())
    }

    fn read(conf: &str) -> Self {
        let words = |key: &str| {
            let line = conf.lines().find_map(|line| line.trim().strip_prefix(key));
            line.map(|rest| rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        let server = words("nameserver ").and_then(|words| words.first()?.parse::<IpAddr>().ok());
        let search = words("search ").unwrap_or_default();
        let domain = search.iter().find_map(|domain| domain.strip_prefix("svc."));
        Self {
            server: server.map(|ip| SocketAddr::new(ip, 53)),
            domain: domain.unwrap_or("cluster.local").trim_end_matches('.').to_owned(),
            room: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        }
    }

    /// Returns the domain of the cluster's own names.
    pub(crate) fn domain(&self) -> &str {
        &self.domain
    }

    #[cfg(test)]
    pub(crate) fn at(server: SocketAddr) -> Self {
        Self { server: Some(server), ..Self::read("") }
    }

    /// Asks, and answers the laptop in its own task.
    pub(crate) fn answer(&self, asked: Questioned) {
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            return asked.refuse(Refusal::Unavailable, "too many questions at once");
        };
        let resolver = self.clone();
        tokio::spawn(async move {
            let question = asked.request();
            match resolver.ask(&question.name, question.record).await {
                Ok(answer) => asked.answer(answer),
                Err(error) => {
                    asked.refuse(Refusal::Unreachable, format!("the cluster's DNS: {error}"));
                }
            }
            drop(place);
        });
    }

    async fn ask(&self, name: &ClusterName, record: u16) -> io::Result<Vec<u8>> {
        let server = self.server.ok_or_else(|| io::Error::other("this pod has none"))?;
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(server).await?;
        let id: [u8; 2] = rand::random();
        let question = self.question(id, name, record);
        for _ in 0..TRIES {
            socket.send(&question).await?;
            if let Ok(answer) = timeout(PATIENCE, answer_to(&socket, id)).await {
                return answer;
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn question(&self, id: [u8; 2], name: &ClusterName, record: u16) -> Vec<u8> {
        // Recursion desired, one question, and one additional record: how long an answer may be.
        let mut question = [&id[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 1]].concat();
        for label in name.labels().chain(["svc"]).chain(self.domain.split('.')) {
            question.push(u8::try_from(label.len()).expect("a label is at most 63 bytes"));
            question.extend_from_slice(label.as_bytes());
        }
        question.push(0);
        question.extend_from_slice(&record.to_be_bytes());
        let room = u16::try_from(RESOLVED_MAX_BYTES).expect("fits").to_be_bytes();
        question.extend_from_slice(&[0, 1, 0, 0, 41, room[0], room[1], 0, 0, 0, 0, 0, 0]);
        question
    }
}

/// Waits for an answer that bears the question's id; what else comes from there is none.
async fn answer_to(socket: &UdpSocket, id: [u8; 2]) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; RESOLVED_MAX_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let is_answer = length >= 12 && buffer[..2] == id && buffer[2] & 0x80 != 0;
        if is_answer {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_says_whom_to_ask_and_how_the_cluster_is_called() {
        let conf = "search fairlead.svc.corp.example svc.corp.example corp.example\n\
                    nameserver 10.96.0.10\noptions ndots:5\n";
        let resolver = Resolver::read(conf);
        assert_eq!(resolver.server, Some("10.96.0.10:53".parse().expect("an address")));
        assert_eq!(resolver.domain, "corp.example");
        assert_eq!(Resolver::read("nonsense").domain, "cluster.local");
    }

    #[tokio::test]
    async fn the_answer_to_a_question_is_passed_on_and_nothing_else_is() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let resolver = Resolver::at(server.local_addr().expect("bound"));
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = server.recv_from(&mut buffer).await.expect("asked");
            let asked = buffer[..length].to_vec();
            let mut other = asked.clone();
            other[0] ^= 1;
            other[2] |= 0x80;
            let mut right = asked.clone();
            right[2] |= 0x80;
            // A question that comes back, an answer to another one, and the answer.
            for said in [asked, other, right] {
                server.send_to(&said, from).await.expect("sent");
            }
        });
        let name = "_sql._tcp.db.shop".parse().expect("valid");
        let answer = resolver.ask(&name, 33).await.expect("answered");
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.contains("\u{4}_sql\u{4}_tcp\u{2}db\u{4}shop\u{3}svc\u{7}cluster\u{5}local\0"),
            "{text:?}"
        );
    }
}
