//! How a grant is signed: by the hub alone, which alone has the key.

use std::fmt;

use jsonwebtoken::{Algorithm, EncodingKey, Header};

use super::{
    Grant,
    claims::{Claims, KIND},
};
use crate::key::Key;

/// Signs grants with an organization's grant key. Only the hub makes one.
pub struct GrantSigner(EncodingKey);

impl GrantSigner {
    #[must_use]
    pub fn new(key: &Key) -> Self {
        Self(EncodingKey::from_ed_der(&key.expose_pkcs8_der()))
    }

    /// Returns the grant as the compact JWT that a laptop presents.
    #[must_use]
    pub fn sign(&self, grant: &Grant) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(KIND.to_owned());
        jsonwebtoken::encode(&header, &Claims::from(grant), &self.0)
            .expect("an Ed25519 key signs any claims")
    }
}

impl fmt::Debug for GrantSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantSigner(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        GrantedService,
        world::{World, port},
    };
    use crate::open::GRANT_MAX_BYTES;

    #[test]
    fn six_thousand_services_with_the_longest_names_fit() {
        let mut world = World::new();
        let longest = |n: usize| format!("{}/{n:0>63}", "n".repeat(63)).parse().expect("valid");
        world.grant.services = (0..6000)
            .map(|n| GrantedService {
                service: longest(n),
                ports: vec![port(8080), port(65_535)],
                pods: Vec::new(),
            })
            .collect();
        let jwt = world.jwt();
        assert!(jwt.len() <= GRANT_MAX_BYTES, "{} bytes", jwt.len());
        assert_eq!(world.verify(&jwt), Ok(world.grant.clone()));
    }
}
