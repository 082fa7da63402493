//! Who is connected to this hub. Nothing here waits: to tell somebody something is to put it into their queue.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use fairlead_model::{DeviceId, OrgId, TeamspaceId, Thumbprint};
use fairlead_wire::link::v1::{ClusterDown, LaptopDown, cluster_down, laptop_down};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The pod's name of an agent replica.
pub type ReplicaName = String;

type ReplicaKey = (TeamspaceId, ReplicaName);

/// Both kinds of links. Cloning it is cheap.
#[derive(Clone, Debug, Default)]
pub struct Links {
    shared: Arc<Mutex<Connected>>,
    epochs: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Connected {
    replicas: HashMap<ReplicaKey, ReplicaLink>,
    laptops: HashMap<DeviceId, Link<LaptopDown>>,
}

#[derive(Debug)]
struct ReplicaLink {
    /// The teamspace key that the replica has proven.
    key: Thumbprint,
    link: Link<ClusterDown>,
}

#[derive(Debug)]
struct Link<M> {
    org: OrgId,
    epoch: u64,
    down_tx: mpsc::Sender<Result<M, Status>>,
    ended: CancellationToken,
}

impl<M> Link<M> {
    /// Puts a message into the queue; a full one ends the link.
    fn tell(&self, message: M) {
        if self.down_tx.try_send(Ok(message)).is_err() {
            self.ended.cancel();
        }
    }
}

/// A link's place in the registry; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Registered {
    links: Links,
    who: Who,
    epoch: u64,
    /// Cancelled when a newer link of the same peer took the place, when the hub wants this one to end, and at its end.
    pub(super) ended: CancellationToken,
}

#[derive(Clone, Debug)]
enum Who {
    Replica(ReplicaKey),
    Laptop(DeviceId),
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.ended.cancel();
        let mut connected = self.links.connected();
        match &self.who {
            Who::Replica(key) => {
                if connected.replicas.get(key).is_some_and(|held| held.link.epoch == self.epoch) {
                    connected.replicas.remove(key);
                }
            }
            Who::Laptop(device) => {
                if connected.laptops.get(device).is_some_and(|link| link.epoch == self.epoch) {
                    connected.laptops.remove(device);
                }
            }
        }
    }
}

impl Links {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the place of a replica; an older link of the same replica ends.
    pub(super) fn replica_connected(
        &self,
        org: OrgId,
        teamspace: TeamspaceId,
        name: &str,
        teamspace_key: Thumbprint,
        down_tx: mpsc::Sender<Result<ClusterDown, Status>>,
    ) -> Registered {
        let key = (teamspace, name.to_owned());
        let link = self.link(org, down_tx);
        let registered = self.registered(Who::Replica(key.clone()), &link);
        let link = ReplicaLink { key: teamspace_key, link };
        if let Some(older) = self.connected().replicas.insert(key, link) {
            older.link.ended.cancel();
        }
        registered
    }

    /// Takes the place of a laptop; an older link of the same device ends.
    pub(super) fn laptop_connected(
        &self,
        org: OrgId,
        device: DeviceId,
        down_tx: mpsc::Sender<Result<LaptopDown, Status>>,
    ) -> Registered {
        let link = self.link(org, down_tx);
        let registered = self.registered(Who::Laptop(device), &link);
        if let Some(older) = self.connected().laptops.insert(device, link) {
            older.ended.cancel();
        }
        registered
    }

    /// Lists the connected replicas of a teamspace by name.
    #[must_use]
    pub fn replicas(&self, teamspace: TeamspaceId) -> BTreeSet<ReplicaName> {
        let connected = self.connected();
        let here = connected.replicas.keys().filter(|(of, _)| *of == teamspace);
        here.map(|(_, name)| name.clone()).collect()
    }

    /// Lists the organizations that have anybody connected.
    #[must_use]
    pub fn organizations(&self) -> BTreeSet<OrgId> {
        let connected = self.connected();
        let clusters = connected.replicas.values().map(|held| held.link.org);
        clusters.chain(connected.laptops.values().map(|link| link.org)).collect()
    }

    /// Lists the teamspaces of an organization that have a connected replica.
    #[must_use]
    pub fn teamspaces(&self, org: OrgId) -> BTreeSet<TeamspaceId> {
        let connected = self.connected();
        let own = connected.replicas.iter().filter(|(_, held)| held.link.org == org);
        own.map(|((teamspace, _), _)| *teamspace).collect()
    }

    #[must_use]
    pub fn is_laptop_connected(&self, device: DeviceId) -> bool {
        self.connected().laptops.contains_key(&device)
    }

    pub fn tell_replica(&self, teamspace: TeamspaceId, name: &str, message: cluster_down::Message) {
        if let Some(held) = self.connected().replicas.get(&(teamspace, name.to_owned())) {
            held.link.tell(ClusterDown { message: Some(message) });
        }
    }

    pub fn tell_teamspace(&self, teamspace: TeamspaceId, message: &cluster_down::Message) {
        for ((of, _), held) in &self.connected().replicas {
            if *of == teamspace {
                held.link.tell(ClusterDown { message: Some(message.clone()) });
            }
        }
    }

    pub fn tell_laptop(&self, device: DeviceId, message: laptop_down::Message) {
        if let Some(link) = self.connected().laptops.get(&device) {
            link.tell(LaptopDown { message: Some(message) });
        }
    }

    /// Ends the links of an organization's replicas that stand on another key than `open` has for their teamspace, or on
    /// that of one that is not open.
    pub fn drop_all_but(&self, org: OrgId, open: &BTreeMap<TeamspaceId, Thumbprint>) {
        for ((teamspace, _), held) in &self.connected().replicas {
            if held.link.org == org && open.get(teamspace) != Some(&held.key) {
                held.link.ended.cancel();
            }
        }
    }

    /// Lists the connected devices of an organization.
    #[must_use]
    pub fn laptops(&self, org: OrgId) -> Vec<DeviceId> {
        let connected = self.connected();
        connected.laptops.iter().filter(|(_, link)| link.org == org).map(|(id, _)| *id).collect()
    }

    /// Ends a laptop's link: its device was removed.
    pub fn drop_laptop(&self, device: DeviceId) {
        if let Some(link) = self.connected().laptops.get(&device) {
            link.ended.cancel();
        }
    }

    fn link<M>(&self, org: OrgId, down_tx: mpsc::Sender<Result<M, Status>>) -> Link<M> {
        let epoch = self.epochs.fetch_add(1, Ordering::Relaxed);
        Link { org, epoch, down_tx, ended: CancellationToken::new() }
    }

    fn registered<M>(&self, who: Who, link: &Link<M>) -> Registered {
        Registered { links: self.clone(), who, epoch: link.epoch, ended: link.ended.clone() }
    }

    fn connected(&self) -> MutexGuard<'_, Connected> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_link_of_a_laptop_wins() {
        let links = Links::new();
        let device = DeviceId::generate();
        let (first_tx, mut first_rx) = mpsc::channel(1);
        let (second_tx, mut second_rx) = mpsc::channel(1);
        let org = OrgId::generate();
        let first = links.laptop_connected(org, device, first_tx);
        let second = links.laptop_connected(org, device, second_tx);
        assert!(first.ended.is_cancelled());
        assert!(!second.ended.is_cancelled());
        drop(first);
        links.tell_laptop(device, laptop_down::Message::Heartbeat(Default::default()));
        assert!(
            second_rx.try_recv().is_ok(),
            "the older link's end does not take the newer one's place"
        );
        assert!(first_rx.try_recv().is_err());
    }

    #[test]
    fn a_link_that_does_not_read_is_ended() {
        let links = Links::new();
        let device = DeviceId::generate();
        let (down_tx, _down_rx) = mpsc::channel(1);
        let link = links.laptop_connected(OrgId::generate(), device, down_tx);
        let beat = || laptop_down::Message::Heartbeat(Default::default());
        links.tell_laptop(device, beat());
        assert!(!link.ended.is_cancelled());
        links.tell_laptop(device, beat());
        assert!(link.ended.is_cancelled());
    }
}
