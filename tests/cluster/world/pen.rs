//! The hub's own pen: signs grants with the organization's key, as the hub would at another time of day.
//!
//! The key is opened as the hub opens it: out of its database, with the master key of its folder.

use std::{fs, path::Path, sync::Arc, time::SystemTime};

use anyhow::Context;
use fairlead_hub::{
    config::read_master_key,
    keys::{Keys, OrganizationKeys},
    seal::Sealer,
};
use fairlead_wire::{
    grant::{Grant, GrantVerifier},
    identity::DeviceIdentity,
};
use hub_store::Store;
use laptop_account::Device;

pub(crate) struct Pen(Arc<OrganizationKeys>);

impl Pen {
    /// Takes the pen of the organization to which a device belongs; `folder` is the data folder of `fairlead-hub dev`.
    pub(crate) async fn of(folder: &Path, device: &Device) -> anyhow::Result<Self> {
        let sealer = Sealer::new(&read_master_key(&folder.join("master.key"))?);
        let organization = DeviceIdentity::of(&device.certificate)?.organization;
        let keys = Keys::new(Store::connect(&database_url(folder)?).await?, Arc::new(sealer));
        Ok(Self(keys.organization(organization).await?))
    }

    /// Reads a grant that the hub has just given to this device.
    pub(crate) fn read(&self, jwt: &str, device: &Device) -> anyhow::Result<Grant> {
        let teamspace = teamspace_of(jwt)?;
        let verifier = GrantVerifier::new(&self.0.grant_public, teamspace);
        Ok(verifier.verify(jwt, SystemTime::now(), &device.key.thumbprint())?)
    }

    pub(crate) fn sign(&self, grant: &Grant) -> String {
        self.0.signer.sign(grant)
    }
}

/// Returns how the operator reaches the database of `fairlead-hub dev`.
pub(crate) fn database_url(folder: &Path) -> anyhow::Result<String> {
    let config = fs::read_to_string(folder.join("hub.toml"))?;
    let url = config.lines().find_map(|line| line.strip_prefix("database_url = "));
    let url = url.context("the operator's file names the database")?;
    Ok(url.trim_matches('"').to_owned())
}

/// Reads the audience without looking at the signature, which comes next.
fn teamspace_of(jwt: &str) -> anyhow::Result<fairlead_model::TeamspaceId> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims = jwt.split('.').nth(1).context("a JWT has three parts")?;
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    Ok(claims["aud"].as_str().context("an audience")?.parse()?)
}
