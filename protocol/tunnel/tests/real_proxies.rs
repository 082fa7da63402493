//! Through real proxies, tinyproxy, microsocks and mitmproxy, in a network of our own in which nothing else leads to the
//! hub. `cargo xtask test unit` installs them.
//!
//! Each test runs this program again in a namespace where it may have addresses and a firewall.

#[path = "made/mod.rs"]
#[expect(dead_code, reason = "what is made is for other tests, too")]
mod made;

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use fairlead_model::ProxySettings;
use fairlead_tunnel::connect::{Connector, HubError, HubTrust, RelayError, Ways, dial_hub};
use fairlead_wire::{
    preface::{Answer, PREFACE_BYTES, Side},
    ticket::Ticket,
};
use made::{Authority, authority, certificate_for, server_config, trust_in};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// Where the hub is, and where the proxies are: only from there it is reached.
const HUB: &str = "10.9.0.1";
const PROXIES: &str = "10.9.0.2";
const NETWORK: &str = "
    ip link set lo up && ip address add 10.9.0.1/32 dev lo && ip address add 10.9.0.2/32 dev lo &&
    nft 'table inet closed {
        chain out {
            type filter hook output priority 0;
            ip daddr 10.9.0.1 ip saddr != 10.9.0.2 tcp flags & (syn | ack) == syn reject with tcp reset
        }
    }'";
const HUB_URL: &str = "https://10.9.0.1:8443";
const RELAY: &str = "10.9.0.1:8444";
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn tinyproxy_leads_to_the_port_that_it_lets_through() {
    in_a_network_of_its_own("inside::tinyproxy");
}

#[test]
fn microsocks_leads_to_every_port() {
    in_a_network_of_its_own("inside::microsocks");
}

#[test]
fn mitmproxy_opens_the_tls_around_and_not_the_one_inside() {
    in_a_network_of_its_own("inside::mitmproxy");
}

fn in_a_network_of_its_own(test: &str) {
    let uid = fs::read_to_string("/proc/self/status").expect("status");
    let is_root = uid.lines().any(|line| line.starts_with("Uid:\t0\t"));
    let mut unshare = Command::new("unshare");
    if !is_root {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--net", "--", "sh", "-c", &format!("{NETWORK} && exec \"$@\""), "sh"]);
    unshare.arg(std::env::current_exe().expect("this program"));
    let said = unshare.args(["--ignored", "--exact", test]).output().expect("unshare");
    let out = String::from_utf8_lossy(&said.stdout);
    // A name that means no test is a success, too.
    let has_run = said.status.success() && out.contains("1 passed");
    assert!(has_run, "{out}{}", String::from_utf8_lossy(&said.stderr));
}

/// A hub with its relay's port, which says back whatever a carrier says.
struct Hub(Authority);

impl Hub {
    async fn new() -> Self {
        let authority = authority();
        let config = server_config(&[b"h2", b"http/1.1"], &authority, certificate_for(HUB));
        let (own, relay) = (listen(8443).await, listen(8444).await);
        let tls = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = own.accept().await {
                let tls = tls.clone();
                tokio::spawn(async move {
                    let Ok(tls) = tls.accept(tcp).await else { return };
                    if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                        let Ok(mut http) = h2::server::handshake(tls).await else { return };
                        while http.accept().await.is_some() {}
                        return;
                    }
                    let Ok(socket) = made::websocket_on(Box::new(tls)).await else { return };
                    say_back(socket).await;
                });
            }
        });
        tokio::spawn(async move {
            while let Ok((tcp, _)) = relay.accept().await {
                tokio::spawn(say_back(tcp));
            }
        });
        Self(authority)
    }
}

async fn listen(port: u16) -> TcpListener {
    TcpListener::bind((HUB, port)).await.expect("a network of our own")
}

async fn say_back(mut io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) {
    if io.read_exact(&mut [0; PREFACE_BYTES]).await.is_err() {
        return;
    }
    io.write_all(&[Answer::Paired.code()]).await.expect("taken");
    io.flush().await.expect("taken");
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = io.read(&mut buffer).await {
        io.write_all(&buffer[..read]).await.expect("taken");
        io.flush().await.expect("taken");
    }
}

struct Proxy(Child);

impl Proxy {
    async fn start(program: &str, words: &[&str], port: u16) -> Self {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let proxy =
            Self(command.spawn().unwrap_or_else(|error| {
                panic!("{program}: {error}; cargo xtask setup installs it")
            }));
        let address: SocketAddr = format!("{PROXIES}:{port}").parse().expect("an address");
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.expect("it listens");
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

fn through(proxy: &str, trust: HubTrust) -> Connector {
    let https = Some(proxy.parse().expect("an address"));
    Connector::new(ProxySettings { https, ..ProxySettings::default() }, trust)
}

/// Makes a link and a carrier, and returns which way the carrier took.
async fn works(connector: &Connector) -> String {
    dial_hub(HUB_URL, connector).await.expect("a link");
    let ways = Ways::to_hub(HUB_URL, connector.clone()).expect("an address");
    let half = ways.dial(RELAY, &Ticket::draw(), Side::Laptop).await.expect("a carrier");
    let mut io = half.io;
    io.write_all(b"there and back").await.expect("taken");
    io.flush().await.expect("taken");
    let mut heard = [0; 14];
    tokio::time::timeout(PATIENCE, io.read_exact(&mut heard))
        .await
        .expect("in time")
        .expect("back");
    assert_eq!(&heard, b"there and back");
    half.path.to_string()
}

async fn the_direct_way_is_closed(hub: &Hub) {
    let direct = Connector::direct(trust_in(&hub.0));
    let refused = dial_hub(HUB_URL, &direct).await;
    assert!(matches!(refused, Err(HubError::Unreachable { .. })), "{refused:?}");
    let ways = Ways::to_hub(HUB_URL, direct).expect("an address");
    let refused = ways.dial(RELAY, &Ticket::draw(), Side::Laptop).await;
    assert!(matches!(refused, Err(RelayError::NoWay(_))), "{refused:?}");
}

/// The usual setting of a corporate proxy: who are you, and nothing but HTTPS.
async fn tinyproxy(folder: &Path, port: u16) -> Proxy {
    let settings = folder.join("tinyproxy.conf");
    let text = format!(
        "Port {port}\nListen {PROXIES}\nBind {PROXIES}\nTimeout 600\nBasicAuth ada s3cret\nConnectPort 8443\n"
    );
    fs::write(&settings, text).expect("written");
    Proxy::start("tinyproxy", &["-d", "-c", settings.to_str().expect("UTF-8")], port).await
}

mod inside {
    use super::*;

    #[tokio::test]
    #[ignore = "runs in a network of its own"]
    async fn tinyproxy() {
        let (hub, folder) = (Hub::new().await, tempfile::tempdir().expect("a folder"));
        the_direct_way_is_closed(&hub).await;
        let _proxy = super::tinyproxy(folder.path(), 3128).await;
        let way = works(&through("http://ada:s3cret@10.9.0.2:3128", trust_in(&hub.0))).await;
        assert_eq!(way, "wss through proxy 10.9.0.2:3128");
        let stranger = through("http://ada:wrong@10.9.0.2:3128", trust_in(&hub.0));
        let error = dial_hub(HUB_URL, &stranger).await.expect_err("refused").to_string();
        assert!(error.contains("10.9.0.2:3128 does not accept the user"), "{error}");
    }

    #[tokio::test]
    #[ignore = "runs in a network of its own"]
    async fn microsocks() {
        let hub = Hub::new().await;
        the_direct_way_is_closed(&hub).await;
        let words = ["-i", PROXIES, "-b", PROXIES, "-p", "1080", "-u", "ada", "-P", "s3cret"];
        let _proxy = Proxy::start("microsocks", &words, 1080).await;
        for scheme in ["socks5", "socks5h"] {
            let proxy = format!("{scheme}://ada:s3cret@10.9.0.2:1080");
            let way = works(&through(&proxy, trust_in(&hub.0))).await;
            assert_eq!(way, "raw through proxy 10.9.0.2:1080");
        }
        for (who, says) in [("", "asks who you are"), ("ada:wrong@", "does not accept the user")] {
            let stranger = through(&format!("socks5://{who}10.9.0.2:1080"), trust_in(&hub.0));
            let error = dial_hub(HUB_URL, &stranger).await.expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    /// It opens TLS, and reaches the hub through the other proxy.
    #[tokio::test]
    #[ignore = "runs in a network of its own"]
    async fn mitmproxy() {
        let (hub, folder) = (Hub::new().await, tempfile::tempdir().expect("a folder"));
        the_direct_way_is_closed(&hub).await;
        let _outer = super::tinyproxy(folder.path(), 3128).await;
        let hub_ca = folder.path().join("hub-ca.pem");
        fs::write(&hub_ca, hub.0.pem()).expect("written");
        let settings = [
            format!("confdir={}", folder.path().display()),
            format!("ssl_verify_upstream_trusted_ca={}", hub_ca.display()),
            "upstream_auth=ada:s3cret".to_owned(),
        ];
        let mut words = vec!["--mode", "upstream:http://10.9.0.2:3128", "--listen-host", PROXIES];
        words.extend(["--listen-port", "8080"]);
        words.extend(settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
        let _proxy = Proxy::start("mitmdump", &words, 8080).await;
        let own_ca = folder.path().join("mitmproxy-ca-cert.pem");

        let trusting = HubTrust::new(Some(&own_ca)).expect("it has made its authority");
        let way = works(&through("http://10.9.0.2:8080", trusting)).await;
        assert_eq!(way, "wss through proxy 10.9.0.2:8080");

        let unaware = through("http://10.9.0.2:8080", trust_in(&hub.0));
        let error = dial_hub(HUB_URL, &unaware).await.expect_err("not trusted").to_string();
        assert!(
            error.contains("does not trust") && error.contains("proxy which opens TLS"),
            "{error}"
        );
    }
}
