//! The owner of an intercepted Service goes on working: upgrades it with Helm 4 and Helm 3, applies it on the server's
//! side, restarts its pods. Each shop has a namespace of its own, which goes afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use fairlead_lab::{Host, sibling, tools};
use fairlead_model::SessionId;
use fairlead_tests::{answered_by, say, within};
use fairlead_wire::link::v1::Phase;

use crate::{
    PATIENCE, World,
    hub::Intercept,
    laptop::{self, NAME},
};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shop/chart");
/// Only carts: the others would have nothing to do.
const VALUES: &str = "replicas.frontend=0,replicas.catalog=0,replicas.payment=0,replicas.recommend=0,replicas.ledger=0";
/// An intercept that somebody's write pushed aside is there again within this time.
const AGAIN: Duration = Duration::from_secs(5);

/// How an owner brings the shop into the cluster, and changes it there.
enum Way {
    Helm(PathBuf),
    /// `kubectl apply --server-side`, never with force, as a GitOps controller does it.
    ServerSideApply,
}

/// A shop of its own: a namespace with carts.
struct OwnShop<'w> {
    world: &'w World,
    way: Way,
    namespace: &'static str,
    cart: &'static str,
}

pub(crate) fn owners_upgrade(world: &mut World) -> anyhow::Result<()> {
    let ways = [
        ("Helm 4", Way::Helm(tools::helm()?), "by-helm-4", "by-helm-4/cart"),
        ("Helm 3", Way::Helm(tools::helm3()?), "by-helm-3", "by-helm-3/cart"),
        ("server-side apply", Way::ServerSideApply, "by-apply", "by-apply/cart"),
    ];
    for (what, way, namespace, cart) in ways {
        let shop = OwnShop { world, way, namespace, cart };
        shop.works_while_intercepted().with_context(|| format!("with {what}"))?;
        eprintln!("  the owner works with {what}");
    }
    Ok(())
}

impl OwnShop<'_> {
    fn works_while_intercepted(&self) -> anyhow::Result<()> {
        self.world.kubectl(&["create", "namespace", self.namespace])?;
        self.brings(1)?;
        self.kubectl(&["rollout", "status", "deployment/cart", "--timeout=60s"])?;
        let session = self.is_intercepted()?;

        self.brings(2)?;
        ensure!(
            self.of_cart("{.metadata.annotations.shop/revision}")? == "2",
            "nothing was changed"
        );
        self.is_answered_by_the_laptop("an upgrade")?;
        self.kubectl(&["rollout", "restart", "deployment/cart"])?;
        self.kubectl(&["rollout", "status", "deployment/cart", "--timeout=60s"])?;
        self.is_answered_by_the_laptop("a restart")?;

        self.world.hub.end(session);
        self.world.becomes(session, Phase::Ended, PATIENCE)?;
        within(PATIENCE, "a pod answers", || {
            let answered = self.who_answers()?;
            ensure!(answered != NAME, "the laptop answers still");
            Ok(())
        })?;
        self.brings(3)?;
        ensure!(
            self.of_cart("{.metadata.annotations.shop/revision}")? == "3",
            "nothing was changed"
        );
        self.world.kubectl(&["delete", "namespace", self.namespace, "--timeout=60s"])?;
        Ok(())
    }

    /// Installs the shop, or upgrades it to a revision: an annotation on every Service.
    fn brings(&self, revision: u32) -> anyhow::Result<()> {
        let values = format!("{VALUES},revision={revision}");
        match &self.way {
            Way::Helm(helm) => {
                let mut upgrade = self.world.lab.exec(Host::Api, helm);
                upgrade.arg("--kubeconfig").arg(self.world.lab.kubeconfig());
                upgrade.args(["upgrade", "--install", "shop", CHART, "--set", &values]);
                say_ok(upgrade, self.namespace)
            }
            Way::ServerSideApply => {
                let objects = self.world.folder().join("own-shop.yaml");
                self.render(&values, &objects)?;
                let mut apply = self.world.lab.kubectl(["apply", "--server-side"]);
                apply.arg("--field-manager=gitops").arg("-f").arg(&objects);
                say_ok(apply, self.namespace)
            }
        }
    }

    fn render(&self, values: &str, into: &Path) -> anyhow::Result<()> {
        let mut template = Command::new(tools::helm()?);
        template.args(["template", "shop", CHART, "--set", values, "--namespace", self.namespace]);
        Ok(fs::write(into, say(template)?.ok()?.stdout)?)
    }

    fn is_intercepted(&self) -> anyhow::Result<SessionId> {
        let intercept = Intercept {
            service: self.cart,
            service_port: 80,
            laptop_port: laptop::PORT,
            grace_s: 15,
        };
        let session = self.world.hub.intercept(intercept, self.world.device.thumbprint)?;
        self.world.becomes(session, Phase::Active, PATIENCE)?;
        self.is_answered_by_the_laptop("the start")?;
        Ok(session)
    }

    /// Waits until the key is there and five new connections in a row arrive at the laptop.
    fn is_answered_by_the_laptop(&self, after: &str) -> anyhow::Result<()> {
        let ((), took) = within(AGAIN, &format!("the intercept is there after {after}"), || {
            let key = self.of_cart("{.spec.selector.fairlead\\.dev/intercept}")?;
            ensure!(!key.is_empty(), "no key");
            for _ in 0..5 {
                let answered = self.who_answers()?;
                ensure!(answered == NAME, "answered by {answered}");
            }
            Ok(())
        })?;
        eprintln!("  after {after}: {} ms", took.as_millis());
        Ok(())
    }

    fn who_answers(&self) -> anyhow::Result<String> {
        let url = format!("http://{}/who", self.of_cart("{.spec.clusterIP}")?);
        let mut get = self.world.lab.exec(Host::Node1, sibling("shop")?);
        get.args(["get", &url]);
        answered_by(&say(get)?.ok()?.json()?)
    }

    fn of_cart(&self, path: &str) -> anyhow::Result<String> {
        self.kubectl(&["get", "service", "cart", "-o", &format!("jsonpath={path}")])
    }

    fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.world.kubectl(&[&["-n", self.namespace], arguments].concat())
    }
}

fn say_ok(mut command: Command, namespace: &str) -> anyhow::Result<()> {
    command.args(["--namespace", namespace]);
    say(command)?.ok()?;
    Ok(())
}
