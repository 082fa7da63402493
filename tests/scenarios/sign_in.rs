//! Signing in in the browser: an issuer's answer counts once, where it was asked for, and as it was asked for.

use url::Url;

use crate::{
    command_line::{CommandLine, refused},
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_in_the_browser_that_asked_and_once() {
    let world = World::new().await;
    let mut ada = world.browser();
    let state = state_of(&ada.leads_to("/login").await);
    let mut eve = world.browser();
    eve.open("/login").await;
    let made_up = "flw_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    // A state that nobody was given; then one of another browser; then that one again where it belongs.
    for (is_hers, state) in [(false, made_up), (false, &*state), (true, &*state)] {
        let browser = if is_hers { &mut ada } else { &mut eve };
        let page = browser.open(&format!("/login/callback?state={state}&code=x")).await;
        assert_eq!(page.status, 400, "{}", page.body);
        assert!(page.body.contains("no sign-in that this browser has begun"), "{}", page.body);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_another_question_is_not_believed() {
    let world = World::new().await;
    let mut ada = world.browser();
    let departed = ada.leads_to("/login").await;
    let page = ada.open(asking_otherwise(&departed, "nonce", "another").as_str()).await;
    let page = ada.answer_who(page, "ada").await;
    assert_eq!(page.status, 502, "{}", page.body);
    assert!(page.body.contains("could not be verified"), "{}", page.body);
    assert_eq!(ada.open("/api/v1/me").await.status, 401);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_issuer_is_not_taken() {
    let world = World::new().await;
    let mut ada = world.browser();
    let asked = state_of(&ada.leads_to("/login").await);
    let mixed_up =
        ada.open(&format!("/login/callback?state={asked}&code=x&iss=https://evil.example")).await;
    assert_eq!(mixed_up.status, 400, "{}", mixed_up.body);
    assert!(mixed_up.body.contains("no sign-in that this browser has begun"), "{}", mixed_up.body);
    // With the right name the code is taken to the issuer, which does not know it.
    let asked = state_of(&ada.leads_to("/login").await);
    let ours = world.issuer.url();
    let page = ada.open(&format!("/login/callback?state={asked}&code=x&iss={ours}")).await;
    assert_eq!(page.status, 502, "{}", page.body);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_the_issuer_is_worth_nothing_without_the_hubs_verifier() {
    let world = World::new().await;
    let mut ada = world.browser();
    let departed = ada.leads_to("/login").await;
    assert!(departed.as_str().contains("code_challenge_method=S256"), "{departed}");
    let another = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let page = ada.open(asking_otherwise(&departed, "code_challenge", another).as_str()).await;
    let page = ada.answer_who(page, "ada").await;
    assert_eq!(page.status, 502, "{}", page.body);
    assert!(page.body.contains("invalid_grant"), "{}", page.body);
    assert_eq!(ada.open("/api/v1/me").await.status, 401);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_by_an_hour_are_named() {
    let world = World::new().await;
    for ahead_s in [3600, -3600] {
        world.clock.set_ahead_s(ahead_s);
        let page = world.browser().sign_in("ada").await;
        assert_eq!(page.status, 502, "{}", page.body);
        assert!(page.body.contains("clock"), "{ahead_s}: {}", page.body);
        let laptop = CommandLine::new(&world);
        let proof = laptop.proof(&laptop.key);
        let page = laptop.refresh_with(Some(proof), "flr_x").await;
        assert_eq!(refused(&page), "invalid_dpop_proof");
        assert!(page.body.contains("clocks of laptop and hub"), "{}", page.body);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_away_is_named_and_sessions_go_on() {
    let mut world = World::new().await;
    let mut ada = world.signed_in("ada").await;
    let url = world.issuer.url();
    // Starting it elsewhere leaves nobody at the old address.
    world.issuer = crate::issuer::Issuer::start("https://127.0.0.1/login/callback");
    world.clock.set_ahead_s(2 * 3600);
    let page = world.browser().open("/login").await;
    assert_eq!(page.status, 502, "{}", page.body);
    assert!(page.body.contains("cannot reach your sign-in provider"), "{}", page.body);
    assert!(page.body.contains(&url), "{}", page.body);
    assert_eq!(ada.open("/api/v1/me").await.status, 200);
    world.end().await;
}

/// Returns what a browser that leaves for the issuer is to bring back.
fn state_of(departed: &Url) -> String {
    let state = departed.query_pairs().find(|(name, _)| name == "state");
    state.expect("a state").1.into_owned()
}

/// Asks the issuer the same but for one parameter.
fn asking_otherwise(departed: &Url, name: &str, value: &str) -> Url {
    let same: Vec<_> = departed.query_pairs().into_owned().filter(|(n, _)| n != name).collect();
    assert_eq!(same.len() + 1, departed.query_pairs().count(), "it asks with one `{name}`");
    let mut url = departed.clone();
    url.query_pairs_mut().clear().extend_pairs(same).append_pair(name, value);
    url
}
