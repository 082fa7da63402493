//! A corporate network: nothing but its proxies leads from the laptop to the hub.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::anyhow;
use fairlead_lab::{Host, Lab};
use fairlead_tunnel::websocket::LINK_PATH;

use crate::{command::say, hub, line::Tied, patience::within};

const HTTP: u16 = 3128;
const SOCKS: u16 = 1080;
const OPENING: u16 = 8080;
const OPENING_LOG: &str = "mitmdump.log";
const TABLE: &str = "corporate";
const READY_WITHIN: Duration = Duration::from_secs(10);

/// A laptop in such a network; dropping this leads it out again.
#[derive(Debug)]
pub struct Corporate<'w> {
    lab: &'w Lab,
    _proxies: [Tied; 3],
}

impl<'w> Corporate<'w> {
    /// The usual one: it asks who you are, and opens nothing but the port of HTTPS.
    pub fn http_proxy() -> String {
        format!("http://ada:s3cret@{}", at(HTTP))
    }

    /// It asks too, and opens every port.
    pub fn socks_proxy() -> String {
        format!("socks5h://ada:s3cret@{}", at(SOCKS))
    }

    /// It opens TLS, and what it shows instead is signed by an authority of its own.
    pub fn opening_proxy() -> String {
        format!("http://{}", at(OPENING))
    }

    /// Returns the certificate of that authority, which the proxy made when it ran first.
    pub fn authority(folder: &Path) -> PathBuf {
        folder.join("mitmproxy-ca-cert.pem")
    }

    /// Starts the proxies, and closes every other way to the hub; what went that way is reset.
    pub fn around(lab: &'w Lab, folder: &Path, hub_ca: &Path) -> anyhow::Result<Self> {
        let settings = folder.join("tinyproxy.conf");
        let [https, _] = hub::PORTS;
        let text = format!("Port {HTTP}\nTimeout 600\nBasicAuth ada s3cret\nConnectPort {https}\n");
        fs::write(&settings, text)?;
        let mut tinyproxy = lab.exec(Host::Hub, "tinyproxy");
        tinyproxy.arg("-d").arg("-c").arg(settings);
        let mut microsocks = lab.exec(Host::Hub, "microsocks");
        microsocks.args(["-p", &SOCKS.to_string(), "-u", "ada", "-P", "s3cret"]);
        let mut mitmdump = lab.exec(Host::Hub, "mitmdump");
        mitmdump.args(["--listen-port", &OPENING.to_string()]);
        mitmdump.args(["--set", &format!("confdir={}", folder.display())]);
        let upstream = format!("ssl_verify_upstream_trusted_ca={}", hub_ca.display());
        mitmdump.args(["--set", &upstream]);
        let _proxies = [
            Tied::start(tinyproxy, folder.join("tinyproxy.log"))?,
            Tied::start(microsocks, folder.join("microsocks.log"))?,
            Tied::start(mitmdump, folder.join(OPENING_LOG))?,
        ];
        let network = Self { lab, _proxies };
        for port in [HTTP, SOCKS, OPENING] {
            within(READY_WITHIN, "the proxy listens", || network.listens(port))?;
        }
        let mut nft = lab.exec(Host::Laptop, "nft");
        nft.arg(format!(
            "table inet {TABLE} {{ chain output {{
                type filter hook output priority 0
                ip daddr {} tcp dport != {{ {HTTP}, {SOCKS}, {OPENING} }} reject with tcp reset
            }}
            }}",
            Host::Hub.address()
        ));
        say(nft)?.ok()?;
        Ok(network)
    }

    /// Returns who has asked the opening proxy for a link inside a WebSocket.
    pub fn asked_for_links(&self, folder: &Path) -> anyhow::Result<BTreeSet<IpAddr>> {
        let log = fs::read_to_string(folder.join(OPENING_LOG))?;
        let asked = log.lines().filter(|line| line.contains(" GET ") && line.contains(LINK_PATH));
        let from = asked.filter_map(|line| line.split_whitespace().next()?.split(':').next());
        from.map(|address| Ok(address.parse()?)).collect()
    }

    fn listens(&self, port: u16) -> anyhow::Result<()> {
        let knocking = self.lab.on(Host::Laptop, move || TcpStream::connect(at(port)))?;
        let answered = knocking.join().map_err(|_| anyhow!("a thread panicked"))?;
        Ok(answered.map(drop)?)
    }
}

impl Drop for Corporate<'_> {
    fn drop(&mut self) {
        let mut nft = self.lab.exec(Host::Laptop, "nft");
        nft.args(["delete", "table", "inet", TABLE]);
        // It fails where the network was not made whole.
        say(nft).map(drop).unwrap_or_default();
    }
}

fn at(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Host::Hub.address(), port)
}
