//! What this agent tells the hub about sessions: the phase a person should see, and first uses for the audit.

use std::collections::BTreeMap;

use fairlead_model::{Callee, Phase, Protocol, ServicePort, SessionId};
use fairlead_wire::link::v1;
use tokio::sync::mpsc;
use tracing::debug;

/// Phase and words for each session the writer knows about. Whole, so that a new link says it again.
pub(crate) type Observed = BTreeMap<SessionId, (Phase, String)>;

/// First uses wait here for the link. When it is full the newest is dropped: a hub that is away for so long that
/// a thousand first uses pile up has lost more than audit facts.
const FIRST_USES_QUEUE: usize = 1024;

#[derive(Clone, Debug)]
pub(crate) struct FirstUse {
    pub(crate) session: SessionId,
    /// Nobody uses one pod: that counts as its Service.
    pub(crate) callee: Callee,
    pub(crate) port: ServicePort,
}

#[derive(Clone, Debug)]
pub(crate) struct FirstUses(mpsc::Sender<FirstUse>);

impl FirstUses {
    pub(crate) fn queue() -> (Self, mpsc::Receiver<FirstUse>) {
        let (first_use_tx, first_use_rx) = mpsc::channel(FIRST_USES_QUEUE);
        (Self(first_use_tx), first_use_rx)
    }

    pub(crate) fn tell(&self, first_use: FirstUse) {
        if self.0.try_send(first_use).is_err() {
            debug!("A first use could not be queued for the hub");
        }
    }
}

pub(crate) fn first_use_to_wire(first_use: &FirstUse) -> v1::FirstUse {
    v1::FirstUse {
        session_id: first_use.session.to_string(),
        service: first_use.callee.service().map(Into::into),
        port: first_use.port.port.get().into(),
        protocol: match first_use.port.protocol {
            Protocol::Tcp => String::new(),
            Protocol::Udp => "UDP".to_owned(),
        },
        host: match &first_use.callee {
            Callee::InCluster { .. } => String::new(),
            Callee::Outside { host } => host.to_string(),
        },
    }
}

pub(crate) fn observed_to_wire(
    session: SessionId,
    phase: Phase,
    detail: &str,
    replica: &str,
) -> v1::SessionObserved {
    v1::SessionObserved {
        session_id: session.to_string(),
        phase: v1::Phase::from(phase).into(),
        detail: detail.to_owned(),
        replica: replica.to_owned(),
    }
}
