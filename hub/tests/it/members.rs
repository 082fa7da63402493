//! Members, roles, policies and the name of the organization: who may change them, and what keeps it governable.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{World, eventually};

fn path_of(id: impl std::fmt::Display) -> String {
    format!("/api/v1/members/{id}")
}

async fn publish(world: &World, by: &crate::people::Person, text: &str) -> crate::people::Answer {
    let policies = json!({ "policies": [{ "id": "own", "text": text }] });
    by.ask(world, Method::PUT, "/api/v1/policies", Some(policies)).await
}

#[tokio::test]
async fn an_admin_who_permits_everything_does_not_become_an_owner() {
    let world = World::new().await;
    world.person("olga", "owners").await;
    let adam = world.person("adam", "admins").await;
    publish(&world, &adam, "permit(principal, action, resource);").await.with(200);
    let me = path_of(adam.caller.actor.user());
    let owner = json!({ "roles": ["owner"] });
    let refused = adam.ask(&world, Method::PUT, &format!("{me}/roles"), Some(owner)).await;
    assert_eq!(refused.with(403)["error"]["policies"], json!(["owners-alone"]));
    adam.get(&world, "/api/v1/organization").await.with(403);
}

#[tokio::test]
async fn an_admin_who_forbids_everything_does_not_lock_the_owners_out() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let adam = world.person("adam", "admins").await;
    publish(&world, &adam, "forbid(principal, action, resource);").await.with(200);
    olga.get(&world, "/api/v1/members").await.with(403);
    publish(&world, &adam, "permit(principal, action, resource);").await.with(403);
    let shown = olga.get(&world, "/api/v1/policies").await.with(200);
    assert_eq!(shown["policies"][0]["id"], "own");
    let none = json!({ "policies": [] });
    olga.ask(&world, Method::PUT, "/api/v1/policies", Some(none)).await.with(200);
    olga.get(&world, "/api/v1/members").await.with(200);
}

#[tokio::test]
async fn the_operator_takes_an_organizations_own_policies_out_of_force() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    publish(&world, &olga, "forbid(principal, action, resource);").await.with(200);
    olga.get(&world, "/api/v1/members").await.with(403);
    let store = world.hub.store.unscoped("a test is the operator");
    assert_eq!(store.reset_policies(world.acme.id, world.now()).await.expect("reset"), 2);
    olga.get(&world, "/api/v1/members").await.with(200);
    let audit = olga.get(&world, "/api/v1/audit?limit=1").await.with(200);
    assert_eq!(audit["entries"][0]["action"], "policies.reset");
    assert_eq!(audit["entries"][0]["actor_kind"], "operator");
}

#[tokio::test]
async fn two_owners_cannot_remove_each_other() {
    let world = World::new().await;
    let mut one = world.person("olga", "owners").await;
    for round in 0..8 {
        let other = world.person(&format!("owner-{round}"), "owners").await;
        let (of_one, of_other) =
            (path_of(one.caller.actor.user()), path_of(other.caller.actor.user()));
        let (_, _) = tokio::join!(one.delete(&world, &of_other), other.delete(&world, &of_one));
        let members = world.hub.store.scoped(world.acme.id).members().await.expect("read");
        let mut left = members.iter().filter(|member| !member.disabled);
        let left = left.next().unwrap_or_else(|| panic!("round {round}: nobody is left"));
        if left.id == other.caller.actor.user() {
            one = other;
        }
    }
}

#[tokio::test]
async fn whoever_writes_to_the_audit_log_does_not_wait_for_a_change_of_roles() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    world.sql(
        "create function takes_its_time() returns trigger language plpgsql as $$
         begin perform pg_sleep(2); return new; end $$;
         create trigger takes_its_time before insert on role_bindings
         for each row execute function takes_its_time();",
    );
    let roles = Some(json!({ "roles": ["viewer"] }));
    let path = format!("{}/roles", path_of(ada.caller.actor.user()));
    let changing = olga.ask(&world, Method::PUT, &path, roles);
    let meanwhile = async {
        eventually("the change under way", async || {
            let asleep = "select 1 from pg_stat_activity
                          where datname = current_database() and wait_event = 'PgSleep'";
            world.rows(asleep).first().map(drop)
        })
        .await;
        // As every entry of the log does, which refers to its organization.
        world.rows("set lock_timeout = '1s'; select id from organizations for key share");
    };
    let (changed, ()) = tokio::join!(changing, meanwhile);
    changed.with(204);
}

#[tokio::test]
async fn a_group_is_no_member() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let groups = olga.get(&world, "/api/v1/groups").await.with(200);
    let group = groups["groups"][0]["id"].as_str().expect("an id").to_owned();
    let roles = Some(json!({ "roles": ["viewer"] }));
    let as_member = format!("{}/roles", path_of(&group));
    olga.ask(&world, Method::PUT, &as_member, roles.clone()).await.with(404);
    let user = olga.caller.actor.user();
    let as_group = format!("/api/v1/groups/{user}/roles");
    olga.ask(&world, Method::PUT, &as_group, roles).await.with(404);
}

#[tokio::test]
async fn a_removed_member_is_let_in_again_with_their_roles() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let omar = world.person("omar", "owners").await;
    let adam = world.person("adam", "admins").await;
    let ada = world.person("ada", "developers").await;
    let hers = path_of(ada.caller.actor.user());
    adam.delete(&world, &hers).await.with(204);
    ada.get(&world, "/api/v1/me").await.with(401);
    adam.ask(&world, Method::POST, &format!("{hers}/restore"), None).await.with(204);
    let again = world.person("ada", "developers").await;
    assert_eq!(again.caller.actor.user(), ada.caller.actor.user());
    let audit = olga.get(&world, "/api/v1/audit").await.with(200);
    assert!(has(&audit, "member.restored"), "{audit}");

    let his = path_of(omar.caller.actor.user());
    olga.delete(&world, &his).await.with(204);
    adam.ask(&world, Method::POST, &format!("{his}/restore"), None).await.with(403);
    olga.ask(&world, Method::POST, &format!("{his}/restore"), None).await.with(204);
    let nobody = path_of(uuid::Uuid::nil());
    olga.ask(&world, Method::POST, &format!("{nobody}/restore"), None).await.with(404);
}

#[tokio::test]
async fn an_organization_is_renamed_by_its_owners() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let path = "/api/v1/organization";
    let name = |name: &str| Some(json!({ "name": name }));
    olga.ask(&world, Method::PATCH, path, name(" ")).await.with(400);
    olga.ask(&world, Method::PATCH, path, name("Acme Rockets")).await.with(204);
    assert_eq!(olga.get(&world, path).await.with(200)["name"], "Acme Rockets");
    let audit = olga.get(&world, "/api/v1/audit?limit=1").await.with(200);
    assert_eq!(audit["entries"][0]["detail"], json!({ "before": "acme", "after": "Acme Rockets" }));
}

#[tokio::test]
async fn every_denial_is_in_the_audit_log_once_a_minute() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    for _ in 0..3 {
        ada.post(&world, "/api/v1/teamspaces", json!({ "name": "mine" })).await.with(403);
    }
    ada.get(&world, "/api/v1/audit").await.with(403);
    let audit = olga.get(&world, "/api/v1/audit").await.with(200);
    let entries = audit["entries"].as_array().expect("entries").iter();
    let denied: Vec<_> = entries.filter(|entry| entry["action"] == "access.denied").collect();
    let subjects: Vec<_> = denied.iter().map(|entry| &entry["subject"]).collect();
    assert_eq!(subjects, ["read the audit log", "create teamspaces"]);
    assert!(denied[0]["actor"].as_str().is_some_and(|actor| actor.contains("ada@example.test")));
}

fn has(audit: &Value, action: &str) -> bool {
    let mut entries = audit["entries"].as_array().expect("entries").iter();
    entries.any(|entry| entry["action"] == action)
}

#[tokio::test]
async fn a_role_that_a_group_loses_ends_what_its_members_had_by_it() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    ada.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    staging.agent.wanted(|wanted| wanted.sessions.len() == 1).await;
    let groups = olga.get(&world, "/api/v1/groups").await.with(200);
    let is_hers = |group: &&Value| group["name"] == "developers";
    let group = groups["groups"].as_array().expect("groups").iter().find(is_hers).expect("hers");
    let path = format!("/api/v1/groups/{}/roles", group["id"].as_str().expect("an id"));
    let none = json!({ "roles": [] });
    olga.ask(&world, Method::PUT, &path, Some(none)).await.with(204);
    staging.agent.revoked().await;
}

#[tokio::test]
async fn a_session_that_could_not_be_ended_is_tried_again_at_once() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    ada.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    staging.agent.wanted(|wanted| wanted.sessions.len() == 1).await;
    world.sql(
        "create sequence ends;
         create function fails_once() returns trigger language plpgsql as $$
         begin
           if nextval('ends') = 1 then raise exception 'not now'; end if;
           return new;
         end $$;
         create trigger fails_once before update on sessions for each row
         when (new.ended_at is not null) execute function fails_once();",
    );
    let freeze = r#"forbid(principal, action == Action::"consume", resource);"#;
    publish(&world, &olga, freeze).await.with(200);
    staging.agent.revoked().await;
}
