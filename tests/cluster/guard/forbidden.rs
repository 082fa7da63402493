//! What the agent must not do, each with the words that deny it.

use crate::objects::{self, slice};

const FIELDS: &str = "may not change any field of a Service but its selector";
const KEYS: &str = "may change no selector key but";
const NOT_YOURS: &str = "only EndpointSlices that are managed by fairlead.dev";
const OTHERS: &str = "may set only values of its own installation";
const OF_OTHERS: &str = "only EndpointSlices of its own installation";
const OWNED: &str = "must be owned by its Service and carry no finalizer";
const WHERE_TO: &str = "endpoints must be agents on ports 20000-29999";

/// One write that the guard denies.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) what: String,
    pub(crate) words: Vec<String>,
    /// The object that kubectl is given to create.
    pub(crate) object: Option<String>,
    pub(crate) because: &'static str,
}

/// Returns every forbidden write.
pub(crate) fn all() -> Vec<Attempt> {
    [service_fields(), service_metadata(), whole_services(), closed_namespaces(), slices()]
        .into_iter()
        .flatten()
        .collect()
}

fn service_fields() -> Vec<Attempt> {
    let selector =
        r#"{"op":"add","path":"/spec/selector/fairlead.dev~1intercept","value":"4fe867a5e26a.1"}"#;
    vec![
        cart(r#"[{"op":"replace","path":"/spec/ports/0/port","value":81}]"#, FIELDS),
        cart(r#"[{"op":"replace","path":"/spec/ports/0/targetPort","value":9}]"#, FIELDS),
        cart(r#"[{"op":"replace","path":"/spec/type","value":"NodePort"}]"#, FIELDS),
        cart(r#"[{"op":"add","path":"/spec/externalIPs","value":["192.0.2.1"]}]"#, FIELDS),
        cart(r#"[{"op":"add","path":"/spec/sessionAffinity","value":"ClientIP"}]"#, FIELDS),
        cart(r#"[{"op":"add","path":"/spec/internalTrafficPolicy","value":"Local"}]"#, FIELDS),
        cart(r#"[{"op":"add","path":"/spec/trafficDistribution","value":"PreferClose"}]"#, FIELDS),
        cart(r#"[{"op":"add","path":"/spec/publishNotReadyAddresses","value":true}]"#, FIELDS),
        cart(r#"[{"op":"add","path":"/spec/selector/role","value":"db"}]"#, KEYS),
        cart(r#"[{"op":"replace","path":"/spec/selector/app","value":"payment"}]"#, KEYS),
        cart(&format!(r#"[{{"op":"remove","path":"/spec/selector/app"}},{selector}]"#), KEYS),
        cart(r#"[{"op":"remove","path":"/spec/selector"}]"#, KEYS),
        cart(objects::FOREIGN_KEY, OTHERS),
        patch("taken", "service/api", objects::KEY_ON, OTHERS),
        patch("taken", "service/api", objects::FOREIGN_KEY_OFF, OTHERS),
        patch(
            "default",
            "service/kubernetes",
            r#"[{"op":"add","path":"/spec/selector","value":{"fairlead.dev/intercept":"x"}}]"#,
            "only where the Service selects pods by another one",
        ),
    ]
}

fn service_metadata() -> Vec<Attempt> {
    let owners = "may not change finalizers or owners";
    vec![
        cart(
            r#"[{"op":"add","path":"/metadata/labels","value":{"team":"x"}}]"#,
            "may change no label but fairlead.dev/intercepted",
        ),
        cart(
            r#"[{"op":"add","path":"/metadata/annotations/other","value":"x"}]"#,
            "may change no annotation but fairlead.dev/info",
        ),
        cart(
            r#"[{"op":"remove","path":"/metadata/annotations"}]"#,
            "may change no annotation but fairlead.dev/info",
        ),
        cart(
            r#"[{"op":"add","path":"/metadata/finalizers","value":["example.test/stay"]}]"#,
            owners,
        ),
        cart(
            r#"[{"op":"add","path":"/metadata/ownerReferences","value":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"y"}]}]"#,
            owners,
        ),
    ]
}

fn whole_services() -> Vec<Attempt> {
    let patch_only = "may patch Services, not create or delete them";
    let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"mine","namespace":"shop"},"spec":{"ports":[{"port":80}]}}"#;
    vec![
        words("a Service is deleted", &["-n", "shop", "delete", "service", "cart"], patch_only),
        create("a Service is created", service.to_owned(), patch_only),
    ]
}

fn closed_namespaces() -> Vec<Attempt> {
    let key = r#"[{"op":"add","path":"/spec/selector/fairlead.dev~1intercept","value":"4fe867a5e26a.1"}]"#;
    let label = "closed to the cluster agent by its label";
    vec![
        patch(
            "kube-system",
            "service/kube-dns",
            key,
            "may not touch Services of system namespaces",
        ),
        patch("closed", "service/api", key, label),
        patch(
            "closed",
            "service/api",
            r#"[{"op":"add","path":"/metadata/labels","value":{"fairlead.dev/intercepted":"4fe867a5e26a.1"}}]"#,
            label,
        ),
        patch(
            "closed",
            "service/api",
            r#"[{"op":"add","path":"/metadata/annotations","value":{"fairlead.dev/info":"{}"}}]"#,
            label,
        ),
        create("a slice in a closed namespace", slice("closed", "api", "u"), label),
        create(
            "a slice in kube-system",
            slice("kube-system", "kube-dns", "u"),
            "may not write EndpointSlices in system namespaces",
        ),
        create(
            "a slice beside the agent",
            slice("fairlead-system", "x", "u"),
            "may not write EndpointSlices in system namespaces",
        ),
    ]
}

fn slices() -> Vec<Attempt> {
    let ours = slice("shop", "cart", "u");
    let with = |from: &str, to: &str| {
        assert!(ours.contains(from), "{from} is not in the slice");
        ours.replace(from, to)
    };
    let managed = r#""endpointslice.kubernetes.io/managed-by": "fairlead.dev""#;
    vec![
        create(
            "a slice in the controller's name",
            with(
                managed,
                r#""endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io""#,
            ),
            NOT_YOURS,
        ),
        words(
            "the cluster's own slices are deleted",
            &["-n", "default", "delete", "endpointslice", "kubernetes"],
            NOT_YOURS,
        ),
        patch(
            "default",
            "endpointslice/kubernetes",
            r#"[{"op":"add","path":"/metadata/labels/endpointslice.kubernetes.io~1managed-by","value":"fairlead.dev"}]"#,
            NOT_YOURS,
        ),
        create("a slice of another installation", with(objects::OWNER, "ffffffffffff"), OF_OTHERS),
        create("a slice without an owner", without_owner(&ours), OWNED),
        create(
            "a slice of another Service",
            with(r#""name": "cart", "uid""#, r#""name": "payment", "uid""#),
            OWNED,
        ),
        create(
            "a slice that blocks",
            with(r#""uid": "u"}"#, r#""uid": "u", "blockOwnerDeletion": true}"#),
            OWNED,
        ),
        create(
            "a slice with a finalizer",
            with(r#""labels""#, r#""finalizers": ["example.test/stay"], "labels""#),
            OWNED,
        ),
        create("a port below the range", with("20000", "19999"), WHERE_TO),
        create("a port above the range", with("20000", "30000"), WHERE_TO),
        create("a pod of a third namespace", with("fairlead-system", "payments"), WHERE_TO),
        create(
            "an endpoint that names no pod",
            with(r#""kind": "Pod""#, r#""kind": "Node""#),
            WHERE_TO,
        ),
        create(
            "an address outside the pod network",
            with("10.244.1.7", "172.30.0.10"),
            "must be in the pod network",
        ),
    ]
}

fn without_owner(slice: &str) -> String {
    let mut slice: serde_json::Value = serde_json::from_str(slice).expect("JSON");
    slice["metadata"]["ownerReferences"].take();
    slice.to_string()
}

fn cart(json_patch: &str, because: &'static str) -> Attempt {
    patch("shop", "service/cart", json_patch, because)
}

fn patch(namespace: &str, what: &str, json_patch: &str, because: &'static str) -> Attempt {
    let line = ["-n", namespace, "patch", what, "--type=json", "-p", json_patch];
    words(&format!("{what}: {json_patch}"), &line, because)
}

fn create(what: &str, object: String, because: &'static str) -> Attempt {
    Attempt { object: Some(object), ..words(what, &["create"], because) }
}

fn words(what: &str, words: &[&str], because: &'static str) -> Attempt {
    let words = words.iter().map(|&word| word.to_owned()).collect();
    Attempt { what: what.to_owned(), words, object: None, because }
}
