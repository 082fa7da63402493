//! What the fairlead command asks the daemon of its user.

use std::{net::Ipv4Addr, time::Duration};

use fairlead_model::{
    Callee, CarrierPath, InterceptPort, Patterns, Phase, Port, ServicePort, ServiceRef, SessionId,
    SessionKind, TeamspaceId,
};
use serde::{Deserialize, Serialize};

use crate::{Failure, supervisor::SplitDns, trace};

/// The longest wait for a proof.
pub const PATIENCE_MAX: Duration = Duration::from_secs(45);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    Status,
    /// The status as soon as nothing is pending any more, or when this much time has passed; at most `PATIENCE_MAX`.
    AwaitProven {
        patience_ms: u64,
    },
    /// Reach these services, besides those reached already.
    Consume {
        hub: String,
        teamspace: Teamspace,
        patterns: Patterns,
        /// Where connections cannot be redirected, a port that is taken may be another one on this laptop.
        #[serde(default)]
        may_remap: bool,
    },
    /// Reach nothing, or nothing of this teamspace.
    ConsumeClear {
        #[serde(default)]
        teamspace: Option<TeamspaceId>,
    },
    /// Another teamspace was chosen: it has the cluster's names from now on.
    TeamspaceChosen,
    /// Reach these services for the process that asks, at listeners of the daemon's own: no name and no redirect of the
    /// machine. It ends with that process.
    Run {
        hub: String,
        teamspace: Teamspace,
        patterns: Patterns,
        /// Take another port where a service's own cannot be had.
        remap: bool,
    },
    Intercept {
        hub: String,
        teamspace: Teamspace,
        service: ServiceRef,
        ports: Vec<InterceptPort>,
    },
    /// Wait until a session is proven or over, or this much time has passed; at most `PATIENCE_MAX`.
    AwaitProof {
        session: SessionId,
        patience_ms: u64,
    },
    /// Follow the way of one connection, hop by hop.
    Trace(trace::Wish),
    Leave {
        session: SessionId,
    },
    /// Nobody waits any more to hear how what a command began goes: take it back.
    GiveUp {
        session: SessionId,
    },
    LeaveIntercepts,
    LeaveAll,
    /// Go on when no program of `Run` is left: somebody wants the daemon for itself.
    Stay,
    /// The account changed: somebody signed in or out.
    AccountChanged,
    /// End every session, give everything back, and exit.
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Teamspace {
    pub id: TeamspaceId,
    pub name: String,
}

pub type Reply = Result<Answer, Failure>;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Status(Status),
    Begun {
        session: Session,
        refused: Vec<Refused>,
        warnings: Vec<String>,
        /// What is good to know and needs no action.
        #[serde(default)]
        notes: Vec<String>,
    },
    /// The services of a `Run`, in the order of their names.
    Running {
        session: Session,
        refused: Vec<Refused>,
        warnings: Vec<String>,
        names: Vec<RunName>,
    },
    /// The session as it is; `None` when somebody left it meanwhile.
    Awaited {
        session: Option<Session>,
    },
    Left {
        sessions: Vec<SessionId>,
    },
    Traced {
        hops: Vec<trace::Hop>,
    },
    Done,
}

/// Where the names of a service lead for one program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunName {
    pub callee: Callee,
    pub address: Ipv4Addr,
    /// Whether the bare name leads there, too.
    pub is_home: bool,
    /// The service's ports that are elsewhere, and where.
    pub moved: Vec<Moved>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    pub from: ServicePort,
    pub to: Port,
}

/// A service that matched and was not allowed, with the reason as the hub gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub service: String,
    pub reason: String,
    #[serde(default)]
    pub policies: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub hub: Link,
    pub laptop: Laptop,
    /// How connections reach the daemon, while any service is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// Why DNS does not answer for what is consumed; `None` when it does, or nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_refusal: Option<String>,
    /// Who asks it by itself; `None` when it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_dns: Option<SplitDns>,
    pub sessions: Vec<Session>,
}

impl Status {
    /// Lists in words what has yet to prove itself: the link, names and redirects, each session that is not over.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        let link = match &self.hub {
            Link::Connected { .. } => None,
            Link::SignedOut => Some("nobody is signed in to a hub".to_owned()),
            Link::Connecting { hub, reason } => Some(format!("{hub} is not connected ({reason})")),
        };
        let laptop = match &self.laptop {
            Laptop::Unchanged | Laptop::Proven => None,
            Laptop::Broken { reason } => Some(format!("names and redirects are broken: {reason}")),
        };
        let sessions = self.sessions.iter().filter_map(Session::pending);
        link.into_iter().chain(laptop).chain(sessions).collect()
    }
}

/// The link to the hub. `connected` only while the hub has said something within the last heartbeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Link {
    SignedOut,
    Connecting {
        hub: String,
        reason: String,
    },
    Connected {
        hub: String,
        replica: String,
        /// Where something on the way opens TLS, a link does not come through by itself.
        #[serde(default)]
        is_in_websocket: bool,
    },
}

/// How connections to services reach the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The kernel redirects them, by nftables.
    Redirects,
    /// One listener for each port of each service.
    Listeners,
}

/// Names and redirects of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Laptop {
    /// Nothing is consumed, so nothing is changed.
    Unchanged,
    /// A connection by name and redirect has just arrived at the daemon.
    Proven,
    Broken {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub id: SessionId,
    pub kind: SessionKind,
    pub teamspace: Teamspace,
    pub phase: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why it was refused, where a person must do something about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What was asked for: patterns of a consume, the service of an intercept.
    pub wanted: Vec<String>,
    /// Consume: what is reached, and where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Reached>,
    /// Consume: its services have the cluster's names.
    #[serde(default)]
    pub is_home: bool,
    /// Consume: only one program has its names.
    #[serde(default)]
    pub of_program: bool,
    /// Intercept: which port goes where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<InterceptPort>,
    pub carriers: usize,
    /// Which way each of its carriers takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<CarrierPath>,
}

impl Session {
    /// Says what it waits for; nothing when it is proven or over.
    fn pending(&self) -> Option<String> {
        match self.phase {
            Phase::Active | Phase::Refused | Phase::Ended => None,
            Phase::Preparing | Phase::Away | Phase::Contested => {
                let detail = self.detail.as_ref().map(|detail| format!(": {detail}"));
                Some(format!(
                    "the {} of {} is {}{}",
                    self.kind,
                    self.wanted.join(" "),
                    self.phase,
                    detail.unwrap_or_default()
                ))
            }
        }
    }
}

/// A port of a service that has another number on this laptop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remapped {
    pub port: ServicePort,
    pub laptop_port: Port,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    #[serde(flatten)]
    pub callee: Callee,
    /// As it is called on this laptop.
    pub name: String,
    pub address: Ipv4Addr,
    pub ports: Vec<ServicePort>,
    /// Which of the ports are others on this laptop, because a program of its own has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remapped: Vec<Remapped>,
    /// Why the last connection to it did not come about; gone when one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(phase: Phase) -> Session {
        Session {
            id: SessionId::generate(),
            kind: SessionKind::Consume,
            teamspace: Teamspace { id: TeamspaceId::generate(), name: "staging".to_owned() },
            phase,
            detail: Some("the carrier was lost".to_owned()),
            failure: None,
            wanted: vec!["shop/*".to_owned()],
            services: Vec::new(),
            is_home: true,
            of_program: false,
            ports: Vec::new(),
            carriers: 0,
            paths: Vec::new(),
        }
    }

    #[test]
    fn what_is_proven_or_over_is_not_pending() {
        let connected = Link::Connected {
            hub: "https://hub".to_owned(),
            replica: "0".to_owned(),
            is_in_websocket: false,
        };
        let mut status = Status {
            version: String::new(),
            pid: 1,
            hub: connected,
            dns_refusal: None,
            split_dns: None,
            laptop: Laptop::Proven,
            way: None,
            sessions: [Phase::Active, Phase::Ended, Phase::Refused].map(session).into(),
        };
        assert_eq!(status.pending(), Vec::<String>::new());
        status.sessions.push(session(Phase::Preparing));
        assert_eq!(status.pending(), ["the consume of shop/* is preparing: the carrier was lost"]);
        status.hub = Link::SignedOut;
        status.laptop = Laptop::Broken { reason: "no canary".to_owned() };
        assert_eq!(status.pending().len(), 3);
    }
}
