//! Whose rows a statement may see.
//!
//! [`Scoped`] carries the organization into every read, so that none can forget it. [`Unscoped`] is for the few that
//! come before an organization is known, or that serve all of them; each use names its reason, and a search for
//! `unscoped(` lists them all.

use fairlead_model::OrgId;
use sqlx::postgres::PgPool;

use crate::Store;

/// Reads within one organization. The noun files add the methods.
#[derive(Clone, Copy, Debug)]
pub struct Scoped<'store> {
    pub(crate) pool: &'store PgPool,
    pub(crate) org: OrgId,
}

/// Statements without a caller: sign-in, set-up, the operator on the hub's host, and the tasks.
#[derive(Clone, Copy, Debug)]
pub struct Unscoped<'store> {
    pub(crate) pool: &'store PgPool,
}

impl Store {
    #[must_use]
    pub const fn scoped(&self, org: OrgId) -> Scoped<'_> {
        Scoped { pool: &self.pool, org }
    }

    /// Leaves the scope of an organization, because of `reason`.
    #[must_use]
    pub fn unscoped(&self, reason: &'static str) -> Unscoped<'_> {
        tracing::trace!(reason, "Store used without an organization");
        Unscoped { pool: &self.pool }
    }
}
