//! `docs/reference/wire.md` is written by people; here it is held against the code.

use std::time::{Duration, SystemTime};

use fairlead_model::{
    Callee, GrantId, HostName, OrgId, ServicePort, SessionId, SessionKind, TeamspaceId, Thumbprint,
    UserId,
    timers::{
        CARRIER_PING, CLOCK_SKEW, DEVICE_CERTIFICATE_LIFE, GRANT_LIFE, GRANT_RENEWAL,
        INTERCEPT_BEAT, LINK_DEAD, LINK_HEARTBEAT, PREFACE, REPLICA_CERTIFICATE_LIFE, TICKET_LIFE,
        UDP_FLOW_IDLE,
    },
};
use fairlead_wire::{
    grant::{Grant, GrantSigner},
    identity::{DEVICE_DNS_NAME, REPLICA_DNS_NAME},
    key::Key,
    open::{GRANT_MAX_BYTES, GRANT_PATH, OPEN_MORE_PATH, OPEN_PATH, OpenRequest, Refusal, Refused},
    preface::{Answer, PREFACE_BYTES},
    resolve::{RESOLVE_PATH, RESOLVED_MAX_BYTES, ResolveRequest},
    ticket::TICKET_BYTES,
};

use crate::{
    carrier::{CARRIER_WINDOW, FRAME_BYTES, FRAME_HEAD_BYTES, STREAMS_MAX},
    connect::link::FIRST_WORD,
    datagrams::DATAGRAM_MAX_BYTES,
    load::BULK_BYTES,
    pool::{CARRIERS_MAX, FURTHER_QUIET},
    tls::ALPN,
    websocket::{CARRIER_PATH, LINK_PATH, MESSAGE_MAX_BYTES},
    window::{WINDOW_MAX_BYTES, WINDOW_MIN_BYTES},
};

/// As one line: where it breaks is no part of what it says.
fn page() -> String {
    let page = include_str!("../../../docs/reference/wire.md");
    page.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn says(sentence: &str) {
    assert!(page().contains(sentence), "docs/reference/wire.md does not say: {sentence}");
}

fn s(duration: Duration) -> u64 {
    duration.as_secs()
}

#[test]
fn it_says_how_links_live() {
    says(&format!("something every {} s", s(LINK_HEARTBEAT)));
    says(&format!("silent for {} s is dead", s(LINK_DEAD)));
}

#[test]
fn it_says_who_has_a_certificate_for_how_long() {
    says(&format!("DNS `{DEVICE_DNS_NAME}` | {} h", s(DEVICE_CERTIFICATE_LIFE) / 3600));
    says(&format!("DNS `{REPLICA_DNS_NAME}` | {} h", s(REPLICA_CERTIFICATE_LIFE) / 3600));
}

#[test]
fn it_says_what_the_relay_reads_and_answers() {
    says(&format!("sends {PREFACE_BYTES} bytes and waits for one"));
    says(&format!("ticket ({TICKET_BYTES} random bytes)"));
    says(&format!("good once, for {} s", s(TICKET_LIFE)));
    says(&format!("preface must be there within {} s", s(PREFACE)));
    let (paired, refused) = (Answer::Paired.code(), Answer::Refused.code());
    says(&format!("`{}` at once when the ticket is good", Answer::Waiting.code()));
    says(&format!("`GET {CARRIER_PATH}`"));
    says(&format!("`GET {LINK_PATH}`"));
    says(&format!("first call within {} s", s(PREFACE)));
    says(&format!("nothing is heard for {} s after a link was opened", s(FIRST_WORD)));
    says(&format!("at most {} KiB", MESSAGE_MAX_BYTES >> 10));
    says(&format!("answer is `{paired}` when both halves are there, and `{refused}` when"));
}

#[test]
fn it_says_how_a_carrier_is_set() {
    says(&format!("ALPN `{}`", str::from_utf8(ALPN).expect("ASCII")));
    says(&format!(
        "stream windows {} KB, up to {} MB",
        WINDOW_MIN_BYTES >> 10,
        WINDOW_MAX_BYTES >> 20
    ));
    assert_eq!(u64::from(CARRIER_WINDOW), (1 << 31) - 1);
    says("connection window 2³¹−1");
    let frame = (FRAME_BYTES + FRAME_HEAD_BYTES) >> 10;
    says(&format!("frames of {frame} KB with their heads, {STREAMS_MAX} streams"));
    says(&format!("up to {CARRIERS_MAX} while there is bulk"));
    says(&format!("more than {} KB in one direction", BULK_BYTES >> 10));
    says(&format!("has had none for {} s", s(FURTHER_QUIET)));
    says(&format!("every {} s on an idle carrier", s(CARRIER_PING)));
    assert_eq!(INTERCEPT_BEAT, Duration::from_secs(1));
    says("every second while an agent intercepts");
}

#[test]
fn it_says_what_is_asked_inside_a_carrier_and_how_it_is_refused() {
    says(&format!("`POST {GRANT_PATH}` | | the grant, at most {} KiB", GRANT_MAX_BYTES >> 10));
    let (service, port) = ("shop/cart".parse().expect("valid"), "80".parse().expect("valid"));
    let callee = Callee::pod_of(service, "cart-0".parse().expect("valid"));
    let port = ServicePort::udp(port);
    let wish = OpenRequest { session: SessionId::generate(), callee, port, probe: true };
    says(&format!("`POST {OPEN_PATH}`"));
    says(&format!("`POST {OPEN_MORE_PATH}`"));
    says(&format!("big-endian, at most {DATAGRAM_MAX_BYTES}"));
    says(&format!("nothing passes for {} s is ended", s(UDP_FLOW_IDLE)));
    let host: HostName = "db.example.net".parse().expect("valid");
    let outside = OpenRequest { callee: host.into(), ..wish.clone() };
    for wish in [&wish, &outside] {
        for name in wish.to_head().headers().keys() {
            says(&format!("`{name}"));
        }
    }
    let name = "_sql._tcp.db.shop".parse().expect("valid");
    let question = ResolveRequest { session: wish.session, name, record: 33 };
    says(&format!("`POST {RESOLVE_PATH}`"));
    for name in question.to_head().headers().keys() {
        says(&format!("`{name}"));
    }
    says(&format!("at most {} KiB", RESOLVED_MAX_BYTES >> 10));
    let refused = Refused::new(Refusal::NotAllowed, "no").to_head();
    for name in refused.headers().keys() {
        says(&format!("has `{name}` in plain words"));
    }
    for (refusal, meaning) in [
        (Refusal::NotAllowed, "no grant covers it"),
        (Refusal::NotFound, "no such service or port"),
        (Refusal::Unreachable, "nothing answers there"),
        (Refusal::Unavailable, "not now"),
    ] {
        says(&format!("{} {meaning}", refusal.status().as_u16()));
    }
}

#[test]
fn it_says_each_claim_of_a_grant() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let grant = Grant {
        id: GrantId::generate(),
        session: SessionId::generate(),
        teamspace: TeamspaceId::generate(),
        organization: OrgId::generate(),
        user: UserId::generate(),
        device: Thumbprint::from_bytes([7; 32]),
        action: SessionKind::Consume,
        services: Vec::new(),
        hosts: vec!["db.example.net:5432".parse().expect("valid")],
        policy_version: 1,
        issued_at: now,
        expires_at: now + GRANT_LIFE,
    };
    let jwt = GrantSigner::new(&Key::generate().expect("made")).sign(&grant);
    let [head, claims] = [0, 1].map(|part| decoded(&jwt, part));
    says(&format!("`alg` {} and `typ` `{}`", text(&head, "alg"), text(&head, "typ")));
    for name in names(&claims) {
        let named =
            page().contains(&format!("`{name}`")) || page().contains(&format!("`{name}.jkt`"));
        assert!(named, "docs/reference/wire.md does not name the claim `{name}`");
    }
    says(&format!(
        "at most {} minutes apart, renewed every {}",
        s(GRANT_LIFE) / 60,
        s(GRANT_RENEWAL) / 60
    ));
    says(&format!("up to {} s in the agent's future", s(CLOCK_SKEW)));
}

fn decoded(jwt: &str, part: usize) -> serde_json::Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = jwt.split('.').nth(part).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
}

fn text<'v>(value: &'v serde_json::Value, name: &str) -> &'v str {
    value[name].as_str().expect("a string")
}

fn names(value: &serde_json::Value) -> Vec<String> {
    value.as_object().expect("an object").keys().cloned().collect()
}
