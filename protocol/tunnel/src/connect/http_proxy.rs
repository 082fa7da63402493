//! `CONNECT`, as a client says it: a head there, a head back, and from then on the connection is the target's.

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fairlead_model::{ProxyUrl, host_and_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::ProxyError;
use crate::connection::Connection;

/// The head of an answer; what a proxy says beside it (cookies, advertisements) is not read.
const HEAD_MAX_BYTES: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// Of the reason that a proxy gives, as much is shown to people.
const REASON_MAX_CHARS: usize = 80;

/// Asks the proxy at the other end of `io` for the way to `host:port`.
pub(super) async fn connect(
    proxy: &ProxyUrl,
    mut io: Connection,
    host: &str,
    port: u16,
) -> Result<Connection, ProxyError> {
    let target = host_and_port(host, port);
    let cut = |error| ProxyError::cut(proxy, error);
    io.write_all(question(proxy, &target).as_bytes()).await.map_err(cut)?;
    io.flush().await.map_err(cut)?;
    let head = read_head(proxy, &mut io).await?;
    let (status, reason) = status_of(&head).ok_or_else(|| ProxyError::not_a_proxy(proxy))?;
    match status {
        200..300 => Ok(io),
        // tinyproxy says 401 to whoever gives a wrong password.
        401 | 407 => Err(ProxyError::credentials(proxy)),
        _ => Err(ProxyError::Refused {
            proxy: proxy.place(),
            target,
            answer: format!("{status} {reason}").trim_end().to_owned(),
        }),
    }
}

fn question(proxy: &ProxyUrl, target: &str) -> String {
    let credentials = proxy.credentials().map(|(user, password)| {
        let basic = STANDARD.encode(format!("{user}:{password}"));
        format!("Proxy-Authorization: Basic {basic}\r\n")
    });
    let credentials = credentials.unwrap_or_default();
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{credentials}\r\n")
}

/// Reads up to the empty line and not a byte further: the next one is the target's.
async fn read_head(proxy: &ProxyUrl, io: &mut Connection) -> Result<Vec<u8>, ProxyError> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_MAX_BYTES {
            return Err(ProxyError::Endless { proxy: proxy.place() });
        }
        let byte = io.read_u8().await.map_err(|error| match error.kind() {
            // Somebody who says goodbye in the middle of other words never was a proxy.
            io::ErrorKind::UnexpectedEof if !head.is_empty() && !head.starts_with(b"HTTP/") => {
                ProxyError::not_a_proxy(proxy)
            }
            _ => ProxyError::cut(proxy, error),
        })?;
        head.push(byte);
    }
    Ok(head)
}

fn status_of(head: &[u8]) -> Option<(u16, String)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    answer.parse(head).ok().filter(httparse::Status::is_complete)?;
    let reason = answer.reason.unwrap_or_default();
    let shown = reason.chars().filter(|c| !c.is_control()).take(REASON_MAX_CHARS).collect();
    Some((answer.code?, shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_carries_who_we_are_where_the_address_says_it() {
        let proxy = "http://ada:p%40ss@proxy:3128".parse().expect("valid");
        let asked = question(&proxy, "hub.example.com:443");
        assert!(
            asked.starts_with(
                "CONNECT hub.example.com:443 HTTP/1.1\r\nHost: hub.example.com:443\r\n"
            )
        );
        assert!(asked.contains("Proxy-Authorization: Basic YWRhOnBAc3M=\r\n"), "{asked}");
        let asked = question(&"http://proxy:3128".parse().expect("valid"), "[fd00::7]:443");
        assert!(!asked.contains("Authorization") && asked.contains("CONNECT [fd00::7]:443 "));
    }

    #[test]
    fn a_reason_is_shown_in_part_and_without_control_characters() {
        let long = format!("HTTP/1.0 403 {}\r\n\r\n", "x".repeat(4000));
        assert_eq!(status_of(long.as_bytes()).map(|(_, reason)| reason.len()), Some(80));
        assert_eq!(status_of(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
    }
}
