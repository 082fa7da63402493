//! Ed25519 key pairs: devices, organizations, teamspaces, replicas and grants all use this one kind.

use std::fmt;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use fairlead_model::Thumbprint;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

pub const PUBLIC_KEY_BYTES: usize = 32;
pub const SIGNATURE_BYTES: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("could not make an Ed25519 key")]
    Generate(#[source] rcgen::Error),
    #[error("not an Ed25519 private key in PKCS#8")]
    Parse(#[source] rcgen::Error),
}

/// An Ed25519 key pair. Its private half leaves it only through the two `expose` methods.
pub struct Key(KeyPair);

impl Key {
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ED25519).map(Self).map_err(KeyError::Generate)
    }

    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ED25519)
            .map(Self)
            .map_err(KeyError::Parse)
    }

    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ED25519).map(Self).map_err(KeyError::Parse)
    }

    /// Returns the private key as PKCS#8 DER, to be sealed or written to a file of the owner's own. Never log it.
    #[must_use]
    pub fn expose_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    /// Returns the private key as PKCS#8 PEM. Never log it.
    #[must_use]
    pub fn expose_pkcs8_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// Returns the private key in the form that rustls takes.
    #[must_use]
    pub fn expose_to_tls(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }

    /// Returns the raw public key.
    #[must_use]
    pub fn public(&self) -> [u8; PUBLIC_KEY_BYTES] {
        self.0.public_key_raw().try_into().expect("an Ed25519 public key has 32 bytes")
    }

    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        Thumbprint::of_spki(&self.0.subject_public_key_info())
    }

    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let signature = self.0.sign(message).expect("Ed25519 signs any message");
        signature.try_into().expect("an Ed25519 signature has 64 bytes")
    }

    pub(crate) const fn pair(&self) -> &KeyPair {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.thumbprint())
    }
}

/// Says whether `signature` over `message` was made by the holder of the raw public key.
#[must_use]
pub fn signature_holds(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_exposed() {
        let key = Key::generate().expect("made");
        let from_der = Key::from_pkcs8_der(&key.expose_pkcs8_der()).expect("read");
        let from_pem = Key::from_pkcs8_pem(&key.expose_pkcs8_pem()).expect("read");
        assert_eq!(key.thumbprint(), from_der.thumbprint());
        assert_eq!(key.public(), from_pem.public());
    }

    #[test]
    fn a_signature_holds_for_its_key_and_message_only() {
        let (ours, theirs) = (Key::generate().expect("made"), Key::generate().expect("made"));
        let signature = ours.sign(b"said");
        assert!(signature_holds(&ours.public(), b"said", &signature));
        assert!(!signature_holds(&theirs.public(), b"said", &signature));
        assert!(!signature_holds(&ours.public(), b"said otherwise", &signature));
        assert!(!signature_holds(&ours.public(), b"said", &signature[..63]));
    }

    #[test]
    fn debug_shows_the_thumbprint_and_nothing_of_the_private_half() {
        let key = Key::generate().expect("made");
        assert_eq!(format!("{key:?}"), format!("Key({})", key.thumbprint()));
    }

    #[test]
    fn a_key_of_another_algorithm_is_refused() {
        let ecdsa = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("made");
        assert!(Key::from_pkcs8_der(&ecdsa.serialize_der()).is_err());
    }
}
