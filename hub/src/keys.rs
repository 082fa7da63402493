//! The keys of organizations: made when one is founded, sealed in the database, opened once per process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use fairlead_model::OrgId;
use fairlead_wire::{
    authority::{AuthorityError, OrganizationAuthority},
    grant::GrantSigner,
    key::{Key, KeyError, PUBLIC_KEY_BYTES},
};
use hub_store::{KeyPurpose, SealedKey, Store, StoreError};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::seal::{SealError, Sealer};

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a key of an organization cannot be opened")]
    Seal(#[from] SealError),
    #[error("a stored key of an organization cannot be read")]
    Key(#[from] KeyError),
    #[error("the certificate of an organization cannot be used")]
    Authority(#[from] AuthorityError),
    #[error("the stored certificate of an organization is not PEM")]
    Certificate(#[source] rustls_pki_types::pem::Error),
}

/// What one organization signs with.
pub struct OrganizationKeys {
    /// Signs device certificates.
    pub authority: OrganizationAuthority,
    pub certificate: CertificateDer<'static>,
    pub certificate_pem: String,
    pub signer: GrantSigner,
    /// What agents verify grants with.
    pub grant_public: [u8; PUBLIC_KEY_BYTES],
}

impl fmt::Debug for OrganizationKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrganizationKeys").field("authority", self.authority.key()).finish()
    }
}

/// Opens the keys of organizations, and remembers the open ones. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Keys {
    store: Store,
    sealer: Arc<Sealer>,
    // Keys do not change while a process lives, and there are as many as organizations.
    open: Arc<RwLock<HashMap<OrgId, Arc<OrganizationKeys>>>>,
}

impl Keys {
    #[must_use]
    pub fn new(store: Store, sealer: Arc<Sealer>) -> Self {
        Self { store, sealer, open: Arc::default() }
    }

    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Fails when the database was sealed under another master key: to be asked at start, not at the first sign-in.
    pub async fn check_master_key(&self) -> Result<(), KeysError> {
        let sealed = self.store.unscoped("start: try the master key").any_sealed_key().await?;
        if let Some((org, key)) = sealed {
            self.sealer.open(org, key.purpose.as_str(), &key.sealed_private)?;
        }
        Ok(())
    }

    pub async fn organization(&self, org: OrgId) -> Result<Arc<OrganizationKeys>, KeysError> {
        let known =
            self.open.read().unwrap_or_else(PoisonError::into_inner).get(&org).map(Arc::clone);
        if let Some(keys) = known {
            return Ok(keys);
        }
        let keys = Arc::new(self.load(org).await?);
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert(org, Arc::clone(&keys));
        Ok(keys)
    }

    async fn load(&self, org: OrgId) -> Result<OrganizationKeys, KeysError> {
        let store = self.store.unscoped("keys: opened on behalf of the hub itself");
        let authority = store.organization_key(org, KeyPurpose::Authority).await?;
        let grants = store.organization_key(org, KeyPurpose::Grants).await?;
        let certificate = CertificateDer::from_pem_slice(authority.public_pem.as_bytes())
            .map_err(KeysError::Certificate)?;
        let grant_key = self.unseal(org, &grants)?;
        Ok(OrganizationKeys {
            authority: OrganizationAuthority::load(
                self.unseal(org, &authority)?,
                certificate.clone(),
            )?,
            certificate,
            certificate_pem: authority.public_pem,
            signer: GrantSigner::new(&grant_key),
            grant_public: grant_key.public(),
        })
    }

    fn unseal(&self, org: OrgId, key: &SealedKey) -> Result<Key, KeysError> {
        let der = self.sealer.open(org, key.purpose.as_str(), &key.sealed_private)?;
        Ok(Key::from_pkcs8_der(&der)?)
    }
}

/// Makes the keys of a new organization, sealed.
pub fn make_keys(sealer: &Sealer, org: OrgId, now: Timestamp) -> Result<Vec<SealedKey>, KeysError> {
    let authority = OrganizationAuthority::create(org, Key::generate()?, now.into())?;
    let grants = Key::generate()?;
    let seal = |purpose: KeyPurpose, key: &Key, public_pem| SealedKey {
        purpose,
        public_pem,
        sealed_private: sealer.seal(org, purpose.as_str(), &key.expose_pkcs8_der()),
    };
    Ok(vec![
        seal(KeyPurpose::Authority, authority.key(), pem("CERTIFICATE", authority.certificate())),
        seal(KeyPurpose::Grants, &grants, pem("FAIRLEAD GRANT PUBLIC KEY", &grants.public())),
    ])
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};

    let encoded = STANDARD.encode(der);
    let lines: Vec<&str> =
        (0..encoded.len()).step_by(64).map(|at| &encoded[at..encoded.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
