//! Many sessions that are decided again because of one change: what they stand on is read once, and none of them is
//! decided on what has changed since.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use tracing::{
    Dispatch, Event, Subscriber,
    field::{Field, Visit},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    registry,
};

use super::{has_ended, id_of, publish, running::running};
use crate::{
    people::Person,
    world::{World, eventually},
};

const MANY: usize = 12;
const HARMLESS: &str = r#"forbid(principal, action == Action::"intercept", resource);"#;
const NO_PAY: &str =
    r#"forbid(principal, action == Action::"consume", resource == Service::"staging/pay/ledger");"#;
const FREEZE: &str = r#"forbid(principal, action == Action::"consume", resource);"#;

#[tokio::test]
async fn what_many_sessions_stand_on_is_read_once_for_all_of_them() {
    let (statements, _heard) = Statements::heard();
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let mut people = Vec::new();
    for number in 0..MANY {
        let person = world.person(&format!("dev{number}"), "developers").await;
        let begun = person.consumes(&world, staging.id, &["shop/*"]).await.with(201);
        people.push((person, id_of(&begun)));
    }
    // Sessions are looked at from the newest to the oldest.
    let (first, _) = &people[0];
    statements.forget();
    publish(&world, &olga, &[("not-him", &forbids(first))]).await;
    staging.agent.revoked().await;
    let at_most = |count, what| {
        let found = statements.count(what);
        assert!((1..=count).contains(&found), "{what}: {found} times of {statements:#?}");
    };
    // By the pass, and by the one that ends.
    at_most(2, "from services where org_id = $1 and teamspace_id = $2 order by");
    at_most(2, "from role_bindings b");
    at_most(2, "lock_reason from teamspaces");
    at_most(2, "from session_services where");
    at_most(2, "from session_hosts where");
    // By the one that ends.
    at_most(1, "update session_services g set pods");
    for (person, session) in &people[1..] {
        let shown = person.get(&world, &format!("/api/v1/sessions/{session}")).await.with(200);
        assert!(shown["ended_at"].is_null(), "{shown}");
    }
}

fn forbids(person: &Person) -> String {
    let user = person.caller.actor.user();
    format!(r#"forbid(principal == User::"{user}", action == Action::"consume", resource);"#)
}

#[tokio::test]
async fn a_change_that_comes_during_a_pass_has_a_pass_of_its_own() {
    let mut running = running().await;
    let world = &running.world;
    // A single session is no pass.
    let grace = world.person("grace", "developers").await;
    let begun = grace.consumes(world, running.staging.id, &["shop/*"]).await.with(201);
    let held = world.aside("begin; lock table session_hosts; select pg_sleep(600)");
    waits(world, 1, "wait_event = 'PgSleep'").await;
    publish(world, &running.olga, &[("harmless", HARMLESS)]).await;
    waits(world, 1, "wait_event_type = 'Lock'").await;
    // By now the pass has read which policies there are.
    publish(world, &running.olga, &[("freeze", FREEZE)]).await;
    release(world);
    held.join().expect("no panic");
    assert!(has_ended(world, &grace, &id_of(&begun)).await.contains("`freeze`"));
    assert!(running.laptop.revoked().await.reason.contains("`freeze`"));
}

#[tokio::test]
async fn a_session_that_changes_during_a_pass_is_decided_by_itself() {
    let running = running().await;
    let world = &running.world;
    running.staging.agent.reports(&["shop/cart", "pay/ledger"]).await;
    let grace = world.person("grace", "developers").await;
    grace.consumes(world, running.staging.id, &["shop/*"]).await.with(201);
    let held = world.aside("begin; lock table session_hosts; select pg_sleep(600)");
    waits(world, 1, "wait_event = 'PgSleep'").await;
    // What it is decided by has been read when it waits, and so has what the pass looks at.
    let change = running.is_about(&running.ada, &["pay/*"]);
    let pass = async {
        waits(world, 1, "wait_event_type = 'Lock'").await;
        publish(world, &running.olga, &[("no-pay", NO_PAY)]).await;
        waits(world, 2, "wait_event_type = 'Lock'").await;
        release(world);
    };
    tokio::join!(change, pass);
    held.join().expect("no panic");
    assert!(has_ended(world, &running.ada, &running.session).await.contains("`no-pay`"));
}

/// Waits until so many of the database's backends are as described.
async fn waits(world: &World, count: usize, what: &str) {
    let backends =
        format!("select 1 from pg_stat_activity where datname = current_database() and {what}");
    eventually(what, async || (world.rows(&backends).len() >= count).then_some(())).await;
}

/// Ends what the test keeps from everybody.
fn release(world: &World) {
    world.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and wait_event = 'PgSleep'",
    );
}

#[tokio::test]
async fn each_of_several_sessions_follows_the_catalogue() {
    let mut running = running().await;
    let grace = running.world.person("grace", "developers").await;
    let mut hers = grace.laptop.connect(&running.world).await.expect("welcomed");
    grace.consumes(&running.world, running.staging.id, &["shop/*"]).await.with(201);
    for (reported, granted) in [
        (&["shop/cart", "shop/pay"][..], &["shop/cart:80", "shop/pay:80"][..]),
        (&["shop/cart"][..], &["shop/cart:80"][..]),
    ] {
        running.staging.agent.reports(reported).await;
        running.is_granted(granted, "shop/cart").await;
        hers.grant().await;
    }
}

#[tokio::test]
async fn where_a_row_is_damaged_that_some_need_the_others_end_all_the_same() {
    let running = running().await;
    let world = &running.world;
    let grace = world.person("grace", "developers").await;
    let begun = grace.consumes(world, running.staging.id, &["shop/*"]).await.with(201);
    world.sql(
        "update services set namespace = '/ /';
         update teamspaces set locked_at = now(), lock_reason = 'copied';",
    );
    publish(world, &running.olga, &[("harmless", HARMLESS)]).await;
    let reason = has_ended(world, &grace, &id_of(&begun)).await;
    assert_eq!(reason, "the teamspace is locked: copied");
}

/// What the hub asks its database, as far as it does it on the thread of this test.
#[derive(Clone, Debug, Default)]
struct Statements(Arc<Mutex<Vec<String>>>);

impl Statements {
    fn heard() -> (Self, (Dispatch, DefaultGuard)) {
        let statements = Self::default();
        let subscriber = registry().with(statements.clone());
        // While there is only one, whether somebody hears a statement is asked on whichever thread makes it first.
        let another = Dispatch::new(registry());
        (statements, (another, tracing::subscriber::set_default(subscriber)))
    }

    fn forget(&self) {
        self.0.lock().expect("unpoisoned").clear();
    }

    fn count(&self, what: &str) -> usize {
        self.0.lock().expect("unpoisoned").iter().filter(|one| one.contains(what)).count()
    }
}

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            let mut statement = Statement::default();
            event.record(&mut statement);
            self.0.lock().expect("unpoisoned").push(statement.in_one_line());
        }
    }
}

/// Short ones are their own summary.
#[derive(Default)]
struct Statement {
    summary: String,
    text: String,
}

impl Statement {
    fn in_one_line(&self) -> String {
        let whole = if self.text.trim().is_empty() { &self.summary } else { &self.text };
        whole.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.text),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
