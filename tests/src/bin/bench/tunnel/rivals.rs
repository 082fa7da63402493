//! Tools that people would use in our place, on the same path: ahead of each of them in everything, or the bench fails.
//!
//! Each as it comes. *frp* is as we are: one process at the laptop, one in the middle, one at the service (`stcp`).
//! *ktunnel* has two. *kubectl port-forward* leads to a pod that answers like the service, through the lab's API server
//! and kubelet, whose processor time counts as a hop's does. What cannot be built here is told,
//! and a gate misses it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    time::Duration,
};

use anyhow::Context as _;
use fairlead_lab::{FRP, Host, KTUNNEL, tools};
use fairlead_tests::{
    Figure,
    Gate::{AtLeast, AtMost},
    Line, Process, Tied, say, within,
};

use super::{
    gates::against,
    loads::{Loads, Way},
    path::Path,
    round::{self, BESIDE_P50, BULKS, IDLE_P50, NEW_P50, cost},
    samples::{Row, Samples},
};
use crate::stage::tell;

const READY_WITHIN: Duration = Duration::from_secs(30);
const FRP_MIDDLE: u16 = 7300;
const FRP_ENTRANCE: u16 = 7301;
const KTUNNEL_MIDDLE: u16 = 7400;
const KTUNNEL_ENTRANCE: u16 = 7401;
const KUBECTL_ENTRANCE: u16 = 7500;
const POD: &str = r#"
{apiVersion: v1, kind: Pod, metadata: {name: service, namespace: bench}, spec: {containers: [
  {name: service, image: "IMAGE", imagePullPolicy: IfNotPresent, command: [/load, serve, "0.0.0.0:7000"]}]}}
"#;

/// Those that there are.
const RIVALS: u32 = 3;

type Start = fn(&Line) -> anyhow::Result<Rival>;

/// A tool at work.
#[derive(Debug)]
pub(crate) struct Rival {
    pub(crate) name: &'static str,
    entrance: SocketAddrV4,
    programs: Vec<Tied>,
    /// Others that work for it, and are there without it.
    helped_by: &'static [&'static str],
}

/// Starts those that can be had.
pub(crate) fn start(line: &Line) -> Vec<Rival> {
    let starts: [(&str, Start); 3] =
        [(FRP.name, frp), (KTUNNEL.name, ktunnel), ("kubectl port-forward", kubectl)];
    let start = |(name, start): (&str, Start)| match start(line) {
        Ok(rival) => Some(rival),
        Err(error) => {
            tell(&format!("{name} is left out: {error:#}"));
            None
        }
    };
    starts.into_iter().filter_map(start).collect()
}

impl Rival {
    /// Starts its programs, which go with it, and waits until the service answers through them.
    fn of(
        line: &Line,
        name: &'static str,
        entrance: u16,
        programs: Vec<Tied>,
    ) -> anyhow::Result<Self> {
        let entrance = SocketAddrV4::new(Ipv4Addr::LOCALHOST, entrance);
        let asks = move || within(READY_WITHIN, "the service answers", || answers(entrance));
        let asked = line.world().lab().on(Host::Laptop, asks)?;
        asked.join().expect("asking does not panic")?;
        Ok(Self { name, entrance, programs, helped_by: &[] })
    }

    pub(crate) fn path(&self, line: &Line) -> anyhow::Result<Path> {
        let hops = self.programs.iter().map(Tied::process);
        let mut hops = hops.collect::<anyhow::Result<Vec<Process>>>()?;
        for program in self.helped_by {
            hops.extend(Process::all_of(program)?);
        }
        Path::over(line, self.name, self.entrance, hops)
    }
}

/// Measures what a user feels first; of all streams only one. Downloads come last: some go on after nobody reads any
/// more, and would be in the way of what is measured alone.
pub(crate) fn measure(path: &Path, loads: &Loads<'_>, samples: &mut Samples) {
    round::alone(path, loads, samples);
    for bulk in BULKS.iter().filter(|bulk| bulk.streams == 1) {
        round::attempt(path, samples, bulk.rate, |samples| {
            round::move_bytes(path, *loads, bulk, samples)
        });
    }
    round::beside(path, loads, samples);
}

pub(crate) fn figures(samples: &Samples, rivals: &[&'static str]) -> Vec<Figure> {
    let measured = u32::try_from(rivals.len()).unwrap_or_default();
    let there = Figure::median("other tools that were measured", "", vec![f64::from(measured)]);
    // One that did not start would take its gates with it.
    let there = there.holding(AtLeast(f64::from(RIVALS)));
    let more = BULKS.iter().filter(|bulk| bulk.streams == 1).map(|bulk| bulk.rate);
    let more: Vec<_> = more.collect();
    let costs = [Way::Up, Way::Down].map(|way| cost(way).whole);
    let less: Vec<_> = [IDLE_P50, BESIDE_P50, NEW_P50].into_iter().chain(costs).collect();
    let of_one = |rival: &&'static str| {
        // What a tool cannot do, nobody has to do better.
        let does = |row: &&Row| !samples.of(rival, **row).is_empty();
        let all = more.iter().chain(&less);
        let measured =
            all.map(|row| Figure::median(row.name, row.unit, samples.of(rival, *row)).of(rival));
        let ahead = more.iter().filter(does).map(|row| against(samples, rival, *row, AtLeast(1.0)));
        let sooner = less.iter().filter(does).map(|row| against(samples, rival, *row, AtMost(1.0)));
        measured.chain(ahead).chain(sooner).collect::<Vec<_>>()
    };
    std::iter::once(there).chain(rivals.iter().flat_map(of_one)).collect()
}

fn frp(line: &Line) -> anyhow::Result<Rival> {
    let (folder, service) = (FRP.built()?, line.raw().port());
    let middle = format!("bindAddr = \"127.0.0.1\"\nbindPort = {FRP_MIDDLE}\n");
    let towards = format!("serverAddr = \"127.0.0.1\"\nserverPort = {FRP_MIDDLE}\n");
    let cluster = format!(
        "{towards}[[proxies]]\nname = \"service\"\ntype = \"stcp\"\nsecretKey = \"bench\"\n\
         localIP = \"127.0.0.1\"\nlocalPort = {service}\n"
    );
    let laptop = format!(
        "{towards}[[visitors]]\nname = \"visitor\"\ntype = \"stcp\"\nserverName = \"service\"\n\
         secretKey = \"bench\"\nbindAddr = \"127.0.0.1\"\nbindPort = {FRP_ENTRANCE}\n"
    );
    let start = |(program, name, configuration): (&str, &str, String)| {
        let file = line.world().lab().folder().join(format!("{name}.toml"));
        fs::write(&file, configuration)?;
        let file = file.display().to_string();
        tool(line, &folder.join(program), name, &["-c", &file])
    };
    let middle = start(("frps", "frps", middle))?;
    // Those who find nobody there give up.
    listens(line, FRP_MIDDLE)?;
    let (laptop, cluster) =
        (start(("frpc", "visitor", laptop))?, start(("frpc", "frpc", cluster))?);
    Rival::of(line, FRP.name, FRP_ENTRANCE, vec![laptop, middle, cluster])
}

fn ktunnel(line: &Line) -> anyhow::Result<Rival> {
    let program = KTUNNEL.built()?.join("ktunnel");
    let (middle, ports) =
        (KTUNNEL_MIDDLE.to_string(), format!("{KTUNNEL_ENTRANCE}:{}", line.raw().port()));
    let server = tool(line, &program, "ktunnel-server", &["server", "--port", &middle])?;
    listens(line, KTUNNEL_MIDDLE)?;
    let words = ["client", "--host", "127.0.0.1", "--port", &middle, &ports];
    let client = tool(line, &program, "ktunnel-client", &words)?;
    Rival::of(line, KTUNNEL.name, KTUNNEL_ENTRANCE, vec![client, server])
}

fn kubectl(line: &Line) -> anyhow::Result<Rival> {
    let lab = line.world().lab();
    lab.bring_image("load")?;
    let file = lab.folder().join("service-pod.yaml");
    fs::write(&file, POD.replace("IMAGE", &lab.cluster().image("load")?.reference()))?;
    let file = file.display().to_string();
    say(lab.kubectl(["apply", "--filename", &file]))?.ok()?;
    let ready = ["-n", "bench", "wait", "--for=condition=Ready", "pod/service", "--timeout=30s"];
    say(lab.kubectl(ready))?.ok()?;
    let (kubeconfig, ports) = (
        lab.kubeconfig().display().to_string(),
        format!("{KUBECTL_ENTRANCE}:{}", line.raw().port()),
    );
    let to = ["--kubeconfig", &kubeconfig, "-n", "bench", "port-forward", "pod/service", &ports];
    let forward = tool(line, &tools::kubectl()?, "port-forward", &to)?;
    let rival = Rival::of(line, "kubectl", KUBECTL_ENTRANCE, vec![forward])?;
    Ok(Rival { helped_by: &["kube", "containerd"], ..rival })
}

fn tool(
    line: &Line,
    program: &std::path::Path,
    name: &str,
    words: &[&str],
) -> anyhow::Result<Tied> {
    let lab = line.world().lab();
    let mut tool = lab.exec(Host::Laptop, program);
    tool.args(words);
    Tied::start(tool, lab.logs().join(format!("{name}.log")))
        .with_context(|| format!("{name} does not start"))
}

/// Waits until somebody listens on a port of the laptop.
fn listens(line: &Line, port: u16) -> anyhow::Result<()> {
    let door = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let connects = move || {
        let what = format!("a tool listens at {door}");
        within(READY_WITHIN, &what, || Ok(TcpStream::connect(door)?)).map(drop)
    };
    let listening = line.world().lab().on(Host::Laptop, connects)?;
    listening.join().expect("connecting does not panic")
}

/// Asks for one byte.
fn answers(at: SocketAddrV4) -> anyhow::Result<()> {
    use std::io::{Read as _, Write as _};
    let mut tcp = TcpStream::connect(at)?;
    tcp.set_read_timeout(Some(Duration::from_secs(2)))?;
    tcp.write_all(b"o1")?;
    tcp.read_exact(&mut [0])?;
    Ok(())
}
