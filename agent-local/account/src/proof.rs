//! Proofs that we hold the device key: RFC 9449 (DPoP) with Ed25519.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fairlead_wire::key::Key;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

/// Returns the RFC 7638 thumbprint of the public key, which the hub binds the tokens to.
pub(crate) fn key_thumbprint(key: &Key) -> String {
    // RFC 7638: exactly these members, in this order, without white space.
    let canonical = format!(
        r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#,
        URL_SAFE_NO_PAD.encode(key.public())
    );
    URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
}

/// Makes the proof for one POST.
pub(crate) fn proof(key: &Key, url: &Url, now: SystemTime) -> String {
    let header = json!({
        "typ": "dpop+jwt",
        "alg": "EdDSA",
        "jwk": { "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key.public()) },
    });
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let claims = json!({
        "jti": URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()),
        "htm": "POST",
        "htu": url.as_str(),
        "iat": since_epoch.as_secs(),
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

#[cfg(test)]
mod tests {
    use fairlead_wire::key::signature_holds;

    use super::*;

    #[test]
    fn a_proof_is_signed_by_the_key_it_names() {
        let key = Key::generate().expect("made");
        let url: Url = "https://hub.example.com/oauth/token".parse().expect("valid");
        let proof = proof(&key, &url, SystemTime::now());
        let [header, claims, signature] = proof.split('.').collect::<Vec<_>>()[..] else {
            panic!("three parts: {proof}");
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).expect("base64");
        let signed = format!("{header}.{claims}");
        assert!(signature_holds(&key.public(), signed.as_bytes(), &decode(signature)));
        let claims: Value = serde_json::from_slice(&decode(claims)).expect("JSON");
        assert_eq!(claims["htu"], "https://hub.example.com/oauth/token");
        let header: Value = serde_json::from_slice(&decode(header)).expect("JSON");
        assert_eq!(decode(header["jwk"]["x"].as_str().expect("text")), key.public());
    }
}
