//! The circumstances of a decision.

use std::sync::Arc;

use jiff::Timestamp;

use crate::Policies;

/// Everything a decision depends on besides the caller and the action. Time is a fact like any other.
#[derive(Clone, Debug)]
pub struct Facts {
    pub now: Timestamp,
    /// Seconds since the caller last proved a second factor, where the issuer says so.
    pub mfa_age_s: Option<i64>,
    /// The policies of the caller's organization.
    pub policies: Arc<Policies>,
}
