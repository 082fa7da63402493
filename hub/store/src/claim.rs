//! One hub serves a database at a time: links live in its memory, and a hub that starts takes those of before for lost.
//! Postgres keeps the claim as a lock of one connection, so that it ends with the process that holds it.

use sqlx::{Connection, postgres::PgConnection};

use crate::{Incarnation, Store, StoreError};

/// Names the lock among those that others might take in the same database: "hub" and the number of the claim.
const LOCK: (i32, i32) = (0x0068_7562, 1);
/// A holder whose machine has vanished is found out after these: idle seconds, seconds between probes, probes.
const KEEPALIVE: [(&str, &str); 3] =
    [("tcp_keepalives_idle", "5"), ("tcp_keepalives_interval", "2"), ("tcp_keepalives_count", "3")];

/// The claim on a database, held for as long as this lives and its connection does.
#[derive(Debug)]
pub struct Claim {
    connection: PgConnection,
}

/// Who has the database.
#[derive(Debug)]
pub enum Claimed {
    Ours(Claim),
    /// What the other hub calls itself.
    Theirs(String),
}

impl Store {
    /// Claims the database for the hub called `name`.
    pub async fn claim(&self, name: &str) -> Result<Claimed, StoreError> {
        let options = (*self.pool.connect_options()).clone().application_name(name);
        let mut connection = PgConnection::connect_with(&options).await?;
        for (setting, value) in KEEPALIVE {
            sqlx::query_scalar!("select set_config($1, $2, false)", setting, value)
                .fetch_one(&mut connection)
                .await?;
        }
        let got =
            sqlx::query_scalar!("select pg_try_advisory_lock($1, $2) as \"got!\"", LOCK.0, LOCK.1)
                .fetch_one(&mut connection)
                .await?;
        if got {
            return Ok(Claimed::Ours(Claim { connection }));
        }
        let holder = holder(&mut connection).await?;
        connection.close().await?;
        Ok(Claimed::Theirs(holder.unwrap_or_else(|| "unknown".to_owned())))
    }

    /// Says who holds the claim, over a connection made for this question: that of the claim, and those of the pool, may
    /// be half open.
    pub async fn claim_holder(&self) -> Result<Option<String>, StoreError> {
        let mut connection = PgConnection::connect_with(&self.pool.connect_options()).await?;
        let holder = holder(&mut connection).await?;
        connection.close().await?;
        Ok(holder)
    }
}

async fn holder(connection: &mut PgConnection) -> Result<Option<String>, StoreError> {
    // Postgres shows the locks of all its databases.
    let holder = sqlx::query_scalar!(
        "select a.application_name from pg_locks l join pg_stat_activity a on a.pid = l.pid
         where l.locktype = 'advisory' and l.granted and l.objsubid = 2
           and l.classid::bigint = $1::integer and l.objid::bigint = $2::integer
           and l.database = (select oid from pg_database where datname = current_database())",
        LOCK.0,
        LOCK.1
    )
    .fetch_optional(connection)
    .await?;
    Ok(holder.flatten())
}

impl Claim {
    /// Says of which database it is the claim. Fails when the connection, and with it the claim, is lost; does not end
    /// while Postgres does not answer.
    pub async fn is_held(&mut self) -> Result<Incarnation, StoreError> {
        Incarnation::of(&mut self.connection).await
    }
}
