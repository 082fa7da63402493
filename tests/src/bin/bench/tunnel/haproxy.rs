//! Haproxies in a row, on the laptop like everything else: two, and one more in front of them.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    time::Duration,
};

use anyhow::Context as _;
use fairlead_lab::Host;
use fairlead_tests::{Line, Process, Tied, say, within};

const LONG_ENTRANCE: u16 = 7100;
const ENTRANCE: u16 = 7101;
const MIDDLE: u16 = 7102;
const READY_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Haproxy {
    /// In the order in which bytes pass them.
    row: [Tied; 3],
}

impl Haproxy {
    pub(crate) fn start(line: &Line) -> anyhow::Result<Self> {
        let row = [
            hop(line, LONG_ENTRANCE, here(ENTRANCE))?,
            hop(line, ENTRANCE, here(MIDDLE))?,
            hop(line, MIDDLE, line.raw())?,
        ];
        let haproxy = Self { row };
        let entrance = haproxy.long_entrance();
        let listens = move || {
            within(READY_WITHIN, "haproxy listens", || Ok(TcpStream::connect(entrance)?)).map(drop)
        };
        let listening = line.world().lab().on(Host::Laptop, listens)?;
        listening.join().expect("connecting does not panic")?;
        Ok(haproxy)
    }

    /// Where two of them begin.
    pub(crate) fn entrance(&self) -> SocketAddrV4 {
        here(ENTRANCE)
    }

    /// Where three of them begin.
    pub(crate) fn long_entrance(&self) -> SocketAddrV4 {
        here(LONG_ENTRANCE)
    }

    pub(crate) fn hops(&self) -> anyhow::Result<Vec<Process>> {
        self.row[1..].iter().map(Tied::process).collect()
    }

    pub(crate) fn all_hops(&self) -> anyhow::Result<Vec<Process>> {
        self.row.iter().map(Tied::process).collect()
    }
}

fn here(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

fn hop(line: &Line, port: u16, next: SocketAddrV4) -> anyhow::Result<Tied> {
    let lab = line.world().lab();
    let file = lab.folder().join(format!("haproxy-{port}.cfg"));
    let configuration = format!(
        "global\n  nbthread 2\n  maxconn 8000\n\
         defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
         listen hop\n  bind 127.0.0.1:{port}\n  server next {next}\n"
    );
    fs::write(&file, configuration)?;
    let mut haproxy = lab.exec(Host::Laptop, "haproxy");
    haproxy.arg("-db").arg("-f").arg(&file);
    Tied::start(haproxy, lab.logs().join(format!("haproxy-{port}.log")))
        .context("is haproxy installed?")
}

/// Keeps what is measured without us out of the kernel's table of connections, which is there for our redirect and would
/// make the others slower, and be full after a few rounds.
pub(crate) fn keep_untracked(line: &Line) -> anyhow::Result<()> {
    let ports = format!("{{ {}, {LONG_ENTRANCE}, {ENTRANCE}, {MIDDLE} }}", line.raw().port());
    let chain = |name: &str, hook: &str| {
        format!(
            "chain {name} {{\n type filter hook {hook} priority raw;\n \
             ip daddr != 127.72.0.0/14 tcp dport {ports} notrack\n tcp sport {ports} notrack\n}}\n"
        )
    };
    let chains = chain("before", "prerouting") + &chain("sent", "output");
    let table = format!("table ip bench {{\n{chains}}}");
    let mut nft = line.world().lab().exec(Host::Laptop, "nft");
    nft.arg(table);
    say(nft)?.ok()?;
    Ok(())
}
