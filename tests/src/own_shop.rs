//! A shop of somebody's own: a namespace with a cart, brought there and changed by its owner's usual means.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::ensure;
use fairlead_lab::tools;

use crate::{command::say, service::Service, world::World};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shop/chart");
/// Only a cart: the others would have nothing to do.
const VALUES: &str = "replicas.cart=1,replicas.frontend=0,replicas.catalog=0,replicas.payment=0,replicas.recommend=0,replicas.ledger=0";

/// How an owner brings the shop into the cluster, and changes it there.
#[derive(Debug)]
pub enum Way {
    /// `helm upgrade --install`, by this Helm.
    Helm(PathBuf),
    /// `kubectl apply`, which merges on the client's side.
    Apply,
    /// `kubectl apply --server-side`, never with force, as a GitOps controller does it.
    ServerSideApply,
}

#[derive(Debug)]
pub struct OwnShop<'w> {
    world: &'w World,
    way: Way,
    namespace: &'static str,
}

impl<'w> OwnShop<'w> {
    /// Brings a shop into a namespace of its own and waits until its cart is there.
    pub fn opens(world: &'w World, way: Way, namespace: &'static str) -> anyhow::Result<Self> {
        world.kubectl(&["create", "namespace", namespace])?;
        let shop = Self { world, way, namespace };
        shop.changes_to(1)?;
        shop.kubectl(&["rollout", "status", "deployment/cart", "--timeout=60s"])?;
        Ok(shop)
    }

    /// Returns the full name of its cart.
    #[must_use]
    pub fn cart(&self) -> String {
        format!("{}/cart", self.namespace)
    }

    pub fn cart_service(&self) -> anyhow::Result<Service<'w>> {
        self.world.service(&self.cart())
    }

    /// Has the owner bring a revision, which stands as an annotation on every Service; looks that it came.
    pub fn changes_to(&self, revision: u32) -> anyhow::Result<()> {
        let values = format!("{VALUES},revision={revision}");
        match &self.way {
            Way::Helm(helm) => {
                let mut upgrade = self.world.lab().helm(helm);
                upgrade.args(["upgrade", "--install", "shop", CHART, "--set", &values]);
                upgrade.args(["--namespace", self.namespace]);
                say(upgrade)?.ok()?;
            }
            Way::Apply => self.applies(&["apply"], &values)?,
            Way::ServerSideApply => {
                self.applies(&["apply", "--server-side", "--field-manager=gitops"], &values)?;
            }
        }
        let path = "jsonpath={.metadata.annotations.shop/revision}";
        let is = self.kubectl(&["get", "service", "cart", "-o", path])?;
        ensure!(is == revision.to_string(), "the cart is of revision {is}");
        Ok(())
    }

    /// Has the owner restart the cart and waits until that is done.
    pub fn restarts(&self) -> anyhow::Result<()> {
        self.kubectl(&["rollout", "restart", "deployment/cart"])?;
        self.kubectl(&["rollout", "status", "deployment/cart", "--timeout=60s"])?;
        Ok(())
    }

    /// Takes everything away, the namespace too.
    pub fn closes(self) -> anyhow::Result<()> {
        self.world.kubectl(&["delete", "namespace", self.namespace, "--timeout=60s"])?;
        Ok(())
    }

    fn applies(&self, verb: &[&str], values: &str) -> anyhow::Result<()> {
        let objects = self.world.folder().join(format!("{}.yaml", self.namespace));
        self.render(values, &objects)?;
        let file = objects.display().to_string();
        self.kubectl(&[verb, &["-f", &file]].concat())?;
        Ok(())
    }

    fn render(&self, values: &str, into: &Path) -> anyhow::Result<()> {
        let mut template = Command::new(tools::helm()?);
        template.args(["template", "shop", CHART, "--set", values, "--namespace", self.namespace]);
        Ok(fs::write(into, say(template)?.ok()?.stdout)?)
    }

    fn kubectl(&self, words: &[&str]) -> anyhow::Result<String> {
        self.world.kubectl(&[&["-n", self.namespace], words].concat())
    }
}
