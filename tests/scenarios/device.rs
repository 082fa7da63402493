//! Signing in a machine without a browser: letters that it shows, typed in a browser elsewhere, for its key, once.

use fairlead_wire::{dpop, key::Key};
use reqwest::Method;

use crate::{
    command_line::{CommandLine, refused, tokens},
    world::World,
};

fn text(json: &serde_json::Value, name: &str) -> String {
    json[name].as_str().unwrap_or_else(|| panic!("{name}: {json}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_a_browser_is_signed_in_from_another_one() {
    let world = World::new().await;
    let build = CommandLine::new(&world);
    let given = build.asks_for_letters().await;
    let (code, letters) = (text(&given, "device_code"), text(&given, "user_code"));
    assert_eq!(text(&given, "verification_uri"), format!("{}/login/device", world.url()));
    assert_eq!(refused(&build.polls(&code).await), "authorization_pending");
    assert_eq!(refused(&build.polls(&code).await), "slow_down", "5 s have not passed");

    // Whoever is not signed in goes to the issuer first, and comes back to the question.
    let mut ada = world.browser();
    let page = ada.open("/login/device").await;
    let page = ada.answer_who(page, "ada").await;
    assert!(page.body.contains("The letters that the machine shows"), "{}", page.body);
    let typed = letters.to_lowercase().replace('-', " ");
    let address = format!("/login/device?user_code={}", typed.replace(' ', "+"));
    let page = ada.open(&address).await;
    let shown = dpop::code_for_people(&dpop::jkt(&build.key.public()));
    for expected in ["build-7", "127.0.0.1", "ada@example.test", "Acme", &shown] {
        assert!(page.body.contains(expected), "`{expected}` is not on the page: {}", page.body);
    }
    world.clock.set_ahead_s(20);
    assert_eq!(refused(&build.polls_with(&build.key, &code, 20).await), "authorization_pending");

    let page = ada.decides(&page, "allow").await;
    assert!(page.body.contains("is signed in"), "{}", page.body);
    let thief = Key::generate().expect("made");
    assert_eq!(refused(&build.polls_with(&thief, &code, 20).await), "invalid_dpop_proof");
    let first = tokens(&build.polls_with(&build.key, &code, 20).await);
    let me = build.get("/api/v1/me", &first.access).await.json();
    assert_eq!(me["user"]["email"], "ada@example.test");
    assert_eq!(build.certify(&first.access).await.status, 201);

    // It was good once: whoever comes with it again ends what it began.
    assert_eq!(refused(&build.polls_with(&build.key, &code, 20).await), "invalid_grant");
    assert_eq!(build.get("/api/v1/me", &first.access).await.status, 401);
    let again = ada.open(&address).await;
    assert_eq!(again.status, 404, "{}", again.body);
    let dump = world.dump();
    assert!(
        !dump.contains(&code)
            && !dump.contains(&letters)
            && !dump.contains(&letters.replace('-', ""))
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_denies_and_who_is_late_is_told_and_nobody_is_signed_in() {
    let world = World::new().await;
    let build = CommandLine::new(&world);
    let mut ada = world.signed_in("ada").await;

    let given = build.asks_for_letters().await;
    let code = text(&given, "device_code");
    let complete = text(&given, "verification_uri_complete");
    let page = ada.open(&complete).await;
    let path = complete.strip_prefix(&world.url()).expect("an address of the hub");
    for origin in ["null", "http://127.0.0.1:49152", "https://evil.example"] {
        let forced = ada.write(Method::POST, path, None, origin).await;
        assert!(matches!(forced.status, 403 | 415), "{origin}: {} {}", forced.status, forced.body);
    }
    assert_eq!(refused(&build.polls(&code).await), "authorization_pending", "nothing was given");
    let page = ada.decides(&page, "deny").await;
    assert!(page.body.contains("was denied"), "{}", page.body);
    assert_eq!(refused(&build.polls(&code).await), "access_denied");
    let page = ada.open(&complete).await;
    assert_eq!(page.status, 404, "answered once: {}", page.body);

    let late = build.asks_for_letters().await;
    world.clock.set_ahead_s(601);
    let polled = build.polls_with(&build.key, &text(&late, "device_code"), 601).await;
    assert_eq!(refused(&polled), "expired_token");
    let page = ada.open(&text(&late, "verification_uri_complete")).await;
    assert_eq!(page.status, 404, "{}", page.body);
    let unknown = fairlead_model::Token::new(fairlead_model::TokenKind::Device, [7; 32]);
    let polled = build.polls_with(&build.key, &unknown.expose(), 601).await;
    assert_eq!(refused(&polled), "invalid_grant");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_signs_in_no_machine() {
    let world = World::new().await;
    let build = CommandLine::new(&world);
    let mut ada = world.signed_in("ada").await;
    let given = build.asks_for_letters().await;
    let page = ada.open(&text(&given, "verification_uri_complete")).await;
    ada.decides(&page, "allow").await;
    let olga = world.signed_in("olga").await;
    let id = text(&olga.member("ada@example.test").await, "id");
    assert_eq!(olga.delete(&format!("/api/v1/members/{id}")).await.status, 204);
    let polled = build.polls(&text(&given, "device_code")).await;
    assert_eq!(refused(&polled), "invalid_grant");
    world.end().await;
}
