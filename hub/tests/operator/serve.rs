//! `migrate` and `serve`: ready, set up, told to read its certificate again, told to end.

use hub_store::{Claimed, Store};
use nix::sys::signal::Signal;

use crate::place::{HOST, Place};

#[tokio::test]
async fn a_hub_migrates_serves_and_ends_when_it_is_told_to() {
    let place = Place::new().await;
    assert_eq!(place.run(&["migrate"]).await.ok(), "The schema is up to date.\n");
    let mut hub = place.serve(&[]);
    let address = hub.is_serving().await;
    let client = place.client(address);
    let ready = client.get(format!("https://{HOST}/readyz")).send().await.expect("it answers");
    assert_eq!(ready.status(), 204);

    let line = hub.says("/setup?token=").await;
    let message = line["fields"]["message"].as_str().expect("a message");
    let token = message.split_once("token=").expect("a token").1;
    let asked = format!("https://{HOST}/api/v1/setup?token={token}");
    assert_eq!(client.get(asked).send().await.expect("it answers").status(), 200);

    hub.signal(Signal::SIGTERM);
    hub.says("Stopping").await;
    assert_eq!(hub.ends().await.code(), Some(0));
    let gone = client.get(format!("https://{HOST}/healthz")).send().await;
    assert!(gone.expect_err("nobody listens").is_connect());
}

#[tokio::test]
async fn a_hang_up_reads_the_certificate_again_and_a_bad_one_changes_nothing() {
    let place = Place::new().await;
    let (mut hub, address) = place.serving().await;
    let alive = format!("https://{HOST}/healthz");
    let before = place.client(address);
    assert_eq!(before.get(&alive).send().await.expect("trusted").status(), 204);

    place.certify();
    hub.signal(Signal::SIGHUP);
    hub.says("Certificate read again").await;
    let after = place.client(address);
    assert_eq!(after.get(&alive).send().await.expect("the new one").status(), 204);

    std::fs::write(place.path("tls.crt"), "no certificate").expect("written");
    hub.signal(Signal::SIGHUP);
    hub.says("the old one stays").await;
    let still = place.client(address);
    assert_eq!(still.get(&alive).send().await.expect("the one before").status(), 204);
}

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
    let store = Store::connect(&place.database.url()).await.expect("Postgres answers");
    let _claim = loop {
        place.sql(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objsubid = 2
             and database = (select oid from pg_database where datname = current_database());",
        );
        if let Claimed::Ours(claim) = store.claim("the faster one").await.expect("it answers") {
            break claim;
        }
    };
    let (status, said) = hub.ends_saying().await;
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("another hub (the faster one) serves this database"), "{said}");
}
