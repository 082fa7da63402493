//! The nouns every part of Fairlead shares, valid by construction.
//!
//! Whoever holds one of these values holds a checked value: there is no other way to get one than its `parse`
//! or `new`. No I/O lives here, no SQL, no protocol encoding beyond plain strings.

mod host;
mod id;
mod path;
mod pattern;
mod proxy;
mod secret;
mod service;
mod session;
mod similar;
mod thumbprint;
pub mod timers;

pub use host::{ExternalHost, HostName, InvalidHost};
pub use id::{
    ApiTokenId, CarrierId, DeviceId, GrantId, GroupId, InvalidId, JoinTokenId, OrgId, SessionId,
    TeamspaceId, UserId,
};
pub use path::{CarrierPath, Transport};
pub use pattern::{InvalidPattern, Pattern, Patterns};
pub use proxy::{
    InvalidProxy, InvalidProxySettings, NoProxy, ProxyKind, ProxySettings, ProxyUrl, host_and_port,
};
pub use secret::{InvalidToken, Token, TokenKind};
pub use service::{
    Callee, InvalidName, InvalidPort, Namespace, PodName, Port, Protocol, ServiceName, ServicePort,
    ServiceRef, TeamspaceLabel,
};
pub use session::{InterceptPort, InvalidInterceptPort, Phase, SessionKind};
pub use similar::similar;
pub use thumbprint::{InvalidThumbprint, Thumbprint};
