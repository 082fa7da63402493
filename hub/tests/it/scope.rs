//! What a scope of the store finds: all of its own organization's, and nothing of another's.
//!
//! Policy refuses strangers before they are shown anything, so that nobody who asks the hub can tell whether a scope has
//! forgotten its organization.

use fairlead_model::{JoinTokenId, SessionId, TeamspaceId};
use hub_policy::actions::RoleHolder;
use hub_store::{Filter, Scoped};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use crate::{people::Person, world::World};

/// One of everything that an organization has.
struct Known {
    olga: Person,
    teamspace: TeamspaceId,
    token: JoinTokenId,
    session: SessionId,
    connection: Uuid,
}

#[tokio::test]
async fn a_scope_finds_nothing_of_another_organization() {
    let world = World::new().await;
    let olga = world.person_of(&world.acme, "olga", &["owners", "night watch"]).await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let begun =
        olga.consumes(&world, staging.id, &["shop/*", "+db.example.net:5432"]).await.with(201);
    let session = begun["session"]["id"].as_str().expect("an id").parse().expect("an id");
    let path = format!("/api/v1/teamspaces/{}/join-tokens", staging.id);
    let made = olga.post(&world, &path, json!({})).await.with(201);
    let token = made["id"].as_str().expect("an id").parse().expect("an id");
    let connection = world.acme.connection;
    let known = Known { olga, teamspace: staging.id, token, session, connection };
    let rival = world.organization("rival").await;
    world.person_of(&rival, "mallory", &["owners"]).await;

    let ours = found(world.hub.store.scoped(world.acme.id), &known).await;
    let theirs = found(world.hub.store.scoped(rival.id), &known).await;
    let nothing: [&str; 0] = [];
    let missed: Vec<_> = ours.iter().filter(|(_, found)| !found).map(|(what, _)| *what).collect();
    assert_eq!(missed, nothing, "not found by those whose it is");
    let leaked: Vec<_> = theirs.iter().filter(|(_, found)| *found).map(|(what, _)| *what).collect();
    assert_eq!(leaked, nothing, "found by another organization");
}

/// Reads in a scope whatever can be read there, and says what of it was found.
async fn found(scope: Scoped<'_>, known: &Known) -> Vec<(&'static str, bool)> {
    let Known { olga, teamspace, token, session, connection } = known;
    let (teamspace, session, user) = (*teamspace, *session, olga.caller.actor.user());
    let all = Filter::default();
    let teamspaces = scope.teamspaces().await.expect("a list");
    let replicas = scope.replicas().await.expect("a list");
    let services = scope.services(teamspace).await.expect("a list");
    let counts = scope.service_counts().await.expect("a list");
    let sessions = scope.sessions(all).await.expect("a list");
    let granted = scope.granted(session).await.expect("a list");
    let held = scope.held(session, Timestamp::UNIX_EPOCH).await.expect("a list");
    let members = scope.members().await.expect("a list");
    let groups = scope.groups().await.expect("a list");
    let devices = scope.devices_of(user).await.expect("a list");
    let connections = scope.oidc_connections().await.expect("a list");
    let audit = scope.audit(None, 1000).await.expect("a list");
    vec![
        ("a teamspace", scope.teamspace(teamspace).await.is_ok()),
        ("the teamspaces", teamspaces.iter().any(|one| one.id == teamspace)),
        ("a join token", scope.join_token(*token).await.is_ok()),
        ("the replicas", replicas.iter().any(|one| one.teamspace == teamspace)),
        ("the services", !services.is_empty()),
        ("the numbers of services", counts.contains_key(&teamspace)),
        ("a session", scope.session(session).await.is_ok()),
        ("the sessions", sessions.iter().any(|one| one.id == session)),
        ("the services that a session may reach", !granted.services.is_empty()),
        ("the hosts that a session may reach", !granted.hosts.is_empty()),
        ("the hosts that a grant may name", held.hosts().next().is_some()),
        ("a member's name", scope.name_of(user).await.is_ok()),
        ("a member as caller", scope.caller_of(user).await.expect("an answer").is_some()),
        ("a member's roles", scope.roles_of(RoleHolder::User(user)).await.is_ok()),
        ("the members", members.iter().any(|one| one.id == user)),
        ("the groups", groups.iter().any(|one| one.name == "night watch")),
        ("a device", scope.device(olga.laptop.id).await.expect("an answer").is_some()),
        ("the devices", !devices.is_empty()),
        ("a connection", scope.oidc_connection(*connection).await.expect("an answer").is_some()),
        ("the connections", connections.iter().any(|one| one.id == *connection)),
        ("the audit log", audit.iter().any(|row| row.subject == teamspace.to_string())),
    ]
}
