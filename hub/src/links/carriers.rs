//! Carriers: both ends are told where to dial and what to show there. The hub carries what they say, and cannot read it.

use fairlead_model::{CarrierId, SessionKind};
use fairlead_wire::link::v1::{self, CarrierOffer, cluster_down, laptop_down};
use hub_relay::CarrierMeta;
use hub_store::Session;

use super::words;
use crate::Hub;

/// Why there is no carrier, in words for the laptop.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoCarrier {
    #[error("no agent of teamspace `{0}` is connected to the hub")]
    NoReplica(String),
    #[error("agent replica `{0}` is not connected to the hub")]
    ReplicaGone(String),
    #[error("the session has ended")]
    SessionEnded,
    #[error("the teamspace has no key")]
    NotEnrolled,
    #[error(transparent)]
    Relay(#[from] hub_relay::OfferRefused),
    #[error("the hub cannot reach its database")]
    Store(#[from] hub_store::StoreError),
}

/// How an offer comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Both ends are there.
    BothThere,
    /// The laptop asked, and knows its question by this.
    LaptopAsked(u64),
    /// The replica asked for one beside those it has.
    Further,
}

/// Offers one carrier of `session` to the laptop and to a replica: the named one, or any for an empty name.
pub(super) async fn offer(
    hub: &Hub,
    session: &Session,
    replica: &str,
    occasion: Occasion,
) -> Result<(), NoCarrier> {
    if !session.is_live() {
        return Err(NoCarrier::SessionEnded);
    }
    let teamspace = hub.store.scoped(session.org).teamspace(session.teamspace).await?;
    let enrolment = teamspace.enrolment.ok_or(NoCarrier::NotEnrolled)?;
    let replica = choose(hub, session, replica)?;
    let id = CarrierId::generate();
    let offer = hub.relay.offer(CarrierMeta {
        carrier: id,
        session: session.id,
        organization: session.org,
        user: session.user,
    })?;
    let common = CarrierOffer {
        carrier_id: id.to_string(),
        session_id: session.id.to_string(),
        kind: v1::SessionKind::from(session.kind()).into(),
        relay: hub.relay_address().to_owned(),
        replica: replica.clone(),
        teamspace_id: session.teamspace.to_string(),
        further: occasion == Occasion::Further,
        ..Default::default()
    };
    let to_cluster = CarrierOffer {
        ticket: offer.cluster.expose().to_vec(),
        device_thumbprint: session.device_key.as_bytes().to_vec(),
        ..common.clone()
    };
    let to_laptop = CarrierOffer {
        ticket: offer.laptop.expose().to_vec(),
        teamspace_certificate: enrolment.certificate,
        request_id: match occasion {
            Occasion::LaptopAsked(request_id) => request_id,
            Occasion::BothThere | Occasion::Further => 0,
        },
        ..common
    };
    hub.links.tell_replica(session.teamspace, &replica, cluster_down::Message::Carrier(to_cluster));
    hub.links.tell_laptop(session.device, laptop_down::Message::Carrier(to_laptop));
    tracing::debug!(session = %session.id, carrier = %id, replica, "Carrier offered");
    Ok(())
}

/// Offers an intercept's carrier to one replica, where both ends are connected; without them it is offered when they
/// connect.
pub(crate) async fn offer_intercept(hub: &Hub, session: &Session, replica: &str) {
    offer_unasked(hub, session, replica, Occasion::BothThere).await;
}

/// Offers a carrier beside those that the replica has, under the same conditions. That there is none is no failure of
/// the session.
pub(super) async fn offer_further(hub: &Hub, session: &Session, replica: &str) {
    offer_unasked(hub, session, replica, Occasion::Further).await;
}

async fn offer_unasked(hub: &Hub, session: &Session, replica: &str, occasion: Occasion) {
    if session.kind() != SessionKind::Intercept || !hub.links.is_laptop_connected(session.device) {
        return;
    }
    if let Err(error) = offer(hub, session, replica, occasion).await {
        tracing::debug!(session = %session.id, replica, %error, "No carrier for the intercept");
    }
}

fn choose(hub: &Hub, session: &Session, asked: &str) -> Result<String, NoCarrier> {
    let connected = hub.links.replicas(session.teamspace);
    if !asked.is_empty() {
        return match connected.contains(asked) {
            true => Ok(asked.to_owned()),
            false => Err(NoCarrier::ReplicaGone(words::shortened(asked))),
        };
    }
    let any = rand::random::<u64>() % (connected.len().max(1) as u64);
    connected
        .into_iter()
        .nth(usize::try_from(any).expect("less than the number of replicas"))
        .ok_or_else(|| NoCarrier::NoReplica(session.teamspace_name.to_string()))
}
