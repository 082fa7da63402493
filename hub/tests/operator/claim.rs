//! One hub serves a database: who waits, who ends, and what is no reason for either.

use std::{pin::pin, time::Duration};

use hub_store::{Claim, Claimed, Store};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::timeout;

use crate::{
    place::{HOST, PATIENCE, Place},
    proxy::Proxy,
};

#[tokio::test]
async fn a_hub_waits_for_the_one_before_it_to_end() {
    let place = Place::new().await;
    let (first, _) = place.serving().await;
    let mut second = place.serve(&[]);
    second.says("Another hub serves this database: waiting for it to end").await;
    first.signal(Signal::SIGTERM);
    assert_eq!(first.ends().await.code(), Some(0));
    second.is_serving().await;
}

#[tokio::test]
async fn a_hub_that_was_killed_does_not_keep_the_next_one_out() {
    let place = Place::new().await;
    let (first, _) = place.serving().await;
    first.signal(Signal::SIGKILL);
    first.ends().await;
    place.serving().await;
}

#[tokio::test]
async fn a_hub_that_waits_has_changed_no_schema() {
    let place = Place::new().await;
    let (_first, _) = place.serving().await;
    // Whoever migrates now fails over the tables that are there.
    place.sql("delete from _sqlx_migrations;");
    let mut second = place.serve(&[]);
    second.says("Another hub serves this database: waiting for it to end").await;
}

#[tokio::test]
async fn a_hub_whose_database_another_one_took_ends() {
    let place = Place::new().await;
    let (hub, _) = place.serving().await;
    let taken = taken(&place, || {
        place.sql(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objsubid = 2
             and database = (select oid from pg_database where datname = current_database());",
        );
    });
    let _claim = taken.await;
    let (status, said) = hub.ends_saying().await;
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("another hub (the faster one) serves this database"), "{said}");
}

#[tokio::test]
async fn a_slow_database_keeps_the_claim_for_the_hub_that_serves() {
    let place = Place::new().await;
    let (mut hub, _) = place.serving().await;
    let claimant = place.claimant().expect("the hub's");
    let stopped = Stopped::stop(claimant);
    for _ in 0..3 {
        hub.says("it says that the claim on the database stands").await;
    }
    drop(stopped);
    let store = Store::connect(&place.database.url()).await.expect("Postgres answers");
    let claimed = store.claim("the next one").await.expect("it answers");
    assert!(matches!(claimed, Claimed::Theirs(_)), "{claimed:?}");
    assert_eq!(place.claimant(), Some(claimant), "the same connection has it");
}

#[tokio::test]
async fn a_claim_whose_connection_is_half_open_is_taken_again() {
    let place = Place::new().await;
    let proxy = Proxy::before(&place.database);
    let mut hub = place.serve(&["--database-url", &proxy.url()]);
    hub.is_serving().await;
    let before = place.claimant().expect("the hub's");
    proxy.cut();
    hub.says("The claim on the database is ours again").await;
    let after = place.claimant().expect("the hub's");
    assert_ne!(after, before);
}

#[tokio::test]
async fn a_hub_ends_when_another_one_took_its_database_behind_a_half_open_connection() {
    let place = Place::new().await;
    let proxy = Proxy::before(&place.database);
    let mut hub = place.serve(&["--database-url", &proxy.url()]);
    hub.is_serving().await;
    let _claim = taken(&place, || proxy.cut()).await;
    let (status, said) = hub.ends_saying().await;
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("another hub (the faster one) serves this database"), "{said}");
}

#[tokio::test]
async fn a_hub_that_stops_keeps_its_claim_until_its_last_request_is_over() {
    let place = Place::new().await;
    let (mut hub, address) = place.serving().await;
    let never_said = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let asked = place
        .client(address)
        .post(format!("https://{HOST}/login/recover"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(reqwest::Body::wrap_stream(never_said));
    let mut asked = pin!(asked.send());
    // It has been taken in when an ordinary request after it was answered.
    let alive = format!("https://{HOST}/healthz");
    tokio::select! {
        _ = &mut asked => panic!("its body is not there yet"),
        () = async { place.client(address).get(alive).send().await.expect("it answers"); } => {}
    }
    hub.signal(Signal::SIGTERM);
    hub.says("Stopping").await;
    tokio::select! {
        biased;
        cut = &mut asked => drop(cut.expect_err("its body never came")),
        _ = taken(&place, || {}) => {
            // Both can have come true by the time somebody looks.
            let cut = timeout(Duration::from_millis(500), &mut asked).await;
            drop(cut.expect("the hub still answers").expect_err("its body never came"));
        }
    }
    assert_eq!(hub.ends().await.code(), Some(0));
    taken(&place, || {}).await;
}

/// Takes the database for another hub, once it can be had. `takes_away` is tried before each attempt.
async fn taken(place: &Place, takes_away: impl Fn()) -> Claim {
    let store = Store::connect(&place.database.url()).await.expect("Postgres answers");
    let taken = timeout(PATIENCE, async {
        loop {
            takes_away();
            if let Claimed::Ours(claim) = store.claim("the faster one").await.expect("it answers") {
                return claim;
            }
            tokio::task::yield_now().await;
        }
    });
    taken.await.expect("it can be had")
}

/// A process that does nothing until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn stop(process: Pid) -> Self {
        kill(process, Signal::SIGSTOP).expect("it runs");
        Self(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).expect("it runs");
    }
}
