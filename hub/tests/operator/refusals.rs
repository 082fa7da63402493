//! What keeps a hub from starting, each with words that say what to do.

use std::net::TcpListener;

use crate::{
    admin::found,
    place::{MASTER_KEY, Place},
};

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_holder() {
    let (place, before) = (Place::new().await, Place::new().await);
    let (first, address) = before.serving().await;
    let said = place.run(&["serve", "--listen", &address.to_string()]).await.refused();
    let holder = format!("`fairlead-hub` (process {}) has this port", first.id());
    assert!(said.contains(&holder) && said.contains("choose another one"), "{said}");

    let ours = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = ours.local_addr().expect("bound").to_string();
    let said = place.run(&["serve", "--relay-listen", &address]).await.refused();
    assert!(said.contains(&format!("(process {})", std::process::id())), "{said}");
}

#[tokio::test]
async fn a_second_hub_on_a_database_that_is_served_does_not_start() {
    let place = Place::new().await;
    let (_first, _) = place.serving().await;
    let said = place.run(&["serve"]).await.refused();
    assert!(said.contains("another hub (") && said.contains("stop it first"), "{said}");
}

#[tokio::test]
async fn nobody_migrates_under_a_hub_that_serves() {
    let place = Place::new().await;
    let (_hub, _) = place.serving().await;
    place.run(&["migrate"]).await.ok();
    // As before an upgrade: the new program knows a migration that the hub which serves does not.
    place.sql(
        "delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)",
    );
    let said = place.run(&["migrate"]).await.refused();
    assert!(said.contains("another hub (") && said.contains("stop it first"), "{said}");
    assert!(said.contains("the schema stays as it is"), "{said}");
}

#[tokio::test]
async fn another_master_key_opens_nothing() {
    let place = Place::new().await;
    place.run(&["migrate"]).await.ok();
    found(&place).await;
    place.write_secret("master.key", &MASTER_KEY.replace("Bwc", "CAg"));
    let said = place.run(&["serve"]).await.refused();
    assert!(said.contains("give the hub the key with which its database was set up"), "{said}");
}

#[tokio::test]
async fn a_master_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new().await;
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(place.path("master.key"), open).expect("set");
    let said = place.run(&["serve"]).await.refused();
    assert!(said.contains("chmod 600"), "{said}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_from_one_that_is_wrong() {
    let place = Place::new().await;
    let nowhere = "postgres://fairlead@127.0.0.1:1/fairlead";
    for command in [&["serve"][..], &["migrate"], &["admin", "organizations", "list"]] {
        let (verb, rest) = command.split_first().expect("a verb");
        let arguments = [&[*verb, "--database-url", nowhere], rest].concat();
        let said = place.run(&arguments).await.refused();
        assert!(said.contains("could not reach the database"), "{command:?}: {said}");
        assert!(said.contains("is the"), "{command:?}: {said}");
        assert!(said.contains("refused"), "{command:?} keeps the cause: {said}");
    }
}

#[tokio::test]
async fn a_schema_that_is_not_ours_says_who_can_help() {
    let place = Place::new().await;
    let said = place.run(&["admin", "organizations", "list"]).await.refused();
    assert!(said.contains("run `fairlead-hub migrate`"), "{said}");
    place.run(&["migrate"]).await.ok();
    place.run(&["admin", "organizations", "list"]).await.ok();
    place.sql(
        "delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)",
    );
    let said = place.run(&["admin", "organizations", "list"]).await.refused();
    assert!(said.contains("run `fairlead-hub migrate`"), "{said}");
    place.sql(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'of a later hub', true, '', 0)",
    );
    for command in [&["serve"][..], &["migrate"], &["admin", "organizations", "list"]] {
        let said = place.run(command).await.refused();
        assert!(said.contains("a newer hub has used this database"), "{command:?}: {said}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let place = Place::new().await;
    place.write_secret("hub.toml", "public_ulr = \"https://hub.fairlead.test\"\n");
    let said = place.run(&["serve"]).await.refused();
    assert!(said.contains("hub.toml") && said.contains("public_ulr"), "{said}");
    std::fs::remove_file(place.path("hub.toml")).expect("removed");
    let said = place.run(&["migrate"]).await.refused();
    assert!(said.contains("could not read") && said.contains("hub.toml"), "{said}");
}
