//! The writer's Lease as it is read: who holds it, and for how long it has not been renewed. Its age is judged by when
//! it was seen to change, because the clocks of two nodes cannot be compared.

use std::time::{Duration, Instant};

use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::{Api, Client};

use crate::names::WRITER_LEASE;

pub(crate) async fn read(client: &Client, namespace: &str) -> Result<Option<Lease>, kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    leases.get_opt(WRITER_LEASE).await
}

pub(crate) fn holder(lease: Option<&Lease>) -> Option<&str> {
    let holder = lease?.spec.as_ref()?.holder_identity.as_deref()?;
    (!holder.is_empty()).then_some(holder)
}

type Renewal = (Option<String>, Option<MicroTime>);

/// Since when holder and renewal are as they are. What else is written on the Lease is no renewal.
#[derive(Clone, Debug)]
pub(crate) struct LeaseAge {
    renewal: Option<Renewal>,
    since: Instant,
}

impl LeaseAge {
    pub(crate) const fn since(now: Instant) -> Self {
        Self { renewal: None, since: now }
    }

    /// Takes a look into account, and returns for how long the Lease has not been renewed.
    pub(crate) fn saw(&mut self, lease: Option<&Lease>, now: Instant) -> Duration {
        let renewal = renewal(lease);
        if self.renewal.as_ref() != Some(&renewal) {
            *self = Self { renewal: Some(renewal), since: now };
        }
        self.unchanged_for(now)
    }

    /// Takes a renewal that we made ourselves for no renewal.
    pub(crate) fn adopt(&mut self, lease: Option<&Lease>) {
        self.renewal = Some(renewal(lease));
    }

    pub(crate) fn unchanged_for(&self, now: Instant) -> Duration {
        now - self.since
    }
}

fn renewal(lease: Option<&Lease>) -> Renewal {
    let spec = lease.and_then(|lease| lease.spec.as_ref());
    let holder = spec.and_then(|spec| spec.holder_identity.clone());
    (holder, spec.and_then(|spec| spec.renew_time.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(renewed_s: u8, annotation: &str) -> Lease {
        let lease = json!({
            "metadata": {"annotations": {"word": annotation}},
            "spec": {
                "holderIdentity": "agent-1",
                "renewTime": format!("2026-01-01T00:00:{renewed_s:02}.000000Z"),
            },
        });
        serde_json::from_value(lease).expect("a Lease")
    }

    #[test]
    fn only_a_renewal_makes_a_lease_young_again() {
        let (now, s) = (Instant::now(), Duration::from_secs);
        let mut age = LeaseAge::since(now);
        assert_eq!(age.saw(Some(&lease(1, "a")), now), s(0));
        assert_eq!(age.saw(Some(&lease(1, "b")), now + s(4)), s(4), "a word is no renewal");
        assert_eq!(age.saw(Some(&lease(2, "b")), now + s(5)), s(0));
        assert_eq!(age.unchanged_for(now + s(7)), s(2));
    }

    #[test]
    fn a_lease_held_by_nobody_has_no_holder() {
        assert_eq!(holder(Some(&lease(1, ""))), Some("agent-1"));
        let mut empty = lease(1, "");
        empty.spec.as_mut().expect("a spec").holder_identity = Some(String::new());
        assert_eq!(holder(Some(&empty)), None);
        assert_eq!(holder(None), None);
    }
}
