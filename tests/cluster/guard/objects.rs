//! The objects and patches that the guard is tried with.

/// By which an agent that is installed as `fairlead` in `fairlead-system` knows what is its own.
pub(crate) const OWNER: &str = "4fe867a5e26a";

/// What the agent puts on, in one patch: key, label, annotation.
pub(crate) const KEY_ON: &str = r#"[
    {"op": "add", "path": "/spec/selector/fairlead.dev~1intercept", "value": "4fe867a5e26a.1"},
    {"op": "add", "path": "/metadata/labels", "value": {"fairlead.dev/intercepted": "4fe867a5e26a.1"}},
    {"op": "add", "path": "/metadata/annotations/fairlead.dev~1info", "value": "{}"}
]"#;

/// And takes off again: the key first, with who owned the selector written down.
pub(crate) const KEY_OFF: &str = r#"[
    {"op": "remove", "path": "/spec/selector/fairlead.dev~1intercept"},
    {"op": "add", "path": "/metadata/annotations/fairlead.dev~1info", "value": "{\"selectorOwners\": []}"}
]"#;

/// Then the marks, while the owners get back what they owned.
pub(crate) const MARKS_OFF: &str = r#"[
    {"op": "remove", "path": "/metadata/labels/fairlead.dev~1intercepted"},
    {"op": "remove", "path": "/metadata/annotations/fairlead.dev~1info"},
    {"op": "add", "path": "/metadata/managedFields", "value": [{
        "manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "v1",
        "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:selector": {}}}}]}
]"#;

/// What the second patch after the key is: only `managedFields`.
pub(crate) const WRITE_BACK: &str = r#"[
    {"op": "add", "path": "/metadata/managedFields", "value": [{
        "manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "v1",
        "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:selector": {}}}}]}
]"#;

/// The key of another session.
pub(crate) const OTHER_KEY: &str = r#"[{"op": "add", "path": "/spec/selector/fairlead.dev~1intercept", "value": "4fe867a5e26a.2"}]"#;

/// The annotation rewritten while the key stays.
pub(crate) const OTHER_INFO: &str =
    r#"[{"op": "add", "path": "/metadata/annotations/fairlead.dev~1info", "value": "other"}]"#;

/// The marks taken off while the key stays: nobody who looks for them would find the Service.
pub(crate) const LABEL_OFF: &str =
    r#"[{"op": "remove", "path": "/metadata/labels/fairlead.dev~1intercepted"}]"#;
pub(crate) const INFO_OFF: &str =
    r#"[{"op": "remove", "path": "/metadata/annotations/fairlead.dev~1info"}]"#;

/// The slice turned to the Service's own pods, as the janitor does it when no agent lives.
pub(crate) const TO_THE_PODS: &str = r#"[
    {"op": "replace", "path": "/ports", "value": [{"name": "http", "port": 8080, "protocol": "TCP"}]},
    {"op": "replace", "path": "/endpoints", "value": [{
        "addresses": ["10.244.1.9"], "targetRef": {"kind": "Pod", "namespace": "shop", "name": "cart-1"}}]}
]"#;

/// A key as another agent, or anybody else, may have set it.
pub(crate) const FOREIGN_KEY: &str = r#"[{"op": "add", "path": "/spec/selector/fairlead.dev~1intercept", "value": "ffffffffffff.1"}]"#;

/// And what takes it off.
pub(crate) const FOREIGN_KEY_OFF: &str =
    r#"[{"op": "remove", "path": "/spec/selector/fairlead.dev~1intercept"}]"#;

/// All of the owner's own keys taken away while ours is on.
pub(crate) const OWNERS_KEYS_OFF: &str = r#"[{"op": "remove", "path": "/spec/selector/app"}]"#;

/// A namespace whose owners want no cluster agent, with a Service and a careless pod in it; and one whose Service bears
/// another agent's key.
pub(crate) const CLOSED: &str = r#"
{apiVersion: v1, kind: Namespace, metadata: {name: closed, labels: {fairlead.dev/deny: "true"}}}
---
{apiVersion: v1, kind: Service, metadata: {name: api, namespace: closed}, spec: {selector: {app: api}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: taken}}
---
{apiVersion: v1, kind: Service, metadata: {name: api, namespace: taken}, spec: {selector: {app: api, fairlead.dev/intercept: ffffffffffff.1}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: careless, namespace: closed}, spec: {containers: [{name: any, image: docker.io/local/none:1}]}}
"#;

pub(crate) const EVENT: &str = r#"
apiVersion: v1
kind: Event
metadata: {generateName: fairlead-, namespace: shop}
involvedObject: {apiVersion: v1, kind: Service, namespace: shop, name: cart}
reason: InterceptStarted
message: by ada@example.test
type: Normal
source: {component: fairlead-agent}
"#;

/// Returns a slice as the agent writes it.
pub(crate) fn slice(namespace: &str, service: &str, uid: &str) -> String {
    format!(
        r#"{{
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {{
        "name": "fl-guard-v4",
        "namespace": "{namespace}",
        "labels": {{
            "kubernetes.io/service-name": "{service}",
            "endpointslice.kubernetes.io/managed-by": "fairlead.dev",
            "fairlead.dev/owner": "{OWNER}"
        }},
        "ownerReferences": [{{"apiVersion": "v1", "kind": "Service", "name": "{service}", "uid": "{uid}"}}]
    }},
    "addressType": "IPv4",
    "endpoints": [{{
        "addresses": ["10.244.1.7"],
        "targetRef": {{"kind": "Pod", "namespace": "fairlead-system", "name": "fairlead-agent-1"}}
    }}],
    "ports": [{{"name": "http", "port": 20000, "protocol": "TCP"}}]
}}"#
    )
}
