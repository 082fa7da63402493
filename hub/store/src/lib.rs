//! What is remembered: every SQL statement, one file per noun.
//!
//! Reads live on a [`Scoped`], which knows the organization; writes on behalf of a person ask for the `Permit` that a
//! decision gave. Sign-in, set-up and the tasks have neither yet: they say why, through [`Store::unscoped`].
//! No decision is made here and no clock is read: time is an argument.

pub mod audit;
mod authorization_codes;
mod claim;
mod device_codes;
mod devices;
mod error;
mod join_tokens;
mod login_attempts;
mod members;
pub mod notify;
mod oidc_connections;
mod organization_keys;
mod organizations;
mod policies;
mod prune;
mod replicas;
mod role_bindings;
mod schema;
mod scope;
mod service_accounts;
mod services;
mod session_beginnings;
mod session_changes;
mod session_ends;
mod session_hosts;
mod session_services;
mod sessions;
mod setup_links;
mod teamspaces;
mod token_families;
mod tokens;
mod users;
mod web_sessions;

use std::time::Duration;

use sqlx::{
    Connection,
    postgres::{PgConnection, PgPool, PgPoolOptions},
};

pub use authorization_codes::AuthorizationCode;
pub use claim::{Claim, Claimed};
pub use device_codes::{AskingDevice, NewDeviceCode, Polled};
pub use devices::{Device, PresentedKey};
pub use error::StoreError;
pub use join_tokens::JoinToken;
pub use login_attempts::LoginAttempt;
pub use members::{Group, Member};
pub use oidc_connections::{
    DOMAIN_NEEDED, DOMAIN_TAKEN, LAST_CONNECTION, OTHER_NEEDS_DOMAIN, OWN_CONNECTION,
    OidcConnection,
};
pub use organization_keys::{KeyPurpose, SealedKey};
pub use organizations::Organization;
pub use replicas::Replica;
pub use schema::{Incarnation, OtherSchema};
pub use scope::{Scoped, Unscoped};
pub use service_accounts::{ApiToken, ServiceAccount, TOO_MANY};
pub use services::{PortOfService, Service};
pub use session_beginnings::{Beginning, ONE_INTERCEPT};
pub use session_changes::ConsumeChange;
pub use sessions::{EndCause, Ended, Filter, Granted, GrantedService, Held, Session, Wanted};
pub use setup_links::{Founding, LinkPurpose, SetupLink};
pub use teamspaces::{Enrolment, Teamspace};
pub use token_families::FamilyEnd;
pub use tokens::{AccessToken, NewTokens, Rotated};
pub use users::{SignIn, SignedIn};
pub use web_sessions::Bearer;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// More would only queue inside Postgres: a hub's statements are short.
const CONNECTIONS: u32 = 20;
/// Whoever waits longer than this for a connection is told that the database is overloaded.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// The door to Postgres, which is the only state of the hub. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: PgPool,
}

impl Store {
    /// Opens the pool; fails when no connection can be made at once.
    pub async fn connect(database_url: &str) -> Result<Self, StoreError> {
        // The pool would try again until its timeout and then say only that; one connection says why.
        PgConnection::connect(database_url).await?.close().await?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect(database_url)
            .await?;
        Ok(Self { pool })
    }

    /// Says whether Postgres answers: what `/readyz` asks.
    pub async fn is_reachable(&self) -> Result<(), StoreError> {
        sqlx::query!("select 1 as one").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Waits until every connection has been given back, and closes the pool.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
