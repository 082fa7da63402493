//! Services that cannot be intercepted, or not any more: each is refused with its reason before anything is changed,
//! and what belongs to somebody else is never touched.

use anyhow::ensure;
use fairlead_lab::Host;
use fairlead_tests::{AGENT_NAMESPACE, KEY, Person, Service, Story, World, has_key, say, within};
use serde_json::json;

use crate::intercepting::{CART, INTERCEPT, PATIENCE, PORT, scene};

/// Exit codes of the command.
const INPUT: i32 = 20;
const CONFLICT: i32 = 51;
/// A key as another agent would write it.
const FOREIGN: &str = "ffffffffffff.00000000000000000000000000000001";

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("a hard service is refused before anything is changed", refused),
        Story::new("a service whose pods the agent cannot reach is refused", unreachable_pods),
        Story::new("a foreign key is respected before the start and while active", foreign_key),
        Story::new("a key that is removed again and again is contested", contested),
    ]
}

fn refused(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    let watch = world.service(CART)?.watch()?;
    for (words, code, word) in [
        (["intercept", "shop/ledger-nodes", "3000"], CONFLICT, "headless"),
        (["intercept", CART, "3000:81"], INPUT, "has no TCP port 81"),
    ] {
        let said = ada.is_refused(&words, code)?;
        ensure!(said.contains(word), "{said}");
    }
    ensure!(!watch.so_far().iter().any(has_key), "the cart was changed");
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

/// As a NetworkPolicy of the shop would: what agents send to the pods of the cart is dropped.
fn unreachable_pods(world: &World) -> anyhow::Result<()> {
    scene(world, |scene| {
        let policy = Policy::between_agent_and_cart(world)?;
        let watch = scene.cart.watch()?;
        let said = scene.ada.is_refused(&INTERCEPT, CONFLICT)?;
        ensure!(said.contains("cannot reach the pod"), "{said}");
        ensure!(said.contains("allow ingress from the agent's namespace"), "{said}");
        ensure!(!watch.so_far().iter().any(has_key), "the cart was changed");
        drop(policy);
        scene.ada_intercepts()
    })
}

fn foreign_key(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    let _own = ada.runs("cart", PORT)?;
    let web = Web::opens(world, &ada)?;

    web.key_is_set_by_somebody_else()?;
    let said = ada.is_refused(&Web::INTERCEPT, CONFLICT)?;
    ensure!(said.contains("redirected by another agent"), "{said}");
    ensure!(web.service.key()?.as_deref() == Some(FOREIGN), "the foreign key was touched");
    web.key_is_removed()?;

    ada.fairlead(&Web::INTERCEPT)?.ok()?;
    ada.is_shown(Web::NAME, "active")?;
    web.key_is_set_by_somebody_else()?;
    ada.fairlead(&["leave", Web::NAME])?.ok()?;
    web.has_no_slice_of_ours()?;
    ensure!(web.service.key()?.as_deref() == Some(FOREIGN), "the foreign key was touched");
    web.key_is_removed()?;
    web.service.is_given_back(PATIENCE)?;
    web.closes()?;
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

/// Somebody's pipeline takes the key off as often as it comes back.
fn contested(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    let _own = ada.runs("cart", PORT)?;
    let web = Web::opens(world, &ada)?;
    ada.fairlead(&Web::INTERCEPT)?.ok()?;
    ada.is_shown(Web::NAME, "active")?;
    let watch = web.service.watch()?;
    // Put on again five times; the last removal stands.
    for _ in 0..=5 {
        watch.until(PATIENCE, "the key stands", has_key)?;
        web.key_is_removed()?;
        watch.until(PATIENCE, "it is taken off", |published| !has_key(published))?;
    }
    ada.has_lost(Web::NAME, PATIENCE)?;
    let told = ada.reads(&["intercept", "list"])?.to_string();
    ensure!(told.contains("contested: `kubectl-patch` keeps removing"), "{told}");
    web.service.is_given_back(PATIENCE)?;
    web.closes()?;
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

fn remove_key(service: &Service<'_>) -> anyhow::Result<()> {
    patch(service, &json!([{"op": "remove", "path": path_of_key()}]))
}

fn patch(service: &Service<'_>, operations: &serde_json::Value) -> anyhow::Result<()> {
    let operations = operations.to_string();
    let name = service.name();
    service.kubectl(&["patch", "service", name, "--type=json", "-p", &operations])?;
    Ok(())
}

fn path_of_key() -> String {
    format!("/spec/selector/{}", KEY.replace('/', "~1"))
}

/// A Service without pods: nobody misses it while its key is another agent's.
struct Web<'w> {
    world: &'w World,
    service: Service<'w>,
}

impl<'w> Web<'w> {
    const NAME: &'static str = "default/web";
    const INTERCEPT: [&'static str; 3] = ["intercept", Self::NAME, "3000"];

    fn opens(world: &'w World, ada: &Person<'_>) -> anyhow::Result<Self> {
        world.kubectl(&["create", "service", "clusterip", "web", "--tcp=80:8080"])?;
        // The catalogue hears of it a moment after the cluster does.
        within(PATIENCE, "the developer sees it", || {
            let services = ada.reads(&["services", "default"])?.to_string();
            ensure!(services.contains("\"web\""), "{services}");
            Ok(())
        })?;
        Ok(Self { world, service: world.service(Self::NAME)? })
    }

    fn key_is_set_by_somebody_else(&self) -> anyhow::Result<()> {
        let key = json!([{"op": "add", "path": path_of_key(), "value": FOREIGN}]);
        patch(&self.service, &key)
    }

    fn key_is_removed(&self) -> anyhow::Result<()> {
        remove_key(&self.service)
    }

    fn has_no_slice_of_ours(&self) -> anyhow::Result<()> {
        let ours =
            "kubernetes.io/service-name=web,endpointslice.kubernetes.io/managed-by=fairlead.dev";
        within(PATIENCE, "the slice is gone", || {
            let slices =
                self.service.kubectl(&["get", "endpointslices", "-l", ours, "-o", "name"])?;
            ensure!(slices.is_empty(), "{slices}");
            Ok(())
        })?;
        Ok(())
    }

    fn closes(self) -> anyhow::Result<()> {
        self.world.kubectl(&["delete", "service", "web"])?;
        Ok(())
    }
}

/// Drops on both nodes what comes from the agent's pods and goes to the cart's; dropping this lets it pass again.
struct Policy<'w>(&'w World);

impl<'w> Policy<'w> {
    fn between_agent_and_cart(world: &'w World) -> anyhow::Result<Self> {
        let agents = addresses(world, AGENT_NAMESPACE, "app.kubernetes.io/component=agent")?;
        let carts = addresses(world, "shop", "app=cart")?;
        let table = format!(
            "table inet like_a_policy {{
                chain forward {{
                    type filter hook forward priority -10
                    ip saddr {{ {agents} }} ip daddr {{ {carts} }} drop
                }}
            }}"
        );
        let policy = Self(world);
        for node in Host::NODES {
            let mut nft = world.lab().exec(node, "nft");
            nft.arg(&table);
            say(nft)?.ok()?;
        }
        Ok(policy)
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        for node in Host::NODES {
            let mut nft = self.0.lab().exec(node, "nft");
            nft.args(["delete", "table", "inet", "like_a_policy"]);
            if say(nft).is_err() {
                // The lab is going, and its tables with it.
            }
        }
    }
}

fn addresses(world: &World, namespace: &str, label: &str) -> anyhow::Result<String> {
    let ips = "jsonpath={.items[*].status.podIP}";
    let ips = world.kubectl(&["-n", namespace, "get", "pods", "-l", label, "-o", ips])?;
    let ips: Vec<_> = ips.split_whitespace().collect();
    ensure!(ips.len() == 2, "one on each node, or nothing would be dropped: {ips:?}");
    Ok(ips.join(", "))
}
