//! What the fairlead command, the daemon and the supervisor say to each other over Unix sockets.
//!
//! Types and codec only. Every conversation is calls and replies: length-prefixed JSON, bounded, with the version
//! of this protocol in each call. Who calls is told by the kernel (`SO_PEERCRED`), never by the caller.

mod bounded_log;
pub mod daemon;
mod descriptor;
pub mod descriptors;
mod frame;
mod peer;
mod run_folder;
pub mod sockets;
pub mod supervisor;
pub mod trace;

pub use bounded_log::{BoundedLog, LOG_MAX_BYTES};
pub use descriptor::{receive_descriptor, send_descriptor};
pub use frame::{
    AnyCall, Call, FRAME_MAX_BYTES, FrameError, PROTOCOL, ask, ask_blocking, read, read_blocking,
    write, write_blocking,
};
pub use peer::{Peer, peer_of};
pub use run_folder::{RunFolder, files_lock, lone_socket};

use serde::{Deserialize, Serialize};

/// What went wrong, in the kinds that exit codes know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    Input,
    SignedOut,
    Denied,
    HubUnreachable,
    HubUntrusted,
    /// The hub answered, and not as it should.
    HubFaulty,
    NotFound,
    Conflict,
    /// Names, addresses or redirects of this laptop.
    LaptopNetwork,
    Supervisor,
    /// The parts are of different versions.
    Version,
    Cleanup,
    /// It stands, and no byte has passed yet.
    Unproven,
    Internal,
}

/// A refusal as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says that caller and callee do not speak the same version.
    #[must_use]
    pub fn version(theirs: u32) -> Self {
        Self::new(
            FailureKind::Version,
            format!(
                "the parts of Fairlead on this machine differ: version {theirs} meets {PROTOCOL}"
            ),
        )
        .hint("restart them: fairlead stop, then fairlead start")
    }
}
