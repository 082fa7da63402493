//! The chart's rights against the agent's code: nothing the code asks for is missing, nothing more is given.
//!
//! The code is read as text, function by function: crude, but it sees a call that no right allows and a right that no
//! call uses.

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

/// A call on an `Api`, and the verb a role has for it.
const CALLS: [(&str, &str); 9] = [
    (".get(", "get"),
    (".get_opt(", "get"),
    (".get_metadata(", "get"),
    (".get_metadata_opt(", "get"),
    (".list(", "list"),
    (".create(", "create"),
    (".patch(", "patch"),
    (".replace(", "update"),
    (".delete(", "delete"),
];

/// The Rust type → the resource's name in a role. A kind the code names and this list does not fails the test.
const KINDS: [(&str, &str); 9] = [
    ("Service", "services"),
    ("EndpointSlice", "endpointslices"),
    ("Pod", "pods"),
    ("Event", "events"),
    ("Lease", "leases"),
    ("Secret", "secrets"),
    ("Namespace", "namespaces"),
    ("ReplicaSet", "replicasets"),
    ("Job", "jobs"),
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
fn the_lease_of_the_chart_is_the_one_the_agents_hold() {
    let names = fs::read_to_string(root("agent-cluster/src/names.rs")).expect("readable");
    for lease in Objects::of_agent(&[]).of_kind("Lease") {
        let name = text(&lease["metadata"]["name"]);
        assert!(names.contains(&format!("const WRITER_LEASE: &str = \"{name}\"")), "{name}");
        assert_eq!(lease["spec"], Value::Null, "an upgrade would take it from its holder");
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
    visit(&root("agent-cluster/src"), &mut |code| {
        for (kind, verb) in asked(code) {
            let resource = KINDS.iter().find(|(known, _)| *known == kind);
            let (_, resource) = resource.unwrap_or_else(|| panic!("which resource is {kind}?"));
            needed.entry((*resource).to_owned()).or_default().insert(verb.to_owned());
        }
    });
    assert!(needed.len() > 4, "the code is read the wrong way: {needed:?}");
    needed
}

/// Returns what a file asks for, as kind and verb.
fn asked(code: &str) -> BTreeSet<(String, &'static str)> {
    let functions: Vec<String> = code.split("fn ").map(on_one_line).collect();
    let mut asked = BTreeSet::new();
    for function in &functions {
        for (before, kind) in kinds_after(function, "Api<") {
            let verbs: Vec<_> = match before.trim_end_matches('&').strip_suffix(": ") {
                // `pods: Api<Pod>`: what is called on `pods` in this function.
                Some(before) => calls_on(last_word(before), function).collect(),
                // `fn api(…) -> Api<Pod>`: what is called in this file on a function's result, or on that result
                // under the same name.
                None => functions
                    .iter()
                    .flat_map(|function| calls_on(")", function).chain(calls_on("api", function)))
                    .collect(),
            };
            asked.extend(verbs.into_iter().map(|verb| (kind.to_owned(), verb)));
        }
        // The generic ways of watch.rs and janitor.rs.
        for (generic, verbs) in [("scoped::<", &["list", "watch"][..]), ("list::<", &["list"])] {
            for (_, kind) in kinds_after(function, generic) {
                asked.extend(verbs.iter().map(|&verb| (kind.to_owned(), verb)));
            }
        }
    }
    asked
}

fn calls_on(name: &str, function: &str) -> impl Iterator<Item = &'static str> {
    let calls = CALLS.iter().filter(move |(call, _)| function.contains(&format!("{name}{call}")));
    let watches = function.contains(&format!("watcher({name}"));
    calls.map(|(_, verb)| *verb).chain(watches.then_some(["list", "watch"]).into_iter().flatten())
}

/// Returns the kinds named after `opening`, each with the text before it; type parameters are no kinds.
fn kinds_after<'a>(function: &'a str, opening: &str) -> Vec<(&'a str, &'a str)> {
    let kind_at = |(at, opening): (usize, &str)| {
        let (kind, _) = function[at + opening.len()..].split_once('>')?;
        let is_kind = kind.len() > 1 && kind.chars().all(char::is_alphanumeric);
        is_kind.then_some((&function[..at], kind))
    };
    function.match_indices(opening).filter_map(kind_at).collect()
}

fn last_word(text: &str) -> &str {
    text.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().expect("at least one part")
}

/// Undoes the line breaks that formatting puts before a call or an argument.
fn on_one_line(code: &str) -> String {
    code.split_whitespace().collect::<Vec<_>>().join(" ").replace(" .", ".").replace("( ", "(")
}

fn is_read(verb: &str) -> bool {
    ["get", "list", "watch"].contains(&verb)
}

/// Shows every source file without its tests.
fn visit(folder: &Path, show: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            visit(&path, show);
        } else {
            let code = fs::read_to_string(&path).expect("readable");
            show(code.split("#[cfg(test)]").next().expect("at least one part"));
        }
    }
}

#[test]
fn what_code_asks_for_is_read_from_it() {
    let code = "
        fn one(client: &Client) {
            let leases: Api<Lease> = Api::namespaced(client);
            leases
                .get_opt(NAME)
                .await
        }
        fn two(pods: Api<Pod>) { watcher(pods, config); text.replace(\"a\", \"b\"); }
        fn api(client: &Client) -> Api<Service> { made(client) }
        fn three(client: &Client) { api(client).patch(name) }";
    let expected = [("Lease", "get"), ("Pod", "list"), ("Pod", "watch"), ("Service", "patch")];
    assert_eq!(asked(code), expected.map(|(kind, verb)| (kind.to_owned(), verb)).into());
}
