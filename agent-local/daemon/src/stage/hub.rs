//! For tests: a hub that somebody is signed in to, and that ends whatever it is asked to end.

use std::{
    fs,
    io::{Read as _, Write as _},
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

pub(crate) struct Hub(mpsc::UnboundedReceiver<SessionId>);

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
                if let Some(id) = ends_what_is_asked(tcp, Arc::clone(&tls))
                    && ended_tx.send(id).is_err()
                {
                    return;
                }
            }
        });
        Self(ended_rx)
    }

    pub(crate) async fn is_asked_to_end(&mut self) -> SessionId {
        let asked = timeout(Duration::from_secs(60), self.0.recv()).await;
        asked.expect("it is asked to").expect("it lives as long as the test")
    }
}

/// Answers one request, and returns the session that it ends.
fn ends_what_is_asked(tcp: TcpStream, tls: Arc<ServerConfig>) -> Option<SessionId> {
    let mut stream = StreamOwned::new(ServerConnection::new(tls).ok()?, tcp);
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    stream.write_all(b"HTTP/1.1 204 x\r\nconnection: close\r\n\r\n").ok()?;
    stream.flush().ok()?;
    let asked = String::from_utf8(head).ok()?;
    asked.strip_prefix("DELETE /api/v1/sessions/")?.split(' ').next()?.parse().ok()
}
