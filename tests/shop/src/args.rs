//! The command line: one verb per role, and the tools that tests run inside pods.

use std::{net::SocketAddr, str::FromStr};

use clap::{Args, Parser, Subcommand};
use http::Uri;

/// The shop: the sample application that Fairlead is shown and tested with.
#[derive(Debug, Parser)]
#[command(name = "shop", version, about)]
pub struct CommandLine {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The shop's face: asks everybody else
    Frontend(PageArgs),
    /// What lies in the cart
    Cart(PageArgs),
    /// What can be bought
    Catalog(PageArgs),
    /// Takes the money, and has the ledger keep it in mind
    Payment(PageArgs),
    /// A companion container that answers on a port of its own
    Sidecar(PageArgs),
    /// Recommends over gRPC
    Recommend(ListenArgs),
    /// Keeps lines, over plain TCP; speaks first
    Ledger(ListenArgs),
    /// Asks for a URL and prints the answers
    Get(GetArgs),
    /// Opens new connections at a steady rate and prints, as one line of JSON, who answered how many
    Connect(ConnectArgs),
    /// Holds one conversation over plain TCP and prints the other side of it
    Tcp(TcpArgs),
    /// Send one datagram and print the answer
    Datagram(DatagramArgs),
}

/// Where a role listens, and what it calls itself.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// The name that stands in every answer; a pod's host name is its own
    #[arg(long, env = "HOSTNAME", default_value = "nameless")]
    pub name: String,
}

#[derive(Debug, Args)]
pub struct PageArgs {
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Whom to ask for every answer; URL is http://…, grpc://HOST:PORT or tcp://HOST:PORT (the ledger)
    #[arg(long, value_name = "NAME=URL")]
    pub ask: Vec<Ask>,
    /// Replace the keep-alive connections this often [default: never]
    #[arg(long, value_name = "SECONDS")]
    pub pool_life_s: Option<u64>,
}

/// One `--ask`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub to: String,
    pub by: By,
}

/// How to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    Http(Uri),
    Grpc(Uri),
    Tcp(String),
}

impl FromStr for Ask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (to, url) = text.split_once('=').ok_or("expected NAME=URL")?;
        let (scheme, rest) = url.split_once("://").ok_or("expected a URL after NAME=")?;
        let http = || format!("http://{rest}").parse().map_err(|error| format!("{url}: {error}"));
        let by = match scheme {
            "http" => By::Http(http()?),
            "grpc" => By::Grpc(http()?),
            "tcp" => By::Tcp(rest.to_owned()),
            other => return Err(format!("`{other}` is not one of http, grpc, tcp")),
        };
        Ok(Ask { to: to.to_owned(), by })
    }
}

#[derive(Debug, Args)]
pub struct GetArgs {
    pub url: Uri,
    /// A header to send
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// How many times to ask, over one pool
    #[arg(short = 'n', long, default_value_t = 1)]
    pub times: u32,
    /// Pause between two requests
    #[arg(long, default_value_t = 0)]
    pub every_ms: u64,
    /// Send this by POST
    #[arg(long, value_name = "TEXT")]
    pub post: Option<String>,
}

#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// Where to connect, by name or address
    #[arg(value_name = "HOST:PORT")]
    pub target: String,
    /// A new connection this often, whatever became of the one before
    #[arg(long, default_value_t = 10)]
    pub every_ms: u64,
    /// How long
    #[arg(long, default_value_t = 5)]
    pub for_s: u64,
    /// A connection without an answer for this long has failed
    #[arg(long, default_value_t = 3000)]
    pub timeout_ms: u64,
    /// Ask for this path over HTTP
    #[arg(long, default_value = "/who", conflicts_with = "tcp")]
    pub path: String,
    /// Read the ledger's greeting instead of asking over HTTP
    #[arg(long)]
    pub tcp: bool,
}

#[derive(Debug, Args)]
pub struct TcpArgs {
    #[arg(value_name = "HOST:PORT")]
    pub target: String,
    /// Lines to send, each answered before the next one
    pub lines: Vec<String>,
    /// Pause before each line
    #[arg(long, default_value_t = 0)]
    pub every_ms: u64,
}

#[derive(Debug, Args)]
pub struct DatagramArgs {
    #[arg(value_name = "HOST:PORT")]
    pub target: String,
    /// What to send, in hexadecimal digits
    pub hex: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn whom_to_ask_is_read_from_name_and_url() {
        let ask: Ask = "recommend=grpc://recommend:50051".parse().expect("valid");
        assert_eq!(ask.to, "recommend");
        assert_eq!(ask.by, By::Grpc(Uri::from_static("http://recommend:50051")));
        let ask: Ask = "ledger=tcp://ledger:7000".parse().expect("valid");
        assert_eq!(ask.by, By::Tcp("ledger:7000".to_owned()));
        for wrong in ["cart", "cart=cart", "cart=ftp://cart", "cart=http://a b"] {
            assert!(wrong.parse::<Ask>().is_err(), "{wrong}");
        }
    }
}
