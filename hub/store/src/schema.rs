//! Which schema the database has, compared with the one that this hub was built with; and whether the database is still
//! the same.

use sqlx::postgres::{PgConnection, PgPool};

use crate::{MIGRATIONS, Store, StoreError};

/// What Postgres says of a table that does not exist.
const UNDEFINED_TABLE: &str = "42P01";

/// How the database's schema differs from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtherSchema {
    #[error("the database has no schema of Fairlead yet: run `fairlead-hub migrate`")]
    None,
    #[error(
        "the database has schema {database}, and this hub needs {ours}: run `fairlead-hub migrate`"
    )]
    Older { database: i64, ours: i64 },
    #[error(
        "a newer hub has used this database (it has schema {database}, this hub knows {ours}): install that version \
         of the hub or a later one"
    )]
    Newer { database: i64, ours: i64 },
}

impl Store {
    /// Brings the schema up to date. Who comes at the same time waits (advisory lock).
    pub async fn migrate(&self) -> Result<(), StoreError> {
        match compare(applied(&self.pool).await?, ours()) {
            Err(newer @ OtherSchema::Newer { .. }) => Err(newer.into()),
            _ => Ok(MIGRATIONS.run(&self.pool).await?),
        }
    }

    /// Refuses a database whose schema is not the one that our statements were written for.
    pub async fn must_have_our_schema(&self) -> Result<(), StoreError> {
        Ok(compare(applied(&self.pool).await?, ours())?)
    }
}

/// One life of a database: another one after it was emptied, dropped and made anew, or restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incarnation(String);

impl Incarnation {
    /// Reads it off what Postgres numbers anew whenever it makes it: its own data, the database, the table of migrations.
    pub(crate) async fn of(connection: &mut PgConnection) -> Result<Self, StoreError> {
        let text = sqlx::query_scalar(
            "select concat_ws('/', (select system_identifier from pg_control_system()),
                 (select oid from pg_database where datname = current_database()),
                 to_regclass('_sqlx_migrations')::oid)",
        );
        Ok(Self(text.fetch_one(connection).await?))
    }
}

fn compare(database: Option<i64>, ours: i64) -> Result<(), OtherSchema> {
    match database {
        None => Err(OtherSchema::None),
        Some(database) if database < ours => Err(OtherSchema::Older { database, ours }),
        Some(database) if database > ours => Err(OtherSchema::Newer { database, ours }),
        Some(_) => Ok(()),
    }
}

fn ours() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Returns the latest migration that was applied. The table is sqlx's own, so no migration of ours describes it.
async fn applied(pool: &PgPool) -> Result<Option<i64>, StoreError> {
    let latest = sqlx::query_scalar("select max(version) from _sqlx_migrations where success")
        .fetch_one(pool)
        .await;
    match latest {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => {
            Ok(None)
        }
        latest => Ok(latest?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_schema_will_do() {
        assert_eq!(compare(Some(4), 4), Ok(()));
        assert_eq!(compare(None, 4), Err(OtherSchema::None));
        assert_eq!(compare(Some(3), 4), Err(OtherSchema::Older { database: 3, ours: 4 }));
        assert_eq!(compare(Some(5), 4), Err(OtherSchema::Newer { database: 5, ours: 4 }));
    }
}
