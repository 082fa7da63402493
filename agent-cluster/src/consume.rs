//! Consumes: each stream that a laptop opens is checked against its grant and connected to the Service it names,
//! through the Service's own address, so that the cluster balances as it always does.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use fairlead_model::{Port, ServiceRef, SessionId, Thumbprint};
use fairlead_tunnel::{Acceptor, GrantPresented, Incoming, StreamOffered, copy};
use fairlead_wire::{grant::Grant, open::Refusal};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    grants::Grants,
    report::{FirstUse, FirstUses},
    watch::Inventory,
};

const CONNECT: Duration = Duration::from_secs(5);
/// A grant that has ended is noticed within this time.
const GRANT_LOOK: Duration = Duration::from_secs(1);

/// One carrier of one consume session, from its first grant to its end.
pub(crate) struct Consume {
    pub(crate) session: SessionId,
    pub(crate) device: Thumbprint,
    pub(crate) grants: Grants,
    pub(crate) inventory: watch::Receiver<Inventory>,
    pub(crate) first_uses: FirstUses,
}

impl Consume {
    /// Serves the carrier until it ends, its session is over, or its grant has run out.
    pub(crate) async fn serve(self, mut acceptor: Acceptor, ends: CancellationToken) {
        let (grant_tx, grant_rx) = watch::channel(None::<Arc<Grant>>);
        let streams = ends.child_token();
        let used = Arc::new(Mutex::new(BTreeSet::new()));
        let handle = acceptor.handle().clone();
        loop {
            let incoming = tokio::select! {
                incoming = acceptor.next() => incoming,
                () = self.grants.over(self.session, &self.device) => {
                    info!(session = %self.session, "A consume is over: its carrier is closed");
                    None
                }
                () = ended(&grant_rx) => {
                    info!(session = %self.session, "A grant ran out without a newer one: its carrier is closed");
                    None
                }
                () = ends.cancelled() => None,
            };
            match incoming {
                Some(Incoming::Grant(shown)) => self.take_grant(shown, &grant_tx).await,
                Some(Incoming::Open(offer)) => {
                    let grant = grant_rx.borrow().clone();
                    self.open(offer, grant, &used, streams.clone());
                }
                None => break,
            }
        }
        streams.cancel();
        handle.close();
    }

    async fn take_grant(
        &self,
        mut shown: GrantPresented,
        grant: &watch::Sender<Option<Arc<Grant>>>,
    ) {
        let jwt = match shown.jwt().await {
            Ok(jwt) => jwt,
            Err(error) => return shown.refuse(format!("the grant could not be read: {error}")),
        };
        match self.grants.check(&jwt, self.session, &self.device) {
            Ok(checked) => {
                grant.send_replace(Some(Arc::new(checked)));
                shown.accept();
            }
            Err(error) => {
                info!(session = %self.session, %error, "A grant was refused");
                shown.refuse(error.to_string());
            }
        }
    }

    /// Decides about one stream and carries it in a task of its own.
    fn open(
        &self,
        offer: StreamOffered,
        grant: Option<Arc<Grant>>,
        used: &Arc<Mutex<BTreeSet<(ServiceRef, Port)>>>,
        ends: CancellationToken,
    ) {
        let request = offer.request().clone();
        let Some(grant) = grant.filter(|grant| grant.is_live(SystemTime::now())) else {
            return offer.refuse(Refusal::NotAllowed, "no grant was shown on this carrier");
        };
        if request.session != self.session || !grant.allows(&request.service, request.port) {
            let reason = format!("the grant does not cover {}:{}", request.service, request.port);
            return offer.refuse(Refusal::NotAllowed, reason);
        }
        let address = match address_of(&self.inventory.borrow(), &request.service, request.port) {
            Ok(address) => address,
            Err((refusal, reason)) => return offer.refuse(refusal, reason),
        };
        // A probe is no use: nobody asked for the service.
        let is_first = !request.probe
            && used
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert((request.service.clone(), request.port));
        if is_first {
            let (session, service, port) = (self.session, request.service.clone(), request.port);
            self.first_uses.tell(FirstUse { session, service, port });
        }
        tokio::spawn(async move {
            tokio::select! {
                () = carry(offer, address, &request.service) => {}
                () = ends.cancelled() => {}
            }
        });
    }
}

/// Waits until the current grant has run out; for ever while there is none.
async fn ended(grant: &watch::Receiver<Option<Arc<Grant>>>) {
    loop {
        if grant.borrow().as_ref().is_some_and(|grant| !grant.is_live(SystemTime::now())) {
            return;
        }
        tokio::time::sleep(GRANT_LOOK).await;
    }
}

fn address_of(
    inventory: &Inventory,
    service: &ServiceRef,
    port: Port,
) -> Result<SocketAddr, (Refusal, String)> {
    let Some(seen) = inventory.service(service) else {
        return Err((Refusal::NotFound, format!("{service} does not exist in this cluster")));
    };
    let found = seen.ports.iter().find(|p| p.port == port.get() && p.protocol == "TCP");
    if found.is_none() {
        return Err((Refusal::NotFound, format!("{service} has no TCP port {port}")));
    }
    seen.cluster_ip.map(|ip| SocketAddr::new(ip, port.get())).ok_or_else(|| {
        (Refusal::Unreachable, format!("{service} is {} and has no address of its own", seen.kind))
    })
}

async fn carry(offer: StreamOffered, address: SocketAddr, service: &ServiceRef) {
    let pod = match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(pod)) => pod,
        Ok(Err(error)) => return offer.refuse(Refusal::Unreachable, why(&error, service)),
        Err(_) => {
            let reason = format!(
                "{service} does not answer within {} s: a NetworkPolicy may keep the agent out, or its pods hang",
                CONNECT.as_secs()
            );
            return offer.refuse(Refusal::Unreachable, reason);
        }
    };
    let _best_effort = pod.set_nodelay(true);
    match offer.accept() {
        Ok(stream) => {
            let copied = copy::both_ways(stream, pod).await;
            debug!(%service, ?copied, "A consumed connection ended");
        }
        Err(error) => debug!(%service, %error, "The laptop gave up while the Service was dialled"),
    }
}

fn why(error: &io::Error, service: &ServiceRef) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!(
                "{service} refuses the connection: it has no ready pod, or none that listens on this port"
            )
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            format!("{service} cannot be reached from the agent: a NetworkPolicy may keep it out")
        }
        _ => format!("{service} cannot be reached: {error}"),
    }
}
