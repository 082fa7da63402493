//! How a link's peer proves that it holds the key of its certificate, inside TLS that only the hub's side authenticates.
//!
//! The signed text begins with a context of its own, so that it can be taken for nothing else that the key signs, and
//! ends with the hub's host name, so that a hub cannot use the answer to pose as its peer towards another hub.

use rustls_pki_types::CertificateDer;

use crate::{
    identity::{UnreadableIdentity, public_key_of},
    key::{Key, SIGNATURE_BYTES, signature_holds},
};

pub const NONCE_BYTES: usize = 32;
const CONTEXT: &[u8] = b"fairlead link v1\0";

#[derive(Debug, thiserror::Error)]
pub enum ChallengeFailed {
    #[error(transparent)]
    Unreadable(#[from] UnreadableIdentity),
    #[error("the challenge was not signed with the key of the certificate")]
    BadSignature,
}

/// Draws the 32 random bytes of one `Challenge`.
#[must_use]
pub fn draw_nonce() -> [u8; NONCE_BYTES] {
    rand::random()
}

/// Answers a challenge; `hub_host` is the host name by which the hub was dialled.
#[must_use]
pub fn sign(key: &Key, nonce: &[u8], hub_host: &str) -> [u8; SIGNATURE_BYTES] {
    key.sign(&signed_text(nonce, hub_host))
}

/// Checks the answer to a challenge against the key in `leaf`. That the leaf is to be trusted is another question,
/// answered by [`crate::chain`].
pub fn verify(
    leaf: &CertificateDer<'_>,
    nonce: &[u8; NONCE_BYTES],
    hub_host: &str,
    signature: &[u8],
) -> Result<(), ChallengeFailed> {
    if signature_holds(&public_key_of(leaf)?, &signed_text(nonce, hub_host), signature) {
        Ok(())
    } else {
        Err(ChallengeFailed::BadSignature)
    }
}

fn signed_text(nonce: &[u8], hub_host: &str) -> Vec<u8> {
    [CONTEXT, nonce, hub_host.to_ascii_lowercase().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::authority::TeamspaceAuthority;

    #[test]
    fn an_answer_holds_for_its_nonce_host_and_key_only() {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000);
        let teamspace =
            TeamspaceAuthority::create(Key::generate().expect("made"), now).expect("made");
        let key = Key::generate().expect("made");
        let leaf = teamspace.sign_replica(&key, "agent-0", now).expect("signed");
        let nonce = draw_nonce();
        let signature = sign(&key, &nonce, "Hub.example.com");
        assert!(verify(&leaf, &nonce, "hub.example.com", &signature).is_ok());
        assert!(verify(&leaf, &draw_nonce(), "hub.example.com", &signature).is_err());
        assert!(verify(&leaf, &nonce, "other.example.com", &signature).is_err());
        assert!(verify(teamspace.certificate(), &nonce, "hub.example.com", &signature).is_err());
        assert!(verify(&leaf, &nonce, "hub.example.com", b"").is_err());
    }
}
