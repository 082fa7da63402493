//! What the hub's REST API says, as far as a laptop reads it. Unknown members are passed over.

use fairlead_model::{
    ExternalHost, InterceptPort, Namespace, Patterns, PodName, Port, ServiceName, ServiceRef,
    SessionId, TeamspaceId,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Me {
    pub user: UserView,
    pub organization: Organization,
    pub roles: Vec<String>,
    pub groups: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserView {
    pub email: String,
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Organization {
    pub slug: String,
    pub name: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TeamspaceView {
    pub id: TeamspaceId,
    pub name: String,
    pub status: String,
    #[serde(default)]
    pub key_thumbprint: Option<String>,
    #[serde(default)]
    pub services: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceView {
    pub namespace: Namespace,
    pub name: ServiceName,
    #[serde(rename = "type")]
    pub kind: String,
    pub ports: Vec<ServicePortView>,
    #[serde(default)]
    pub workload: Option<String>,
    #[serde(default)]
    pub ready_endpoints: u64,
    pub may: May,
    #[serde(default)]
    pub intercept_refusal: Option<String>,
    #[serde(default)]
    pub intercepts: Vec<InterceptView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServicePortView {
    #[serde(default)]
    pub name: Option<String>,
    pub port: Port,
    #[serde(default)]
    pub protocol: Option<String>,
}

impl ServiceView {
    #[must_use]
    pub fn service(&self) -> ServiceRef {
        ServiceRef::new(self.namespace.clone(), self.name.clone())
    }
}

impl ServicePortView {
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
    }
}

/// What the caller may do with a service.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct May {
    pub consume: bool,
    pub intercept: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InterceptView {
    pub email: String,
    pub phase: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceAccountView {
    pub id: String,
    pub name: String,
    pub roles: Vec<String>,
    /// Where the roles count; `None`: in every teamspace.
    pub teamspaces: Option<Vec<String>>,
    pub tokens: Vec<ApiTokenView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApiTokenView {
    pub id: String,
    pub name: String,
    pub expires_at: String,
    #[serde(default)]
    pub last_used_at: Option<String>,
}

/// A token as it is shown once.
#[derive(Clone, Deserialize)]
pub struct ApiTokenMade {
    pub token: String,
    pub expires_at: String,
}

impl std::fmt::Debug for ApiTokenMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiTokenMade").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// What the hub answers when a session begins.
#[derive(Debug, Clone, Deserialize)]
pub struct SessionBegun {
    pub session: SessionView,
    pub grant: String,
    #[serde(default)]
    pub services: Vec<GrantedService>,
    #[serde(default)]
    pub hosts: Vec<ExternalHost>,
    #[serde(default)]
    pub refused: Vec<RefusedService>,
    #[serde(default)]
    pub unmatched: Vec<UnmatchedPattern>,
}

/// A word of a consume that brought nothing, and why.
#[derive(Debug, Clone, Deserialize)]
pub struct UnmatchedPattern {
    pub pattern: String,
    pub reason: String,
    #[serde(default)]
    pub similar: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct SessionView {
    pub id: SessionId,
    /// Consumes: what they are about.
    #[serde(default)]
    pub patterns: Option<Patterns>,
    #[serde(default)]
    pub phase: Option<String>,
    #[serde(default)]
    pub detail: Option<String>,
    #[serde(default)]
    pub ended_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedService {
    pub namespace: Namespace,
    pub name: ServiceName,
    /// Of TCP.
    pub ports: Vec<Port>,
    #[serde(default)]
    pub udp_ports: Vec<Port>,
    #[serde(default)]
    pub pods: Vec<PodName>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct RefusedService {
    pub service: String,
    pub reason: String,
    #[serde(default)]
    pub policies: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct BeginConsume<'a> {
    pub(crate) kind: &'static str,
    pub(crate) teamspace_id: TeamspaceId,
    pub(crate) device_id: fairlead_model::DeviceId,
    pub(crate) patterns: &'a Patterns,
}

#[derive(Serialize)]
pub(crate) struct BeginIntercept<'a> {
    pub(crate) kind: &'static str,
    pub(crate) teamspace_id: TeamspaceId,
    pub(crate) device_id: fairlead_model::DeviceId,
    pub(crate) service: String,
    pub(crate) ports: &'a [InterceptPort],
}
