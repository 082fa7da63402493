//! Decisions under an organization's own policies, and what a refusal says.

use std::{collections::BTreeMap, sync::Arc};

use fairlead_model::{DeviceId, OrgId, SessionId, TeamspaceId, UserId};
use hub_policy::{
    Actor, Caller, Denied, Facts, HostFacts, InvalidPolicies, Policies, PolicyText, Role,
    RoleBinding, ServiceFacts, TeamspaceFacts,
    actions::{
        Consume, CreateServiceAccount, CreateTeamspace, EndSession, Intercept, ListPolicies,
        ManageOrganization, PublishPolicies, ReachExternal, RemoveDevice, RemoveMember, RoleHolder,
        SetRoles,
    },
    decide, decide_each,
};
use jiff::Timestamp;

fn policy(id: &str, text: &str) -> PolicyText {
    PolicyText { id: id.to_owned(), label: String::new(), text: text.to_owned() }
}

fn facts(own: &[PolicyText]) -> Facts {
    Facts {
        now: Timestamp::from_second(1_800_000_000).expect("a time"),
        mfa_age_s: None,
        policies: Arc::new(Policies::new(7, own).expect("valid policies")),
    }
}

struct Ada {
    caller: Caller,
    teamspace: TeamspaceFacts,
}

impl Ada {
    fn with(role: Option<Role>) -> Self {
        let org = OrgId::generate();
        let actor = Actor::User { id: UserId::generate(), email: "ada@example.test".to_owned() };
        let roles = role.map(RoleBinding::everywhere).into_iter().collect();
        let name = "staging".parse().expect("a name");
        Self {
            caller: Caller { org, actor, roles, groups: vec!["payments".to_owned()], from: None },
            teamspace: TeamspaceFacts { org, id: TeamspaceId::generate(), name },
        }
    }

    fn service(&self, name: &str) -> ServiceFacts {
        let service = name.parse().expect("a service");
        ServiceFacts { teamspace: self.teamspace.clone(), service, labels: BTreeMap::new() }
    }

    fn consume(&self, name: &str) -> Consume {
        Consume { target: self.service(name), ports: vec![] }
    }

    fn may_consume(&self, name: &str, facts: &Facts) -> Result<Vec<String>, Denied> {
        decide(&self.caller, self.consume(name), facts).map(|p| p.decision().policies.clone())
    }
}

#[test]
fn a_permit_names_the_policy_that_gave_it() {
    let ada = Ada::with(Some(Role::Developer));
    let permit = decide(&ada.caller, ada.consume("shop/cart"), &facts(&[])).expect("allowed");
    assert_eq!(permit.decision().policies, ["developers-consume"]);
    assert_eq!(permit.decision().policy_version, 7);
}

#[test]
fn a_refusal_says_who_may() {
    let grace = Ada::with(Some(Role::Viewer));
    let intercept = Intercept { target: grace.service("shop/cart"), ports: vec![], grace_s: 15 };
    let denied = decide(&grace.caller, intercept, &facts(&[])).expect_err("a viewer");
    assert_eq!(
        denied.reason,
        "you may not intercept `shop/cart` in teamspace `staging`: no policy allows it"
    );
    assert!(denied.policies.is_empty(), "none of them decided");
    let hint = denied.hint.expect("a hint");
    assert!(hint.starts_with("`developers-intercept` allows it to role developer"), "{hint}");
    assert!(denied.visible);
}

#[test]
fn a_forbid_wins_and_is_named() {
    let ada = Ada::with(Some(Role::Owner));
    let guard = policy(
        "guard-payments",
        r#"forbid(principal, action in Action::"use", resource in Namespace::"staging/payments");"#,
    );
    let facts = facts(&[guard]);
    assert!(ada.may_consume("shop/cart", &facts).is_ok());
    let denied = ada.may_consume("payments/api", &facts).expect_err("forbidden");
    assert_eq!(denied.policies, ["guard-payments"]);
    assert!(denied.reason.contains("forbidden by policy `guard-payments`"), "{}", denied.reason);
}

#[test]
fn a_host_outside_is_reached_where_a_policy_says_so_and_nowhere_else() {
    let ada = Ada::with(Some(Role::Developer));
    let reaches = |host: &str, own: &[PolicyText]| {
        let host = host.parse().expect("a host");
        let target = HostFacts { teamspace: ada.teamspace.clone(), host };
        decide(&ada.caller, ReachExternal { target }, &facts(own))
    };
    let everything =
        policy("everything", r#"permit(principal, action in Action::"use", resource);"#);
    let denied = reaches("db.example.net:5432", &[everything]).expect_err("nobody said so");
    assert!(denied.visible, "she named it herself");
    assert_eq!(
        denied.reason,
        "you may not reach `db.example.net:5432` through teamspace `staging`: no policy allows it"
    );
    let one = policy(
        "the-database",
        r#"permit(principal in Role::"developer", action == Action::"reachExternal",
                  resource == Host::"staging/db.example.net:5432");"#,
    );
    let many = policy(
        "databases",
        r#"permit(principal in Role::"developer", action == Action::"reachExternal",
                  resource in Teamspace::"staging")
           when { resource.host like "*.example.net" && resource.port == 5432 };"#,
    );
    for own in [[one], [many]] {
        reaches("db.example.net:5432", &own).expect("said");
        for other in ["db.example.net:5433", "example.net:5432", "db.example.net.evil.org:5432"] {
            reaches(other, &own).expect_err(other);
        }
    }
    let elsewhere = policy(
        "elsewhere",
        r#"permit(principal, action == Action::"reachExternal",
                  resource == Host::"production/db.example.net:5432");"#,
    );
    reaches("db.example.net:5432", &[elsewhere]).expect_err("of another teamspace");
}

#[test]
fn who_may_not_see_a_teamspace_does_not_hear_of_it_by_a_host() {
    let stranger = Ada::with(None);
    let host = "db.example.net:5432".parse().expect("a host");
    let target = HostFacts { teamspace: stranger.teamspace.clone(), host };
    let denied = decide(&stranger.caller, ReachExternal { target }, &facts(&[])).expect_err("no");
    assert!(!denied.visible);
}

#[test]
fn a_namespace_of_one_teamspace_is_not_that_of_another() {
    let ada = Ada::with(None);
    let elsewhere = policy(
        "elsewhere",
        r#"permit(principal, action == Action::"consume", resource in Namespace::"production/shop");"#,
    );
    assert!(ada.may_consume("shop/cart", &facts(&[elsewhere])).is_err());
}

#[test]
fn a_group_and_a_label_can_open_what_no_role_does() {
    let ada = Ada::with(None);
    let own = policy(
        "owning-group",
        r#"permit(principal is User, action == Action::"consume", resource is Service)
           when { resource has owners && principal in resource.owners };"#,
    );
    let facts = facts(&[own]);
    assert!(ada.may_consume("shop/cart", &facts).is_err());
    let mut target = ada.service("shop/cart");
    target.labels.insert("fairlead.dev/owners".to_owned(), "payments".to_owned());
    assert!(decide(&ada.caller, Consume { target, ports: vec![] }, &facts).is_ok());
}

#[test]
fn time_and_address_are_facts() {
    let ada = Ada::with(Some(Role::Developer));
    let mut ada = ada;
    let mut facts = facts(&[
        policy(
            "until-2026",
            r#"forbid(principal, action == Action::"consume", resource)
               when { context.now > datetime("2030-01-01T00:00:00Z") };"#,
        ),
        policy(
            "office",
            r#"forbid(principal, action == Action::"consume", resource)
               unless { context has ip && context.ip.isInRange(ip("10.0.0.0/8")) };"#,
        ),
    ]);
    assert_eq!(ada.may_consume("shop/cart", &facts).expect_err("no address").policies, ["office"]);
    ada.caller.from = Some("10.1.2.3".parse().expect("an address"));
    assert!(ada.may_consume("shop/cart", &facts).is_ok());
    facts.now = Timestamp::from_second(1_900_000_000).expect("a time");
    assert_eq!(
        ada.may_consume("shop/cart", &facts).expect_err("too late").policies,
        ["until-2026"]
    );
}

#[test]
fn a_policy_that_cannot_be_evaluated_is_a_no() {
    let ada = Ada::with(Some(Role::Developer));
    // Passes validation and overflows when it is evaluated: Cedar would skip this `forbid` and say yes.
    let overflow = policy(
        "overflow",
        r#"forbid(principal, action == Action::"consume", resource)
           when { context has mfaAgeS && context.mfaAgeS * 9223372036854775807 > 0 };"#,
    );
    let mut facts = facts(&[overflow]);
    assert!(ada.may_consume("shop/cart", &facts).is_ok());
    facts.mfa_age_s = Some(2);
    let denied = ada.may_consume("shop/cart", &facts).expect_err("a fault is a no");
    assert!(denied.fault.is_some_and(|fault| fault.contains("overflow")));
}

#[test]
fn a_policy_that_could_fail_for_lack_of_a_fact_is_not_saved() {
    let text = r#"forbid(principal, action == Action::"consume", resource) when { context.mfaAgeS > 900 };"#;
    let error = Policies::new(1, &[policy("mfa", text)]).expect_err("mfaAgeS is optional");
    assert!(error.to_string().contains("mfaAgeS"), "{error}");
}

#[test]
fn a_typo_is_found_when_a_policy_is_saved() {
    for text in [
        r#"permit(principal, action == Action::"consum", resource);"#,
        r#"permit(principal in Role::"develper", action, resource);"#,
        "permit(principal, action, resource) when { resource.colour == 1 };",
        "permit(",
    ] {
        let error = Policies::new(1, &[policy("typo", text)]).expect_err(text);
        assert!(matches!(error, InvalidPolicies::Text { .. }), "{error}");
    }
}

#[test]
fn a_built_in_policy_cannot_be_replaced() {
    let own = policy("owners", "forbid(principal, action, resource);");
    let error = Policies::new(1, &[own]).expect_err("the name is taken");
    assert_eq!(error, InvalidPolicies::Duplicate { id: "owners".to_owned() });
}

#[test]
fn one_refusal_does_not_touch_the_others() {
    let ada = Ada::with(Some(Role::Developer));
    let guard = policy(
        "guard-cart",
        r#"forbid(principal, action, resource == Service::"staging/shop/cart");"#,
    );
    let wanted = ["shop/cart", "shop/catalog"].map(|name| ada.consume(name));
    let decided = decide_each(&ada.caller, wanted, &facts(&[guard]));
    let (permits, refused) = decided.at_least_one().expect("one of two");
    assert_eq!(permits.iter().count(), 1);
    assert_eq!(refused[0].action.target.service.to_string(), "shop/cart");
}

#[test]
fn no_policy_makes_an_admin_an_owner() {
    let ada = Ada::with(Some(Role::Admin));
    let facts = facts(&[policy("all", "permit(principal, action, resource);")]);
    let user = UserId::generate();
    let make =
        |role| SetRoles { holder: RoleHolder::User(user), before: vec![], after: vec![role] };
    let denied = decide(&ada.caller, make(Role::Owner), &facts).expect_err("not hers to give");
    assert_eq!(denied.policies, ["owners-alone"]);
    assert!(decide(&ada.caller, RemoveMember { user, is_owner: true }, &facts).is_err());
    assert!(decide(&ada.caller, ManageOrganization, &facts).is_err());
    assert!(decide(&ada.caller, make(Role::Developer), &facts).is_ok());
}

#[test]
fn no_policy_keeps_an_owner_from_replacing_it() {
    for text in [
        "forbid(principal, action, resource);",
        r#"forbid(principal, action == Action::"managePolicies", resource)
           when { context.now > datetime("2001-01-01T00:00:00Z") };"#,
        // Cannot be evaluated, ever, which is a no.
        "permit(principal, action, resource) when { 9223372036854775807 + 1 > 0 };",
    ] {
        let facts = facts(&[policy("lock", text)]);
        let publish = || PublishPolicies { texts: vec![] };
        let olga = Ada::with(Some(Role::Owner)).caller;
        assert!(decide(&olga, publish(), &facts).is_ok(), "{text}");
        assert!(decide(&olga, ListPolicies, &facts).is_ok(), "{text}");
        let admin = Ada::with(Some(Role::Admin)).caller;
        assert!(decide(&admin, publish(), &facts).is_err(), "{text}");
    }
    let frozen = facts(&[policy("lock", "forbid(principal, action, resource);")]);
    let olga = Ada::with(Some(Role::Owner)).caller;
    let create = CreateTeamspace { name: "staging".parse().expect("a name") };
    assert!(decide(&olga, create, &frozen).is_err(), "it counts for everything else");
}

#[test]
fn a_service_account_administers_nothing_whatever_a_policy_says() {
    let mut job = Ada::with(Some(Role::Owner));
    let (own, other) = (job.caller.actor.user(), UserId::generate());
    job.caller.actor = Actor::Service { id: own, name: "ci".to_owned() };
    let facts = facts(&[policy("everybody", "permit(principal, action, resource);")]);
    let (org, teamspace, caller) = (job.caller.org, &job.teamspace, &job.caller);
    let end = |owner| {
        let session = SessionId::generate();
        decide(caller, EndSession { session, owner, teamspace: teamspace.clone() }, &facts)
    };
    let remove =
        |owner| decide(caller, RemoveDevice { org, device: DeviceId::generate(), owner }, &facts);
    assert!(end(own).is_ok() && remove(own).is_ok(), "what is its own");
    assert_eq!(end(other).expect_err("forbidden").policies, ["service-accounts-end-no-others"]);
    assert_eq!(
        remove(other).expect_err("forbidden").policies,
        ["service-accounts-remove-no-others"]
    );
    let roles = vec![Role::Developer];
    let another = CreateServiceAccount { name: "cd".to_owned(), roles, teamspaces: None };
    let denied = decide(caller, another, &facts).expect_err("administration");
    assert!(denied.fault.is_none(), "no error: {denied:?}");
    let teamspaces = CreateTeamspace { name: "mine".parse().expect("a name") };
    decide(caller, teamspaces, &facts).expect_err("administration");
    decide(caller, PublishPolicies { texts: vec![] }, &facts).expect_err("administration");
    assert!(job.may_consume("shop/cart", &facts).is_ok(), "a policy may let it use services");
}

#[test]
fn a_policy_tells_a_service_account_from_people() {
    let mut job = Ada::with(None);
    job.caller.actor = Actor::Service { id: UserId::generate(), name: "ci".to_owned() };
    let only = |kind: &str| {
        let text =
            format!(r#"permit(principal is {kind}, action == Action::"consume", resource);"#);
        facts(&[policy("only", &text)])
    };
    assert!(job.may_consume("shop/cart", &only("ServiceAccount")).is_ok());
    assert!(job.may_consume("shop/cart", &only("User")).is_err());
    job.caller.groups = vec!["payments".to_owned()];
    let of_group =
        r#"permit(principal in Group::"payments", action == Action::"consume", resource);"#;
    let refused = job.may_consume("shop/cart", &facts(&[policy("group", of_group)]));
    assert!(refused.is_err(), "a group is of people");
    let of_address = |kind: &str| {
        let condition = r#"when { principal.email like "*@example.test" }"#;
        let text = format!("permit(principal{kind}, action, resource) {condition};");
        Policies::new(1, &[policy("address", &text)])
    };
    assert!(of_address(" is User").is_ok());
    assert!(of_address("").is_err(), "it is told at once that a service account has no address");
}
