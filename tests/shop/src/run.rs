//! From a verb to the thing that runs: the one place that knows every role.

use std::{io::Write, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    answer::AnsweredBy,
    args::{Ask, By, ListenArgs, PageArgs, Verb},
    ledger::serve_ledger,
    page::Page,
    recommend::{self, serve_recommend},
    serve::serve_page,
    tools,
    upstream::{Kind, Pool, Upstream},
};

/// Runs one verb to its end; a role ends with `stop`. What a tool finds out is written to `out`.
pub async fn run(verb: Verb, stop: CancellationToken, out: &mut impl Write) -> anyhow::Result<()> {
    match verb {
        Verb::Frontend(args) => page("frontend", args, stop).await,
        Verb::Cart(args) => page("cart", args, stop).await,
        Verb::Catalog(args) => page("catalog", args, stop).await,
        Verb::Payment(args) => page("payment", args, stop).await,
        Verb::Sidecar(args) => page("sidecar", args, stop).await,
        Verb::Recommend(args) => {
            let listener = listen(&args).await?;
            Ok(serve_recommend(listener, who("recommend", &args), stop).await?)
        }
        Verb::Ledger(args) => {
            let listener = listen(&args).await?;
            serve_ledger(listener, who("ledger", &args), stop).await;
            Ok(())
        }
        Verb::Get(args) => tools::get::get(args, stop, out).await,
        Verb::Connect(args) => tools::connect::connect(args, stop, out).await,
        Verb::Tcp(args) => tools::tcp::converse(args, out).await,
        Verb::Datagram(args) => tools::datagram::ask(args, out).await,
    }
}

async fn page(role: &str, args: PageArgs, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = listen(&args.listen).await?;
    let pool = Arc::new(Pool::new(args.pool_life_s.map(Duration::from_secs)));
    let upstreams = args.ask.into_iter().map(|ask| Arc::new(upstream(ask, &pool))).collect();
    let page = Page { answered_by: who(role, &args.listen), upstreams };
    serve_page(listener, Arc::new(page), stop).await;
    Ok(())
}

fn upstream(ask: Ask, pool: &Arc<Pool>) -> Upstream {
    let kind = match ask.by {
        By::Http(url) => Kind::Http { url, pool: pool.clone() },
        By::Grpc(url) => Kind::Grpc(recommend::Caller::new(url)),
        By::Tcp(address) => Kind::Ledger(address),
    };
    Upstream { to: ask.to, kind }
}

fn who(role: &str, args: &ListenArgs) -> AnsweredBy {
    AnsweredBy::this_process(role, &args.name)
}

async fn listen(args: &ListenArgs) -> anyhow::Result<TcpListener> {
    TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("could not listen on {}", args.listen))
}
