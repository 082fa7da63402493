//! The demo as a guest of somebody's own cluster: one lab's cluster is that, and the demo runs where its API server is.
//!
//! What it plays is the show; what must be true here is that the cluster was only visited.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use fairlead_lab::{Host, sibling};
use fairlead_tests::{Said, say, within};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    demo::{Demo, LAST_LINE},
    lab::LAB,
    machine::Home,
};

const TIDY_WITHIN: Duration = Duration::from_secs(30);
/// Kinds that the cluster itself writes all the time, and those that are other kinds' other names.
const RESTLESS: [&str; 6] = [
    "componentstatuses",
    "events",
    "events.events.k8s.io",
    "leases.coordination.k8s.io",
    "nodes",
    "endpoints",
];

#[test]
fn a_demo_on_another_cluster_leaves_it_byte_for_byte_as_it_was() {
    let before = everything().expect("the cluster tells of itself");
    let folder = TempDir::new().expect("a folder");

    let without_images = demo(&["--once"]);
    let same_without_images = within(TIDY_WITHIN, "the same", || is_still(&before));
    give_images(folder.path()).expect("images");
    let without_a_way = demo(&["--once", "--hub-address=127.0.0.1"]);
    let same_without_a_way = within(TIDY_WITHIN, "the same", || is_still(&before));
    let mut interactive = Demo::begun_by(demo_of(&LAB.kubeconfig(), &[]));
    let shown = interactive.shows(LAST_LINE);
    interactive.gets_ctrl_c();
    let same_after_the_show = within(TIDY_WITHIN, "the same", || is_still(&before));

    fails_with(without_images, "has no image docker.io/local/shop:");
    same_without_images.expect("a demo without images has left nothing");
    fails_with(without_a_way, "the cluster's pods do not reach the hub at 127.0.0.1");
    same_without_a_way.expect("a demo without a way to the hub has left nothing");
    let shown = shown.expect("the show holds");
    for expected in [
        "The demo uses the cluster at https://172.30.0.10:6443 (context `lab`).",
        "Pods will find the hub at 172.30.0.10.",
        "answered by frontend-",
        "its cart is ada-laptop",
        "`developers-intercept` allows it to role developer",
        "Services, EndpointSlices of the shop, nftables, mounts, links and /etc/hosts: the same",
        "no pod of the shop was restarted or changed",
        "not looked at, because this cluster is not the lab's: its nodes",
        "Each line held.",
    ] {
        assert!(shown.contains(expected), "no `{expected}` in:\n{shown}");
    }
    same_after_the_show.expect("a demo that Ctrl-C ended has left nothing");
}

#[test]
fn a_demo_that_cannot_be_a_guest_says_why_and_touches_nothing() {
    let folder = TempDir::new().expect("a folder");
    let own = LAB.kubeconfig();
    kubectl(&["create", "namespace", "shop"]).expect("somebody's own");
    let before = everything().expect("the cluster tells of itself");
    let intrusion = demo_with(&own, &[]);
    let after = is_still(&before);
    kubectl(&["delete", "namespace", "shop"]).expect("gone");
    fails_with(intrusion, "the cluster has namespace/shop already");
    after.expect("nothing was touched");

    let variant = |name: &str, change: &dyn Fn(&str) -> String| -> PathBuf {
        let file = folder.path().join(name);
        let original = fs::read_to_string(&own).expect("a kubeconfig");
        fs::write(&file, change(&original)).expect("a file");
        file
    };
    let nowhere = variant("nowhere", &|file| file.replace(":6443", ":6444"));
    let nobody = variant("nobody", &|file| {
        file.replace("admin.crt", "proxy.crt").replace("admin.key", "proxy.key")
    });
    let nothing = variant("nothing", &|_| String::new());
    let missing = folder.path().join("missing");
    fails_with(demo_with(&missing, &[]), "cannot read the kubeconfig");
    fails_with(demo_with(&nothing, &[]), "leads to no cluster; choose one of its contexts");
    fails_with(demo_with(&nowhere, &[]), "the API server https://172.30.0.10:6444 does not answer");
    fails_with(
        demo_with(&nobody, &["--hub-address=172.30.0.10"]),
        "you may not create namespaces in this cluster",
    );
    is_still(&before).expect_err("the look sees a namespace that is gone");
}

fn demo(words: &[&str]) -> anyhow::Result<Said> {
    demo_with(&LAB.kubeconfig(), words)
}

/// Runs the demo where the cluster's API server is, as on the machine of somebody who has a kubeconfig.
fn demo_with(kubeconfig: &Path, words: &[&str]) -> anyhow::Result<Said> {
    let home = Home::new()?;
    let mut demo = demo_of(kubeconfig, words);
    home.of(&mut demo);
    let said = say(demo);
    home.has_only_what_it_had();
    said
}

fn demo_of(kubeconfig: &Path, words: &[&str]) -> Command {
    let mut demo = LAB.exec(Host::Api, sibling("demo").expect("built"));
    demo.arg("--kubeconfig").arg(kubeconfig).args(words);
    demo
}

/// Gives the nodes the images that the demo writes, as on a machine that has no Go and where none has built anything.
fn give_images(folder: &Path) -> anyhow::Result<()> {
    let mut save = Command::new(sibling("demo")?);
    save.arg("--save-images").arg(folder).env("PATH", "").env("XDG_CACHE_HOME", "/nonexistent");
    say(save)?.ok()?;
    let archives = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    ensure!(archives.len() == 2, "two images: {archives:?}");
    archives.iter().try_for_each(|archive| LAB.import_image(&archive.path()))
}

fn fails_with(said: anyhow::Result<Said>, why: &str) {
    let said = said.expect("it runs");
    assert_eq!(said.code, Some(1), "{said}");
    assert!(said.stderr.contains(why), "no `{why}` in {said}");
}

/// Returns every object of the cluster as it is written in its database, but for those that never rest.
fn everything() -> anyhow::Result<BTreeMap<String, String>> {
    let kinds = kubectl(&["api-resources", "--verbs=list", "--output=name"])?;
    let kinds: Vec<_> = kinds.lines().filter(|kind| !RESTLESS.contains(kind)).collect();
    let list =
        ["get", &kinds.join(","), "--all-namespaces", "--output=json", "--show-managed-fields"];
    let list: Value = serde_json::from_str(&kubectl(&list)?)?;
    let objects = list["items"].as_array().context("a list")?.iter().map(|object| {
        let metadata = &object["metadata"];
        let name = format!("{} {}/{}", object["kind"], metadata["namespace"], metadata["name"]);
        (name, object.to_string())
    });
    Ok(objects.collect())
}

fn is_still(before: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let now = everything()?;
    let names = before.keys().chain(now.keys());
    let changed: Vec<_> = names
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| format!("{name}: {:?} is now {:?}", before.get(name), now.get(name)))
        .collect();
    ensure!(changed.is_empty(), "the cluster is not what it was: {changed:#?}");
    Ok(())
}

fn kubectl(words: &[&str]) -> anyhow::Result<String> {
    let mut kubectl = LAB.kubectl([]);
    kubectl.args(words);
    Ok(say(kubectl)?.ok()?.stdout)
}
