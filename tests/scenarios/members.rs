//! Members: what they may do follows their groups, and ends when they are removed.

use serde_json::{Value, json};

use crate::{
    command_line::{CommandLine, refused},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_groups_changes_the_roles_at_the_next_sign_in() {
    let mut world = World::new().await;
    let mut ada = world.signed_in("ada").await;
    assert_eq!(ada.open("/api/v1/me").await.json()["roles"], json!(["developer"]));
    world.issuer = world.issuer.restart_with(&[("ada", &["viewers"])]);
    let mut again = world.signed_in("ada").await;
    let me = again.open("/api/v1/me").await.json();
    assert_eq!((&me["roles"], &me["groups"]), (&json!(["viewer"]), &json!(["viewers"])));
    // It is the same person: the older session has the same roles.
    assert_eq!(ada.open("/api/v1/me").await.json()["roles"], json!(["viewer"]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_is_out_at_once_and_does_not_come_back() {
    let world = World::new().await;
    let olga = world.signed_in("olga").await;
    let mut ada = world.browser();
    let laptop = CommandLine::new(&world);
    let pair = laptop.signs_in(&mut ada, "ada").await;
    let id = olga.member("ada@example.test").await["id"].clone();
    let path = format!("/api/v1/members/{}", id.as_str().expect("an id"));
    assert_eq!(olga.delete(&path).await.status, 204);
    assert_eq!(ada.open("/api/v1/me").await.status, 401);
    assert_eq!(laptop.get("/api/v1/me", &pair.access).await.status, 401);
    assert_eq!(refused(&laptop.refresh(&pair.refresh).await), "invalid_grant");
    let page = ada.sign_in("ada").await;
    assert_eq!(page.status, 403, "{}", page.body);
    assert!(page.body.contains("has been removed"), "{}", page.body);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_keeps_an_owner() {
    let world = World::new().await;
    let olga = world.signed_in("olga").await;
    world.signed_in("ada").await;
    let path =
        |member: &Value| format!("/api/v1/members/{}", member["id"].as_str().expect("an id"));
    let her = path(&olga.member("olga@example.test").await);
    let ada = path(&olga.member("ada@example.test").await);
    let none = json!({ "roles": [] });
    assert_eq!(olga.put(&format!("{her}/roles"), &none).await.status, 409);
    assert_eq!(olga.delete(&her).await.status, 409);
    let owner = json!({ "roles": ["owner"] });
    assert_eq!(olga.put(&format!("{ada}/roles"), &owner).await.status, 204);
    assert_eq!(olga.put(&format!("{her}/roles"), &none).await.status, 204);
    assert_eq!(
        olga.put(&format!("{her}/roles"), &owner).await.status,
        403,
        "no longer hers to give"
    );
    world.end().await;
}
