//! What the agent's chart promises about its pods, its Secret and its environment.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use crate::{
    objects::{Objects, list, text},
    render::root,
};

#[test]
fn every_pod_meets_the_restricted_profile() {
    let objects = Objects::of_agent(&[]);
    let pods = objects.pods();
    assert_eq!(pods.len(), 3, "agent, janitor and hook");
    for (name, pod) in pods {
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for container in list(&pod["containers"]) {
            let expected = json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            });
            assert_eq!(container["securityContext"], expected, "{name}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name} has no bound");
        }
    }
}

#[test]
fn one_replica_may_always_be_taken_away_and_the_last_one_may_not() {
    let two = Objects::of_agent(&[]);
    assert_eq!(two.named("PodDisruptionBudget", "fairlead-agent")["spec"]["minAvailable"], 1);
    let deployment = two.named("Deployment", "fairlead-agent");
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    // A budget of one for a single replica would only block the drain of its node.
    let one = Objects::of_agent(&["--set", "replicas=1"]);
    assert_eq!(one.of_kind("PodDisruptionBudget").count(), 0);
}

#[test]
fn replicas_are_spread_over_nodes_whether_or_not_these_know_a_zone() {
    let objects = Objects::of_agent(&[]);
    let pod = &objects.named("Deployment", "fairlead-agent")["spec"]["template"]["spec"];
    let spread: Vec<_> =
        list(&pod["topologySpreadConstraints"]).iter().map(|each| &each["topologyKey"]).collect();
    // The scheduler gives no points at all to a node that lacks one of the keys.
    assert_eq!(spread, ["kubernetes.io/hostname"]);
}

#[test]
fn only_the_agent_is_told_of_a_proxy_and_a_password_stays_in_its_secret() {
    let plain = ["--set", "proxy.https=http://proxy:3128", "--set", "proxy.existingSecret=corp"];
    for (name, pod) in Objects::of_agent(&plain).pods() {
        let variables = list(&pod["containers"][0]["env"]).iter();
        let proxies: Vec<_> = variables
            .filter(|variable| text(&variable["name"]).ends_with("_PROXY"))
            .map(|variable| (text(&variable["name"]), &variable["value"], &variable["valueFrom"]))
            .collect();
        if name != "fairlead-agent" {
            assert_eq!(proxies, [], "{name}");
            continue;
        }
        let kept = |key| json!({"secretKeyRef": {"name": "corp", "key": key, "optional": true}});
        let expected = [
            ("ALL_PROXY", json!(null), kept("ALL_PROXY")),
            ("HTTPS_PROXY", json!("http://proxy:3128"), json!(null)),
            ("NO_PROXY", json!(null), kept("NO_PROXY")),
        ];
        let expected: Vec<_> = expected.iter().map(|(name, v, from)| (*name, v, from)).collect();
        assert_eq!(proxies, expected);
    }
}

#[test]
fn only_the_agent_runs_under_the_account_that_reads_the_teamspace_key() {
    for (name, pod) in Objects::of_agent(&[]).pods() {
        let account = if name == "fairlead-agent" { name } else { "fairlead-agent-janitor" };
        assert_eq!(pod["serviceAccountName"], account, "{name}");
    }
}

#[test]
fn an_upgrade_cannot_empty_the_secret_with_the_teamspace_key() {
    let objects = Objects::of_agent(&[]);
    let identity = objects.named("Secret", "fairlead-agent-identity");
    assert_eq!(identity["data"], Value::Null);
    assert_eq!(identity["stringData"], Value::Null);
}

#[test]
fn services_are_given_back_before_anything_is_removed() {
    let objects = Objects::of_agent(&[]);
    let job = objects.named("Job", "fairlead-agent-restore");
    assert_eq!(job["metadata"]["annotations"]["helm.sh/hook"], "pre-delete");
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"], json!(["restore", "--all"]));
}

#[test]
fn the_environment_is_the_one_the_agent_reads() {
    let config = fs::read_to_string(root("agent-cluster/src/config.rs")).expect("readable");
    let known: BTreeSet<_> = config.split("env = \"").skip(1).filter_map(first_quoted).collect();
    assert!(known.contains("FAIRLEAD_HUB_URL"), "config.rs is read the wrong way: {known:?}");

    let objects = Objects::of_agent(&[]);
    for (name, pod) in objects.pods() {
        let set: BTreeSet<_> =
            list(&pod["containers"][0]["env"]).iter().map(|env| text(&env["name"])).collect();
        let unknown: Vec<_> = set.difference(&known).collect();
        assert!(unknown.is_empty(), "{name} is given {unknown:?}, which the agent does not read");
        // These two have defaults that only a person at a terminal would change.
        let ours: BTreeSet<_> = ["FAIRLEAD_HEALTH_PORT", "FAIRLEAD_PEER_PORT"].into();
        let missing: Vec<_> = known.difference(&set).filter(|env| !ours.contains(*env)).collect();
        assert!(name != "fairlead-agent" || missing.is_empty(), "{name} lacks {missing:?}");
    }
}

fn first_quoted(text: &str) -> Option<&str> {
    text.split_once('"').map(|(name, _)| name)
}

#[test]
fn a_token_in_a_secret_of_ones_own_is_used_and_none_is_made() {
    let objects = Objects::of_agent(&["--set", "joinToken.value=,joinToken.existingSecret=mine"]);
    let volumes =
        &objects.named("Deployment", "fairlead-agent")["spec"]["template"]["spec"]["volumes"];
    assert!(list(volumes).iter().any(|volume| volume["secret"]["secretName"] == "mine"));
    let made: Vec<_> =
        objects.of_kind("Secret").map(|secret| text(&secret["metadata"]["name"])).collect();
    assert_eq!(made, ["fairlead-agent-identity"]);
}

#[test]
fn two_installations_do_not_meet() {
    let shared = |objects: &Objects| -> BTreeSet<(String, String)> {
        let without_namespace =
            objects.all().filter(|object| object["metadata"]["namespace"].is_null());
        without_namespace
            .map(|object| (text(&object["kind"]).into(), text(&object["metadata"]["name"]).into()))
            .collect()
    };
    let one = shared(&Objects::of_agent(&[]));
    let other = shared(&Objects::of_agent(&["--namespace", "elsewhere"]));
    assert_eq!(one.len(), 8, "{one:?}");
    assert!(one.is_disjoint(&other), "{one:?} and {other:?}");
}
