//! The audit log: one hash chain per organization, written in the transaction of what it records.
//!
//! Each row's hash covers the row and the hash before it, so that nobody can change, drop or insert a row without
//! every later hash failing to fit. What that cannot show is a log cut off at its end by somebody who also sets the
//! head back; compare the head with one that was noted elsewhere.

use fairlead_model::OrgId;
use hub_policy::{Caller, Permit};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use crate::{Scoped, StoreError};

const GENESIS: [u8; 32] = [0; 32];

/// What is to be recorded.
#[derive(Clone, Debug)]
pub struct Entry {
    org: OrgId,
    actor_kind: &'static str,
    actor: String,
    roles: Vec<String>,
    action: &'static str,
    subject: String,
    detail: serde_json::Value,
    policy_version: Option<u64>,
    policies: Vec<String>,
}

impl Entry {
    /// Something a person did, with the decision that let them.
    pub fn by<A>(permit: &Permit<A>, action: &'static str, subject: impl ToString) -> Self {
        let decision = permit.decision();
        Self {
            policy_version: Some(decision.policy_version),
            policies: decision.policies.clone(),
            ..Self::by_caller(permit.caller(), action, subject)
        }
    }

    /// Something a person did, or tried to do, without a permit.
    pub fn by_caller(caller: &Caller, action: &'static str, subject: impl ToString) -> Self {
        let actor = format!("{} {}", caller.actor.user(), caller.actor.email());
        let roles = caller.roles.iter().map(|binding| match binding.teamspace {
            None => binding.role.to_string(),
            Some(teamspace) => format!("{} in {teamspace}", binding.role),
        });
        let kind = if caller.actor.is_service() { "service" } else { "user" };
        Self { roles: roles.collect(), ..Self::new(caller.org, kind, actor, action, subject) }
    }

    /// Something the hub did by itself.
    pub fn by_hub(org: OrgId, action: &'static str, subject: impl ToString) -> Self {
        Self::new(org, "hub", "hub".to_owned(), action, subject)
    }

    /// Something a cluster agent did or saw.
    pub fn by_agent(org: OrgId, agent: &str, action: &'static str, subject: impl ToString) -> Self {
        Self::new(org, "agent", agent.to_owned(), action, subject)
    }

    /// Something the operator did on the hub's host.
    pub fn by_operator(org: OrgId, action: &'static str, subject: impl ToString) -> Self {
        Self::new(org, "operator", "operator".to_owned(), action, subject)
    }

    fn new(
        org: OrgId,
        actor_kind: &'static str,
        actor: String,
        action: &'static str,
        subject: impl ToString,
    ) -> Self {
        Self {
            org,
            actor_kind,
            actor,
            roles: Vec::new(),
            action,
            subject: subject.to_string(),
            detail: serde_json::Value::Object(serde_json::Map::new()),
            policy_version: None,
            policies: Vec::new(),
        }
    }

    /// Adds what else an auditor would ask. Never a secret.
    #[must_use]
    pub fn with(mut self, detail: serde_json::Value) -> Self {
        self.detail = detail;
        self
    }

    /// Adds the policies that refused.
    #[must_use]
    pub fn refused_by(mut self, policy_version: u64, policies: &[String]) -> Self {
        self.policy_version = Some(policy_version);
        self.policies = policies.to_vec();
        self
    }
}

/// One row of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recorded {
    pub seq: i64,
    pub at: Timestamp,
    pub actor_kind: String,
    pub actor: String,
    pub roles: Vec<String>,
    pub action: String,
    pub subject: String,
    pub detail: String,
    pub policy_version: Option<i64>,
    pub policies: Vec<String>,
    pub hash: Vec<u8>,
}

impl Recorded {
    /// Computes the hash that the row must have after `previous`. Every field is preceded by its length.
    fn hash_after(&self, org: OrgId, previous: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hasher.update(
                u64::try_from(bytes.len()).expect("memory is smaller than 2^64").to_be_bytes(),
            );
            hasher.update(bytes);
        };
        field(previous);
        field(org.as_uuid().as_bytes());
        field(&self.seq.to_be_bytes());
        field(&self.at.as_microsecond().to_be_bytes());
        for text in [&self.actor_kind, &self.actor, &self.action, &self.subject, &self.detail] {
            field(text.as_bytes());
        }
        field(&self.policy_version.unwrap_or(-1).to_be_bytes());
        for list in [&self.roles, &self.policies] {
            field(&u64::try_from(list.len()).expect("as above").to_be_bytes());
            list.iter().for_each(|text| field(text.as_bytes()));
        }
        hasher.finalize().into()
    }
}

/// Appends to the organization's chain, inside the transaction of what is recorded.
pub(crate) async fn record(
    connection: &mut PgConnection,
    entry: Entry,
    now: Timestamp,
) -> Result<(), StoreError> {
    let org = entry.org.as_uuid();
    sqlx::query!(
        "insert into audit_heads (org_id, seq, hash) values ($1, 0, $2) on conflict do nothing",
        org,
        &GENESIS[..],
    )
    .execute(&mut *connection)
    .await?;
    let head = sqlx::query!("select seq, hash from audit_heads where org_id = $1 for update", org)
        .fetch_one(&mut *connection)
        .await?;
    let mut row = Recorded {
        seq: head.seq + 1,
        at: now,
        actor_kind: entry.actor_kind.to_owned(),
        actor: entry.actor,
        roles: entry.roles,
        action: entry.action.to_owned(),
        subject: entry.subject,
        detail: entry.detail.to_string(),
        policy_version: entry
            .policy_version
            .map(|v| i64::try_from(v).expect("versions count up from 1")),
        policies: entry.policies,
        hash: Vec::new(),
    };
    row.hash = row.hash_after(entry.org, &head.hash).to_vec();
    sqlx::query!(
        "insert into audit (org_id, seq, at, actor_kind, actor, roles, action, subject, detail,
                            policy_version, policies, hash)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        org,
        row.seq,
        row.at.to_sqlx() as _,
        row.actor_kind,
        row.actor,
        &row.roles,
        row.action,
        row.subject,
        row.detail,
        row.policy_version,
        &row.policies,
        row.hash,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update audit_heads set seq = $2, hash = $3 where org_id = $1",
        org,
        row.seq,
        row.hash,
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Every hash fits. Note the head somewhere else to notice a log that was cut off.
    Intact { rows: i64, head: Vec<u8> },
    /// The first row that does not fit: it, or the one before it, was changed or removed.
    Broken { at: i64 },
}

impl Scoped<'_> {
    /// Lists the newest rows first, before `before` where given.
    pub async fn audit(
        &self,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Recorded>, StoreError> {
        let rows = sqlx::query!(
            "select seq, at, actor_kind, actor, roles, action, subject, detail, policy_version, policies, hash
             from audit where org_id = $1 and seq < $2 order by seq desc limit $3",
            self.org.as_uuid(),
            before.unwrap_or(i64::MAX),
            limit,
        )
        .fetch_all(self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|r| Recorded {
                seq: r.seq,
                at: r.at.into(),
                actor_kind: r.actor_kind,
                actor: r.actor,
                roles: r.roles,
                action: r.action,
                subject: r.subject,
                detail: r.detail,
                policy_version: r.policy_version,
                policies: r.policies,
                hash: r.hash,
            })
            .collect())
    }

    /// Computes the whole chain anew and compares it with what is stored.
    pub async fn verify_audit(&self) -> Result<Chain, StoreError> {
        const PAGE: i64 = 1000;
        let mut previous = GENESIS.to_vec();
        let mut next = 1;
        loop {
            // Pages from the oldest on: `audit` counts backwards from the row after the page.
            let mut page = self.audit(Some(next + PAGE), PAGE).await?;
            page.retain(|row| row.seq >= next);
            page.reverse();
            if page.is_empty() {
                break;
            }
            for row in page {
                if row.seq != next || row.hash != row.hash_after(self.org, &previous) {
                    return Ok(Chain::Broken { at: next });
                }
                previous = row.hash;
                next += 1;
            }
        }
        let head =
            sqlx::query!("select seq, hash from audit_heads where org_id = $1", self.org.as_uuid())
                .fetch_optional(self.pool)
                .await?;
        match head {
            None if next == 1 => Ok(Chain::Intact { rows: 0, head: previous }),
            Some(head) if head.seq == next - 1 && head.hash == previous => {
                Ok(Chain::Intact { rows: head.seq, head: head.hash })
            }
            _ => Ok(Chain::Broken { at: next }),
        }
    }
}

impl crate::Store {
    /// Records something that changes no other row: a denial, a first use.
    pub async fn record(&self, entry: Entry, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        record(&mut tx, entry, now).await?;
        tx.commit().await?;
        Ok(())
    }
}
