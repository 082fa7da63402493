//! A hub as small as the laptop's bad days need: one teamspace with a service or two. It knows which sessions live.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    os::unix::fs::chown,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::machine::{Machine, PREVIEW, TEAMSPACE};

const SESSION: &str = "01980a3f-0000-7000-8000-000000000002";
const DEVICE: &str = "01980a3f-0000-7000-8000-00000000000d";
/// A test that forgot to let go must end all the same.
const HELD_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Hub {
    pub(crate) url: String,
    authority: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    begun: usize,
    live: BTreeSet<String>,
    /// No session begins until it is let go.
    is_holding: bool,
    /// Every connection is cut as it comes.
    is_cut_off: bool,
    has_preview: bool,
    has_dns: bool,
    is_newer: bool,
}

impl Hub {
    /// Starts it on the machine's loopback.
    pub(crate) fn on(machine: &Machine) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("made"))
            .expect("signed");
        let key = KeyPair::generate().expect("made");
        let leaf = CertificateParams::new(["127.0.0.1".to_owned()])
            .and_then(|params| params.signed_by(&key, &issuer))
            .expect("signed");
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], private)
            })
            .expect("our own certificate");
        let listener = machine.inside(|| TcpListener::bind(("127.0.0.1", 0)).expect("bound"));
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(State::default());
        let (config, shared) = (Arc::new(config), Arc::clone(&state));
        // Ends with the test's process.
        thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                if shared.seen.lock().expect("unpoisoned").is_cut_off {
                    continue;
                }
                let (config, state) = (Arc::clone(&config), Arc::clone(&shared));
                thread::spawn(move || serve(tcp, config, &state));
            }
        });
        Self { url: format!("https://127.0.0.1:{port}"), authority: issuer.pem(), state }
    }

    /// Leaves a user signed in here, trusting this hub's authority.
    pub(crate) fn has_signed_in(&self, machine: &Machine, uid: u32) {
        sign_in(machine, uid, &self.url, Some(&self.authority), 3600);
    }

    /// Leaves a user signed in here, with an access token that has expired.
    pub(crate) fn has_signed_in_long_ago(&self, machine: &Machine, uid: u32) {
        sign_in(machine, uid, &self.url, Some(&self.authority), -3600);
    }

    pub(crate) fn live(&self) -> usize {
        self.state.seen.lock().expect("unpoisoned").live.len()
    }

    pub(crate) fn begun(&self) -> usize {
        self.state.seen.lock().expect("unpoisoned").begun
    }

    /// Shows a second teamspace.
    pub(crate) fn has_preview(&self) {
        self.state.seen.lock().expect("unpoisoned").has_preview = true;
    }

    /// Grants `shop/dns` at port 53 of UDP beside the cart.
    pub(crate) fn has_dns(&self) {
        self.state.seen.lock().expect("unpoisoned").has_dns = true;
    }

    /// Was updated to a version that speaks to none of today's laptops.
    pub(crate) fn is_newer(&self) {
        self.state.seen.lock().expect("unpoisoned").is_newer = true;
    }

    /// Cuts the way to it, or mends it.
    pub(crate) fn cuts_off(&self, is_cut_off: bool) {
        self.state.seen.lock().expect("unpoisoned").is_cut_off = is_cut_off;
    }

    /// Keeps every session that is asked for waiting, or lets them all begin.
    pub(crate) fn holds(&self, is_holding: bool) {
        self.state.seen.lock().expect("unpoisoned").is_holding = is_holding;
        self.state.changed.notify_all();
    }
}

/// Leaves a user signed in at `url`; without an authority only the system's are trusted.
pub(crate) fn sign_in(
    machine: &Machine,
    uid: u32,
    url: &str,
    authority: Option<&str>,
    expires_in_s: i64,
) {
    let certificate = rcgen::generate_simple_self_signed(["laptop".to_owned()]).expect("made");
    let expires_at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(expires_in_s);
    let tomorrow = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(12);
    let config = format!("/mnt/home/{uid}/.config/fairlead");
    let hub = format!("{config}/hubs/{}", url.trim_start_matches("https://").replace(':', "_"));
    let write = |path: String, text: String| {
        let path = machine.path(&path);
        fs::create_dir_all(path.parent().expect("in a folder")).expect("made");
        fs::write(path, text).expect("written");
    };
    let device = json!({
        "device": { "id": DEVICE },
        "certificate_pem": certificate.cert.pem(),
        "expires_at": tomorrow,
    });
    write(format!("{config}/hub.json"), json!(url).to_string());
    write(
        format!("{hub}/tokens.json"),
        json!({ "access": "a", "refresh": "r", "expires_at": expires_at }).to_string(),
    );
    write(format!("{hub}/device.json"), device.to_string());
    if let Some(authority) = authority {
        write(format!("{hub}/hub-ca.pem"), authority.to_owned());
    }
    own(&machine.path(&format!("/mnt/home/{uid}/.config")), uid);
}

fn own(path: &std::path::Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).expect("owned");
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("readable").flatten();
        entries.for_each(|entry| own(&entry.path(), uid));
    }
}

/// Answers one request. Whoever speaks something else (the link's HTTP/2) gets no answer that it understands.
fn serve(tcp: TcpStream, config: Arc<ServerConfig>, state: &State) {
    let Ok(tls) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(tls, tcp);
    let Some((method, path, asked)) = request(&mut stream) else { return };
    let (status, body) = answer(&method, &path, &asked, state);
    let body = body.to_string();
    let head =
        format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\n");
    // A client that went away is what some tests are about.
    drop(write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()));
    stream.conn.send_close_notify();
    drop(stream.flush());
}

/// Reads a request and returns what it asks for, with its body.
fn request(stream: &mut impl std::io::Read) -> Option<(String, String, Value)> {
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        text.extend_from_slice(&chunk[..read]);
        let Some(end) = text.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if text.len() < end + 4 + length.and_then(|l| l.parse::<usize>().ok()).unwrap_or(0) {
            continue;
        }
        let line = String::from_utf8_lossy(&text[..end]).lines().next()?.to_owned();
        let mut words = line.split(' ').map(str::to_owned);
        let body = serde_json::from_slice(&text[end + 4..]).unwrap_or_default();
        return Some((words.next()?, words.next()?, body));
    }
}

fn answer(method: &str, path: &str, asked: &Value, state: &State) -> (u16, Value) {
    match (method, path) {
        ("GET", "/api/v1/version") => match state.seen.lock().expect("unpoisoned").is_newer {
            false => (200, json!({ "version": "0.1.0", "api": ["v1"] })),
            true => (200, json!({ "version": "9.0.0", "api": ["v9"] })),
        },
        ("GET", "/api/v1/teamspaces") => {
            let both = [(TEAMSPACE, "staging"), (PREVIEW, "preview")];
            let count = 1 + usize::from(state.seen.lock().expect("unpoisoned").has_preview);
            let view = |(id, name): &(&str, &str)| json!({ "id": id, "name": name, "status": "connected" });
            (200, both[..count].iter().map(view).collect())
        }
        ("GET", path) if path.ends_with("/services") => (
            200,
            json!({ "services": [{
                "namespace": "shop", "name": "cart", "type": "ClusterIP",
                "ports": [{ "port": 80, "protocol": "TCP" }], "ready_endpoints": 2,
                "may": { "consume": true, "intercept": true },
            }]}),
        ),
        ("POST", "/api/v1/sessions") => begin(state),
        ("PUT", path) if path.ends_with("/patterns") => change(path, asked, state),
        ("DELETE", path) => {
            let id = path.rsplit('/').next().unwrap_or_default();
            state.seen.lock().expect("unpoisoned").live.remove(id);
            (204, Value::Null)
        }
        ("POST", "/oauth/token") => (
            400,
            json!({
                "error": "invalid_dpop_proof",
                "error_description": "the clocks of laptop and hub differ by 3600 s",
            }),
        ),
        _ => (404, json!({})),
    }
}

fn begin(state: &State) -> (u16, Value) {
    let mut seen = state.asked();
    seen.live.insert(SESSION.to_owned());
    let mut services = vec![json!({ "namespace": "shop", "name": "cart", "ports": [80] })];
    if seen.has_dns {
        let dns = json!({ "namespace": "shop", "name": "dns", "ports": [], "udp_ports": [53] });
        services.push(dns);
    }
    (201, json!({ "session": { "id": SESSION }, "grant": "", "services": services }))
}

/// A session reaches the frontend, and the cart where it is about it by name.
fn change(path: &str, asked: &Value, state: &State) -> (u16, Value) {
    let id = path.trim_end_matches("/patterns").rsplit('/').next().unwrap_or_default();
    drop(state.asked());
    let patterns = asked["patterns"].as_array().cloned().unwrap_or_default();
    let names = if patterns.contains(&json!("shop/cart")) {
        &["cart", "frontend"][..]
    } else {
        &["frontend"]
    };
    let service = |name: &&str| json!({ "namespace": "shop", "name": name, "ports": [80] });
    let services: Vec<_> = names.iter().map(service).collect();
    let session = json!({ "id": id, "patterns": patterns });
    (200, json!({ "session": session, "grant": "", "services": services }))
}

impl State {
    /// Counts somebody who asks, and lets them wait while the hub holds.
    fn asked(&self) -> MutexGuard<'_, Seen> {
        let mut seen = self.seen.lock().expect("unpoisoned");
        seen.begun += 1;
        let waited = self.changed.wait_timeout_while(seen, HELD_MAX, |seen| seen.is_holding);
        waited.expect("unpoisoned").0
    }
}
