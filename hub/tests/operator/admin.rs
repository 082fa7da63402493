//! `admin`: every verb, against a hub with one organization.

use fairlead_hub::{
    keys,
    seal::{MasterKey, Sealer},
};
use fairlead_model::OrgId;
use hub_policy::Role;
use hub_store::{Founding, LinkPurpose, OidcConnection, Organization, Store};
use jiff::Timestamp;
use uuid::Uuid;

use crate::place::{HOST, MASTER_KEY, Place};

const OWNER: &str = "olga@acme.test";

/// Founds `acme` as the console would; the issuer is never asked here.
pub(crate) async fn found(place: &Place) {
    let (id, now) = (OrgId::generate(), Timestamp::now());
    let master_key = MasterKey::from_base64(MASTER_KEY).expect("a key");
    let founding = Founding {
        organization: Organization {
            id,
            slug: "acme".to_owned(),
            name: "Acme".to_owned(),
            created_at: now,
        },
        owner_email: OWNER.to_owned(),
        keys: keys::make_keys(&Sealer::new(&master_key), id, now).expect("keys"),
        connection: OidcConnection {
            org_id: id,
            id: Uuid::now_v7(),
            issuer: "http://idp.fairlead.test".to_owned(),
            client_id: "fairlead".to_owned(),
            sealed_client_secret: vec![0],
            groups_claim: "groups".to_owned(),
            scopes: vec!["openid".to_owned()],
            email_domains: vec!["acme.test".to_owned()],
            created_at: now,
        },
        group_roles: vec![("developers".to_owned(), Role::Developer)],
    };
    let store = Store::connect(&place.database.url()).await.expect("Postgres");
    let link: [u8; 32] = rand::random();
    let unscoped = store.unscoped("a test founds an organization");
    unscoped.keep_setup_link(&link, LinkPurpose::Setup, now).await.expect("a link");
    unscoped.found(&link, &founding, now).await.expect("founded");
    store.close().await;
}

async fn founded() -> Place {
    let place = Place::new().await;
    place.run(&["migrate"]).await.ok();
    found(&place).await;
    place
}

#[tokio::test]
async fn an_operator_sees_who_is_there_and_shuts_somebody_out() {
    let place = founded().await;
    let listed = place.run(&["admin", "organizations", "list"]).await.ok();
    assert!(listed.starts_with("SLUG") && listed.contains("\nacme "), "{listed}");
    // Until they sign in, an owner is only an address in the set-up.
    place.run(&["admin", "recover", "--email", OWNER]).await.ok();
    let state = async || {
        let listed = place.run(&["admin", "users", "list"]).await.ok();
        let line = listed.lines().find(|line| line.starts_with(OWNER)).map(ToOwned::to_owned);
        line.unwrap_or_else(|| panic!("no {OWNER} in {listed}"))
    };
    assert!(state().await.contains("owner") && state().await.ends_with("active"));
    let said = place.run(&["admin", "users", "disable", OWNER]).await.ok();
    assert_eq!(said, format!("{OWNER} is shut out.\n"));
    assert!(state().await.ends_with("disabled"));
    place.run(&["admin", "users", "enable", OWNER]).await.ok();
    assert!(state().await.ends_with("active"));
    let said = place.run(&["admin", "users", "disable", "eve@acme.test"]).await.refused();
    assert!(said.contains("nobody here has the address eve@acme.test"), "{said}");
    let said = place.run(&["admin", "users", "list", "--organization", "other"]).await.refused();
    assert!(said.contains("no organization `other`"), "{said}");
}

#[tokio::test]
async fn a_changed_audit_log_is_found_out() {
    let place = founded().await;
    let said = place.run(&["admin", "verify-audit"]).await.ok();
    assert!(said.starts_with("The audit log of acme is intact: "), "{said}");
    place.sql("update audit set subject = 'nothing' where seq = 1");
    let said = place.run(&["admin", "verify-audit"]).await.refused();
    assert!(said.contains("the audit log of acme was changed: row 1"), "{said}");
}

#[tokio::test]
async fn a_recover_link_lets_an_owner_in_once() {
    let place = founded().await;
    let (_hub, address) = place.serving().await;
    let client = place.client(address);
    let link = place.run(&["admin", "recover", "--email", "New@acme.test"]).await.ok();
    let link = link.trim();
    assert!(link.starts_with(&format!("https://{HOST}/login/recover?token=fls_")), "{link}");
    let page = client.get(link).send().await.expect("it answers");
    assert_eq!(page.status(), 200);
    assert!(page.text().await.expect("text").contains("Recover Acme"));
    let token = link.split_once("token=").expect("a token").1;
    let enter = || {
        let request = client.post(format!("https://{HOST}/login/recover"));
        request.header("origin", format!("https://{HOST}")).form(&[("token", token)]).send()
    };
    let entered = enter().await.expect("it answers");
    assert_eq!(entered.status(), 303);
    assert!(entered.headers().contains_key("set-cookie"));
    assert_eq!(enter().await.expect("it answers").status(), 404, "a link is good once");
    let listed = place.run(&["admin", "users", "list"]).await.ok();
    let line = listed.lines().find(|line| line.starts_with("new@acme.test"));
    assert!(line.is_some_and(|line| line.contains("owner")), "{listed}");
    let said = place.run(&["admin", "recover", "--email", "nonsense"]).await.refused();
    assert!(said.contains("not an e-mail address"), "{said}");
}

#[tokio::test]
async fn a_further_setup_link_counts_at_the_hub_that_serves() {
    let place = founded().await;
    let (_hub, address) = place.serving().await;
    let link = place.run(&["admin", "setup-url"]).await.ok();
    let token = link.trim().split_once("/setup?token=").expect("a link").1;
    let asked = format!("https://{HOST}/api/v1/setup?token={token}");
    let found = place.client(address).get(asked).send().await.expect("it answers");
    assert_eq!(found.status(), 200);
}
