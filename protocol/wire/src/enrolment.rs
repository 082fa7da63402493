//! How a cluster that enrols proves that it holds the teamspace key, and not only its certificate, which is public.
//!
//! The signed text names the join token by its hash, the hub by its host name and the cluster by its UID, so that it is
//! worth nothing with another token, at another hub, or for another cluster. Like every text that a key of ours signs it
//! begins with a context of its own.

use fairlead_model::Token;
use rustls_pki_types::CertificateDer;

use crate::{
    challenge::ChallengeFailed,
    identity::public_key_of,
    key::{Key, SIGNATURE_BYTES, signature_holds},
};

const CONTEXT: &[u8] = b"fairlead enrolment v1\0";

/// Signs an enrolment with the teamspace key; `hub_host` is the host name by which the hub was dialled.
#[must_use]
pub fn sign(
    teamspace_key: &Key,
    join_token: &Token,
    cluster_uid: &str,
    hub_host: &str,
) -> [u8; SIGNATURE_BYTES] {
    teamspace_key.sign(&signed_text(join_token, cluster_uid, hub_host))
}

/// Checks the signature against the key in the teamspace's certificate.
pub fn verify(
    teamspace_certificate: &CertificateDer<'_>,
    join_token: &Token,
    cluster_uid: &str,
    hub_host: &str,
    signature: &[u8],
) -> Result<(), ChallengeFailed> {
    let text = signed_text(join_token, cluster_uid, hub_host);
    if signature_holds(&public_key_of(teamspace_certificate)?, &text, signature) {
        Ok(())
    } else {
        Err(ChallengeFailed::BadSignature)
    }
}

fn signed_text(join_token: &Token, cluster_uid: &str, hub_host: &str) -> Vec<u8> {
    // The hash has a fixed length and a host name holds no zero, so that no two sets of parts give one text.
    let host = hub_host.to_ascii_lowercase();
    [CONTEXT, &join_token.hash(), host.as_bytes(), b"\0", cluster_uid.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use fairlead_model::TokenKind;

    use super::*;
    use crate::authority::TeamspaceAuthority;

    #[test]
    fn a_signature_holds_for_its_key_token_cluster_and_hub_only() {
        let made = || {
            TeamspaceAuthority::create(Key::generate().expect("made"), SystemTime::now())
                .expect("made")
        };
        let (ours, theirs) = (made(), made());
        let token = Token::new(TokenKind::Join, [7; 32]);
        let signature = sign(ours.key(), &token, "uid", "Hub.example.com");
        let holds = |authority: &TeamspaceAuthority, token: &Token, uid, host| {
            verify(authority.certificate(), token, uid, host, &signature).is_ok()
        };
        assert!(holds(&ours, &token, "uid", "hub.example.com"));
        assert!(!holds(&theirs, &token, "uid", "hub.example.com"));
        assert!(!holds(&ours, &Token::new(TokenKind::Join, [8; 32]), "uid", "hub.example.com"));
        assert!(!holds(&ours, &token, "another", "hub.example.com"));
        assert!(!holds(&ours, &token, "uid", "other.example.com"));
        assert!(verify(ours.certificate(), &token, "uid", "hub.example.com", b"").is_err());
    }
}
