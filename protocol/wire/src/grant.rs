//! Grants: the hub's signed statement that one laptop key may do one thing to these services until then.
//!
//! Only the hub signs, every agent replica verifies; a laptop reads what it carries and cannot verify it. Time is compared
//! here and not by the JWT library, which would read the machine's clock.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fairlead_model::{
    Callee, ExternalHost, GrantId, OrgId, PodName, Port, Protocol, ServicePort, ServiceRef,
    SessionId, SessionKind, TeamspaceId, Thumbprint, UserId, timers::CLOCK_SKEW,
};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, dangerous::insecure_decode_claims,
    errors::ErrorKind,
};
use serde::{Deserialize, Serialize};

use crate::{
    key::{Key, PUBLIC_KEY_BYTES},
    open::GRANT_MAX_BYTES,
};

const KIND: &str = "fairlead-grant+jwt";
const ISSUER: &str = "fairlead-hub";

/// Why a grant is worth nothing here. Each case has its own words, because each has its own remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantRefused {
    #[error("the grant is longer than {GRANT_MAX_BYTES} bytes")]
    TooLong,
    #[error("this is not a grant")]
    Malformed,
    #[error("the grant is signed by an algorithm that is not EdDSA")]
    WrongAlgorithm,
    #[error("the grant was not signed by this organization's hub")]
    BadSignature,
    #[error("the grant is for another teamspace")]
    OtherTeamspace,
    #[error("the grant is for another device")]
    OtherDevice,
    #[error(
        "the grant has expired: it is old, or the clock of the cluster's node is ahead of the hub's (NTP sets it right)"
    )]
    Expired,
    #[error(
        "the grant is not valid yet: the clock of the cluster's node is behind the hub's, or the hub's is ahead (NTP sets \
         them right)"
    )]
    NotYetValid,
}

impl GrantRefused {
    /// Says whether it is about time alone: the same grant, or the next one, may be good in a moment.
    #[must_use]
    pub const fn is_of_time(&self) -> bool {
        matches!(self, Self::Expired | Self::NotYetValid)
    }
}

/// One service a grant covers, and which of its ports. What is granted of a headless Service is granted of each of its
/// pods; their names are there for the laptop, which has to know how they are called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedService {
    pub service: ServiceRef,
    pub ports: Vec<ServicePort>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodName>,
}

/// What the hub decided, in the words of the nouns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub id: GrantId,
    pub session: SessionId,
    pub teamspace: TeamspaceId,
    pub organization: OrgId,
    pub user: UserId,
    /// The laptop key that may use it.
    pub device: Thumbprint,
    pub action: SessionKind,
    pub services: Vec<GrantedService>,
    /// Outside the cluster.
    pub hosts: Vec<ExternalHost>,
    pub policy_version: u64,
    pub issued_at: SystemTime,
    pub expires_at: SystemTime,
}

impl Grant {
    /// Says whether the grant covers this port of whoever is called. A pod is covered by its Service.
    #[must_use]
    pub fn covers(&self, callee: &Callee, port: ServicePort) -> bool {
        match callee {
            Callee::InCluster { service, .. } => self.allows(service, port),
            Callee::Outside { host } => self
                .hosts
                .iter()
                .any(|granted| granted.name == *host && ServicePort::tcp(granted.port) == port),
        }
    }

    /// Says whether the grant covers this port of this service.
    #[must_use]
    pub fn allows(&self, service: &ServiceRef, port: ServicePort) -> bool {
        self.services
            .iter()
            .any(|granted| granted.service == *service && granted.ports.contains(&port))
    }

    #[must_use]
    pub fn is_live(&self, now: SystemTime) -> bool {
        now < self.expires_at
    }
}

/// Signs grants with an organization's grant key. Only the hub makes one.
pub struct GrantSigner(EncodingKey);

impl GrantSigner {
    #[must_use]
    pub fn new(key: &Key) -> Self {
        Self(EncodingKey::from_ed_der(&key.expose_pkcs8_der()))
    }

    /// Returns the grant as the compact JWT that a laptop presents.
    #[must_use]
    pub fn sign(&self, grant: &Grant) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(KIND.to_owned());
        jsonwebtoken::encode(&header, &Claims::from(grant), &self.0)
            .expect("an Ed25519 key signs any claims")
    }
}

impl fmt::Debug for GrantSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantSigner(…)")
    }
}

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

/// What a grant says to whoever cannot verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified {
    /// Ids count up: of two grants of a session the later one has the greater.
    pub id: GrantId,
    pub services: Vec<GrantedService>,
    pub hosts: Vec<ExternalHost>,
}

/// Reads a grant, whoever signed it and until whenever it is good.
///
/// For the laptop, which has no key to verify it by and shows what it was given. Nothing may be allowed by this.
pub fn unverified(jwt: &str) -> Result<Unverified, GrantRefused> {
    if jwt.len() > GRANT_MAX_BYTES {
        return Err(GrantRefused::TooLong);
    }
    let claims: Claims = insecure_decode_claims(jwt).map_err(|_| GrantRefused::Malformed)?;
    let services = claims.svc.into_iter().map(granted).collect::<Result<_, _>>()?;
    Ok(Unverified { id: claims.jti, services, hosts: claims.ext })
}

/// A grant as it stands in the JWT.
#[derive(Serialize, Deserialize)]
struct Claims {
    jti: GrantId,
    sid: SessionId,
    iss: String,
    aud: TeamspaceId,
    org: OrgId,
    sub: UserId,
    cnf: Confirmation,
    act: SessionKind,
    svc: Vec<ServiceClaim>,
    /// Hosts outside the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ext: Vec<ExternalHost>,
    pv: u64,
    iat: u64,
    nbf: u64,
    exp: u64,
}

#[derive(Serialize, Deserialize)]
struct Confirmation {
    jkt: Thumbprint,
}

/// Whoever reads only `ports` allows less than was granted, never more.
#[derive(Serialize, Deserialize)]
struct ServiceClaim {
    ns: String,
    name: String,
    /// Of TCP.
    ports: Vec<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    udp: Vec<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pods: Vec<PodName>,
}

impl From<&Grant> for Claims {
    fn from(grant: &Grant) -> Self {
        Self {
            jti: grant.id,
            sid: grant.session,
            iss: ISSUER.to_owned(),
            aud: grant.teamspace,
            org: grant.organization,
            sub: grant.user,
            cnf: Confirmation { jkt: grant.device },
            act: grant.action,
            svc: grant.services.iter().map(ServiceClaim::from).collect(),
            ext: grant.hosts.clone(),
            pv: grant.policy_version,
            iat: seconds_of(grant.issued_at),
            nbf: seconds_of(grant.issued_at),
            exp: seconds_of(grant.expires_at),
        }
    }
}

impl From<&GrantedService> for ServiceClaim {
    fn from(granted: &GrantedService) -> Self {
        Self {
            ns: granted.service.namespace.to_string(),
            name: granted.service.name.to_string(),
            ports: ports_of(granted, Protocol::Tcp),
            udp: ports_of(granted, Protocol::Udp),
            pods: granted.pods.clone(),
        }
    }
}

impl TryFrom<Claims> for Grant {
    type Error = GrantRefused;

    fn try_from(claims: Claims) -> Result<Self, GrantRefused> {
        Ok(Self {
            id: claims.jti,
            session: claims.sid,
            teamspace: claims.aud,
            organization: claims.org,
            user: claims.sub,
            device: claims.cnf.jkt,
            action: claims.act,
            services: claims.svc.into_iter().map(granted).collect::<Result<_, _>>()?,
            hosts: claims.ext,
            policy_version: claims.pv,
            issued_at: time_of(claims.iat)?,
            expires_at: time_of(claims.exp)?,
        })
    }
}

fn granted(claim: ServiceClaim) -> Result<GrantedService, GrantRefused> {
    let service =
        ServiceRef::parse_parts(&claim.ns, &claim.name).map_err(|_| GrantRefused::Malformed)?;
    let tcp = claim.ports.into_iter().map(|port| Port::new(port).map(ServicePort::tcp));
    let udp = claim.udp.into_iter().map(|port| Port::new(port).map(ServicePort::udp));
    let ports: Option<Vec<_>> = tcp.chain(udp).collect();
    Ok(GrantedService { service, ports: ports.ok_or(GrantRefused::Malformed)?, pods: claim.pods })
}

fn ports_of(granted: &GrantedService, protocol: Protocol) -> Vec<u16> {
    let ports = granted.ports.iter().filter(|port| port.protocol == protocol);
    ports.map(|port| port.port.get()).collect()
}

fn seconds_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn time_of(seconds: u64) -> Result<SystemTime, GrantRefused> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(GrantRefused::Malformed)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use fairlead_model::{HostName, timers::GRANT_LIFE};
    use serde_json::json;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct World {
        key: Key,
        grant: Grant,
    }

    impl World {
        fn new() -> Self {
            let issued_at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
            let grant = Grant {
                id: GrantId::generate(),
                session: SessionId::generate(),
                teamspace: TeamspaceId::generate(),
                organization: OrgId::generate(),
                user: UserId::generate(),
                device: Thumbprint::of_spki(b"a laptop"),
                action: SessionKind::Consume,
                services: vec![GrantedService {
                    service: "shop/cart".parse().expect("valid"),
                    ports: vec![port(80), port(8080), udp(53)],
                    pods: vec!["cart-0".parse().expect("valid")],
                }],
                hosts: vec!["db.example.net:5432".parse().expect("valid")],
                policy_version: 7,
                issued_at,
                expires_at: issued_at + GRANT_LIFE,
            };
            Self { key: Key::generate().expect("made"), grant }
        }

        fn jwt(&self) -> String {
            GrantSigner::new(&self.key).sign(&self.grant)
        }

        fn verifier(&self) -> GrantVerifier {
            GrantVerifier::new(&self.key.public(), self.grant.teamspace)
        }

        fn verify(&self, jwt: &str) -> Result<Grant, GrantRefused> {
            self.verifier().verify(jwt, self.grant.issued_at, &self.grant.device)
        }

        fn verify_at(&self, now: SystemTime) -> Result<Grant, GrantRefused> {
            self.verifier().verify(&self.jwt(), now, &self.grant.device)
        }

        /// Signs any head over the grant's own claims with the right key.
        fn with_head(&self, head: &serde_json::Value) -> String {
            let jwt = self.jwt();
            let claims = jwt.split('.').nth(1).expect("three parts");
            let text = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(head.to_string()));
            let signature = URL_SAFE_NO_PAD.encode(self.key.sign(text.as_bytes()));
            format!("{text}.{signature}")
        }
    }

    fn port(number: u16) -> ServicePort {
        ServicePort::tcp(Port::new(number).expect("not 0"))
    }

    fn udp(number: u16) -> ServicePort {
        ServicePort::udp(Port::new(number).expect("not 0"))
    }

    #[test]
    fn a_grant_is_read_as_it_was_signed() {
        let world = World::new();
        assert_eq!(world.verify(&world.jwt()), Ok(world.grant.clone()));
    }

    #[test]
    fn a_grant_covers_its_services_and_ports_only() {
        let grant = World::new().grant;
        let allows = |service: &str, port| grant.allows(&service.parse().expect("valid"), port);
        assert!(allows("shop/cart", port(80)) && allows("shop/cart", port(8080)));
        assert!(!allows("shop/cart", port(81)) && !allows("shop/payment", port(80)));
        assert!(!allows("pay/cart", port(80)));
        assert!(allows("shop/cart", udp(53)) && !allows("shop/cart", port(53)));
        assert!(!allows("shop/cart", udp(80)), "a number is not a protocol");
    }

    #[test]
    fn a_grant_covers_a_host_by_its_very_name_and_port() {
        let grant = World::new().grant;
        let allows =
            |host: &str, port| grant.covers(&host.parse::<HostName>().expect("valid").into(), port);
        assert!(allows("db.example.net", port(5432)));
        assert!(!allows("db.example.net", port(5433)) && !allows("db.example.net", udp(5432)));
        for other in ["example.net", "x.db.example.net", "db.example.net.evil.org"] {
            assert!(!allows(other, port(5432)), "{other}");
        }
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
    fn whoever_cannot_verify_a_grant_reads_its_services_all_the_same() {
        let world = World::new();
        let Grant { id, services, hosts, .. } = world.grant.clone();
        assert_eq!(unverified(&world.jwt()), Ok(Unverified { id, services, hosts }));
        assert_eq!(unverified("no grant"), Err(GrantRefused::Malformed));
        let long = "a".repeat(GRANT_MAX_BYTES + 1);
        assert_eq!(unverified(&long), Err(GrantRefused::TooLong));
    }

    #[test]
    fn a_grant_of_before_has_neither_udp_nor_pods() {
        let claim = json!({"ns": "shop", "name": "cart", "ports": [80]});
        let read = granted(serde_json::from_value(claim).expect("a claim")).expect("readable");
        assert_eq!((read.ports, read.pods), (vec![port(80)], Vec::new()));
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

    #[test]
    fn six_thousand_services_with_the_longest_names_fit() {
        let mut world = World::new();
        let longest = |n: usize| format!("{}/{n:0>63}", "n".repeat(63)).parse().expect("valid");
        world.grant.services = (0..6000)
            .map(|n| GrantedService {
                service: longest(n),
                ports: vec![port(8080), port(65_535)],
                pods: Vec::new(),
            })
            .collect();
        let jwt = world.jwt();
        assert!(jwt.len() <= GRANT_MAX_BYTES, "{} bytes", jwt.len());
        assert_eq!(world.verify(&jwt), Ok(world.grant.clone()));
    }
}
