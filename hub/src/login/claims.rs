//! What an issuer said about somebody, read into the terms of the hub. Pure.

use hub_store::{OidcConnection, SignIn};
use serde_json::{Map, Value};

const MAX_GROUPS: usize = 500;
const MAX_GROUP_BYTES: usize = 500;
const MAX_NAME_CHARACTERS: usize = 200;

/// Why somebody whom the issuer knows cannot come in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsRefused {
    #[error("the issuer did not say who you are (no `sub`)")]
    NoSubject,
    #[error("the issuer did not tell your e-mail address")]
    NoEmail,
    #[error("the issuer has not verified your e-mail address {email}")]
    UnverifiedEmail { email: String },
    #[error("the issuer names more than {MAX_GROUPS} groups for you")]
    TooManyGroups,
}

/// Claims of one person: those of the ID token first, those of the userinfo endpoint where it was asked.
#[derive(Debug, Default)]
pub struct Said {
    pub id_token: Map<String, Value>,
    pub userinfo: Map<String, Value>,
}

impl Said {
    /// Says whether the ID token alone leaves something open that the userinfo endpoint may answer.
    #[must_use]
    pub fn leaves_open(&self, groups_claim: &str) -> bool {
        !self.id_token.contains_key("email") || find(&self.id_token, groups_claim).is_none()
    }

    fn get(&self, claim: &str) -> Option<&Value> {
        find(&self.id_token, claim).or_else(|| find(&self.userinfo, claim))
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.get(claim)?.as_str().filter(|text| !text.is_empty())
    }
}

/// Reads who signed in. The subject comes from the ID token alone, because only that is signed for us.
pub fn read(said: &Said, connection: &OidcConnection) -> Result<SignIn, ClaimsRefused> {
    let subject = said.id_token.get("sub").and_then(Value::as_str).unwrap_or_default();
    if subject.is_empty() {
        return Err(ClaimsRefused::NoSubject);
    }
    let email = said.text("email").ok_or(ClaimsRefused::NoEmail)?.to_lowercase();
    if !is_verified(said, &email, &connection.email_domains) {
        return Err(ClaimsRefused::UnverifiedEmail { email });
    }
    let name = ["name", "preferred_username"].into_iter().find_map(|claim| said.text(claim));
    Ok(SignIn {
        org: connection.org_id,
        connection_id: connection.id,
        subject: subject.to_owned(),
        name: name.unwrap_or(&email).chars().take(MAX_NAME_CHARACTERS).collect(),
        groups: groups(said.get(&connection.groups_claim))?,
        email,
    })
}

/// Returns the part of an address after its last `@`, in lower case.
#[must_use]
pub fn domain(email: &str) -> Option<String> {
    let (name, domain) = email.trim().rsplit_once('@')?;
    (!name.is_empty() && !domain.is_empty()).then(|| domain.to_lowercase())
}

fn is_verified(said: &Said, email: &str, domains: &[String]) -> bool {
    let verified = match said.get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        // Some issuers write a word.
        Some(Value::String(word)) => word == "true",
        _ => false,
    };
    verified || domain(email).is_some_and(|domain| domains.contains(&domain))
}

/// Finds a claim by its name, or by a path of names with dots (`realm_access.roles`).
fn find<'claims>(claims: &'claims Map<String, Value>, path: &str) -> Option<&'claims Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

fn groups(claim: Option<&Value>) -> Result<Vec<String>, ClaimsRefused> {
    let names: Vec<&str> = match claim {
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(name)) => vec![name],
        _ => Vec::new(),
    };
    let fits = |name: &&str| !name.is_empty() && name.len() <= MAX_GROUP_BYTES;
    let mut groups: Vec<String> = names.into_iter().filter(fits).map(ToOwned::to_owned).collect();
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > MAX_GROUPS { Err(ClaimsRefused::TooManyGroups) } else { Ok(groups) }
}

#[cfg(test)]
mod tests {
    use fairlead_model::OrgId;
    use serde_json::json;

    use super::*;

    fn connection_for(
        org: OrgId,
        groups_claim: &str,
        email_domains: Vec<String>,
    ) -> OidcConnection {
        OidcConnection {
            org_id: org,
            id: uuid::Uuid::nil(),
            issuer: String::new(),
            client_id: String::new(),
            sealed_client_secret: Vec::new(),
            groups_claim: groups_claim.to_owned(),
            scopes: Vec::new(),
            email_domains,
            created_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    fn said(id_token: Value, userinfo: Value) -> Said {
        Said { id_token: map(id_token), userinfo: map(userinfo) }
    }

    fn read_by(claim: &str, domains: &[&str], said: &Said) -> Result<SignIn, ClaimsRefused> {
        let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
        read(said, &connection_for(OrgId::generate(), claim, domains))
    }

    #[test]
    fn the_id_token_is_believed_before_the_userinfo() {
        let said = said(
            json!({"sub": "1", "email": "Ada@Example.test", "email_verified": true, "groups": ["b", "a", "b"]}),
            json!({"email": "eve@example.test", "name": "Ada", "groups": ["owners"]}),
        );
        let who = read_by("groups", &[], &said).expect("complete");
        assert_eq!((who.email.as_str(), who.name.as_str()), ("ada@example.test", "Ada"));
        assert_eq!(who.groups, ["a", "b"]);
    }

    #[test]
    fn groups_are_found_in_the_userinfo_and_along_a_path() {
        let said = said(
            json!({"sub": "1", "email": "a@b.c", "email_verified": true}),
            json!({"realm_access": {"roles": ["dev"]}, "team": "one"}),
        );
        assert_eq!(read_by("realm_access.roles", &[], &said).expect("there").groups, ["dev"]);
        assert_eq!(read_by("team", &[], &said).expect("there").groups, ["one"]);
        assert!(read_by("nowhere", &[], &said).expect("none is allowed").groups.is_empty());
        assert!(said.leaves_open("realm_access.roles"));
    }

    #[test]
    fn an_unverified_address_needs_a_domain_of_the_connection() {
        let unverified = said(json!({"sub": "1", "email": "ada@example.test"}), json!({}));
        assert!(read_by("groups", &["example.test"], &unverified).is_ok());
        for domains in [&[][..], &["test"], &["ample.test"]] {
            let refused = read_by("groups", domains, &unverified).expect_err("not ours");
            assert!(matches!(refused, ClaimsRefused::UnverifiedEmail { .. }));
        }
        let denied = said(
            json!({"sub": "1", "email": "a@b.c", "email_verified": "false"}),
            json!({"email_verified": true}),
        );
        assert!(read_by("groups", &[], &denied).is_err());
    }

    #[test]
    fn nobody_comes_in_without_a_subject_or_an_address() {
        let nameless = said(json!({"email": "a@b.c", "email_verified": true}), json!({"sub": "1"}));
        assert_eq!(
            read_by("groups", &[], &nameless).expect_err("no sub"),
            ClaimsRefused::NoSubject
        );
        let silent = said(json!({"sub": "1"}), json!({}));
        assert_eq!(read_by("groups", &[], &silent).expect_err("no email"), ClaimsRefused::NoEmail);
    }

    #[test]
    fn a_domain_is_what_follows_the_last_at() {
        assert_eq!(domain("\"a@b\"@Example.TEST").as_deref(), Some("example.test"));
        assert_eq!(domain("@example.test"), None);
        assert_eq!(domain("ada"), None);
    }
}
