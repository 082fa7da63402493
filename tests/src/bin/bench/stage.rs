//! Where figures are taken: a world with a developer who is ready to intercept the cart.

use std::{
    io::{self, Write},
    time::Duration,
};

use fairlead_lab::{Cluster, ProxyMode};
use fairlead_tests::{Person, Service, World, WorldOptions};

/// For everything that is not measured.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than two syncs of kube-proxy at its default of one a second: after a pause like this the next change is
/// programmed at once, and every earlier one has been.
pub(crate) const SETTLED: Duration = Duration::from_secs(3);

pub(crate) const CART: &str = "shop/cart";
pub(crate) const PORT: &str = "3000";

pub(crate) struct Stage<'w> {
    pub(crate) world: &'w World,
    pub(crate) ada: Person<'w>,
    pub(crate) cart: Service<'w>,
}

/// Brings a world up, has figures taken in it, and takes it down.
pub(crate) fn on_stage<T>(
    proxy_mode: ProxyMode,
    play: impl FnOnce(&Stage<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let cluster = Cluster::ours(proxy_mode)?;
    let world = World::up(&WorldOptions { name: "bench".to_owned(), cluster })?;
    let ada = world.ada();
    ada.gets_ready()?;
    let own = ada.runs("cart", PORT.parse()?)?;
    let cart = world.service(CART)?;
    let played = play(&Stage { world: &world, ada, cart })?;
    drop(own);
    world.ada().fairlead(&["stop"])?.ok()?;
    world.down()?;
    Ok(played)
}

impl Stage<'_> {
    /// Has ada intercept the cart and waits until every new connection comes to her.
    pub(crate) fn ada_intercepts(&self) -> anyhow::Result<()> {
        self.ada.fairlead(&["intercept", CART, PORT])?.ok()?;
        self.cart.is_answered_by("ada", |name| self.is_hers(name), PATIENCE)?;
        std::thread::sleep(SETTLED);
        Ok(())
    }

    /// Has ada leave the cart and waits until only pods answer.
    pub(crate) fn ada_leaves(&self) -> anyhow::Result<()> {
        self.ada.fairlead(&["leave", CART])?.ok()?;
        self.cart_is_a_pod()?;
        std::thread::sleep(SETTLED);
        Ok(())
    }

    pub(crate) fn cart_is_a_pod(&self) -> anyhow::Result<()> {
        self.cart.is_answered_by("a pod", |name| !self.is_hers(name), PATIENCE)?;
        Ok(())
    }

    pub(crate) fn is_hers(&self, name: &str) -> bool {
        name == self.ada.laptop()
    }
}

/// Says how far a long bench is.
pub(crate) fn tell(line: &str) {
    // Nobody reads any more: the work goes on all the same.
    writeln!(io::stderr(), "  {line}").unwrap_or_default();
}

pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
