//! What the database holds is sealed under the master key.

use fairlead_hub::{Hub, seal::MasterKey};

use crate::world::World;

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

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
