//! `migrate` and `serve`: ready, set up, told to read its certificate again, told to end.

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
async fn a_hub_that_is_told_to_end_while_it_begins_ends_in_order() {
    let place = Place::new().await;
    place.run(&["migrate"]).await.ok();
    // It serves already when it asks whether this is its first run.
    place.sql(
        "alter table organizations rename to slowly;
         create view organizations as select * from slowly where (select pg_sleep(3)) is not null",
    );
    let mut hub = place.serve(&[]);
    hub.is_serving().await;
    hub.signal(Signal::SIGTERM);
    hub.says("Stopping").await;
    assert_eq!(hub.ends().await.code(), Some(0));
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
