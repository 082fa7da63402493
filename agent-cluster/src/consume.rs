//! Consumes: one carrier of a laptop, from its first grant to its end. Each stream on it is checked against the grant
//! (`streams.rs`) and connected to the Service it names (`carry.rs`) through the Service's own address
//! (`destination.rs`), so that the cluster balances as it always does; a headless one by its name. What is outside the
//! cluster is `outside.rs`.

mod carry;
mod destination;
mod streams;

use std::{pin::pin, sync::Arc};

use fairlead_model::{SessionId, Thumbprint};
use fairlead_tunnel::{Acceptor, GrantPresented, Incoming};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use self::{
    carry::{CONNECT, refuse, why},
    destination::Destination,
    streams::Used,
};
use crate::{
    grants::Grants, held::Held, outside::Border, report::FirstUses, resolve::Resolver,
    watch::Inventory,
};

/// Grants that are on their way on one carrier; a laptop shows one, and a newer one five minutes later.
const GRANTS_ARRIVING_MAX: usize = 4;

/// One carrier of one consume session, from its first grant to its end.
pub(crate) struct Consume {
    pub(crate) session: SessionId,
    pub(crate) device: Thumbprint,
    pub(crate) grants: Grants,
    pub(crate) inventory: watch::Receiver<Inventory>,
    pub(crate) first_uses: FirstUses,
    pub(crate) used: Arc<Used>,
    /// From then on this replica takes no more streams.
    pub(crate) leaving: CancellationToken,
    pub(crate) resolver: Resolver,
    pub(crate) border: Border,
}

impl Consume {
    /// Serves the carrier until it ends, its session is over, or its grant has run out.
    pub(crate) async fn serve(self, mut acceptor: Acceptor, ends: &CancellationToken) {
        let mut grant = None::<Held>;
        let streams = ends.child_token();
        let handle = acceptor.handle().clone();
        // A grant arrives piece by piece; meanwhile streams go on, and the carrier may be cut.
        let mut arriving = JoinSet::new();
        let mut is_leaving = false;
        // Made once, and not for each stream.
        let mut is_over = pin!(self.grants.over(self.session, &self.device));
        let mut runs_out = pin!(run_out(None));
        let (mut is_cut, mut leaving) = (pin!(ends.cancelled()), pin!(self.leaving.cancelled()));
        loop {
            let incoming = tokio::select! {
                // What ends it goes first: a laptop that never stops asking is cut as well.
                biased;
                () = &mut is_cut => None,
                () = &mut is_over => {
                    info!(session = %self.session, "A consume is over: its carrier is closed");
                    None
                }
                () = &mut runs_out => {
                    info!(session = %self.session, "A grant ran out without a newer one: its carrier is closed");
                    None
                }
                () = &mut leaving, if !is_leaving => {
                    // Ends when what is open has ended.
                    handle.drain();
                    is_leaving = true;
                    continue;
                }
                Some(arrived) = arriving.join_next() => {
                    let arrived = arrived.ok().flatten();
                    if let Some(newer) = arrived.and_then(|shown| self.take_grant(shown)) {
                        runs_out.set(run_out(Some(&newer)));
                        grant = Some(newer);
                    }
                    continue;
                }
                incoming = acceptor.next() => incoming,
            };
            match incoming {
                Some(Incoming::Grant(shown)) if arriving.len() < GRANTS_ARRIVING_MAX => {
                    arriving.spawn(read(shown));
                }
                Some(Incoming::Grant(shown)) => shown.refuse_for_now("too many grants at once"),
                Some(Incoming::Open(offer)) => {
                    self.open(offer, grant.as_ref(), streams.clone());
                }
                Some(Incoming::Resolve(asked)) => self.resolve(asked, grant.as_ref()),
                None => break,
            }
        }
        streams.cancel();
        handle.close();
    }

    fn take_grant(&self, (jwt, shown): (String, GrantPresented)) -> Option<Held> {
        match self.grants.check(&jwt, self.session, &self.device) {
            Ok(grant) => {
                shown.accept();
                Some(Held::shown_now(grant))
            }
            Err(error) => {
                warn!(session = %self.session, "A grant was refused: {error}");
                match error.is_of_time() {
                    true => shown.refuse_for_now(error.to_string()),
                    false => shown.refuse(error.to_string()),
                }
                None
            }
        }
    }
}

async fn read(mut shown: GrantPresented) -> Option<(String, GrantPresented)> {
    match shown.jwt().await {
        Ok(jwt) => Some((jwt, shown)),
        Err(error) => {
            shown.refuse(format!("the grant could not be read: {error}"));
            None
        }
    }
}

/// Waits until `grant` has run out; for ever while there is none.
fn run_out(grant: Option<&Held>) -> impl Future<Output = ()> + use<> {
    let runs_out = grant.map(Held::runs_out);
    async {
        match runs_out {
            Some(runs_out) => runs_out.await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod world;

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use fairlead_wire::{grant::Grant, open::OpenRequest};
    use tokio::time::timeout;

    use super::{world::world, *};
    use crate::wanted::Wanted;

    #[tokio::test]
    async fn a_carrier_ends_with_its_grant_and_a_newer_one_keeps_it() {
        let [ends, goes_on] = [world().await, world().await];
        let soon = SystemTime::now() + Duration::from_secs(2);
        for world in [&ends, &goes_on] {
            let short = Grant { expires_at: soon, ..world.grant.clone() };
            world.shows(&short).await.expect("a good grant");
            world.asks("shop/cart", world.port).await.expect("covered");
        }
        goes_on.shows(&goes_on.grant).await.expect("a newer one");
        ends.is_over().await;
        assert!(SystemTime::now() >= soon - Duration::from_secs(1), "not before its time");
        goes_on.asks("shop/cart", goes_on.port).await.expect("covered by the newer one");
    }

    #[tokio::test]
    async fn a_replica_that_leaves_takes_no_more_streams_and_lets_those_that_are_open_end() {
        let world = world().await;
        world.shows(&world.grant).await.expect("a good grant");
        let (session, service) = (world.grant.session, "shop/cart".parse().expect("valid"));
        let wish = OpenRequest::tcp(session, service, world.port);
        let open = world.opener.open(&wish).await.expect("covered");
        world.leaving.cancel();
        let refused = async { while world.asks("shop/cart", world.port).await.is_ok() {} };
        timeout(Duration::from_secs(10), refused).await.expect("it takes no more");
        assert!(!world.opener.takes_streams(), "whoever asks next asks elsewhere");
        assert!(!world.opener.is_closed(), "one is open");
        drop(open);
        world.is_over().await;
    }

    #[tokio::test]
    async fn a_carrier_ends_with_its_session() {
        let world = world().await;
        world.shows(&world.grant).await.expect("a good grant");
        world.wanted.send_replace(Some(Arc::new(Wanted::default())));
        world.is_over().await;
    }
}
