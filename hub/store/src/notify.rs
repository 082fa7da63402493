//! Change hints: which noun of which organization changed, told to every hub after the transaction has committed.
//!
//! A hint is never the message: whoever hears one reads again. Whoever might have missed some (a reconnect) reads
//! everything again.

use std::{fmt, str::FromStr};

use fairlead_model::OrgId;
use sqlx::{PgConnection, postgres::PgListener};
use uuid::Uuid;

use crate::{Store, StoreError};

const CHANNEL: &str = "fairlead_changes";

/// What kind of row changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Noun {
    Sessions,
    Services,
    Teamspaces,
    /// People, groups, roles, devices.
    Members,
    Policies,
}

impl Noun {
    pub const ALL: [Self; 5] =
        [Self::Sessions, Self::Services, Self::Teamspaces, Self::Members, Self::Policies];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Services => "services",
            Self::Teamspaces => "teamspaces",
            Self::Members => "members",
            Self::Policies => "policies",
        }
    }
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A hint that a row has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub org: OrgId,
    pub noun: Noun,
    /// The row; for services, their teamspace.
    pub id: Uuid,
}

impl Change {
    fn parse(payload: &str) -> Option<Self> {
        let mut words = payload.split(' ');
        let org = OrgId::from_str(words.next()?).ok()?;
        let noun = words.next()?;
        let noun = Noun::ALL.into_iter().find(|known| known.as_str() == noun)?;
        let id = words.next()?.parse().ok()?;
        Some(Self { org, noun, id })
    }
}

/// Tells every hub of a change, once `connection`'s transaction commits.
pub(crate) async fn tell(
    connection: &mut PgConnection,
    org: OrgId,
    noun: Noun,
    id: impl Into<Uuid>,
) -> Result<(), StoreError> {
    let payload = format!("{org} {noun} {}", id.into());
    sqlx::query!("select pg_notify($1, $2)", CHANNEL, payload).execute(connection).await?;
    Ok(())
}

/// The changes as they are told.
#[derive(Debug)]
pub struct Changes {
    listener: PgListener,
}

/// What a listener hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Change(Change),
    /// The connection was lost and made again: anything may have changed meanwhile.
    Gap,
}

impl Store {
    pub async fn listen(&self) -> Result<Changes, StoreError> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Changes { listener })
    }
}

impl Changes {
    pub async fn next(&mut self) -> Result<Heard, StoreError> {
        loop {
            let Some(notification) = self.listener.try_recv().await? else {
                return Ok(Heard::Gap);
            };
            match Change::parse(notification.payload()) {
                Some(change) => return Ok(Heard::Change(change)),
                None => tracing::debug!(payload = notification.payload(), "Unknown change hint"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_read_as_it_was_told() {
        let org = OrgId::generate();
        let id = Uuid::now_v7();
        for noun in Noun::ALL {
            let change = Change { org, noun, id };
            assert_eq!(Change::parse(&format!("{org} {noun} {id}")), Some(change));
        }
        assert_eq!(Change::parse("nonsense"), None);
    }
}
