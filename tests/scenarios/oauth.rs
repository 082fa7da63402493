//! Signing in at the command line: a code of the hub, for the key of one device, once.

use fairlead_wire::{dpop, key::Key};
use reqwest::Method;
use serde_json::json;

use crate::{
    command_line::{CommandLine, refused, tokens},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_signs_in_gets_a_certificate_and_signs_out() {
    let world = World::new().await;
    let ada = CommandLine::new(&world);
    let first = ada.signs_in(&mut world.browser(), "ada").await;
    let me = ada.get("/api/v1/me", &first.access).await.json();
    assert_eq!(me["user"]["email"], "ada@example.test");
    assert_eq!(me["groups"], json!(["developers"]));

    let certified = ada.certify(&first.access).await;
    assert_eq!(certified.status, 201, "{}", certified.body);
    let device = &certified.json()["device"];
    assert_eq!(device["thumbprint"], ada.key.thumbprint().to_string());
    let renewed = ada.certify(&first.access).await.json();
    assert_eq!(&renewed["device"]["id"], &device["id"], "the same key again is a renewal");

    let second = tokens(&ada.refresh(&first.refresh).await);
    assert_eq!(ada.get("/api/v1/me", &second.access).await.status, 200);
    assert_eq!(ada.revoke(&second.refresh).await.status, 200);
    assert_eq!(ada.get("/api/v1/me", &second.access).await.status, 401);
    assert_eq!(ada.get("/api/v1/me", &first.access).await.status, 401);
    assert_eq!(refused(&ada.refresh(&second.refresh).await), "invalid_grant");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_is_led_to_the_hub_gives_nobody_a_code() {
    let world = World::new().await;
    let mut ada = world.signed_in("ada").await;
    let laptop = CommandLine::new(&world);
    let url = laptop.authorize_url();
    let page = ada.open(&url).await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert_eq!(page.url.path(), "/oauth/authorize", "nothing is given for opening it");
    let code = dpop::code_for_people(&dpop::jkt(&laptop.key.public()));
    for shown in ["ada@example.test", "Acme", "127.0.0.1", &code] {
        assert!(page.body.contains(shown), "`{shown}` is not on the page: {}", page.body);
    }
    let path = url.strip_prefix(&world.url()).expect("an address of the hub");
    for origin in ["null", "http://127.0.0.1:49152", "https://evil.example"] {
        let forced = ada.write(Method::POST, path, None, origin).await;
        assert_eq!(forced.status, 403, "{origin}: {}", forced.body);
    }
    let pressed = ada.confirms(page).await;
    assert_eq!(pressed.url.path(), "/callback", "{}", pressed.body);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_worth_nothing_without_its_verifier_or_its_key() {
    let world = World::new().await;
    let ada = CommandLine::new(&world);
    let mut browser = world.browser();
    let code = ada.code_by(&mut browser, "ada").await;
    assert_eq!(refused(&ada.redeem(&code, "another verifier").await), "invalid_grant");
    let thief = Key::generate().expect("made");
    let stolen =
        ada.redeem_with(&thief, &code, "a-verifier-of-forty-three-characters-at-least").await;
    assert_eq!(refused(&stolen), "invalid_dpop_proof");
    tokens(&ada.redeem_rightly(&code).await);

    let late = ada.code_by(&mut browser, "ada").await;
    world.clock.set_ahead_s(61);
    let page = ada.redeem_rightly(&late).await;
    // The laptop's proof is now as old as the code.
    assert!(["invalid_grant", "invalid_dpop_proof"].contains(&refused(&page).as_str()));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_used_twice_ends_the_sign_in() {
    let world = World::new().await;
    let ada = CommandLine::new(&world);
    let code = ada.code_by(&mut world.browser(), "ada").await;
    let pair = tokens(&ada.redeem_rightly(&code).await);
    assert_eq!(ada.get("/api/v1/me", &pair.access).await.status, 200);
    assert_eq!(refused(&ada.redeem_rightly(&code).await), "invalid_grant");
    assert_eq!(ada.get("/api/v1/me", &pair.access).await.status, 401);
    assert_eq!(refused(&ada.refresh(&pair.refresh).await), "invalid_grant");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_uses_of_a_code_at_once_one_counts() {
    let world = World::new().await;
    let ada = CommandLine::new(&world);
    let mut browser = world.browser();
    for _ in 0..5 {
        let code = ada.code_by(&mut browser, "ada").await;
        let (one, other) = tokio::join!(ada.redeem_rightly(&code), ada.redeem_rightly(&code));
        let statuses = [one.status, other.status];
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_given_for_the_key_of_the_sign_in_only() {
    let world = World::new().await;
    let ada = CommandLine::new(&world);
    let pair = ada.signs_in(&mut world.browser(), "ada").await;
    let other = Key::generate().expect("made");
    assert_eq!(ada.certify_key(&pair.access, &other).await.status, 400);
    let browser = world.signed_in("grace").await;
    let body = json!({ "name": "x", "csr_pem": "" });
    assert_eq!(browser.post("/api/v1/devices", &body).await.status, 400);

    let id = ada.certify(&pair.access).await.json()["device"]["id"].clone();
    let path = format!("/api/v1/devices/{}", id.as_str().expect("an id"));
    assert!([403, 404].contains(&browser.delete(&path).await.status), "not grace's");
    assert_eq!(ada.call(Method::DELETE, &path, &pair.access, None).await.status, 204);
    assert_eq!(ada.get("/api/v1/me", &pair.access).await.status, 401, "its sign-in has ended");
    world.end().await;
}
