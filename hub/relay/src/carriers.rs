//! Which carriers there are: offered, half here, or joined. Pure bookkeeping under one lock, without sockets.
//!
//! Of a ticket only its hash is kept. Hashes are looked up in a map and compared in constant time, so that neither a
//! copy of this memory nor the time of an answer helps anybody to a ticket.

use std::{collections::HashMap, hash::Hash};

use fairlead_model::{CarrierId, OrgId, UserId, timers::TICKET_LIFE};
use fairlead_wire::{preface::Side, ticket::Ticket};
use subtle::ConstantTimeEq;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    half::Half,
    nouns::{CarrierMeta, Limits, Offer, OfferRefused},
};

/// Why a ticket was not redeemed. For the log only: the bearer learns nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TicketRefused {
    #[error("unknown, used or expired")]
    Unknown,
    #[error("of the other side")]
    OtherSide,
    #[error("expired")]
    Expired,
    #[error("its other half has gone again")]
    Alone,
}

/// What a redeemed ticket entitles to.
pub(crate) enum Redeemed {
    /// Wait until `deadline` for the other half to come.
    First { wait: Waiting, deadline: Instant },
    /// The other half waits; hand the connection over to it.
    Second(oneshot::Sender<Half>),
}

/// The right of the first half to be joined with the second.
pub(crate) struct Waiting {
    pub(crate) meta: CarrierMeta,
    pub(crate) second: oneshot::Receiver<Half>,
    pub(crate) cut: CancellationToken,
}

struct TicketEntry {
    hash: [u8; 32],
    side: Side,
    carrier: CarrierId,
    expires_at: Instant,
}

enum State {
    Offered,
    HalfHere(oneshot::Sender<Half>),
    Joined,
}

struct Carrier {
    meta: CarrierMeta,
    state: State,
    expires_at: Instant,
    cut: CancellationToken,
}

/// All carriers of one relay.
pub(crate) struct Carriers {
    limits: Limits,
    stopping: bool,
    tickets: HashMap<[u8; 32], TicketEntry>,
    carriers: HashMap<CarrierId, Carrier>,
    per_organization: Counts<OrgId>,
    per_user: Counts<UserId>,
}

impl Carriers {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            stopping: false,
            tickets: HashMap::new(),
            carriers: HashMap::new(),
            per_organization: Counts::new(),
            per_user: Counts::new(),
        }
    }

    pub(crate) fn offer(&mut self, meta: CarrierMeta, now: Instant) -> Result<Offer, OfferRefused> {
        self.forget_expired(now);
        if self.stopping {
            return Err(OfferRefused::Stopping);
        }
        if self.carriers.len() >= self.limits.carriers {
            return Err(OfferRefused::Full);
        }
        if self.carriers.contains_key(&meta.carrier) {
            return Err(OfferRefused::Known);
        }
        if self.per_organization.of(&meta.organization) >= self.limits.carriers_per_organization {
            return Err(OfferRefused::OrganizationFull);
        }
        if self.per_user.of(&meta.user) >= self.limits.carriers_per_user {
            return Err(OfferRefused::UserFull);
        }
        self.per_organization.one_more(meta.organization);
        self.per_user.one_more(meta.user);
        let expires_at = now + TICKET_LIFE;
        let offered =
            Carrier { meta, state: State::Offered, expires_at, cut: CancellationToken::new() };
        self.carriers.insert(meta.carrier, offered);
        Ok(Offer {
            laptop: self.issue(meta.carrier, Side::Laptop, expires_at),
            cluster: self.issue(meta.carrier, Side::Cluster, expires_at),
        })
    }

    fn issue(&mut self, carrier: CarrierId, side: Side, expires_at: Instant) -> Ticket {
        let ticket = Ticket::draw();
        let hash = ticket.hash();
        self.tickets.insert(hash, TicketEntry { hash, side, carrier, expires_at });
        ticket
    }

    /// Takes a ticket, which is used up by that whatever comes of it.
    pub(crate) fn redeem(
        &mut self,
        ticket: &Ticket,
        side: Side,
        now: Instant,
    ) -> Result<Redeemed, TicketRefused> {
        let entry = self.tickets.remove(&ticket.hash()).ok_or(TicketRefused::Unknown)?;
        if !bool::from(entry.hash.ct_eq(&ticket.hash())) {
            return Err(TicketRefused::Unknown);
        }
        if entry.side != side {
            // One half can never come now, so the other need not wait for it.
            self.remove(entry.carrier);
            return Err(TicketRefused::OtherSide);
        }
        if now >= entry.expires_at {
            self.forget_unless_taken_up(entry.carrier);
            return Err(TicketRefused::Expired);
        }
        let carrier = self.carriers.get_mut(&entry.carrier).ok_or(TicketRefused::Alone)?;
        match std::mem::replace(&mut carrier.state, State::Joined) {
            State::HalfHere(second_tx) => Ok(Redeemed::Second(second_tx)),
            State::Offered => {
                let (second_tx, second_rx) = oneshot::channel();
                carrier.state = State::HalfHere(second_tx);
                let wait =
                    Waiting { meta: carrier.meta, second: second_rx, cut: carrier.cut.clone() };
                Ok(Redeemed::First { wait, deadline: carrier.expires_at })
            }
            State::Joined => Err(TicketRefused::Alone),
        }
    }

    pub(crate) fn remove(&mut self, id: CarrierId) {
        let Some(carrier) = self.carriers.remove(&id) else { return };
        carrier.cut.cancel();
        self.per_organization.one_less(carrier.meta.organization);
        self.per_user.one_less(carrier.meta.user);
    }

    /// Ends what `chosen` picks, joined or not, and returns how many those were.
    pub(crate) fn cut(&mut self, chosen: impl Fn(&CarrierMeta) -> bool) -> usize {
        let ids: Vec<CarrierId> = self
            .carriers
            .values()
            .map(|c| c.meta)
            .filter(|m| chosen(m))
            .map(|m| m.carrier)
            .collect();
        for id in &ids {
            self.remove(*id);
        }
        ids.len()
    }

    /// Refuses further offers, and forgets those that nobody has taken up yet.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
        self.tickets.clear();
        let unjoined: Vec<CarrierId> = self
            .carriers
            .values()
            .filter(|carrier| !matches!(carrier.state, State::Joined))
            .map(|carrier| carrier.meta.carrier)
            .collect();
        for id in unjoined {
            self.remove(id);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.carriers.is_empty()
    }

    /// Makes room: tickets and offers whose time is over count no longer.
    fn forget_expired(&mut self, now: Instant) {
        let expired: Vec<TicketEntry> =
            self.tickets.extract_if(|_, entry| now >= entry.expires_at).map(|(_, e)| e).collect();
        for ticket in expired {
            self.forget_unless_taken_up(ticket.carrier);
        }
    }

    /// Removes a carrier whose time is over. A half that waits sees to its deadline itself.
    fn forget_unless_taken_up(&mut self, id: CarrierId) {
        let carrier = self.carriers.get(&id);
        if carrier.is_some_and(|carrier| matches!(carrier.state, State::Offered)) {
            self.remove(id);
        }
    }
}

/// How many carriers each has; whoever has none is not kept.
struct Counts<K>(HashMap<K, usize>);

impl<K: Eq + Hash> Counts<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    fn of(&self, whose: &K) -> usize {
        self.0.get(whose).copied().unwrap_or_default()
    }

    fn one_more(&mut self, whose: K) {
        *self.0.entry(whose).or_default() += 1;
    }

    fn one_less(&mut self, whose: K) {
        match self.of(&whose) {
            0 | 1 => drop(self.0.remove(&whose)),
            more => drop(self.0.insert(whose, more - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::SessionId;

    use super::*;

    fn meta() -> CarrierMeta {
        CarrierMeta {
            carrier: CarrierId::generate(),
            session: SessionId::generate(),
            organization: OrgId::generate(),
            user: UserId::generate(),
        }
    }

    impl Carriers {
        fn counts_nobody(&self) -> bool {
            self.per_organization.0.is_empty() && self.per_user.0.is_empty()
        }
    }

    fn joined(carriers: &Carriers) -> usize {
        let states = carriers.carriers.values().map(|carrier| &carrier.state);
        states.filter(|state| matches!(state, State::Joined)).count()
    }

    fn carriers() -> Carriers {
        Carriers::new(Limits { carriers: 3, carriers_per_organization: 2, ..Limits::default() })
    }

    #[test]
    fn two_tickets_make_a_pair() {
        let (mut carriers, now) = (carriers(), Instant::now());
        let offer = carriers.offer(meta(), now).expect("offered");
        let first = carriers.redeem(&offer.cluster, Side::Cluster, now);
        assert!(matches!(first, Ok(Redeemed::First { .. })));
        assert_eq!(joined(&carriers), 0);
        let second = carriers.redeem(&offer.laptop, Side::Laptop, now);
        assert!(matches!(second, Ok(Redeemed::Second(_))));
        assert_eq!(joined(&carriers), 1);
    }

    #[test]
    fn a_ticket_is_good_once() {
        let (mut carriers, now) = (carriers(), Instant::now());
        let offer = carriers.offer(meta(), now).expect("offered");
        assert!(carriers.redeem(&offer.laptop, Side::Laptop, now).is_ok());
        let again = carriers.redeem(&offer.laptop, Side::Laptop, now).err();
        assert_eq!(again, Some(TicketRefused::Unknown));
    }

    #[test]
    fn a_ticket_of_the_other_side_ends_the_offer() {
        let (mut carriers, now) = (carriers(), Instant::now());
        let offer = carriers.offer(meta(), now).expect("offered");
        let refused = carriers.redeem(&offer.laptop, Side::Cluster, now).err();
        assert_eq!(refused, Some(TicketRefused::OtherSide));
        let other = carriers.redeem(&offer.cluster, Side::Cluster, now).err();
        assert_eq!(other, Some(TicketRefused::Alone));
        assert!(carriers.is_empty());
    }

    #[test]
    fn a_ticket_expires() {
        let (mut carriers, now) = (carriers(), Instant::now());
        let offer = carriers.offer(meta(), now).expect("offered");
        let refused = carriers.redeem(&offer.laptop, Side::Laptop, now + TICKET_LIFE).err();
        assert_eq!(refused, Some(TicketRefused::Expired));
        assert_eq!(
            carriers.redeem(&Ticket::draw(), Side::Laptop, now).err(),
            Some(TicketRefused::Unknown)
        );
    }

    #[test]
    fn an_organization_cannot_use_up_the_relay() {
        let (mut carriers, now) = (carriers(), Instant::now());
        let organization = OrgId::generate();
        let ours = || CarrierMeta { organization, ..meta() };
        carriers.offer(ours(), now).expect("offered");
        carriers.offer(ours(), now).expect("offered");
        assert_eq!(carriers.offer(ours(), now).err(), Some(OfferRefused::OrganizationFull));
        carriers.offer(meta(), now).expect("offered");
        assert_eq!(carriers.offer(meta(), now).err(), Some(OfferRefused::Full));
    }

    #[test]
    fn a_user_cannot_use_up_what_the_organization_has() {
        let limits = Limits { carriers_per_user: 1, ..Limits::default() };
        let (mut carriers, now) = (Carriers::new(limits), Instant::now());
        let all = meta();
        let of_user = |user| CarrierMeta { carrier: CarrierId::generate(), user, ..all };
        let mine = of_user(all.user);
        carriers.offer(mine, now).expect("offered");
        assert_eq!(carriers.offer(of_user(all.user), now).err(), Some(OfferRefused::UserFull));
        carriers.offer(of_user(UserId::generate()), now).expect("another one of them");
        carriers.remove(mine.carrier);
        carriers.offer(of_user(all.user), now).expect("there is room again");
    }

    #[test]
    fn offers_that_nobody_took_up_make_room() {
        let (mut carriers, now) = (carriers(), Instant::now());
        for _ in 0..3 {
            carriers.offer(meta(), now).expect("offered");
        }
        assert!(carriers.offer(meta(), now).is_err());
        assert!(carriers.offer(meta(), now + TICKET_LIFE).is_ok());
        assert_eq!((carriers.carriers.len(), carriers.tickets.len()), (1, 2));
    }

    #[test]
    fn an_offer_that_both_ends_took_up_too_late_counts_no_longer() {
        let (mut carriers, now) = (carriers(), Instant::now());
        let offer = carriers.offer(meta(), now).expect("offered");
        let late = now + TICKET_LIFE;
        let laptop = carriers.redeem(&offer.laptop, Side::Laptop, late).err();
        let cluster = carriers.redeem(&offer.cluster, Side::Cluster, late).err();
        assert_eq!((laptop, cluster), (Some(TicketRefused::Expired), Some(TicketRefused::Expired)));
        assert!(carriers.is_empty() && carriers.counts_nobody());
    }

    #[test]
    fn a_cut_ends_offers_too_and_counts_no_longer() {
        let (mut carriers, now) = (carriers(), Instant::now());
        let meta = meta();
        let offer = carriers.offer(meta, now).expect("offered");
        assert_eq!(carriers.cut(|m| m.session == meta.session), 1);
        assert!(carriers.redeem(&offer.laptop, Side::Laptop, now).is_err());
        assert!(carriers.is_empty() && carriers.counts_nobody());
    }

    #[test]
    fn a_relay_that_stops_offers_nothing_more() {
        let (mut carriers, now) = (carriers(), Instant::now());
        let offer = carriers.offer(meta(), now).expect("offered");
        carriers.stop();
        assert!(carriers.redeem(&offer.laptop, Side::Laptop, now).is_err());
        assert_eq!(carriers.offer(meta(), now).err(), Some(OfferRefused::Stopping));
    }
}
