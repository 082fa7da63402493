//! Signing in: in the browser, and through it at the command line.

use fairlead_hub::{Hub, admin, seal::MasterKey};
use fairlead_wire::{dpop, key::Key};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    browser::{Browser, Page},
    command_line::{CommandLine, tokens},
    world::World,
};

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
async fn a_refresh_token_that_is_used_twice_ends_the_sign_in() {
    let world = World::new().await;
    let ada = CommandLine::new(&world);
    let first = ada.signs_in(&mut world.browser(), "ada").await;
    let second = tokens(&ada.refresh(&first.refresh).await);
    let third = tokens(&ada.refresh(&second.refresh).await);
    assert_eq!(refused(&ada.refresh(&first.refresh).await), "invalid_grant");
    assert_eq!(refused(&ada.refresh(&third.refresh).await), "invalid_grant");
    assert_eq!(ada.get("/api/v1/me", &third.access).await.status, 401);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_refresh_token_is_worth_nothing_without_the_device_key() {
    let world = World::new().await;
    let ada = CommandLine::new(&world);
    let pair = ada.signs_in(&mut world.browser(), "ada").await;
    let thief = ada.proof(&Key::generate().expect("made"));
    for proof in [Some(thief), None, Some("nonsense".to_owned())] {
        let page = ada.refresh_with(proof, &pair.refresh).await;
        assert_eq!(refused(&page), "invalid_dpop_proof");
    }
    let proof = ada.proof(&ada.key);
    let next = tokens(&ada.refresh_with(Some(proof.clone()), &pair.refresh).await);
    let replayed = ada.refresh_with(Some(proof), &next.refresh).await;
    assert_eq!(refused(&replayed), "invalid_dpop_proof");
    tokens(&ada.refresh(&next.refresh).await);
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

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_in_the_browser_that_asked_and_once() {
    let world = World::new().await;
    let mut ada = world.browser();
    let departed = ada.leads_to("/login").await;
    let state = departed.query_pairs().find(|(name, _)| name == "state").expect("a state").1;
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
    let mut departed = ada.leads_to("/login").await;
    let pairs: Vec<(String, String)> = departed
        .query_pairs()
        .map(|(name, value)| match &*name {
            "nonce" => (name.into_owned(), "another".to_owned()),
            _ => (name.into_owned(), value.into_owned()),
        })
        .collect();
    departed.query_pairs_mut().clear().extend_pairs(pairs);
    let page = ada.open(departed.as_str()).await;
    let page = ada.answer_who(page, "ada").await;
    assert_eq!(page.status, 502, "{}", page.body);
    assert!(page.body.contains("could not be verified"), "{}", page.body);
    assert_eq!(ada.open("/api/v1/me").await.status, 401);
    world.end().await;
}

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
    let id = member(&olga, "ada@example.test").await["id"].clone();
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
    let her = path(&member(&olga, "olga@example.test").await);
    let ada = path(&member(&olga, "ada@example.test").await);
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
    let id = member(&olga, "olga@example.test").await["id"].clone();
    let path = format!("/api/v1/members/{}/roles", id.as_str().expect("an id"));
    let body = json!({ "roles": ["owner", "viewer"] });
    let foreign = olga.write(Method::PUT, &path, Some(&body), "https://evil.example").await;
    assert_eq!(foreign.status, 403, "{}", foreign.body);
    assert_eq!(foreign.json()["error"]["code"], "foreign_origin");
    assert_eq!(olga.put(&path, &body).await.status, 204);
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
async fn of_two_uses_of_a_proof_at_once_one_counts() {
    let world = World::new().await;
    let ada = CommandLine::new(&world);
    let mut pair = ada.signs_in(&mut world.browser(), "ada").await;
    for _ in 0..10 {
        // Both come with the same token as well: that alone looks like a laptop whose answer was lost.
        let proof = Some(ada.proof(&ada.key));
        let (one, other) = tokio::join!(
            ada.refresh_with(proof.clone(), &pair.refresh),
            ada.refresh_with(proof, &pair.refresh)
        );
        let (next, replayed) = if one.status == 200 { (one, other) } else { (other, one) };
        assert_eq!(refused(&replayed), "invalid_dpop_proof");
        pair = tokens(&next);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_master_key_is_refused_at_start() {
    let world = World::new().await;
    let mut config = (*world.hub.config).clone();
    config.master_key = MasterKey::new([8; 32]);
    world.serving.stop().await;
    let refused = Hub::assemble(config, world.clock.clone()).await.expect_err("not the key");
    let words = format!("{:#}", anyhow::Error::new(refused));
    assert!(words.contains("sealed under another master key"), "{words}");
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
async fn an_answer_of_another_issuer_is_not_taken() {
    let world = World::new().await;
    let mut ada = world.browser();
    let state = async |browser: &mut Browser| {
        let departed = browser.leads_to("/login").await;
        let state = departed.query_pairs().find(|(name, _)| name == "state").expect("a state").1;
        state.into_owned()
    };
    let asked = state(&mut ada).await;
    let mixed_up =
        ada.open(&format!("/login/callback?state={asked}&code=x&iss=https://evil.example")).await;
    assert_eq!(mixed_up.status, 400, "{}", mixed_up.body);
    assert!(mixed_up.body.contains("no sign-in that this browser has begun"), "{}", mixed_up.body);
    // With the right name the code is taken to the issuer, which does not know it.
    let asked = state(&mut ada).await;
    let ours = world.issuer.url();
    let page = ada.open(&format!("/login/callback?state={asked}&code=x&iss={ours}")).await;
    assert_eq!(page.status, 502, "{}", page.body);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_the_issuer_is_worth_nothing_without_the_hubs_verifier() {
    let world = World::new().await;
    let mut ada = world.browser();
    let mut departed = ada.leads_to("/login").await;
    let pairs: Vec<(String, String)> = departed.query_pairs().into_owned().collect();
    assert!(pairs.contains(&("code_challenge_method".to_owned(), "S256".to_owned())));
    let another = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let changed = pairs.iter().map(|(name, value)| match name.as_str() {
        "code_challenge" => (name.as_str(), another),
        _ => (name.as_str(), value.as_str()),
    });
    assert!(changed.clone().any(|pair| pair == ("code_challenge", another)));
    let changed: Vec<_> = changed.collect();
    departed.query_pairs_mut().clear().extend_pairs(changed);
    let page = ada.open(departed.as_str()).await;
    let page = ada.answer_who(page, "ada").await;
    assert_eq!(page.status, 502, "{}", page.body);
    assert!(page.body.contains("invalid_grant"), "{}", page.body);
    assert_eq!(ada.open("/api/v1/me").await.status, 401);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_holds_no_secret_in_plain() {
    let world = World::new().await;
    let mut ada = world.browser();
    ada.leads_to("/login").await;
    let dump = world.dump();
    // What the search must be able to find, it finds: the client id, and bytes.
    assert!(dump.contains("<client_id>fairlead</client_id>"), "{dump}");
    let bytes =
        "set xmlbinary = hex; select query_to_xml('select ''seen''::bytea', true, false, '')";
    assert!(world.rows(bytes).join("").to_lowercase().contains(&hex("seen")));
    assert!(!dump.contains("lab-secret"), "the client secret lies in plain");
    assert!(!dump.to_lowercase().contains(&hex("lab-secret")), "the same as bytes");
    let verifiers = world.rows("select pkce_verifier from login_attempts");
    let [verifier] = &verifiers[..] else { panic!("one attempt: {verifiers:?}") };
    // A verifier in plain has 43 characters of base64url. Sealed it has a head and a tag more.
    assert!(verifier.len() > 80, "{verifier}");
    let page = ada.sign_in("ada").await;
    assert_eq!(page.url.path(), "/", "and is opened again: {}", page.body);
    world.end().await;
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The error code of a refusal of the token endpoint.
fn refused(page: &Page) -> String {
    assert_eq!(page.status, 400, "{}", page.body);
    page.json()["error"].as_str().expect("an error code").to_owned()
}

async fn member(browser: &Browser, email: &str) -> Value {
    let mut page = browser.write(Method::GET, "/api/v1/members", None, "").await.json();
    let members = page["members"].take();
    let found = members.as_array().expect("a list").iter().find(|member| member["email"] == email);
    found.expect("a member").clone()
}
