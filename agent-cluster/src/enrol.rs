//! The teamspace key: made here, enrolled once with a join token, kept in one Secret; and the certificates that it
//! signs for this replica.
//!
//! The key is stored before it is enrolled, so that an agent that dies in between tries again with the same key.
//! Of two replicas only the holder of the writer's Lease enrols; the other one waits until the Secret is complete.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, anyhow, bail};
use fairlead_model::{OrgId, TeamspaceId, Token, TokenKind, timers};
use fairlead_tunnel::{
    Backoff, TlsIdentity,
    connect::{HubChannel, HubError, LinkWay, NotBegun},
};
use fairlead_wire::{
    authority::TeamspaceAuthority,
    enrolment,
    key::Key,
    link::v1::{EnrolReply, EnrolRequest, cluster_links_client::ClusterLinksClient},
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{Namespace, Secret},
};
use kube::{Api, Client, ResourceExt};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    apply::{ApplyError, identity, leases},
    config::Run,
    lease::{self, LeaseAge},
};

const KEY: &str = "teamspace.key";
const CERTIFICATE: &str = "teamspace.crt";
const ORGANIZATION_CERTIFICATE: &str = "organization.crt";
const GRANT_KEY: &str = "grant.key";
const ORGANIZATION: &str = "organization-id";
const TEAMSPACE: &str = "teamspace-id";
const NAME: &str = "teamspace-name";

const ENROL_LIMIT: Duration = Duration::from_secs(15);

/// What the Secret holds once the teamspace is enrolled.
#[derive(Debug)]
pub(crate) struct Enrolled {
    pub(crate) authority: TeamspaceAuthority,
    pub(crate) organization: OrgId,
    pub(crate) teamspace: TeamspaceId,
    pub(crate) name: String,
    pub(crate) organization_certificate: CertificateDer<'static>,
    pub(crate) grant_key: [u8; 32],
}

/// This replica's own key, and the certificate over it.
#[derive(Debug)]
pub(crate) struct ReplicaKey {
    pub(crate) key: Key,
    /// The leaf, then the teamspace's certificate.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) tls: TlsIdentity,
}

impl ReplicaKey {
    fn sign(enrolled: &Enrolled, pod: &str) -> anyhow::Result<Self> {
        let key = Key::generate()?;
        let leaf = enrolled.authority.sign_replica(&key, pod, SystemTime::now())?;
        let chain = vec![leaf, enrolled.authority.certificate().clone()];
        let tls = TlsIdentity::new(chain.clone(), &key)?;
        Ok(Self { key, chain, tls })
    }

    pub(crate) fn teamspace_certificate(&self) -> &CertificateDer<'static> {
        &self.chain[1]
    }
}

/// Signs this replica's certificate now and again at half of its life.
pub(crate) fn replica_key(
    enrolled: Arc<Enrolled>,
    pod: String,
) -> anyhow::Result<watch::Receiver<Arc<ReplicaKey>>> {
    let (key_tx, key_rx) = watch::channel(Arc::new(ReplicaKey::sign(&enrolled, &pod)?));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(timers::REPLICA_CERTIFICATE_LIFE / 2) => {}
                () = key_tx.closed() => return,
            }
            match ReplicaKey::sign(&enrolled, &pod) {
                Ok(key) => {
                    key_tx.send_replace(Arc::new(key));
                }
                Err(error) => warn!(%error, "The replica's certificate could not be renewed"),
            }
        }
    });
    Ok(key_rx)
}

/// Returns the identity of this teamspace, enrolling it first when that was never done. Tries until it succeeds;
/// each failure says what somebody has to do.
pub(crate) async fn enrolled(client: &Client, run: &Run) -> Enrolled {
    let mut backoff = Backoff::new();
    let mut lease = LeaseAge::since(Instant::now());
    loop {
        match attempt(client, run, &mut lease).await {
            Ok(Attempt::Enrolled(enrolled)) => return *enrolled,
            Ok(Attempt::AnotherReplicaTries) => tokio::time::sleep(timers::INTERCEPT_BEAT).await,
            Err(error) => {
                let wait = backoff.next_delay();
                warn!(retry_in_ms = wait.as_millis(), "This cluster is not enrolled: {error:#}");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

enum Attempt {
    Enrolled(Box<Enrolled>),
    AnotherReplicaTries,
}

async fn attempt(client: &Client, run: &Run, lease: &mut LeaseAge) -> anyhow::Result<Attempt> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &run.place.namespace);
    let secret = secrets.get(&run.identity_secret).await.with_context(|| {
        format!(
            "the Secret {}/{} cannot be read; the chart makes it, and a role for it",
            run.place.namespace, run.identity_secret
        )
    })?;
    let contents = secret.data.clone().unwrap_or_default();
    if contents.contains_key(TEAMSPACE) {
        let enrolled = read(&contents).context("the identity Secret is damaged")?;
        return Ok(Attempt::Enrolled(Box::new(enrolled)));
    }
    if !hold_lease(client, run, lease).await? {
        return Ok(Attempt::AnotherReplicaTries);
    }
    let token = read_token(run.join_token_file.as_deref())?;
    let (secret, authority) = store_key(client, run, secret).await?;
    let reply = ask_hub(client, run, token, &authority).await?;
    let contents = complete(secret.data.clone().unwrap_or_default(), &reply);
    let enrolled = read(&contents).context("the hub's answer is not complete")?;
    identity::fill(client, &run.place.namespace, &secret, contents).await?;
    info!(
        teamspace = enrolled.name,
        key = %enrolled.authority.thumbprint(),
        "This cluster is enrolled as teamspace {}. Compare its key with the one the hub shows",
        enrolled.name
    );
    Ok(Attempt::Enrolled(Box::new(enrolled)))
}

/// Says whether this replica may enrol, decided before there is an identity for talking to others: by the Lease alone.
async fn hold_lease(client: &Client, run: &Run, age: &mut LeaseAge) -> anyhow::Result<bool> {
    let namespace = &run.place.namespace;
    let lease =
        lease::read(client, namespace).await.context("the writer's Lease cannot be read")?;
    let expired = age.saw(lease.as_ref(), Instant::now()) >= timers::JANITOR_PATIENCE;
    let is_anothers = lease::holder(lease.as_ref()).is_some_and(|holder| holder != run.pod_name);
    if is_anothers && !expired {
        return Ok(false);
    }
    match leases::hold(client, namespace, lease.as_ref(), &run.pod_name).await {
        Ok(_) => Ok(true),
        Err(ApplyError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn read_token(file: Option<&Path>) -> anyhow::Result<Token> {
    let advice =
        "make a join token for a teamspace in the hub and give it to the chart (joinToken)";
    let Some(file) = file else { bail!("there is no join token: {advice}") };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("there is no join token at {}: {advice}", file.display()))?;
    Token::parse_as(TokenKind::Join, text.trim())
        .map_err(|error| anyhow!("{} holds no join token ({error}): {advice}", file.display()))
}

/// Makes the teamspace key, or takes the one that an earlier attempt stored.
async fn store_key(
    client: &Client,
    run: &Run,
    secret: Secret,
) -> anyhow::Result<(Secret, TeamspaceAuthority)> {
    let mut contents = secret.data.clone().unwrap_or_default();
    if contents.contains_key(KEY) {
        let authority = read_authority(&contents)?;
        return Ok((secret, authority));
    }
    let authority = TeamspaceAuthority::create(Key::generate()?, SystemTime::now())?;
    contents.insert(KEY.to_owned(), ByteString(authority.key().expose_pkcs8_der().to_vec()));
    contents.insert(CERTIFICATE.to_owned(), ByteString(authority.certificate().to_vec()));
    let secret = identity::fill(client, &run.place.namespace, &secret, contents).await?;
    Ok((secret, authority))
}

async fn ask_hub(
    client: &Client,
    run: &Run,
    token: Token,
    authority: &TeamspaceAuthority,
) -> anyhow::Result<EnrolReply> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let kube_system =
        namespaces.get("kube-system").await.context("the namespace kube-system cannot be read")?;
    let mut way = LinkWay::default();
    let hub = dial(&mut way, run).await?;
    let cluster_uid = kube_system.uid().unwrap_or_default();
    let signature = enrolment::sign(authority.key(), &token, &cluster_uid, hub.host());
    let request = EnrolRequest {
        join_token: token.expose(),
        teamspace_certificate: authority.certificate().to_vec(),
        signature: signature.to_vec(),
        cluster_uid,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        agent_time_s: jiff::Timestamp::now().as_second(),
    };
    let mut links = ClusterLinksClient::new(hub.channel());
    let mut reply = way.answer(links.enrol(request.clone()), ENROL_LIMIT).await;
    if reply.is_err() && way.is_in_websocket() {
        // It may have been the hub's answer that did not come through. A hub gives the same one again.
        let mut links = ClusterLinksClient::new(dial(&mut way, run).await?.channel());
        reply = way.answer(links.enrol(request), ENROL_LIMIT).await;
    }
    match reply {
        Ok(reply) => Ok(reply.into_inner()),
        Err(NotBegun::Refused(status)) if status.code() == tonic::Code::Unauthenticated => bail!(
            "the hub does not take the join token: {}. Make a new one in the hub and give it to the chart (joinToken)",
            status.message()
        ),
        Err(NotBegun::Refused(status)) => bail!("the hub refused: {}", status.message()),
        Err(silence) => bail!(silence),
    }
}

async fn dial(way: &mut LinkWay, run: &Run) -> anyhow::Result<HubChannel> {
    let dialled = way.dial(&run.hub_url, &run.connector()?).await;
    dialled.map_err(|error| anyhow!(advise(&error, run)))
}

/// Says what to do about a hub that cannot be reached or trusted.
pub(crate) fn advise(error: &HubError, run: &Run) -> String {
    let advice = match error {
        HubError::NotTrusted { .. } => {
            "give the chart the certificate of that authority (hub.caCertificate)"
        }
        HubError::Unreachable { .. } => {
            "check hub.url, and whether pods of this cluster may open connections to it (DNS, proxies, NetworkPolicies)"
        }
        HubError::Proxy(_) => {
            "look at the chart's proxy.https, proxy.all and proxy.no, or at their Secret"
        }
        HubError::NotAtThisTime { .. } => "compare the clock of this node with the hub's",
        HubError::OtherName { .. } => "set hub.url to a name that its certificate carries",
        _ => "check hub.url",
    };
    let cause =
        std::error::Error::source(error).map(|cause| format!(" ({cause})")).unwrap_or_default();
    format!("{}: {error}{cause}; {advice}", run.hub_url)
}

fn complete(
    mut contents: BTreeMap<String, ByteString>,
    reply: &EnrolReply,
) -> BTreeMap<String, ByteString> {
    let mut insert =
        |name: &str, value: &[u8]| contents.insert(name.to_owned(), ByteString(value.to_vec()));
    insert(ORGANIZATION_CERTIFICATE, &reply.organization_certificate);
    insert(GRANT_KEY, &reply.grant_key);
    insert(ORGANIZATION, reply.organization_id.as_bytes());
    insert(NAME, reply.teamspace_name.as_bytes());
    insert(TEAMSPACE, reply.teamspace_id.as_bytes());
    contents
}

fn read(contents: &BTreeMap<String, ByteString>) -> anyhow::Result<Enrolled> {
    Ok(Enrolled {
        authority: read_authority(contents)?,
        organization: text(contents, ORGANIZATION)?.parse()?,
        teamspace: text(contents, TEAMSPACE)?.parse()?,
        name: text(contents, NAME)?,
        organization_certificate: CertificateDer::from(
            bytes(contents, ORGANIZATION_CERTIFICATE)?.to_vec(),
        ),
        grant_key: bytes(contents, GRANT_KEY)?
            .try_into()
            .context("the grant key is not 32 bytes")?,
    })
}

fn read_authority(contents: &BTreeMap<String, ByteString>) -> anyhow::Result<TeamspaceAuthority> {
    let key = Key::from_pkcs8_der(bytes(contents, KEY)?)?;
    let certificate = CertificateDer::from(bytes(contents, CERTIFICATE)?.to_vec());
    Ok(TeamspaceAuthority::load(key, certificate)?)
}

fn bytes<'a>(contents: &'a BTreeMap<String, ByteString>, name: &str) -> anyhow::Result<&'a [u8]> {
    contents
        .get(name)
        .map(|value| value.0.as_slice())
        .with_context(|| format!("`{name}` is missing"))
}

fn text(contents: &BTreeMap<String, ByteString>, name: &str) -> anyhow::Result<String> {
    Ok(String::from_utf8(bytes(contents, name)?.to_vec())?)
}

/// A replica's key of some teamspace, for tests of what stands on it.
#[cfg(test)]
pub(crate) fn any_replica_key() -> watch::Receiver<Arc<ReplicaKey>> {
    let authority = TeamspaceAuthority::create(Key::generate().unwrap(), SystemTime::now());
    let enrolled = Enrolled {
        authority: authority.unwrap(),
        organization: OrgId::generate(),
        teamspace: TeamspaceId::generate(),
        name: "staging".to_owned(),
        organization_certificate: CertificateDer::from(vec![1]),
        grant_key: [7; 32],
    };
    replica_key(Arc::new(enrolled), "agent-1".to_owned()).expect("signed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_read_again() {
        let authority =
            TeamspaceAuthority::create(Key::generate().unwrap(), SystemTime::now()).unwrap();
        let mut contents = BTreeMap::new();
        contents.insert(KEY.to_owned(), ByteString(authority.key().expose_pkcs8_der().to_vec()));
        contents.insert(CERTIFICATE.to_owned(), ByteString(authority.certificate().to_vec()));
        assert!(read(&contents).is_err(), "a key alone is no enrolment");
        let reply = EnrolReply {
            organization_id: OrgId::generate().to_string(),
            teamspace_id: TeamspaceId::generate().to_string(),
            teamspace_name: "staging".to_owned(),
            organization_certificate: vec![1, 2, 3],
            grant_key: vec![7; 32],
        };
        let enrolled = read(&complete(contents, &reply)).expect("complete");
        assert_eq!(enrolled.authority.thumbprint(), authority.thumbprint());
        assert_eq!(enrolled.teamspace.to_string(), reply.teamspace_id);
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_is_renewed_at_half_of_its_life() {
        let life = timers::REPLICA_CERTIFICATE_LIFE;
        let mut keys = any_replica_key();
        let first = Arc::clone(&keys.borrow_and_update());
        tokio::time::sleep(life / 2 - Duration::from_secs(1)).await;
        assert!(!keys.has_changed().expect("kept"));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(keys.has_changed().expect("kept"));
        let second = Arc::clone(&keys.borrow_and_update());
        assert_ne!(first.chain[0], second.chain[0]);
        assert_eq!(first.teamspace_certificate(), second.teamspace_certificate());
    }

    #[test]
    fn a_missing_join_token_says_where_to_get_one() {
        let error = read_token(None).expect_err("none").to_string();
        assert!(error.contains("make a join token"), "{error}");
        let error =
            read_token(Some(Path::new("/nonexistent/token"))).expect_err("none").to_string();
        assert!(
            error.contains("/nonexistent/token") && error.contains("make a join token"),
            "{error}"
        );
    }
}
