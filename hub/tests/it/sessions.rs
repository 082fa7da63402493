//! Sessions: what begins and what is refused (`beginnings.rs`), what changes while they live (`changes.rs`), what ends
//! them (`ends.rs`), and many of them at once (`passes.rs`).

mod beginnings;
mod changes;
mod ends;
mod passes;
mod running;

use fairlead_hub::actions;
use hub_policy::PolicyText;
use hub_store::audit::Chain;
use serde_json::Value;

use self::running::running;
use crate::{
    people::Person,
    world::{World, eventually},
};

pub(crate) fn id_of(begun: &Value) -> String {
    begun["session"]["id"].as_str().expect("an id").to_owned()
}

pub(super) fn names(services: &Value) -> Vec<String> {
    let services = services.as_array().expect("a list").iter();
    services
        .map(|s| {
            format!(
                "{}/{}",
                s["namespace"].as_str().unwrap_or(""),
                s["name"].as_str().unwrap_or("")
            )
        })
        .collect()
}

pub(crate) async fn publish(world: &World, owner: &Person, policies: &[(&str, &str)]) {
    let texts = policies.iter().map(|(id, text)| PolicyText {
        id: (*id).to_owned(),
        label: String::new(),
        text: (*text).to_owned(),
    });
    actions::policies::publish(&world.hub, &owner.caller, texts.collect())
        .await
        .expect("published");
}

pub(crate) async fn has_ended(world: &World, person: &Person, session: &str) -> String {
    let path = format!("/api/v1/sessions/{session}");
    eventually("the session to end", async || {
        let shown = person.get(world, &path).await.with(200);
        shown["end_reason"].as_str().map(ToOwned::to_owned)
    })
    .await
}

#[tokio::test]
async fn the_audit_chain_holds_and_a_changed_row_breaks_it() {
    let running = running().await;
    let scope = running.world.hub.store.scoped(running.world.acme.id);
    let Chain::Intact { rows, .. } = scope.verify_audit().await.expect("read") else {
        panic!("the chain is whole")
    };
    assert!(rows >= 4);
    running.world.sql("update audit set subject = 'nothing' where seq = 3");
    assert_eq!(scope.verify_audit().await.expect("read"), Chain::Broken { at: 3 });
}
