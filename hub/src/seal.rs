//! Sealing: what the hub must keep secret but be able to read again lies in Postgres under the master key.
//!
//! AES-256-GCM. A sealed value is bound to its organization and purpose, so that one cannot be put in another's place,
//! and names the key that sealed it, so that the wrong key is told apart from a damaged value.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use fairlead_model::OrgId;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
const FORMAT: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_LEN;

#[derive(Debug, thiserror::Error)]
#[error(
    "the master key must be {KEY_BYTES} bytes in base64; make one with: openssl rand -base64 {KEY_BYTES}"
)]
pub struct InvalidMasterKey;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error(
        "this was sealed under another master key (id {sealed_under}, ours is {ours}): give the hub the key with \
         which its database was set up"
    )]
    OtherKey { sealed_under: String, ours: String },
    #[error("a sealed value is damaged, or stands where it does not belong")]
    Damaged,
}

/// The one secret that is not in the database.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

impl MasterKey {
    #[must_use]
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a key as `openssl rand -base64 32` prints it.
    pub fn from_base64(text: &str) -> Result<Self, InvalidMasterKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| InvalidMasterKey)?);
        <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map(Self::new).map_err(|_| InvalidMasterKey)
    }

    /// Returns the key as [`MasterKey::from_base64`] reads it. Never log it.
    #[must_use]
    pub fn expose_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*self.0))
    }

    fn id(&self) -> [u8; KEY_ID_BYTES] {
        let mut hasher = Sha256::new();
        hasher.update(b"fairlead master key id\0");
        hasher.update(*self.0);
        let hash: [u8; 32] = hasher.finalize().into();
        hash[..KEY_ID_BYTES].try_into().expect("a hash is longer than an id")
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", hex(self.id()))
    }
}

/// Seals and opens values with the master key.
pub struct Sealer {
    key_id: [u8; KEY_ID_BYTES],
    key: RandomizedNonceKey,
}

impl Sealer {
    #[must_use]
    pub fn new(master: &MasterKey) -> Self {
        let key = RandomizedNonceKey::new(&AES_256_GCM, &*master.0)
            .expect("AES-256 takes a key of 32 bytes");
        Self { key_id: master.id(), key }
    }

    /// Seals `secret` for one purpose of one organization.
    #[must_use]
    pub fn seal(&self, org: OrgId, purpose: &str, secret: &[u8]) -> Vec<u8> {
        let mut body = secret.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(Aad::from(aad(org, purpose)), &mut body)
            .expect("AES-GCM seals what fits into memory");
        let mut sealed = Vec::with_capacity(HEAD_BYTES + body.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&self.key_id);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&body);
        sealed
    }

    /// Opens what was sealed for the same purpose of the same organization.
    pub fn open(
        &self,
        org: OrgId,
        purpose: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (head, body) = sealed.split_at_checked(HEAD_BYTES).ok_or(SealError::Damaged)?;
        let (format, head) = head.split_first().ok_or(SealError::Damaged)?;
        let (key_id, nonce) = head.split_at(KEY_ID_BYTES);
        if *format != FORMAT {
            return Err(SealError::Damaged);
        }
        if key_id != self.key_id {
            return Err(SealError::OtherKey { sealed_under: hex(key_id), ours: hex(self.key_id) });
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .key
            .open_in_place(nonce, Aad::from(aad(org, purpose)), &mut body)
            .map_err(|_| SealError::Damaged)?
            .len();
        body.truncate(length);
        Ok(body)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", hex(self.key_id))
    }
}

fn aad(org: OrgId, purpose: &str) -> Vec<u8> {
    [org.as_uuid().as_bytes().as_slice(), purpose.as_bytes()].concat()
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&MasterKey::new([byte; KEY_BYTES]))
    }

    #[test]
    fn what_is_sealed_is_opened_by_the_same_key_only() {
        let org = OrgId::generate();
        let sealed = sealer(1).seal(org, "grants", b"secret");
        assert_eq!(*sealer(1).open(org, "grants", &sealed).expect("ours"), b"secret");
        let refused = sealer(2).open(org, "grants", &sealed).expect_err("another key");
        assert!(matches!(refused, SealError::OtherKey { .. }), "{refused}");
    }

    #[test]
    fn a_sealed_value_cannot_be_moved_to_another_place() {
        let org = OrgId::generate();
        let sealed = sealer(1).seal(org, "grants", b"secret");
        assert_eq!(sealer(1).open(org, "authority", &sealed), Err(SealError::Damaged));
        assert_eq!(sealer(1).open(OrgId::generate(), "grants", &sealed), Err(SealError::Damaged));
    }

    #[test]
    fn a_damaged_value_is_refused_wherever_the_damage_is() {
        let org = OrgId::generate();
        let sealed = sealer(1).seal(org, "grants", b"secret");
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(sealer(1).open(org, "grants", &damaged).is_err(), "byte {at}");
            assert!(sealer(1).open(org, "grants", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_same_secret_never_seals_to_the_same_bytes() {
        let org = OrgId::generate();
        assert_ne!(sealer(1).seal(org, "p", b"secret"), sealer(1).seal(org, "p", b"secret"));
    }

    #[test]
    fn a_key_of_the_wrong_length_says_how_to_make_one() {
        let error = MasterKey::from_base64("c2hvcnQ=").expect_err("too short");
        assert!(error.to_string().contains("openssl rand -base64 32"));
        let key = MasterKey::new([9; KEY_BYTES]);
        let read = MasterKey::from_base64(&key.expose_base64()).expect("as exposed");
        assert_eq!(read.id(), key.id());
        assert!(!format!("{key:?}").contains(key.expose_base64().as_str()));
    }
}
