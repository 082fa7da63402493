//! How every agent replica verifies a grant. Time is compared here and not by the JWT library, which would read the
//! machine's clock.

use std::{fmt, time::SystemTime};

use fairlead_model::{TeamspaceId, Thumbprint, timers::CLOCK_SKEW};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};

use super::{
    Grant, GrantRefused,
    claims::{Claims, ISSUER, KIND, time_of},
};
use crate::{key::PUBLIC_KEY_BYTES, open::GRANT_MAX_BYTES};

/// Verifies grants for one teamspace against the organization's public grant key.
pub struct GrantVerifier {
    key: DecodingKey,
    validation: Validation,
    teamspace: TeamspaceId,
}

impl GrantVerifier {
    #[must_use]
    pub fn new(grant_key: &[u8; PUBLIC_KEY_BYTES], teamspace: TeamspaceId) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self { key: DecodingKey::from_ed_der(grant_key), validation, teamspace }
    }

    /// Returns the grant if it was signed by the hub for this teamspace and this device, and is valid at `now`.
    ///
    /// A grant that begins slightly in the future is accepted, since clocks differ; one that has ended never is.
    pub fn verify(
        &self,
        jwt: &str,
        now: SystemTime,
        device: &Thumbprint,
    ) -> Result<Grant, GrantRefused> {
        if jwt.len() > GRANT_MAX_BYTES {
            return Err(GrantRefused::TooLong);
        }
        let signed =
            jsonwebtoken::decode::<Claims>(jwt, &self.key, &self.validation).map_err(|error| {
                match error.kind() {
                    ErrorKind::InvalidAlgorithm => GrantRefused::WrongAlgorithm,
                    ErrorKind::InvalidSignature => GrantRefused::BadSignature,
                    _ => GrantRefused::Malformed,
                }
            })?;
        if signed.header.typ.as_deref() != Some(KIND) || signed.claims.iss != ISSUER {
            return Err(GrantRefused::Malformed);
        }
        let begins_at = time_of(signed.claims.nbf)?;
        let grant = Grant::try_from(signed.claims)?;
        if grant.teamspace != self.teamspace {
            return Err(GrantRefused::OtherTeamspace);
        }
        if grant.device != *device {
            return Err(GrantRefused::OtherDevice);
        }
        if !grant.is_live(now) {
            return Err(GrantRefused::Expired);
        }
        if begins_at > now + CLOCK_SKEW {
            return Err(GrantRefused::NotYetValid);
        }
        Ok(grant)
    }
}

impl fmt::Debug for GrantVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrantVerifier({})", self.teamspace)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::{
        super::{GrantSigner, world::World},
        *,
    };

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_grant_is_read_as_it_was_signed() {
        let world = World::new();
        assert_eq!(world.verify(&world.jwt()), Ok(world.grant.clone()));
    }

    #[test]
    fn a_grant_is_good_from_just_before_its_beginning_until_its_end() {
        let world = World::new();
        let (begin, end) = (world.grant.issued_at, world.grant.expires_at);
        assert_eq!(world.verify_at(begin - CLOCK_SKEW - SECOND), Err(GrantRefused::NotYetValid));
        assert!(world.verify_at(begin - CLOCK_SKEW).is_ok());
        assert!(world.verify_at(end - SECOND).is_ok());
        assert_eq!(world.verify_at(end), Err(GrantRefused::Expired));
    }

    #[test]
    fn a_grant_of_another_device_or_teamspace_is_refused() {
        let world = World::new();
        let (jwt, now) = (world.jwt(), world.grant.issued_at);
        let other_device = Thumbprint::of_spki(b"another laptop");
        let refused = world.verifier().verify(&jwt, now, &other_device);
        assert_eq!(refused, Err(GrantRefused::OtherDevice));
        let elsewhere = GrantVerifier::new(&world.key.public(), TeamspaceId::generate());
        let refused = elsewhere.verify(&jwt, now, &world.grant.device);
        assert_eq!(refused, Err(GrantRefused::OtherTeamspace));
    }

    #[test]
    fn a_grant_of_another_signer_or_with_changed_claims_is_refused() {
        let (ours, theirs) = (World::new(), World::new());
        let forged = GrantSigner::new(&theirs.key).sign(&ours.grant);
        assert_eq!(ours.verify(&forged), Err(GrantRefused::BadSignature));
        let [head, _, signature] =
            <[String; 3]>::try_from(ours.jwt().split('.').map(str::to_owned).collect::<Vec<_>>())
                .expect("three parts");
        let theirs = theirs.jwt();
        let claims = theirs.split('.').nth(1).expect("three parts");
        let changed = format!("{head}.{claims}.{signature}");
        assert_eq!(ours.verify(&changed), Err(GrantRefused::BadSignature));
    }

    #[test]
    fn the_public_key_is_no_shared_secret() {
        let world = World::new();
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(KIND.to_owned());
        let secret = EncodingKey::from_secret(&world.key.public());
        let forged = jsonwebtoken::encode(&header, &Claims::from(&world.grant), &secret)
            .expect("HMAC signs anything");
        assert_eq!(world.verify(&forged), Err(GrantRefused::WrongAlgorithm));
    }

    #[test]
    fn no_algorithm_is_none() {
        let world = World::new();
        let unsigned = world.with_head(&json!({"alg": "none", "typ": KIND}));
        let unsigned = format!("{}.", unsigned.rsplit_once('.').expect("three parts").0);
        assert_eq!(world.verify(&unsigned), Err(GrantRefused::Malformed));
    }

    #[test]
    fn a_token_of_another_kind_is_no_grant_even_if_rightly_signed() {
        let world = World::new();
        for head in [json!({"alg": "EdDSA", "typ": "dpop+jwt"}), json!({"alg": "EdDSA"})] {
            assert_eq!(world.verify(&world.with_head(&head)), Err(GrantRefused::Malformed));
        }
        assert!(world.verify(&world.with_head(&json!({"alg": "EdDSA", "typ": KIND}))).is_ok());
    }

    #[test]
    fn what_is_no_grant_at_all_is_refused() {
        let world = World::new();
        for nonsense in ["", "a", "a.b.c", "..", "ä.ö.ü"] {
            assert_eq!(world.verify(nonsense), Err(GrantRefused::Malformed), "{nonsense}");
        }
        let long = "a".repeat(GRANT_MAX_BYTES + 1);
        assert_eq!(world.verify(&long), Err(GrantRefused::TooLong));
    }
}
