//! The links that let somebody in without an issuer: the first one of all, and the one that recovers an organization.

use fairlead_hub::admin;
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_named_at_setup_owns_the_organization_and_the_link_is_spent() {
    let world = World::without_organization().await;
    let token = world.setup_token().await;
    let mut browser = world.browser();
    assert_eq!(browser.open("/api/v1/sign-in").await.json()["ready"], false);
    assert_eq!(browser.open("/login").await.status, 404);
    assert_eq!(browser.open(&format!("/api/v1/setup?token={token}")).await.status, 200);

    assert_eq!(browser.post("/api/v1/setup", &world.setup(&token)).await.status, 201);
    assert_eq!(browser.open(&format!("/api/v1/setup?token={token}")).await.status, 404);
    assert_eq!(browser.post("/api/v1/setup", &world.setup(&token)).await.status, 404);

    let olga = browser.sign_in("olga").await;
    assert_eq!(olga.url.path(), "/", "{}", olga.body);
    let me = browser.open("/api/v1/me").await.json();
    assert_eq!(me["roles"], json!(["owner"]));
    assert_eq!(me["organization"]["slug"], "acme");
    let mut second = world.browser();
    second.sign_in("ada").await;
    assert_eq!(second.open("/api/v1/me").await.json()["roles"], json!(["developer"]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_with_a_wrong_issuer_says_so_and_spends_nothing() {
    let world = World::without_organization().await;
    let token = world.setup_token().await;
    let browser = world.browser();
    let nowhere = format!("http://127.0.0.1:{}", crate::world::free_port());
    let slash = format!("{}/", world.issuer.url());
    for (issuer, expected) in [
        (nowhere.as_str(), "cannot be reached"),
        (world.url().as_str(), "cannot be reached"),
        (slash.as_str(), "another name"),
        ("issuer", "not the address"),
        ("http://192.0.2.1:9", "without TLS"),
    ] {
        let mut setup = world.setup(&token);
        setup["oidc"]["issuer"] = json!(issuer);
        let page = browser.post("/api/v1/setup", &setup).await;
        assert_eq!(page.status, 400, "{issuer}: {}", page.body);
        let message = page.json()["error"]["message"].as_str().expect("words").to_owned();
        assert!(message.contains(expected), "{issuer}: {message}");
        assert!(page.json()["error"]["hint"].is_string());
    }
    assert_eq!(browser.post("/api/v1/setup", &world.setup(&token)).await.status, 201);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recover_link_lets_an_owner_in_once_without_the_issuer() {
    let world = World::new().await;
    let store = &world.hub.store;
    let link =
        admin::recover_link(store, &world.hub.config.public_url, "Rescue@example.test", None)
            .await
            .expect("one organization");
    let mut browser = world.browser();
    let page = browser.open(&link).await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(page.body.contains("Recover Acme"), "{}", page.body);
    assert_eq!(browser.open("/api/v1/me").await.status, 401, "opening it changes nothing");
    let token = link.split_once("token=").expect("a token").1;
    browser.submit("/login/recover", &[("token", token)]).await;
    let me = browser.open("/api/v1/me").await.json();
    assert_eq!(me["user"]["email"], "rescue@example.test");
    assert_eq!(me["roles"], json!(["owner"]));
    let audit = browser.open("/api/v1/audit?limit=1").await.json();
    assert_eq!(audit["entries"][0]["action"], "recover_link.used");
    let mut second = world.browser();
    assert_eq!(second.submit("/login/recover", &[("token", token)]).await.status, 404);
    world.end().await;
}
