//! The circumstances of a decision.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;

use crate::Policies;

/// Everything a decision depends on besides the caller and the action. Time is a fact like any other.
#[derive(Clone, Debug)]
pub struct Facts {
    pub now: Timestamp,
    /// Where the request came from; unknown for decisions that nobody asked for just now.
    pub ip: Option<IpAddr>,
    /// Seconds since the caller last proved a second factor, where the issuer says so.
    pub mfa_age_s: Option<i64>,
    /// The policies of the caller's organization.
    pub policies: Arc<Policies>,
}
