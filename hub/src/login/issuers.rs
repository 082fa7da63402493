//! Talking to issuers: discovery, the authorization URL, and the exchange of a code for verified claims.
//!
//! What an issuer answers is remembered for an hour, and asked again at once when it has rolled its keys.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use fairlead_model::timers::CLOCK_SKEW;
use hub_store::OidcConnection;
use jiff::{SignedDuration, Timestamp};
use openidconnect::{
    AdditionalClaims, AuthType, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError,
    Client, ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, IdTokenClaims, IdTokenFields, IssuerUrl, Nonce,
    OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
    SignatureVerificationError, StandardErrorResponse, StandardTokenResponse,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType,
        CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreResponseType, CoreRevocableToken,
        CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use super::claims::Said;

mod error;
mod transport;

use error::{FROM_THE_FUTURE, discovery_failed, exchange_failed, not_an_issuer, not_believed};
use transport::Transport;

pub use error::IssuerError;
pub use transport::TransportError;

const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);
/// A hub has a handful of issuers. Past this many the oldest knowledge is dropped.
const MAX_REMEMBERED: usize = 1000;

/// Where a browser is sent, and what must be remembered until it comes back.
#[derive(Debug)]
pub struct Departure {
    pub url: Url,
    pub pkce_verifier: String,
    pub nonce: String,
}

/// Every claim, by its name.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct AnyClaims(Map<String, Value>);

impl AdditionalClaims for AnyClaims {}

type IdFields = IdTokenFields<
    AnyClaims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

type IssuerClient = Client<
    AnyClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<IdFields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

type Answer = StandardTokenResponse<IdFields, CoreTokenType>;

#[derive(Clone, Debug)]
struct Known {
    asked_at: Timestamp,
    metadata: Arc<CoreProviderMetadata>,
}

/// The issuers of all organizations. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Issuers {
    transport: Transport,
    known: Arc<RwLock<HashMap<String, Known>>>,
}

/// A registration at an issuer with its secret opened, and the address to which browsers return.
#[derive(Debug)]
pub struct Registration<'connection> {
    pub connection: &'connection OidcConnection,
    /// A public client has none; its code is protected by PKCE alone.
    pub client_secret: Option<ClientSecret>,
    pub redirect_url: String,
}

impl Issuers {
    /// Prepares to talk to issuers; `extra_ca` holds PEM certificates that they may have besides the system's.
    ///
    /// With `allow_http` they may be on other machines without TLS.
    pub fn new(extra_ca: Option<&[u8]>, allow_http: bool) -> Result<Self, TransportError> {
        Ok(Self { transport: Transport::new(extra_ca, allow_http)?, known: Arc::default() })
    }

    /// Asks an issuer what it is: what set-up does before it believes an address.
    pub async fn probe(&self, issuer: &str, now: Timestamp) -> Result<(), IssuerError> {
        self.discover(issuer, now).await.map(drop)
    }

    /// Prepares the way of a browser to the issuer.
    pub async fn depart(
        &self,
        registration: &Registration<'_>,
        state: String,
        login_hint: Option<&str>,
        now: Timestamp,
    ) -> Result<Departure, IssuerError> {
        let metadata = self.metadata(&registration.connection.issuer, now).await?;
        let client = client(&metadata, registration)?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client.authorize_url(
            AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
            || CsrfToken::new(state),
            Nonce::new_random,
        );
        for scope in &registration.connection.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        if let Some(hint) = login_hint {
            request = request.set_login_hint(openidconnect::LoginHint::new(hint.to_owned()));
        }
        let (url, _, nonce) = request.set_pkce_challenge(challenge).url();
        Ok(Departure { url, pkce_verifier: verifier.into_secret(), nonce: nonce.secret().clone() })
    }

    /// Exchanges the code that a browser brought back for what the issuer says about its user.
    pub async fn arrive(
        &self,
        registration: &Registration<'_>,
        code: String,
        pkce_verifier: String,
        nonce: String,
        now: Timestamp,
    ) -> Result<Said, IssuerError> {
        let issuer = &registration.connection.issuer;
        let metadata = self.metadata(issuer, now).await?;
        let client = client(&metadata, registration)?;
        let answer = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|_| not_an_issuer(issuer, "it has no token endpoint"))?
            .set_pkce_verifier(PkceCodeVerifier::new(pkce_verifier))
            .request_async(&self.transport)
            .await
            .map_err(|error| exchange_failed(issuer, error))?;
        let nonce = Nonce::new(nonce);
        let verified = match verify(&client, &metadata, &answer, &nonce, now) {
            // The issuer may have rolled its keys since we asked for them.
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => {
                let metadata = self.discover(issuer, now).await?;
                let client = self::client(&metadata, registration)?;
                verify(&client, &metadata, &answer, &nonce, now)
            }
            verified => verified,
        };
        let claims = verified.map_err(not_believed)?;
        let mut said = Said { id_token: as_map(&claims), userinfo: Map::new() };
        if said.leaves_open(&registration.connection.groups_claim) {
            said.userinfo = self.userinfo(&client, &answer, &claims).await;
        }
        Ok(said)
    }

    /// Asks for more claims. Many issuers have no such endpoint, or nothing to add: then there is nothing.
    async fn userinfo(
        &self,
        client: &IssuerClient,
        answer: &Answer,
        claims: &IdTokenClaims<AnyClaims, CoreGenderClaim>,
    ) -> Map<String, Value> {
        let subject = Some(claims.subject().clone());
        let Ok(request) = client.user_info(answer.access_token().clone(), subject) else {
            return Map::new();
        };
        match request.request_async::<AnyClaims, _, CoreGenderClaim>(&self.transport).await {
            Ok(claims) => as_map(&claims),
            Err(error) => {
                tracing::info!(%error, "The issuer's userinfo endpoint gave no claims");
                Map::new()
            }
        }
    }

    async fn metadata(
        &self,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Arc<CoreProviderMetadata>, IssuerError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(issuer).cloned();
        match known {
            Some(known) if now < known.asked_at + REMEMBERED => Ok(known.metadata),
            _ => self.discover(issuer, now).await,
        }
    }

    async fn discover(
        &self,
        issuer: &str,
        now: Timestamp,
    ) -> Result<Arc<CoreProviderMetadata>, IssuerError> {
        let url = IssuerUrl::new(issuer.to_owned())
            .map_err(|_| IssuerError::BadAddress(issuer.to_owned()))?;
        let metadata = CoreProviderMetadata::discover_async(url, &self.transport)
            .await
            .map_err(|error| discovery_failed(issuer, error))?;
        let metadata = Arc::new(metadata);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(issuer.to_owned(), Known { asked_at: now, metadata: Arc::clone(&metadata) });
        Ok(metadata)
    }
}

fn client(
    metadata: &CoreProviderMetadata,
    registration: &Registration<'_>,
) -> Result<IssuerClient, IssuerError> {
    let redirect = RedirectUrl::new(registration.redirect_url.clone())
        .map_err(|_| IssuerError::BadAddress(registration.redirect_url.clone()))?;
    let client_id = ClientId::new(registration.connection.client_id.clone());
    let secret = registration.client_secret.clone();
    let client = IssuerClient::from_provider_metadata(metadata.clone(), client_id, secret)
        .set_redirect_uri(redirect);
    Ok(if wants_secret_in_body(metadata) {
        client.set_auth_type(AuthType::RequestBody)
    } else {
        client
    })
}

/// Basic authentication is the default of the standard; some issuers take only the other way.
fn wants_secret_in_body(metadata: &CoreProviderMetadata) -> bool {
    metadata.token_endpoint_auth_methods_supported().is_some_and(|methods| {
        methods.contains(&CoreClientAuthMethod::ClientSecretPost)
            && !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
    })
}

fn verify<'answer>(
    client: &IssuerClient,
    metadata: &CoreProviderMetadata,
    answer: &'answer Answer,
    nonce: &Nonce,
    now: Timestamp,
) -> Result<IdTokenClaims<AnyClaims, CoreGenderClaim>, ClaimsVerificationError> {
    let token: &'answer _ = answer
        .extra_fields()
        .id_token()
        .ok_or_else(|| ClaimsVerificationError::Other("there is no ID token".to_owned()))?;
    let asymmetric = metadata
        .id_token_signing_alg_values_supported()
        .iter()
        .filter(|algorithm| is_asymmetric(algorithm))
        .cloned();
    let lenient_now = std::time::SystemTime::from(now - CLOCK_SKEW);
    let latest = std::time::SystemTime::from(now + CLOCK_SKEW);
    let verifier = client
        .id_token_verifier()
        .set_allowed_algs(asymmetric)
        .set_time_fn(move || lenient_now.into())
        .set_issue_time_verifier_fn(move |issued| {
            let ahead = std::time::SystemTime::from(issued).duration_since(latest);
            match ahead {
                Err(_) => Ok(()),
                Ok(ahead) => Err(format!("{FROM_THE_FUTURE} ({} s)", ahead.as_secs())),
            }
        });
    Ok(token.claims(&verifier, nonce)?.clone())
}

/// With a shared secret as the key anybody who knows it could sign.
fn is_asymmetric(algorithm: &CoreJwsSigningAlgorithm) -> bool {
    use CoreJwsSigningAlgorithm as Algorithm;
    matches!(
        algorithm,
        Algorithm::RsaSsaPkcs1V15Sha256
            | Algorithm::RsaSsaPkcs1V15Sha384
            | Algorithm::RsaSsaPkcs1V15Sha512
            | Algorithm::RsaSsaPssSha256
            | Algorithm::RsaSsaPssSha384
            | Algorithm::RsaSsaPssSha512
            | Algorithm::EcdsaP256Sha256
            | Algorithm::EcdsaP384Sha384
            | Algorithm::EdDsa
    )
}

fn as_map(claims: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(claims) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// How long one request to an issuer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
