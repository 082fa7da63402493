//! Asks the cluster's DNS until it answers: its pod is ready a while before kube-proxy leads to it.

use super::{components::Components, network};
use crate::Host;
use std::{net::UdpSocket, time::Duration};

/// A query for the address of `kubernetes.default.svc.cluster.local`.
const QUESTION: [&str; 5] = ["kubernetes", "default", "svc", "cluster", "local"];

/// Waits until a node gets an answer from the Service's address.
pub(crate) fn wait(components: &Components<'_>) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            network::join(Host::Node1)?;
            components.wait_until("the cluster's DNS answers", Duration::from_millis(50), answers)
        });
        asking.join().expect("a question does not panic")
    })
}

fn answers() -> bool {
    let ask = || -> std::io::Result<bool> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(250)))?;
        socket.send_to(&query(), "10.96.0.10:53")?;
        let mut reply = [0; 512];
        let length = socket.recv(&mut reply)?;
        Ok(is_answer(&reply[..length]))
    };
    ask().unwrap_or(false)
}

fn query() -> Vec<u8> {
    // Id 1, recursion desired, one question of type A in class IN.
    let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in QUESTION {
        query.push(u8::try_from(label.len()).expect("labels are short"));
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    query
}

/// Says whether a reply has our id, no error and at least one answer.
fn is_answer(reply: &[u8]) -> bool {
    matches!(reply, [0, 1, _, flags, _, _, high, low, ..] if flags & 0x0f == 0 && (*high, *low) != (0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_or_an_empty_reply_is_no_answer() {
        assert!(is_answer(&[0, 1, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0]));
        assert!(!is_answer(&[0, 1, 0x84, 3, 0, 1, 0, 1, 0, 0, 0, 0]), "no such name");
        assert!(!is_answer(&[0, 1, 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0]), "no answers");
        assert!(!is_answer(&[]));
    }
}
