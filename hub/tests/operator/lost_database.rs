//! The database is lost under a hub that serves: emptied, dropped and made anew. The hub ends, says what to do, and the
//! next one begins as on the first day.

use crate::{
    admin::found,
    place::{HOST, Place},
};

const EMPTIES: &str = "drop schema public cascade; create schema public;";

#[tokio::test]
async fn a_hub_whose_database_was_emptied_ends_and_says_what_to_do() {
    let place = Place::new().await;
    let (mut hub, _) = place.serving().await;
    hub.says("/setup?token=").await;
    found(&place).await;
    place.sql(EMPTIES);
    let (status, said) = hub.ends_saying().await;
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("it was emptied, restored, or made anew"), "{said}");
    assert!(said.contains("Start the hub again"), "{said}");
    begins_as_on_the_first_day(&place).await;
}

#[tokio::test]
async fn a_hub_whose_database_was_made_anew_ends_though_its_claim_can_be_had_there() {
    let place = Place::new().await;
    let (mut hub, _) = place.serving().await;
    hub.says("/setup?token=").await;
    found(&place).await;
    place.database.make_anew().expect("made");
    let (status, said) = hub.ends_saying().await;
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("it was emptied, restored, or made anew"), "{said}");
    begins_as_on_the_first_day(&place).await;
}

/// As `pg_restore --clean` does it: the tables are there again, with the same numbers in them.
#[tokio::test]
async fn a_hub_whose_database_was_restored_under_it_ends() {
    let place = Place::new().await;
    let (mut hub, _) = place.serving().await;
    hub.says("/setup?token=").await;
    place.sql(
        "create table again (like _sqlx_migrations including all);
         insert into again select * from _sqlx_migrations;
         drop table _sqlx_migrations;
         alter table again rename to _sqlx_migrations",
    );
    let (status, said) = hub.ends_saying().await;
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("it was emptied, restored, or made anew"), "{said}");
    let (_hub, address) = place.serving().await;
    let ready = place.client(address).get(format!("https://{HOST}/readyz")).send().await;
    assert_eq!(ready.expect("it answers").status(), 204);
}

async fn begins_as_on_the_first_day(place: &Place) {
    let (mut hub, address) = place.serving().await;
    hub.says("/setup?token=").await;
    let ready = place.client(address).get(format!("https://{HOST}/readyz")).send().await;
    assert_eq!(ready.expect("it answers").status(), 204);
    let listed = place.run(&["admin", "users", "list"]).await.refused();
    assert!(
        listed.contains("there is no organization yet: fairlead-hub admin setup-url"),
        "{listed}"
    );
}
