//! The matrix of the built-in roles: role x action x resource, as a text that people review.
//!
//! `cargo test -p hub-policy --test matrix -- --ignored` writes it anew.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf, sync::Arc};

use fairlead_model::{ApiTokenId, DeviceId, JoinTokenId, OrgId, SessionId, TeamspaceId, UserId};
use hub_policy::{
    Action, Actor, Caller, Denied, Facts, HostFacts, Policies, Role, RoleBinding, ServiceFacts,
    TeamspaceFacts, Verb,
    actions::{
        Consume, CreateApiToken, CreateJoinToken, CreateServiceAccount, CreateTeamspace,
        DeleteJoinToken, DeleteServiceAccount, DeleteTeamspace, EndSession, Intercept,
        ListJoinTokens, ListMembers, ListPolicies, ListServiceAccounts, ManageOrganization,
        PublishPolicies, ReachExternal, ReadAudit, RemoveDevice, RemoveMember, ResetEnrolment,
        RestoreMember, RevokeApiToken, RoleHolder, SeeService, SeeSession, SeeTeamspace, SetRoles,
        UnlockTeamspace,
    },
    decide,
};
use jiff::Timestamp;

const HEAD: &str = "\
# What the built-in roles may do. Written by `cargo test -p hub-policy --test matrix -- --ignored`.
#
# yes  it is done        403  refused, and told why        404  refused as if the thing did not exist
#
# member     belongs to the organization and has no role
# elsewhere  has every role, but in another teamspace only
# stranger   is an owner of another organization (`yes` is about their own: what has no other object)
# service    is a service account with every role
";

struct World {
    org: OrgId,
    ada: UserId,
    grace: UserId,
    staging: TeamspaceFacts,
    facts: Facts,
}

impl World {
    fn new() -> Self {
        let org = OrgId::generate();
        let name = "staging".parse().expect("a name");
        Self {
            org,
            ada: UserId::generate(),
            grace: UserId::generate(),
            staging: TeamspaceFacts { org, id: TeamspaceId::generate(), name },
            facts: Facts {
                now: Timestamp::from_second(1_800_000_000).expect("a time"),
                mfa_age_s: None,
                policies: Arc::new(Policies::built_in()),
            },
        }
    }

    fn caller(&self, roles: Vec<RoleBinding>) -> Caller {
        let actor = Actor::User { id: self.ada, email: "ada@example.test".to_owned() };
        Caller { org: self.org, actor, roles, groups: Vec::new(), from: None }
    }

    fn columns(&self) -> Vec<(&'static str, Caller)> {
        let with = |role: Role| self.caller(vec![RoleBinding::everywhere(role)]);
        let mut columns: Vec<_> = Role::ALL.map(|role| (role.as_str(), with(role))).into();
        columns.push(("member", self.caller(Vec::new())));
        let elsewhere = Some(TeamspaceId::generate());
        let roles = Role::ALL.map(|role| RoleBinding { role, teamspace: elsewhere }).into();
        columns.push(("elsewhere", self.caller(roles)));
        let stranger = Caller { org: OrgId::generate(), ..with(Role::Owner) };
        columns.push(("stranger", stranger));
        let actor = Actor::Service { id: self.ada, name: "ci".to_owned() };
        let roles = Role::ALL.map(RoleBinding::everywhere).into();
        columns.push(("service", Caller { actor, ..self.caller(roles) }));
        columns
    }

    fn database(&self) -> HostFacts {
        let host = "db.example.net:5432".parse().expect("a host");
        HostFacts { teamspace: self.staging.clone(), host }
    }

    fn cart(&self) -> ServiceFacts {
        let service = "shop/cart".parse().expect("a service");
        ServiceFacts { teamspace: self.staging.clone(), service, labels: BTreeMap::new() }
    }
}

fn cell<A>(decided: &Result<A, Denied>) -> &'static str {
    match decided {
        Ok(_) => "yes",
        Err(denied) if denied.visible => "403",
        Err(_) => "404",
    }
}

/// One line of the matrix, and the verb that it is about.
fn row<A: Action + Clone>(world: &World, what: &str, action: A) -> (Verb, String) {
    let mut line = format!("{:<20}{what:<32}", action.verb().as_str());
    for (_, caller) in world.columns() {
        write!(line, "{:<11}", cell(&decide(&caller, action.clone(), &world.facts))).expect("text");
    }
    (action.verb(), line.trim_end().to_owned())
}

fn rows(world: &World) -> Vec<(Verb, String)> {
    let teamspace = || world.staging.clone();
    let (ada, grace, org) = (world.ada, world.grace, world.org);
    let session = SessionId::generate();
    let see = |owner| SeeSession { session, owner, teamspace: teamspace() };
    let end = |owner| EndSession { session, owner, teamspace: teamspace() };
    let device = |owner| RemoveDevice { org, device: DeviceId::generate(), owner };
    let roles = |after| SetRoles { holder: RoleHolder::User(grace), before: vec![], after };
    let account = || CreateServiceAccount {
        name: "ci".to_owned(),
        roles: vec![Role::Developer],
        teamspaces: None,
    };
    vec![
        row(world, "a teamspace", SeeTeamspace { teamspace: teamspace() }),
        row(world, "a service", SeeService { target: world.cart() }),
        row(world, "one's own session", see(ada)),
        row(world, "somebody else's session", see(grace)),
        row(world, "the members", ListMembers),
        row(world, "the policies", ListPolicies),
        row(world, "a service", Consume { target: world.cart(), ports: vec![] }),
        row(world, "a service", Intercept { target: world.cart(), ports: vec![], grace_s: 15 }),
        row(world, "a host outside", ReachExternal { target: world.database() }),
        row(world, "one's own session", end(ada)),
        row(world, "somebody else's session", end(grace)),
        row(world, "one's own device", device(ada)),
        row(world, "somebody else's device", device(grace)),
        row(world, "create a teamspace", CreateTeamspace { name: world.staging.name.clone() }),
        row(world, "delete a teamspace", DeleteTeamspace { teamspace: teamspace() }),
        row(world, "unlock a teamspace", UnlockTeamspace { teamspace: teamspace() }),
        row(world, "reset an enrolment", ResetEnrolment { teamspace: teamspace() }),
        row(world, "list join tokens", ListJoinTokens { teamspace: teamspace() }),
        row(world, "create a join token", CreateJoinToken { teamspace: teamspace() }),
        row(
            world,
            "delete a join token",
            DeleteJoinToken { teamspace: teamspace(), id: JoinTokenId::generate() },
        ),
        row(world, "list service accounts", ListServiceAccounts),
        row(world, "create a service account", account()),
        row(world, "delete a service account", DeleteServiceAccount { account: grace }),
        row(
            world,
            "give an account a token",
            CreateApiToken { account: grace, name: "ci".to_owned() },
        ),
        row(world, "revoke an account's token", RevokeApiToken { id: ApiTokenId::generate() }),
        row(world, "remove a member", RemoveMember { user: grace, is_owner: false }),
        row(world, "remove an owner", RemoveMember { user: grace, is_owner: true }),
        row(world, "let a member in again", RestoreMember { user: grace, is_owner: false }),
        row(world, "let an owner in again", RestoreMember { user: grace, is_owner: true }),
        row(world, "make somebody a developer", roles(vec![Role::Developer])),
        row(world, "make somebody an owner", roles(vec![Role::Owner])),
        row(world, "publish policies", PublishPolicies { texts: vec![] }),
        row(world, "the organization", ManageOrganization),
        row(world, "the audit log", ReadAudit),
    ]
}

fn matrix() -> String {
    let world = World::new();
    let mut text = HEAD.to_owned();
    let mut names = format!("{:<20}{:<32}", "action", "on");
    for (name, _) in world.columns() {
        write!(names, "{name:<11}").expect("text");
    }
    writeln!(text, "\n{}", names.trim_end()).expect("text");
    for (_, line) in rows(&world) {
        writeln!(text, "{line}").expect("text");
    }
    text
}

fn committed() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/matrix.txt")
}

#[test]
fn the_roles_may_do_what_the_matrix_says() {
    let committed = fs::read_to_string(committed()).expect("tests/matrix.txt is committed");
    for (line, (said, is)) in committed.lines().zip(matrix().lines()).enumerate() {
        assert_eq!(said, is, "line {} of tests/matrix.txt", line + 1);
    }
    assert_eq!(committed.lines().count(), matrix().lines().count());
}

#[test]
fn every_verb_has_a_row() {
    let world = World::new();
    let rows = rows(&world);
    for verb in Verb::ALL.into_iter().filter(|verb| *verb != Verb::ViewActivity) {
        assert!(rows.iter().any(|(of, _)| *of == verb), "`{verb}` has no row");
    }
}

#[test]
#[ignore = "writes tests/matrix.txt"]
fn regenerate() {
    fs::write(committed(), matrix()).expect("the matrix can be written");
}
