//! An organization's connections to its issuers: each address leads to one of them, and there is always a way in.

use serde_json::{Value, json};

use crate::{
    browser::{Browser, Page},
    world::World,
};

const CONNECTIONS: &str = "/api/v1/organization/connections";

fn connection(world: &World, domains: &[&str]) -> Value {
    json!({
        "issuer": world.issuer.url(), "client_id": "fairlead", "client_secret": "lab-secret",
        "groups_claim": "groups", "scopes": ["email", "profile", "groups"], "email_domains": domains,
    })
}

fn path_of(connection: &str) -> String {
    format!("{CONNECTIONS}/{connection}")
}

/// Returns the id of the connection with which the organization began.
async fn first(browser: &Browser) -> String {
    let shown = browser.get("/api/v1/organization").await.json();
    shown["connections"][0]["id"].as_str().expect("an id").to_owned()
}

#[track_caller]
fn refused(page: &Page, words: &str) {
    assert_eq!(page.status, 409, "{}", page.body);
    assert!(page.body.contains(words), "{}", page.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_connections_has_domains_of_its_own() {
    let world = World::new().await;
    let olga = world.signed_in("olga").await;
    let first = first(&olga).await;
    let other = connection(&world, &["other.test"]);
    refused(&olga.post(CONNECTIONS, &other).await, "lists no e-mail domain");
    let ours = connection(&world, &["example.test"]);
    assert_eq!(olga.put(&path_of(&first), &ours).await.status, 204);
    refused(&olga.post(CONNECTIONS, &connection(&world, &[])).await, "other connections");
    refused(&olga.post(CONNECTIONS, &ours).await, "leads to another connection");
    let added = olga.post(CONNECTIONS, &other).await;
    assert_eq!(added.status, 201, "{}", added.body);
    refused(
        &olga.put(&path_of(&first), &connection(&world, &["other.test"])).await,
        "leads to another connection",
    );

    // The next organization on this hub is held to the same.
    let link = fairlead_hub::admin::setup_link(&world.hub.store, &world.hub.config.public_url)
        .await
        .expect("a link");
    let token = link.split_once("token=").expect("a token").1;
    let mut setup = world.setup(token);
    setup["organization"] = json!({ "slug": "rival", "name": "Rival" });
    refused(&olga.post("/api/v1/setup", &setup).await, "other connections");
    setup["oidc"]["email_domains"] = json!(["Example.test"]);
    refused(&olga.post("/api/v1/setup", &setup).await, "leads to another connection");
    setup["oidc"]["email_domains"] = json!(["rival.test"]);
    assert_eq!(olga.post("/api/v1/setup", &setup).await.status, 201);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_lack_a_domain_get_theirs_one_after_the_other() {
    let world = World::new().await;
    let olga = world.signed_in("olga").await;
    let first = first(&olga).await;
    world.rows(
        "insert into oidc_connections
         select org_id, gen_random_uuid(), issuer, client_id, sealed_client_secret, groups_claim, scopes, '{}', created_at
         from oidc_connections",
    );
    let ours = connection(&world, &["example.test"]);
    assert_eq!(olga.put(&path_of(&first), &ours).await.status, 204);
    let third = connection(&world, &["third.test"]);
    refused(&olga.post(CONNECTIONS, &third).await, "lists no e-mail domain");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_goes_with_its_sign_ins_and_without_its_members() {
    let world = World::new().await;
    let olga = world.signed_in("olga").await;
    let first = first(&olga).await;
    refused(&olga.delete(&path_of(&first)).await, "the only connection");
    let ours = connection(&world, &["example.test"]);
    assert_eq!(olga.put(&path_of(&first), &ours).await.status, 204);
    let added = olga.post(CONNECTIONS, &connection(&world, &["other.test"])).await;
    let second = added.json()["id"].as_str().expect("an id").to_owned();

    let mut ada = world.browser();
    let page = ada.open("/login?email=ada@other.test").await;
    ada.answer_who(page, "ada").await;
    let me = ada.open("/api/v1/me").await.json()["user"].clone();
    refused(&olga.delete(&path_of(&first)).await, "you have signed in by this connection");
    assert_eq!(olga.delete(&path_of(&second)).await.status, 204);
    assert_eq!(ada.open("/api/v1/me").await.status, 401);
    let page = ada.open("/login?email=ada@example.test").await;
    ada.answer_who(page, "ada").await;
    assert_eq!(ada.open("/api/v1/me").await.json()["user"], me, "she is who she was");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_says_what_of_a_connection_was_changed() {
    let world = World::new().await;
    let olga = world.signed_in("olga").await;
    let path = path_of(&first(&olga).await);
    assert_eq!(olga.put(&path, &connection(&world, &["example.test"])).await.status, 204);
    let audit = olga.get("/api/v1/audit?limit=1").await.json();
    let entry = &audit["entries"][0];
    assert_eq!(entry["action"], "connection.changed");
    let expected = json!({
        "email_domains": { "before": [], "after": ["example.test"] },
        "client_secret": "replaced",
    });
    assert_eq!(entry["detail"], expected);
    world.end().await;
}
