//! What an intercept stands on is taken away: it ends, with the connections that are open, and pods answer again.

use anyhow::{Context, ensure};
use fairlead_lab::Host;
use fairlead_tests::{Conversation, Story, World};
use serde_json::{Value, json};

use crate::intercepting::{ASKS, CART, INTERCEPT, PATIENCE, Scene, while_intercepting};

const DENIED: i32 = 30;
const FORBIDS: &str = r#"forbid(principal, action == Action::"intercept", resource);"#;

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("an intercept ends when a policy forbids it", by_a_policy),
        Story::new("an intercept ends with the device that it was begun on", with_the_device),
        Story::new(
            "an intercept ends when whoever has it is no member any more",
            with_the_membership,
        ),
    ]
}

fn by_a_policy(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        let open = answered_by_her(scene)?;
        publishes(world, &json!([{"id": "nobody-intercepts", "label": "", "text": FORBIDS}]))?;
        is_lost(scene, open)?;
        let said = scene.ada.is_refused(&INTERCEPT, DENIED)?;
        ensure!(said.contains("policy"), "it does not say why: {said}");
        publishes(world, &json!([]))?;
        scene.ada_intercepts()
    })
}

fn with_the_device(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        let open = answered_by_her(scene)?;
        let session = her_session(world)?;
        asks(world, "DELETE", &format!("/api/v1/devices/{}", id_of(&session, "device")?))?;
        is_lost(scene, open)?;
        comes_back(scene)
    })
}

fn with_the_membership(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        let open = answered_by_her(scene)?;
        let member = format!("/api/v1/members/{}", id_of(&her_session(world)?, "user")?);
        asks(world, "DELETE", &member)?;
        is_lost(scene, open)?;
        asks(world, "POST", &format!("{member}/restore"))?;
        comes_back(scene)
    })
}

fn comes_back(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.ada.signs_in()?;
    scene.ada.gets_ready()?;
    scene.ada_intercepts()
}

fn her_session(world: &World) -> anyhow::Result<Value> {
    let live = world.olga().call("GET", "/api/v1/sessions?live=true", None)?.json()?;
    let session = live["sessions"].get(0).context("a live session")?;
    Ok(session.clone())
}

fn id_of<'s>(session: &'s Value, of: &str) -> anyhow::Result<&'s str> {
    session[of]["id"].as_str().with_context(|| format!("{session} has no {of}"))
}

fn asks(world: &World, method: &str, path: &str) -> anyhow::Result<()> {
    let answered = world.olga().call(method, path, None)?;
    ensure!(answered.status < 300, "{method} {path}: {}: {}", answered.status, answered.body);
    Ok(())
}

/// Opens a connection to the cart that is answered at ada's laptop.
fn answered_by_her(scene: &Scene<'_>) -> anyhow::Result<Conversation> {
    let mut open = scene.cart.conversation(Host::Node1)?;
    open.is_answered(ASKS, &scene.ada.laptop())?;
    Ok(open)
}

fn is_lost(scene: &Scene<'_>, mut open: Conversation) -> anyhow::Result<()> {
    open.is_cut(ASKS)?;
    scene.ada.has_lost(CART, PATIENCE)?;
    scene.cart_is_a_pod()?;
    scene.cart.is_given_back(PATIENCE)
}

fn publishes(world: &World, policies: &Value) -> anyhow::Result<()> {
    let body = json!({ "policies": policies });
    let published = world.olga().call("PUT", "/api/v1/policies", Some(&body))?;
    ensure!(published.status == 200, "{}: {}", published.status, published.body);
    Ok(())
}
