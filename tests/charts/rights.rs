//! The chart's rights against the agent's code: nothing the code asks for is missing, nothing more is given.
//!
//! The code is read as text. That is crude but sees what matters: the kinds a file names in `Api<…>` and the calls it
//! makes. Files of `apply/` hold one kind each, and the lint on writing methods keeps writes out of the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use crate::{
    objects::{Objects, list, text},
    render::root,
};

/// Resource → verbs.
type Rights = BTreeMap<String, BTreeSet<String>>;

/// What a call asks the API server for.
const READS: [(&str, &[&str]); 5] = [
    ("watcher(", &["list", "watch"]),
    (".list(", &["list"]),
    ("api.get(", &["get"]),
    ("api.get_opt(", &["get"]),
    (").get(", &["get"]),
];
const WRITES: [(&str, &[&str]); 4] = [
    (".create(", &["create"]),
    (".patch(", &["patch"]),
    (".replace(", &["update"]),
    (".delete(", &["delete"]),
];

/// The Rust type → the resource's name in a role. A kind the code names and this list does not fails the test.
const KINDS: [(&str, &str); 8] = [
    ("Service", "services"),
    ("EndpointSlice", "endpointslices"),
    ("Pod", "pods"),
    ("Event", "events"),
    ("Lease", "leases"),
    ("Secret", "secrets"),
    ("Namespace", "namespaces"),
    ("ReplicaSet", "replicasets"),
];

#[test]
fn the_agent_is_given_what_its_code_asks_for() {
    let (needed, granted) = (needed(), granted());
    for (resource, verbs) in &needed {
        let granted = granted.get(resource).cloned().unwrap_or_default();
        let missing: Vec<_> = verbs.difference(&granted).collect();
        assert!(
            missing.is_empty(),
            "the code asks to {missing:?} {resource}; the chart does not allow it"
        );
    }
}

#[test]
fn the_agent_is_given_no_right_to_write_that_its_code_does_not_use() {
    let needed = needed();
    for (resource, verbs) in granted() {
        let needed = needed.get(&resource).cloned().unwrap_or_default();
        let idle: Vec<_> = verbs.difference(&needed).filter(|verb| !is_read(verb)).collect();
        assert!(idle.is_empty(), "the chart allows to {idle:?} {resource}; no code does");
    }
}

#[test]
fn rights_on_application_objects_end_at_the_chosen_namespaces() {
    let objects = Objects::of_agent(&["--set", "namespaces={shop,pay}"]);
    for role in objects.of_kind("ClusterRole") {
        for rule in list(&role["rules"]) {
            assert_eq!(rule["resources"], serde_json::json!(["namespaces"]), "{rule}");
        }
    }
    let homes: BTreeSet<_> =
        objects.of_kind("Role").map(|role| text(&role["metadata"]["namespace"])).collect();
    assert_eq!(homes, ["fairlead-system", "pay", "shop"].into());
    for role in objects.of_kind("Role") {
        let (name, namespace) = (text(&role["metadata"]["name"]), &role["metadata"]["namespace"]);
        let bound = objects.of_kind("RoleBinding").any(|binding| {
            binding["metadata"]["namespace"] == *namespace && binding["roleRef"]["name"] == name
        });
        assert!(bound, "Role {name} in {namespace} is bound to nobody");
    }
}

#[test]
fn of_all_secrets_only_the_identity_can_be_read() {
    for object in Objects::of_agent(&[]).all() {
        for rule in list(&object["rules"]) {
            if list(&rule["resources"]).iter().any(|resource| resource == "secrets") {
                assert_eq!(rule["resourceNames"], serde_json::json!(["fairlead-agent-identity"]));
            }
        }
    }
}

#[test]
fn the_guard_speaks_of_the_names_the_code_writes() {
    let names = fs::read_to_string(root("agent-cluster/src/names.rs")).expect("readable");
    let constant = |name: &str| -> String {
        let (_, after) = names.split_once(&format!("const {name}: &str = \"")).expect("defined");
        after.split('"').next().expect("quoted").to_owned()
    };
    let objects = Objects::of_agent(&[]);
    let guards: String =
        objects.of_kind("ValidatingAdmissionPolicy").map(Value::to_string).collect();
    for name in ["SENTINEL", "INTERCEPTED", "INFO", "MANAGED_BY", "MANAGED_BY_US", "SERVICE_NAME"] {
        let value = constant(name);
        assert!(
            guards.contains(&format!("'{value}'")),
            "{name} is {value}; the guard knows it not"
        );
    }
    assert!(
        names.contains("20_000..=29_999") && guards.contains("20000") && guards.contains("29999")
    );
}

fn granted() -> Rights {
    let mut granted = Rights::new();
    for role in Objects::of_agent(&[]).all() {
        for rule in list(&role["rules"]) {
            for resource in list(&rule["resources"]) {
                let verbs = list(&rule["verbs"]).iter().map(|verb| text(verb).to_owned());
                granted.entry(text(resource).to_owned()).or_default().extend(verbs);
            }
        }
    }
    granted
}

fn needed() -> Rights {
    let mut needed = Rights::new();
    visit(&root("agent-cluster/src"), &mut |path, code| {
        // `text.replace(…)` elsewhere is no write; the lint sees to it that none is.
        let writes = if path.components().any(|part| part.as_os_str() == "apply") {
            &WRITES[..]
        } else {
            &[]
        };
        let verbs: BTreeSet<String> = READS
            .iter()
            .chain(writes)
            .filter(|(call, _)| code.contains(call))
            .flat_map(|(_, verbs)| verbs.iter().map(|&verb| verb.to_owned()))
            .collect();
        for kind in kinds_in(code) {
            let resource = KINDS.iter().find(|(known, _)| *known == kind);
            let (_, resource) = resource.unwrap_or_else(|| panic!("which resource is {kind}?"));
            needed.entry((*resource).to_owned()).or_default().extend(verbs.clone());
        }
    });
    assert!(needed.len() > 4, "the code is read the wrong way: {needed:?}");
    needed
}

fn is_read(verb: &str) -> bool {
    READS.iter().any(|(_, verbs)| verbs.contains(&verb))
}

/// Returns the kinds that a file names in `Api<…>`, type parameters left out.
fn kinds_in(code: &str) -> BTreeSet<&str> {
    let named =
        code.split("Api<").chain(code.split("scoped::<")).filter_map(|after| after.split_once('>'));
    let is_kind = |kind: &&str| kind.len() > 1 && kind.chars().all(char::is_alphanumeric);
    named.map(|(kind, _)| kind).filter(is_kind).collect()
}

/// Shows every source file without its tests.
fn visit(folder: &Path, show: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            visit(&path, show);
        } else {
            let code = fs::read_to_string(&path).expect("readable");
            show(&path, code.split("#[cfg(test)]").next().expect("at least one part"));
        }
    }
}
