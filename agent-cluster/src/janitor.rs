//! Gives intercepted Services back when no agent can: the janitor waits until every agent is gone, the chart's
//! pre-delete hook does it at once. Both hold the writer's Lease meanwhile; what is then done is in `restore.rs`.

use std::time::{Duration, Instant};

use anyhow::Context;
use fairlead_model::timers;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, Client, api::ListParams};
use tracing::warn;

use crate::{
    apply::{ApplyError, leases},
    config::Place,
    health::Ready,
    intercept::originals,
    lease::{self, LeaseAge},
    names::RESTORER,
    restore::{intercepted, restore_all},
};

/// A replica reads the Lease twice a second and stops writing when it is somebody else's.
const WRITERS_NOTICE: Duration = Duration::from_millis(1500);
const LOOK: Duration = Duration::from_secs(1);

/// Watches over the agents for ever.
pub(crate) async fn run(client: Client, place: Place, ready: Ready) -> anyhow::Result<()> {
    ready.set(true);
    let mut age = LeaseAge::since(Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(error) = look(&client, &place, &mut age).await {
            warn!(
                "The agents cannot be watched over, or not everything could be given back: {error:#}"
            );
        }
    }
}

/// Gives everything back if the writer's Lease has not been renewed for long enough and no agent pod is ready.
///
/// One Lease is enough: a living replica takes it as soon as its holder is gone. The janitor takes it as well, in the
/// very version that it found too old, so that an agent that comes back at this moment either keeps it or waits.
async fn look(client: &Client, place: &Place, age: &mut LeaseAge) -> anyhow::Result<()> {
    let lease =
        lease::read(client, &place.namespace).await.context("reading the writer's Lease")?;
    if age.saw(lease.as_ref(), Instant::now()) < timers::JANITOR_PATIENCE
        || an_agent_is_ready(client, place).await?
        || intercepted(client, place).await?.is_empty()
    {
        return Ok(());
    }
    match leases::hold(client, &place.namespace, lease.as_ref(), RESTORER).await {
        Ok(_) => {}
        Err(ApplyError::Conflict { .. }) => return Ok(()),
        Err(error) => return Err(error).context("taking the writer's Lease"),
    }
    let restored = restore_all_while_holding(client, place).await;
    age.adopt(release_lease(client, place).await.as_ref());
    restored
}

async fn an_agent_is_ready(client: &Client, place: &Place) -> anyhow::Result<bool> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &place.namespace);
    let agents = ListParams::default().labels(&place.agent_selector);
    let agents = pods.list(&agents).await.context("listing the agent's pods")?;
    Ok(agents.items.iter().any(originals::is_ready))
}

/// Gives everything back while agents may still live and want the opposite: takes the writer's Lease from them first.
/// It is not let go: the agents are about to be removed, and one that took it would begin again.
pub(crate) async fn restore_from_the_living(client: &Client, place: &Place) -> anyhow::Result<()> {
    take_lease(client, place).await?;
    tokio::time::sleep(WRITERS_NOTICE).await;
    restore_all_while_holding(client, place).await
}

async fn restore_all_while_holding(client: &Client, place: &Place) -> anyhow::Result<()> {
    let keep_lease = async {
        loop {
            tokio::time::sleep(timers::AGENT_LEASE_RENEWAL).await;
            if let Err(error) = take_lease(client, place).await {
                warn!("The writer's Lease could not be kept: {error:#}");
            }
        }
    };
    tokio::select! {
        restored = restore_all(client, place) => restored,
        () = keep_lease => unreachable!("the Lease is kept for ever"),
    }
}

async fn take_lease(client: &Client, place: &Place) -> anyhow::Result<()> {
    const TRIES: usize = 5;
    for _ in 0..TRIES {
        let lease = lease::read(client, &place.namespace).await;
        let lease = lease.context("reading the writer's Lease")?;
        match leases::hold(client, &place.namespace, lease.as_ref(), RESTORER).await {
            Err(ApplyError::Conflict { .. }) => {}
            held => return held.map(drop).context("taking the writer's Lease"),
        }
    }
    anyhow::bail!("the writer's Lease is written by somebody else again and again")
}

/// Lets an agent that comes back begin at once; returns the Lease as it then is.
async fn release_lease(client: &Client, place: &Place) -> Option<Lease> {
    let released = leases::release_own(client, &place.namespace, RESTORER).await;
    let released =
        released.inspect_err(|error| warn!("The writer's Lease could not be released: {error:#}"));
    released.ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::{
        apply::fake::FakeCluster,
        config::{Command, Verb},
        made_up::{CART, LEASE},
        names::{INTERCEPTED, SENTINEL},
    };

    fn place() -> Place {
        match Command::try_parse_from(["fairlead-agent", "janitor"]).expect("valid").verb {
            Verb::Janitor(place) => place,
            _ => unreachable!("the verb was janitor"),
        }
    }

    /// A Service that is intercepted, and the Lease of an agent that is gone.
    fn abandoned() -> FakeCluster {
        let cluster = FakeCluster::default();
        let sentinel = place().owner().sentinel(fairlead_model::SessionId::generate()).to_string();
        cluster.put(
            LEASE,
            json!({
                "metadata": {"name": "fairlead-agent-writer", "namespace": "fairlead-system"},
                "spec": {"holderIdentity": "agent-1", "renewTime": "2026-01-01T00:00:00.000000Z"},
            }),
        );
        cluster.put(
            CART,
            json!({
                "metadata": {
                    "name": "cart", "namespace": "shop", "uid": "u1",
                    "labels": {INTERCEPTED: sentinel},
                },
                "spec": {"selector": {"app": "cart", SENTINEL: sentinel}},
            }),
        );
        cluster
    }

    fn long_ago() -> LeaseAge {
        let then = Instant::now().checked_sub(timers::JANITOR_PATIENCE).expect("long after boot");
        LeaseAge::since(then)
    }

    fn holder(cluster: &FakeCluster) -> serde_json::Value {
        cluster.get(LEASE)["spec"]["holderIdentity"].clone()
    }

    fn keyed(cluster: &FakeCluster) -> bool {
        cluster.get(CART)["spec"]["selector"][SENTINEL].is_string()
    }

    #[tokio::test]
    async fn the_lease_is_held_while_services_are_given_back_and_free_afterwards() {
        let cluster = abandoned();
        let held_by = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&held_by);
        cluster.follows(move |objects| {
            let holder = objects[LEASE]["spec"]["holderIdentity"].clone();
            let on = objects[CART]["spec"]["selector"][SENTINEL].is_string();
            seen.lock().expect("not poisoned").push((on, holder));
        });
        let mut age = long_ago();
        age.adopt(lease::read(&cluster.client(), "fairlead-system").await.expect("read").as_ref());
        look(&cluster.client(), &place(), &mut age).await.expect("given back");
        assert!(!keyed(&cluster));
        assert_eq!(holder(&cluster), json!(null));
        let when_the_key_went = held_by.lock().expect("not poisoned");
        let (_, holder) = when_the_key_went.iter().find(|(on, _)| !on).expect("it went");
        assert_eq!(*holder, RESTORER);
        assert!(age.unchanged_for(Instant::now()) >= timers::JANITOR_PATIENCE, "its own renewal");
    }

    #[tokio::test]
    async fn an_agent_that_comes_back_at_this_moment_keeps_its_service() {
        let cluster = abandoned();
        let mut age = long_ago();
        age.adopt(lease::read(&cluster.client(), "fairlead-system").await.expect("read").as_ref());
        cluster.once_before("PUT", |objects| {
            objects.get_mut(LEASE).expect("there")["spec"]["holderIdentity"] = "agent-2".into();
        });
        look(&cluster.client(), &place(), &mut age).await.expect("left alone");
        assert!(keyed(&cluster));
        assert_eq!(holder(&cluster), "agent-2");
    }

    #[tokio::test]
    async fn nothing_is_touched_while_the_lease_is_young_or_an_agent_is_ready() {
        let cluster = abandoned();
        look(&cluster.client(), &place(), &mut LeaseAge::since(Instant::now()))
            .await
            .expect("fine");
        assert!(keyed(&cluster));
        cluster.put(
            "/api/v1/namespaces/fairlead-system/pods/agent-1",
            json!({
                "metadata": {
                    "name": "agent-1",
                    "labels": {
                        "app.kubernetes.io/instance": "fairlead",
                        "app.kubernetes.io/component": "agent",
                    },
                },
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }),
        );
        let mut age = long_ago();
        age.adopt(lease::read(&cluster.client(), "fairlead-system").await.expect("read").as_ref());
        look(&cluster.client(), &place(), &mut age).await.expect("fine");
        assert!(keyed(&cluster));
    }
}
