//! What most stories have in common: a developer who intercepts the cart, and a shop whose pods nobody touches.

use std::time::Duration;

use fairlead_tests::{OwnProcess, Person, Service, Witness, World};

/// For everything that has no bound of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where the developer's own cart listens.
pub(crate) const PORT: u16 = 3000;
pub(crate) const CART: &str = "shop/cart";
pub(crate) const INTERCEPT: [&str; 3] = ["intercept", CART, "3000"];
/// Asks the cart, over a connection that is kept.
pub(crate) const ASKS: &str = "GET /who HTTP/1.1\r\nHost: cart\r\n\r\n";
pub(crate) const LEAVE: [&str; 2] = ["leave", CART];

/// Ada at her laptop, with a cart of her own, and the cart of the shop.
pub(crate) struct Scene<'w> {
    pub(crate) world: &'w World,
    pub(crate) ada: Person<'w>,
    pub(crate) cart: Service<'w>,
    /// Goes with the scene.
    _own: OwnProcess,
}

/// Plays a scene in which no pod of the shop may be touched. Ada is ready for it, and stops afterwards.
pub(crate) fn scene(
    world: &World,
    play: impl FnOnce(&Scene<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    let own = ada.runs("cart", PORT)?;
    let scene = Scene::of(world, ada, world.service(CART)?, own);
    without_touching_a_pod(world, || play(&scene))?;
    scene.ada.fairlead(&["stop"])?.ok()?;
    scene.cart_is_a_pod()
}

/// Plays a scene in which ada has the cart when it begins.
pub(crate) fn while_intercepting(
    world: &World,
    play: impl FnOnce(&Scene<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    scene(world, |scene| {
        scene.ada_intercepts()?;
        play(scene)
    })
}

impl<'w> Scene<'w> {
    pub(crate) const fn of(
        world: &'w World,
        ada: Person<'w>,
        cart: Service<'w>,
        own: OwnProcess,
    ) -> Self {
        Self { world, ada, cart, _own: own }
    }

    pub(crate) fn ada_intercepts(&self) -> anyhow::Result<()> {
        self.ada.fairlead(&INTERCEPT)?.ok()?;
        self.cart_is_hers()
    }

    /// Waits until every new connection comes to ada's laptop.
    pub(crate) fn cart_is_hers(&self) -> anyhow::Result<()> {
        let laptop = self.ada.laptop();
        self.cart.is_answered_by("ada", |name| name == laptop, PATIENCE)?;
        Ok(())
    }

    /// Waits until no new connection comes to ada's laptop.
    pub(crate) fn cart_is_a_pod(&self) -> anyhow::Result<()> {
        let laptop = self.ada.laptop();
        self.cart.is_answered_by("a pod", |name| name != laptop, PATIENCE)?;
        Ok(())
    }

    /// Waits until it is shown as active and every new connection comes to ada's laptop.
    pub(crate) fn intercept_goes_on(&self) -> anyhow::Result<()> {
        self.ada.is_shown(CART, "active")?;
        self.cart_is_hers()
    }
}

/// Plays something during which the shop's pods must stay what they are.
pub(crate) fn without_touching_a_pod(
    world: &World,
    play: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let witness = Witness::begins(world.lab())?;
    play()?;
    witness.saw_no_change()
}
