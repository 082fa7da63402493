//! What may leave this machine in a bundle: text without secrets. One function, through which every byte goes.

use std::sync::LazyLock;

use regex::{Captures, Regex};

const GONE: &str = "[removed]";

/// Each finds one kind of secret; what it captures as `keep` stays.
static SECRETS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // Keys and certificates.
        r"-----BEGIN [A-Z0-9 ]+-----[\s\S]*?(-----END [A-Z0-9 ]+-----|$)",
        // Passwords in addresses.
        r"(?P<keep>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s@\x22']+@",
        // Headers that carry nothing but a secret.
        r"(?i)(?P<keep>\b(set-)?cookie[\x22']?\s*[:=]\s*)[^\r\n]+",
        r"(?i)(?P<keep>\b(bearer|basic|digest|negotiate|dpop)\s+)[A-Za-z0-9+/=._~-]{6,}",
        // Tokens in JWT form, and ours.
        r"\bey[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?",
        r"\bfl[a-z]_[A-Za-z0-9_-]{8,}",
        // Values whose name says what they are, quoted or not.
        r#"(?i)(?P<keep>[\w.-]*(token|secret|passw(or)?d|passphrase|api[_-]?key|ticket|authorization|credential|private[_-]?key|grant|verifier|signature)[\w.-]*\\?["']?\s*[:=]\s*)(\\?"[^"]*"|'[^']*'|\[[^\]]*\]|[^\s,;&}"']+)"#,
        // What a sign-in carries in its address.
        r"(?P<keep>[?&#](code|state|nonce|key|sig)=)[^\s&#\x22']+",
    ]
    .into_iter()
    .map(|pattern| Regex::new(pattern).expect("our own patterns are tested"))
    .collect()
});

/// A word of this length that looks like chance is taken for a secret, whatever stands before it.
static LONG: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?P<keep>SHA256:)?[A-Za-z0-9+_=-]{32,}").expect("tested"));

/// Returns the text without anything that opens a door.
pub(crate) fn redacted(text: &str) -> String {
    let known = SECRETS
        .iter()
        .fold(text.to_owned(), |text, pattern| pattern.replace_all(&text, removed).into_owned());
    LONG.replace_all(&known, |found: &Captures<'_>| {
        // A thumbprint is public, and says which key it was.
        let is_public = found.name("keep").is_some() || !looks_like_chance(&found[0]);
        if is_public { found[0].to_owned() } else { GONE.to_owned() }
    })
    .into_owned()
}

fn removed(found: &Captures<'_>) -> String {
    let kept = found.name("keep").map_or("", |kept| kept.as_str());
    format!("{kept}{GONE}")
}

/// Ids have dashes in their places, and names are words in lower case.
fn looks_like_chance(word: &str) -> bool {
    let has = |is: fn(&char) -> bool| word.chars().any(|c| is(&c));
    let is_id = word.len() == 36 && word.chars().filter(|c| *c == '-').count() == 4;
    let has_digit = has(char::is_ascii_digit);
    let is_mixed = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase);
    let is_hex = word.chars().all(|c| c.is_ascii_hexdigit());
    !is_id && has_digit && (is_mixed || is_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANCE: &str = "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MGFiY2RlZmdoaWpr";
    const JWT: &str = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLWhlcmU";

    #[test]
    fn no_planted_secret_survives() {
        let planted = [
            ("fla_Hq8sSecretAccess", "found token fla_Hq8sSecretAccess in use"),
            ("flj_joinsecret99", r#"{"join": "flj_joinsecret99"}"#),
            ("hunter2", "proxy http://ada:hunter2@proxy.corp:3128/ refused"),
            ("s3cr3t", "postgres://hub:s3cr3t@db/hub"),
            (JWT, &format!("grant accepted {JWT}")),
            ("c2lnbmF0dXJlLWhlcmU", &format!("grant={JWT}")),
            ("tick-et-1234", r#"offer { ticket: "tick-et-1234", relay: "x" }"#),
            ("tick et", r#"{"relay_ticket":"tick et","n":1}"#),
            ("[1, 2, 3", "ticket: [1, 2, 3, 250]"),
            ("abc123", "Cookie: __Host-session=abc123; theme=dark"),
            ("theme=dark", "cookie: __Host-session=abc123; theme=dark"),
            ("xyz987", "Set-Cookie: id=xyz987; Path=/"),
            ("QWxhZGRpbjpvcGVu", "Proxy-Authorization: Basic QWxhZGRpbjpvcGVu"),
            ("opaque-thing", "authorization: Bearer opaque-thing"),
            ("pa55", r#"config {"password": "pa55", "user": "ada"}"#),
            ("pa55", r#"escaped {\"password\": \"pa55\"}"#),
            ("v3rifier", "code_verifier=v3rifier&grant_type=x"),
            ("c0de", "GET /callback?code=c0de&state=st4te HTTP/1.1"),
            ("st4te", "GET /callback?code=c0de&state=st4te HTTP/1.1"),
            ("MIIEvQ", "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----\nafter"),
            ("MIIEvQ", "torn -----BEGIN PRIVATE KEY-----\nMIIEvQ"),
            (CHANCE, &format!("something unnamed {CHANCE} here")),
            ("0123456789abcdef0123456789abcdef", "digest 0123456789abcdef0123456789abcdef"),
        ];
        for (secret, text) in planted {
            let left = redacted(text);
            assert!(!left.contains(secret), "`{secret}` is left: {left}");
            assert!(left.contains(GONE), "{left}");
        }
    }

    #[test]
    fn what_helps_and_opens_no_door_stays() {
        for text in [
            "Session is active session=01980a3f-0000-7000-8000-000000000001",
            "shop/cart: a NetworkPolicy keeps the agent out (exit code 70)",
            "connected to https://hub.example.com:8443/api/v1/version",
            "the key is SHA256:Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MGFiY2RlZmdoaWpr now",
            "127.72.1.2 a-service-with-a-very-long-name-indeed.shop.svc.cluster.local # fairlead",
            "Daemon died (Ok(ExitStatus(unix_wait_status(9)))); starting it again in 200ms",
        ] {
            assert_eq!(redacted(text), text);
        }
        assert_eq!(redacted("http://ada:x@proxy:1/"), "http://[removed]proxy:1/");
    }

    #[test]
    fn doing_it_again_changes_nothing() {
        let once = redacted(&format!("password=x Cookie: a=b {CHANCE}"));
        assert_eq!(redacted(&once), once);
    }
}
