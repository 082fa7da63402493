//! For tests: a hub that somebody is signed in to, that ends whatever it is asked to end, and lets every consume be about
//! whatever it is asked for.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use fairlead_model::SessionId;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::{sync::mpsc, time::timeout};

use crate::keeper::Keeper;

pub(crate) struct Hub {
    ended_rx: mpsc::UnboundedReceiver<SessionId>,
    port: u16,
}

impl Hub {
    /// Starts it, and signs a keeper in.
    pub(crate) fn of(keeper: &Keeper) -> Self {
        // Another test of this process may have been first.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("they fit");

        let hub = format!("https://127.0.0.1:{port}").parse().expect("valid");
        keeper.accounts.select(&hub).expect("written");
        keeper.accounts.at(&hub).keep_ca(made.cert.pem().as_bytes()).expect("written");
        let tokens = serde_json::json!({
            "access": "a", "refresh": "r", "expires_at": "2999-01-01T00:00:00Z",
        });
        let folder = keeper.accounts.folder().join(format!("hubs/127.0.0.1_{port}"));
        fs::write(folder.join("tokens.json"), tokens.to_string()).expect("written");

        let (ended_tx, ended_rx) = mpsc::unbounded_channel();
        let tls = Arc::new(tls);
        // Ends with the test, or with its process.
        thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                if let Some(id) = does_what_is_asked(tcp, Arc::clone(&tls))
                    && ended_tx.send(id).is_err()
                {
                    return;
                }
            }
        });
        Self { ended_rx, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn is_asked_to_end(&mut self) -> SessionId {
        let asked = timeout(Duration::from_secs(60), self.ended_rx.recv()).await;
        asked.expect("it is asked to").expect("it lives as long as the test")
    }
}

/// Answers one request, and returns the session that it ends.
fn does_what_is_asked(tcp: TcpStream, tls: Arc<ServerConfig>) -> Option<SessionId> {
    let mut stream = StreamOwned::new(ServerConnection::new(tls).ok()?, tcp);
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let asked = String::from_utf8(head).ok()?;
    let (method, path) = asked.split_once(" /api/v1/sessions/")?;
    let id: SessionId = path.split([' ', '/']).next()?.parse().ok()?;
    if method == "PUT" {
        let body = changed(id, &read_body(&mut stream, &asked)?);
        let head = format!(
            "HTTP/1.1 200 x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
        stream.flush().ok()?;
        return None;
    }
    stream.write_all(b"HTTP/1.1 204 x\r\nconnection: close\r\n\r\n").ok()?;
    stream.flush().ok()?;
    Some(id)
}

fn read_body(stream: &mut impl io::Read, head: &str) -> Option<serde_json::Value> {
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

fn changed(id: SessionId, asked: &serde_json::Value) -> String {
    let session = serde_json::json!({ "id": id, "patterns": asked["patterns"] });
    let services = [("shop", "cart"), ("shop", "frontend")]
        .map(|(namespace, name)| serde_json::json!({ "namespace": namespace, "name": name, "ports": [80] }));
    serde_json::json!({ "session": session, "grant": "", "services": services }).to_string()
}
