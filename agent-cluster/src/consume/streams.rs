//! Whether one stream or one question may be: what a laptop wants is checked against the grant that its carrier has
//! shown. What becomes of a stream that may be is `carry.rs`.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use fairlead_model::{Callee, ServicePort};
use fairlead_tunnel::{Questioned, StreamOffered};
use fairlead_wire::open::{OpenRequest, Refusal};
use tokio_util::sync::CancellationToken;

use super::{
    Consume,
    carry::{carried, carry_outside, refuse},
    destination::destination_of,
};
use crate::{held::Held, report::FirstUse};

/// What a session has used already, on whichever of its carriers: each service is reported once.
#[derive(Debug, Default)]
pub(crate) struct Used(Mutex<BTreeSet<(Callee, ServicePort)>>);

impl Used {
    /// Says whether this is the first use.
    fn begins(&self, callee: &Callee, port: ServicePort) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((callee.clone(), port))
    }
}

impl Consume {
    /// Decides about one stream and carries it in a task of its own.
    pub(super) fn open(&self, offer: StreamOffered, grant: Option<&Held>, ends: CancellationToken) {
        let request = offer.request().clone();
        let Some(grant) = grant.and_then(Held::live) else {
            return refuse(offer, Refusal::NotAllowed, "no grant was shown on this carrier");
        };
        // A pod is covered by its Service, whoever else has a pod of that name: it is looked for among the Service's.
        if request.session != self.session || !grant.covers(&request.callee, request.port) {
            let reason = format!("the grant does not cover {}:{}", request.callee, request.port);
            return refuse(offer, Refusal::NotAllowed, reason);
        }
        match &request.callee {
            Callee::Outside { host } => {
                self.take_note(&request);
                let (host, port) = (host.clone(), request.port.port);
                spawn_until(ends, carry_outside(offer, host, port, self.border.clone()));
            }
            Callee::InCluster { service, pod } => {
                let inventory = self.inventory.borrow();
                match destination_of(&inventory, service, pod.as_ref(), request.port) {
                    Ok(destination) => {
                        self.take_note(&request);
                        spawn_until(ends, carried(offer, destination, request));
                    }
                    Err((refusal, reason)) => refuse(offer, refusal, reason),
                }
            }
        }
    }

    /// Lets the cluster's DNS be asked about what the grant covers.
    pub(super) fn resolve(&self, asked: Questioned, grant: Option<&Held>) {
        let question = asked.request();
        let services = grant.and_then(Held::live).map(|grant| &grant.services[..]);
        let mut covered = services.unwrap_or_default().iter().map(|granted| &granted.service);
        if question.session != self.session || !covered.any(|it| it == question.name.service()) {
            let reason = format!("the grant does not cover {}", question.name);
            return asked.refuse(Refusal::NotAllowed, reason);
        }
        self.resolver.answer(asked);
    }

    /// Reports a first use. A probe is none: nobody asked for the service.
    fn take_note(&self, request: &OpenRequest) {
        let callee = match request.callee.service() {
            Some(service) => service.clone().into(),
            None => request.callee.clone(),
        };
        if !request.probe && self.used.begins(&callee, request.port) {
            let (session, port) = (self.session, request.port);
            self.first_uses.tell(FirstUse { session, callee, port });
        }
    }
}

fn spawn_until(ends: CancellationToken, carried: impl Future<Output = ()> + Send + 'static) {
    // Moved into the task it would be there twice, for as long as the connection is.
    let mut carried = Box::pin(carried);
    tokio::spawn(async move {
        tokio::select! {
            () = &mut carried => {}
            () = ends.cancelled() => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fairlead_model::{HostName, Port, SessionId, Thumbprint};
    use fairlead_tunnel::OpenFailed;
    use fairlead_wire::{grant::Grant, resolve::ResolveRequest};

    use super::{super::world::world, *};

    #[tokio::test]
    async fn a_stream_within_the_grant_reaches_its_service() {
        let world = world().await;
        world.shows(&world.grant).await.expect("a good grant");
        assert_eq!(world.asks("shop/cart", world.port).await.expect("covered"), "hello");
    }

    #[tokio::test]
    async fn a_stream_outside_the_grant_is_refused() {
        let world = world().await;
        world.shows(&world.grant).await.expect("a good grant");
        let answers = [
            world.asks("shop/payment", world.port).await,
            world.asks("shop/cart", Port::new(1).expect("a port")).await,
            world.asks_in(SessionId::generate(), "shop/cart", world.port).await,
        ];
        for answer in answers {
            assert!(is_not_allowed(&answer), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn without_a_good_grant_there_is_no_stream() {
        let world = world().await;
        assert!(is_not_allowed(&world.asks("shop/cart", world.port).await), "none was shown");
        let stolen = Grant { device: Thumbprint::from_bytes([8; 32]), ..world.grant.clone() };
        let other = Grant { session: SessionId::generate(), ..world.grant.clone() };
        let long_ago = world.grant.issued_at - Duration::from_secs(2000);
        let old = Grant {
            issued_at: long_ago,
            expires_at: long_ago + Duration::from_secs(900),
            ..world.grant.clone()
        };
        for bad in [stolen, other, old] {
            world.shows(&bad).await.expect_err("worth nothing here");
            assert!(is_not_allowed(&world.asks("shop/cart", world.port).await), "{bad:?}");
        }
    }

    fn is_not_allowed(answer: &Result<String, OpenFailed>) -> bool {
        matches!(answer, Err(OpenFailed::Refused(refused)) if refused.refusal == Refusal::NotAllowed)
    }

    #[tokio::test]
    async fn a_host_outside_needs_a_grant_of_its_very_port_and_an_address_that_is_outside() {
        let world = world().await;
        let host: HostName = "db.example.net".parse().expect("valid");
        let asks = async |port: ServicePort| {
            let Grant { session, .. } = world.grant;
            let callee = host.clone().into();
            let wish = OpenRequest { session, callee, port, probe: false };
            world.opener.open(&wish).await.expect_err("refused").to_string()
        };
        let port = ServicePort::tcp(world.port);
        world.shows(&world.grant).await.expect("a good grant");
        let refused = asks(port).await;
        assert!(refused.contains("does not cover db.example.net"), "{refused}");

        let hosts = vec![format!("{host}:{}", world.port).parse().expect("valid")];
        let grant = Grant { hosts, ..world.grant.clone() };
        world.shows(&grant).await.expect("a good grant");
        let another = Port::new(1).expect("a port");
        for other in [ServicePort::tcp(another), ServicePort::udp(world.port)] {
            let refused = asks(other).await;
            assert!(refused.contains("does not cover"), "{other}: {refused}");
        }
        let refused = asks(port).await;
        assert!(refused.contains("is at 127.0.0.1: that is the agent's own pod"), "{refused}");
    }

    #[tokio::test]
    async fn names_are_resolved_below_what_the_grant_covers_and_nowhere_else() {
        let world = world().await;
        let asks = async |name: &str| {
            let name = name.parse().expect("valid");
            let question = ResolveRequest { session: world.grant.session, name, record: 33 };
            world.opener.resolve(&question).await
        };
        assert!(asks("_lines._tcp.cart.shop").await.is_err(), "no grant was shown");
        world.shows(&world.grant).await.expect("a good grant");
        let answer = asks("_lines._tcp.cart.shop").await.expect("covered");
        assert!(answer.windows(5).any(|part| part == b"\x04cart"), "{answer:?}");
        for other in ["_lines._tcp.payment.shop", "cart.pay"] {
            let refused = asks(other).await.expect_err("not covered").to_string();
            assert!(refused.contains("does not cover"), "{other}: {refused}");
        }
    }
}
