//! Grants: what a laptop presents and an agent believes.

use std::{
    sync::LazyLock,
    time::{Duration, UNIX_EPOCH},
};

use fairlead_model::{GrantId, OrgId, SessionId, SessionKind, TeamspaceId, Thumbprint, UserId};
use fairlead_wire::{
    grant::{Grant, GrantSigner, GrantVerifier, GrantedService, unverified},
    key::Key,
};

struct Hub {
    verifier: GrantVerifier,
    grant: Grant,
    signed: String,
}

static HUB: LazyLock<Hub> = LazyLock::new(|| {
    let key = Key::generate().expect("a key");
    let grant = grant();
    let signed = GrantSigner::new(&key).sign(&grant);
    Hub { verifier: GrantVerifier::new(&key.public(), grant.teamspace), grant, signed }
});

/// Bytes that nobody signed are never believed, alone or spliced into a grant that somebody did sign.
pub fn grants(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // A laptop reads what it carries, and it may be anything.
    drop(unverified(&text));
    assert!(verified(&text).is_none(), "an unsigned grant was believed: {text}");
    let forged = spliced(&HUB.signed, bytes);
    if forged != HUB.signed {
        // Base64 has more than one spelling of some last characters: what it says must be what was signed.
        assert!(verified(&forged).is_none_or(|grant| grant == HUB.grant), "{forged}");
        drop(unverified(&forged));
    }
}

fn verified(jwt: &str) -> Option<Grant> {
    let now = HUB.grant.issued_at + Duration::from_secs(1);
    HUB.verifier.verify(jwt, now, &HUB.grant.device).ok()
}

/// Puts the bytes into the grant at the place that the first two of them name.
fn spliced(grant: &str, bytes: &[u8]) -> String {
    let Some((place, new)) = bytes.split_first_chunk::<2>() else { return grant.to_owned() };
    let mut forged = grant.as_bytes().to_vec();
    let at = usize::from(u16::from_be_bytes(*place)) % forged.len();
    let end = (at + new.len()).min(forged.len());
    forged[at..end].copy_from_slice(&new[..end - at]);
    String::from_utf8_lossy(&forged).into_owned()
}

fn grant() -> Grant {
    let issued_at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    Grant {
        id: GrantId::generate(),
        session: SessionId::generate(),
        teamspace: TeamspaceId::generate(),
        organization: OrgId::generate(),
        user: UserId::generate(),
        device: Thumbprint::of_spki(b"a laptop"),
        action: SessionKind::Consume,
        hosts: vec!["db.example.net:5432".parse().expect("valid")],
        services: vec![GrantedService {
            service: "shop/cart".parse().expect("valid"),
            ports: ["80", "53/udp"].map(|port| port.parse().expect("valid")).into(),
            pods: vec!["cart-0".parse().expect("valid")],
        }],
        policy_version: 7,
        issued_at,
        expires_at: issued_at + Duration::from_secs(900),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_is_tried_against_would_be_believed() {
        assert_eq!(verified(&HUB.signed).as_ref(), Some(&HUB.grant));
        let later = SystemTime::now() + Duration::from_secs(1 << 32);
        assert!(HUB.verifier.verify(&HUB.signed, later, &HUB.grant.device).is_err());
    }
}
