//! A laptop and a replica that trust each other, for tests of carriers.

use std::time::{Duration, SystemTime};

use fairlead_model::{DeviceId, OrgId, Thumbprint, UserId};
use fairlead_tunnel::{
    Acceptor, Opener, PeerExpectation, TlsIdentity,
    carrier::{CarrierEnd, Driver},
};
use fairlead_wire::{
    authority::{DeviceRequest, OrganizationAuthority, TeamspaceAuthority},
    identity::DeviceName,
    key::Key,
};
use tokio::task::JoinHandle;

pub(crate) struct Pair {
    pub(crate) laptop: TlsIdentity,
    pub(crate) agent: TlsIdentity,
    /// What each end expects of the other.
    pub(crate) sees_laptop: PeerExpectation,
    pub(crate) sees_agent: PeerExpectation,
    pub(crate) device: Thumbprint,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let now = SystemTime::now();
        let organization = OrgId::generate();
        let authority =
            OrganizationAuthority::create(organization, key(), now).expect("an organization");
        let laptop_key = key();
        let request = DeviceRequest::make_pem(&laptop_key).expect("a request");
        let request = DeviceRequest::parse_pem(&request).expect("readable");
        let name =
            DeviceName { organization, user: UserId::generate(), device: DeviceId::generate() };
        let device = authority.sign_device(&request, name, now).expect("signed").certificate;
        let teamspace = TeamspaceAuthority::create(key(), now).expect("a teamspace");
        let replica_key = key();
        let replica = teamspace.sign_replica(&replica_key, "agent-1", now).expect("signed");
        let chain = vec![replica, teamspace.certificate().clone()];
        Self {
            laptop: TlsIdentity::new(vec![device], &laptop_key).expect("an identity"),
            agent: TlsIdentity::new(chain, &replica_key).expect("an identity"),
            sees_laptop: PeerExpectation::device(
                authority.certificate().clone(),
                laptop_key.thumbprint(),
            ),
            sees_agent: PeerExpectation::replica(
                teamspace.certificate().clone(),
                &teamspace.thumbprint(),
            )
            .expect("its own key"),
            device: laptop_key.thumbprint(),
        }
    }
}

/// The two ends of a carrier in memory, and the tasks that drive them.
pub(crate) struct Met {
    pub(crate) acceptor: Acceptor,
    pub(crate) accepting: JoinHandle<CarrierEnd>,
    pub(crate) opener: Opener,
    /// To be polled by whoever uses the opener.
    pub(crate) opening: Driver,
}

impl Pair {
    /// A carrier on which the laptop opens streams.
    pub(crate) async fn consumes(&self) -> Met {
        meet([&self.agent, &self.laptop], [&self.sees_laptop, &self.sees_agent]).await
    }

    /// A carrier on which the agent opens streams.
    pub(crate) async fn intercepts(&self) -> Met {
        meet([&self.laptop, &self.agent], [&self.sees_agent, &self.sees_laptop]).await
    }
}

/// Whoever takes streams comes first.
async fn meet(identities: [&TlsIdentity; 2], expected: [&PeerExpectation; 2]) -> Met {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (identity, expects) = (identities[0].clone(), expected[0].clone());
    // The opener's handshake ends with an answer, for which the other end has to be driven.
    let accepted = tokio::spawn(async move {
        let accepted = Acceptor::handshake(far, &identity, &expects).await;
        let (acceptor, driver) = accepted.expect("the opener proves itself");
        (acceptor, tokio::spawn(driver))
    });
    let opened = Opener::handshake(near, identities[1], expected[1]).await;
    let (opener, opening) = opened.expect("the acceptor proves itself");
    let (acceptor, accepting) = accepted.await.expect("it does not panic");
    Met { acceptor, accepting, opener, opening }
}

fn key() -> Key {
    Key::generate().expect("a key")
}

/// Waits until something has become so.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("it becomes so");
}
