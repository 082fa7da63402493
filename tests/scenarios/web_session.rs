//! A browser's session: how long it counts, and for whose pages.

use reqwest::Method;
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_browser_end_by_idleness_by_age_and_by_leaving() {
    let world = World::new().await;
    let mut idle = world.signed_in("ada").await;
    let mut leaving = world.signed_in("ada").await;
    leaving.submit("/logout", &[]).await;
    assert_eq!(leaving.open("/api/v1/me").await.status, 401);
    world.clock.set_ahead_s(11 * 3600);
    assert_eq!(idle.open("/api/v1/me").await.status, 200);
    world.clock.set_ahead_s(22 * 3600);
    assert_eq!(idle.open("/api/v1/me").await.status, 200, "it was used meanwhile");
    world.clock.set_ahead_s(35 * 3600);
    assert_eq!(idle.open("/api/v1/me").await.status, 401);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_changes_nothing() {
    let world = World::new().await;
    let olga = world.signed_in("olga").await;
    let id = olga.member("olga@example.test").await["id"].clone();
    let path = format!("/api/v1/members/{}/roles", id.as_str().expect("an id"));
    let body = json!({ "roles": ["owner", "viewer"] });
    let foreign = olga.write(Method::PUT, &path, Some(&body), "https://evil.example").await;
    assert_eq!(foreign.status, 403, "{}", foreign.body);
    assert_eq!(foreign.json()["error"]["code"], "foreign_origin");
    assert_eq!(olga.put(&path, &body).await.status, 204);
    world.end().await;
}
