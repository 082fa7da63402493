//! How a laptop reads the grant that it carries and cannot verify. Nothing may be allowed by this.

use fairlead_model::{ExternalHost, GrantId};
use jsonwebtoken::dangerous::insecure_decode_claims;

use super::{
    GrantRefused, GrantedService,
    claims::{Claims, granted},
};
use crate::open::GRANT_MAX_BYTES;

/// What a grant says to whoever cannot verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified {
    /// Ids count up: of two grants of a session the later one has the greater.
    pub id: GrantId,
    pub services: Vec<GrantedService>,
    pub hosts: Vec<ExternalHost>,
}

/// Reads a grant, whoever signed it and until whenever it is good.
///
/// For the laptop, which has no key to verify it by and shows what it was given. Nothing may be allowed by this.
pub fn unverified(jwt: &str) -> Result<Unverified, GrantRefused> {
    if jwt.len() > GRANT_MAX_BYTES {
        return Err(GrantRefused::TooLong);
    }
    let claims: Claims = insecure_decode_claims(jwt).map_err(|_| GrantRefused::Malformed)?;
    let services = claims.svc.into_iter().map(granted).collect::<Result<_, _>>()?;
    Ok(Unverified { id: claims.jti, services, hosts: claims.ext })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Grant, world::World},
        *,
    };

    #[test]
    fn whoever_cannot_verify_a_grant_reads_its_services_all_the_same() {
        let world = World::new();
        let Grant { id, services, hosts, .. } = world.grant.clone();
        assert_eq!(unverified(&world.jwt()), Ok(Unverified { id, services, hosts }));
        assert_eq!(unverified("no grant"), Err(GrantRefused::Malformed));
        let long = "a".repeat(GRANT_MAX_BYTES + 1);
        assert_eq!(unverified(&long), Err(GrantRefused::TooLong));
    }
}
