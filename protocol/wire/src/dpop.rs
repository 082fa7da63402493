//! Proof that whoever asks for tokens holds the device key (RFC 9449).
//!
//! A proof is a small JWT, signed by the device key, that names the request it belongs to and is good once. The hub
//! uses it at its token endpoint: a refresh token that was copied from a laptop is worth nothing without the key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::key::{Key, PUBLIC_KEY_BYTES, signature_holds};

const TYPE: &str = "dpop+jwt";
const ALGORITHM: &str = "EdDSA";
const KEY_TYPE: &str = "OKP";
const CURVE: &str = "Ed25519";
/// A real proof has about 500 bytes.
const MAX_BYTES: usize = 4096;
const MAX_ID_BYTES: usize = 128;

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofRefused {
    #[error("this is not a DPoP proof")]
    Malformed,
    #[error("the proof must be signed by an Ed25519 key (alg EdDSA)")]
    WrongAlgorithm,
    #[error("the signature of the proof does not hold")]
    BadSignature,
    #[error("the proof was made for another request")]
    OtherRequest,
    #[error("the proof was not made just now: the clocks of laptop and hub differ by {seconds} s")]
    NotNow { seconds: u64 },
}

/// A proof that held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// RFC 7638 thumbprint of the key that signed it.
    pub jkt: String,
    /// Names this one proof; whoever accepts it remembers the name, because a second use is a replay.
    pub id: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    typ: String,
    alg: String,
    jwk: Jwk,
}

#[derive(Serialize, Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: u64,
}

/// Returns the RFC 7638 thumbprint of a raw Ed25519 public key: the `dpop_jkt` of an authorization request.
#[must_use]
pub fn jkt(public: &[u8; PUBLIC_KEY_BYTES]) -> String {
    let x = URL_SAFE_NO_PAD.encode(public);
    // Members in lexical order and no white space, as the RFC has it.
    let canonical = format!(r#"{{"crv":"{CURVE}","kty":"{KEY_TYPE}","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
}

/// Returns eight letters that tell one key from another, for somebody who compares a terminal with a browser: without
/// vowels, so that they are no word.
#[must_use]
pub fn code_for_people(jkt: &str) -> String {
    const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    let hash = Sha256::digest([b"fairlead code for people\0", jkt.as_bytes()].concat());
    let letter = |byte: &u8| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]);
    let [first, second] = [&hash[..4], &hash[4..8]].map(|four| four.iter().map(letter).collect());
    let (first, second): (String, String) = (first, second);
    format!("{first}-{second}")
}

/// Makes the proof for one request. `id` must be new for each.
#[must_use]
pub fn prove(key: &Key, method: &str, url: &str, id: &str, now: SystemTime) -> String {
    let header = Header {
        typ: TYPE.to_owned(),
        alg: ALGORITHM.to_owned(),
        jwk: Jwk {
            kty: KEY_TYPE.to_owned(),
            crv: CURVE.to_owned(),
            x: URL_SAFE_NO_PAD.encode(key.public()),
        },
    };
    let claims = Claims {
        jti: id.to_owned(),
        htm: method.to_owned(),
        htu: url.to_owned(),
        iat: now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs(),
    };
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// Checks a proof for the request that it came with. Whether it is used a second time the caller must see.
pub fn verify(
    proof: &str,
    method: &str,
    url: &str,
    now: SystemTime,
    skew: Duration,
) -> Result<Proof, ProofRefused> {
    if proof.len() > MAX_BYTES {
        return Err(ProofRefused::Malformed);
    }
    let (signed, signature) = proof.rsplit_once('.').ok_or(ProofRefused::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(ProofRefused::Malformed)?;
    let header: Header = decode(header)?;
    let claims: Claims = decode(claims)?;
    let public = public_key(&header)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| ProofRefused::Malformed)?;
    if !signature_holds(&public, signed.as_bytes(), &signature) {
        return Err(ProofRefused::BadSignature);
    }
    if claims.htm != method || claims.htu != url {
        return Err(ProofRefused::OtherRequest);
    }
    if claims.jti.is_empty() || claims.jti.len() > MAX_ID_BYTES {
        return Err(ProofRefused::Malformed);
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let seconds = now.abs_diff(claims.iat);
    if seconds > skew.as_secs() {
        return Err(ProofRefused::NotNow { seconds });
    }
    Ok(Proof { jkt: jkt(&public), id: claims.jti })
}

fn public_key(header: &Header) -> Result<[u8; PUBLIC_KEY_BYTES], ProofRefused> {
    let Header { typ, alg, jwk } = header;
    if typ != TYPE {
        return Err(ProofRefused::Malformed);
    }
    if alg != ALGORITHM || jwk.kty != KEY_TYPE || jwk.crv != CURVE {
        return Err(ProofRefused::WrongAlgorithm);
    }
    let bytes = URL_SAFE_NO_PAD.decode(&jwk.x).map_err(|_| ProofRefused::Malformed)?;
    bytes.try_into().map_err(|_| ProofRefused::Malformed)
}

fn encode(part: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).expect("strings and numbers are JSON"))
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, ProofRefused> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| ProofRefused::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| ProofRefused::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://hub.example.com/oauth/token";
    const SKEW: Duration = Duration::from_secs(60);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn check(proof: &str) -> Result<Proof, ProofRefused> {
        verify(proof, "POST", URL, now(), SKEW)
    }

    #[test]
    fn a_proof_names_its_key_and_itself() {
        let key = Key::generate().expect("made");
        let proof = prove(&key, "POST", URL, "one", now());
        let expected = Proof { jkt: jkt(&key.public()), id: "one".to_owned() };
        assert_eq!(check(&proof), Ok(expected));
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037() {
        let public = URL_SAFE_NO_PAD
            .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
            .expect("the example of appendix A.3");
        let public = public.try_into().expect("32 bytes");
        assert_eq!(jkt(&public), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_proof_for_another_request_is_refused() {
        let key = Key::generate().expect("made");
        for (method, url) in [("GET", URL), ("POST", "https://other.example.com/oauth/token")] {
            let proof = prove(&key, method, url, "one", now());
            assert_eq!(check(&proof), Err(ProofRefused::OtherRequest));
        }
    }

    #[test]
    fn a_proof_of_another_time_says_by_how_much_the_clocks_differ() {
        let key = Key::generate().expect("made");
        let hour = Duration::from_secs(3600);
        for then in [now() - hour, now() + hour] {
            let proof = prove(&key, "POST", URL, "one", then);
            assert_eq!(check(&proof), Err(ProofRefused::NotNow { seconds: 3600 }));
        }
    }

    #[test]
    fn a_changed_proof_is_refused() {
        let (ours, theirs) = (Key::generate().expect("made"), Key::generate().expect("made"));
        let proof = prove(&ours, "POST", URL, "one", now());
        let (_, claims_and_signature) = proof.split_once('.').expect("a JWT");
        let other = prove(&theirs, "POST", URL, "one", now());
        let (other_header, _) = other.split_once('.').expect("a JWT");
        let mixed = format!("{other_header}.{claims_and_signature}");
        assert_eq!(check(&mixed), Err(ProofRefused::BadSignature));
        for broken in ["", "a.b.c", "..", &proof[..proof.len() - 90]] {
            assert!(check(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn an_unsigned_proof_is_refused() {
        let key = Key::generate().expect("made");
        let proof = prove(&key, "POST", URL, "one", now());
        let (_, rest) = proof.split_once('.').expect("a JWT");
        let jwk = Jwk {
            kty: KEY_TYPE.to_owned(),
            crv: CURVE.to_owned(),
            x: URL_SAFE_NO_PAD.encode(key.public()),
        };
        let header = Header { typ: TYPE.to_owned(), alg: "none".to_owned(), jwk };
        let unsigned = format!("{}.{rest}", encode(&header));
        assert_eq!(check(&unsigned), Err(ProofRefused::WrongAlgorithm));
    }

    #[test]
    fn a_code_for_people_is_short_and_follows_the_key() {
        let code = code_for_people(&jkt(&[1; 32]));
        assert_eq!(code.len(), 9, "{code}");
        assert_eq!(code, code_for_people(&jkt(&[1; 32])));
        assert_ne!(code, code_for_people(&jkt(&[2; 32])));
    }
}
