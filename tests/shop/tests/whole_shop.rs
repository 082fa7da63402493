//! The whole shop on loopback: who calls whom, and what each answer tells.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Parser as _;
use shop::{
    answer::{Answer, Outcome},
    args::CommandLine,
    run::run,
    tools::tally::Tally,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream, task::JoinHandle};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn the_frontend_tells_who_answered_all_the_way_down() {
    let shop = Shop::open().await;
    let answer = shop.frontend(&["-H", "baggage: user=ada"]).await;

    assert!(answer.is_whole(), "{}", answer.tree());
    assert_eq!(answer.answered_by.name, "frontend-1");
    for called in ["cart", "catalog", "payment", "recommend"] {
        let part = answer.from(called).expect(called);
        assert_eq!(part.answered_by.name, format!("{called}-1"));
        assert_eq!(part.baggage.as_deref(), Some("user=ada"), "{called} lost the baggage");
    }
    let payment = answer.from("payment").expect("called");
    assert_eq!(payment.from("ledger").expect("called").answered_by.name, "ledger-1");
    shop.close().await;
}

#[tokio::test]
async fn a_keep_alive_connection_is_used_again() {
    let shop = Shop::open().await;
    let (one, two) = (shop.frontend(&[]).await, shop.frontend(&[]).await);
    assert!(over(&one, "cart").is_some());
    assert_eq!(over(&one, "cart"), over(&two, "cart"));
    shop.close().await;
}

#[tokio::test]
async fn a_missing_service_leaves_a_hole_and_not_a_silence() {
    let mut shop = Shop::open().await;
    shop.stop("cart").await;
    let mut out = Vec::new();
    let url = format!("http://{}/", shop.at("frontend"));
    let error = tool(&["get", &url], &mut out).await.expect_err("502");
    assert!(error.to_string().contains("502"), "{error}");

    let answer: Answer = serde_json::from_slice(&out).expect("an answer all the same");
    let cart = answer.calls.iter().find(|call| call.to == "cart").expect("asked");
    assert!(matches!(&cart.outcome, Outcome::Error(error) if error.contains("refused")));
    assert!(answer.from("catalog").is_some());
    shop.close().await;
}

#[tokio::test]
async fn a_steady_client_sees_who_answers_over_http_and_over_tcp() {
    let shop = Shop::open().await;
    for (target, how) in [("cart", "--path=/who"), ("ledger", "--tcp")] {
        let mut out = Vec::new();
        let address = shop.at(target).to_string();
        let line = ["connect", &address, "--every-ms", "50", "--for-s", "1", how];
        tool(&line, &mut out).await.expect("counted");
        let tally: Tally = serde_json::from_slice(&out).expect("one line of JSON");
        assert_eq!((tally.ok, tally.failed), (20, 0), "{tally:?}");
        assert_eq!(tally.by_answerer[&format!("{target}-1")], 20);
    }
    shop.close().await;
}

#[tokio::test]
async fn a_steady_client_counts_what_is_refused() {
    let mut shop = Shop::open().await;
    shop.stop("cart").await;
    let mut out = Vec::new();
    let address = shop.at("cart").to_string();
    tool(&["connect", &address, "--every-ms", "100", "--for-s", "1"], &mut out)
        .await
        .expect("counted");
    let tally: Tally = serde_json::from_slice(&out).expect("one line of JSON");
    assert_eq!((tally.ok, tally.failed), (0, 10));
    assert_eq!(tally.errors["connection refused"], 10);
    assert!(tally.longest_failure_ms >= 800, "{tally:?}");
    shop.close().await;
}

#[tokio::test]
async fn the_ledger_speaks_first_and_sends_lines_back() {
    let shop = Shop::open().await;
    let mut out = Vec::new();
    let address = shop.at("ledger").to_string();
    tool(&["tcp", &address, "one teapot", "two cups"], &mut out).await.expect("a conversation");
    let said = String::from_utf8(out).expect("text");
    let mut lines = said.lines();
    let greeting = lines.next().expect("a greeting");
    assert!(greeting.contains(r#""name":"ledger-1""#), "{greeting}");
    assert_eq!(lines.collect::<Vec<_>>(), ["one teapot", "two cups"]);
    shop.close().await;
}

#[tokio::test]
async fn what_is_posted_to_echo_comes_back() {
    let shop = Shop::open().await;
    let mut out = Vec::new();
    let url = format!("http://{}/echo", shop.at("catalog"));
    tool(&["get", &url, "--post", "hello"], &mut out).await.expect("answered");
    assert_eq!(out, b"hello");
    shop.close().await;
}

#[tokio::test]
async fn a_stopped_role_ends_although_a_connection_is_open() {
    let mut shop = Shop::open().await;
    let mut idle = TcpStream::connect(shop.at("cart")).await.expect("open");
    shop.stop("cart").await;
    let read = idle.read(&mut [0; 1]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "the connection was closed: {read:?}");
    shop.close().await;
}

// The shop these tests are about.

struct Shop {
    roles: Vec<Role>,
}

struct Role {
    name: &'static str,
    at: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Shop {
    /// Starts every role on a loopback port of its own and waits until each accepts.
    async fn open() -> Shop {
        let mut shop = Shop { roles: Vec::new() };
        for leaf in ["ledger", "recommend", "catalog", "cart"] {
            shop.start(leaf, &[]).await;
        }
        let ledger = format!("ledger=tcp://{}", shop.at("ledger"));
        shop.start("payment", &[ledger]).await;
        let http = |to: &str| format!("{to}=http://{}", shop.at(to));
        let recommend = format!("recommend=grpc://{}", shop.at("recommend"));
        let asked = [http("cart"), http("catalog"), http("payment"), recommend];
        shop.start("frontend", &asked).await;
        shop
    }

    async fn start(&mut self, role: &'static str, asked: &[String]) {
        let at = free_port();
        let (listen, name) = (format!("--listen={at}"), format!("--name={role}-1"));
        let ask: Vec<_> = asked.iter().map(|ask| format!("--ask={ask}")).collect();
        let line = ["shop", role, &listen, &name].into_iter().chain(ask.iter().map(String::as_str));
        let verb = CommandLine::try_parse_from(line).expect("a valid command line").verb;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move { run(verb, stopped, &mut Vec::new()).await });
        while TcpStream::connect(at).await.is_err() {
            assert!(!running.is_finished(), "{role} did not start");
            tokio::task::yield_now().await;
        }
        self.roles.push(Role { name: role, at, stop, running });
    }

    fn at(&self, role: &str) -> SocketAddr {
        self.roles.iter().find(|each| each.name == role).expect("one of the shop's roles").at
    }

    async fn frontend(&self, more: &[&str]) -> Answer {
        let url = format!("http://{}/", self.at("frontend"));
        let mut out = Vec::new();
        tool(&[&["get", &url], more].concat(), &mut out).await.expect("answered");
        serde_json::from_slice(&out).expect("an answer of the shop")
    }

    async fn stop(&mut self, role: &str) {
        let role = self.roles.iter_mut().find(|each| each.name == role).expect("known");
        role.stop.cancel();
        (&mut role.running).await.expect("no panic").expect("a clean end");
    }

    async fn close(self) {
        for role in self.roles {
            role.stop.cancel();
            if !role.running.is_finished() {
                role.running.await.expect("no panic").expect("a clean end");
            }
        }
    }
}

fn free_port() -> SocketAddr {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    std::net::TcpListener::bind(any).expect("a free port").local_addr().expect("bound")
}

fn over(answer: &Answer, to: &str) -> Option<SocketAddr> {
    answer.calls.iter().find(|call| call.to == to)?.over
}

async fn tool(line: &[&str], out: &mut Vec<u8>) -> anyhow::Result<()> {
    let line = ["shop"].iter().chain(line);
    let verb = CommandLine::try_parse_from(line)?.verb;
    run(verb, CancellationToken::new(), out).await
}
