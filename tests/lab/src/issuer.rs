//! The identity provider of the lab.

/// placeholder
#[derive(Debug)]
pub struct Issuer;
/// placeholder
#[derive(Debug)]
pub struct IssuerOptions;
