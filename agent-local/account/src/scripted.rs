//! For tests: a hub on the loopback interface that gives the answers of a script, one per connection.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::Arc,
    thread::{self, JoinHandle},
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivatePkcs8KeyDer;

use crate::{Account, Accounts, http::Http};

/// What a request must contain before it is answered, and the answer.
pub(crate) type Line = (&'static str, String);

pub(crate) struct Scripted {
    pub(crate) account: Account,
    /// Trusts it.
    pub(crate) http: Http,
    answering: JoinHandle<Vec<String>>,
    _folder: tempfile::TempDir,
}

impl Scripted {
    pub(crate) fn hub(script: Vec<Line>) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let hub = format!("https://{}", listener.local_addr().expect("bound"));
        let (tls, http) = both_ends();
        let folder = tempfile::tempdir().expect("folder");
        let account = Accounts::new(folder.path().to_owned()).at(&hub.parse().expect("valid"));
        let answering = thread::spawn(move || {
            let answer = |(wanted, answer)| answered(&listener, &tls, wanted, answer);
            script.into_iter().map(answer).collect()
        });
        Self { account, http, answering, _folder: folder }
    }

    /// Returns the requests when the script has been played to its end.
    pub(crate) fn was_asked(self) -> Vec<String> {
        self.answering.join().expect("no panic")
    }
}

/// Returns an answer with a body.
pub(crate) fn says(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Returns what a hub's end of TLS needs, and a client that trusts it.
fn both_ends() -> (Arc<ServerConfig>, Http) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let certificate = made.cert.der().clone();
    let trusted = reqwest::Certificate::from_der(&certificate).expect("DER");
    let client = reqwest::Client::builder().tls_certs_only([trusted]).http1_only().build();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .expect("they fit");
    (Arc::new(server), Http::of(client.expect("built")))
}

fn answered(
    listener: &TcpListener,
    tls: &Arc<ServerConfig>,
    wanted: &str,
    answer: String,
) -> String {
    let (stream, _) = listener.accept().expect("it asks");
    let connection = ServerConnection::new(Arc::clone(tls)).expect("a connection");
    let mut stream = StreamOwned::new(connection, stream);
    let mut asked = String::new();
    while !asked.contains(wanted) {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).expect("a request");
        assert_ne!(read, 0, "`{wanted}` is not in {asked}");
        asked.push_str(std::str::from_utf8(&bytes[..read]).expect("text"));
    }
    stream.write_all(answer.as_bytes()).expect("sent");
    stream.flush().expect("sent");
    asked
}
