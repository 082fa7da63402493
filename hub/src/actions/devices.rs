//! Devices: a laptop's key gets its certificate, and loses it.

use fairlead_model::{DeviceId, timers::DEVICE_CERTIFICATE_LIFE};
use fairlead_wire::{
    authority::{AuthorityError, DeviceRequest},
    dpop,
    identity::DeviceName,
};
use hub_policy::{Caller, actions::RemoveDevice};
use hub_store::{Device, PresentedKey, StoreError};
use jiff::Timestamp;

use super::ActionError;
use crate::Hub;

const MAX_NAME_CHARACTERS: usize = 60;

/// A device with its fresh certificate.
#[derive(Debug)]
pub struct Certified {
    pub device: Device,
    pub certificate_pem: String,
    /// What the laptop's peers verify the certificate with.
    pub organization_certificate_pem: String,
    pub expires_at: Timestamp,
}

/// Signs a certificate for the key that the caller signed in with. The same key again is a renewal.
pub async fn certify(
    hub: &Hub,
    caller: &Caller,
    key_jkt: &str,
    name: &str,
    request_pem: &str,
) -> Result<Certified, ActionError> {
    let request = DeviceRequest::parse_pem(request_pem)
        .map_err(|error| ActionError::invalid(error.to_string()))?;
    if dpop::jkt(&request.public_key()) != key_jkt {
        return Err(ActionError::Invalid {
            message: "the request is for another key than the one this sign-in is bound to"
                .to_owned(),
            hint: Some("sign in again: fairlead login".to_owned()),
        });
    }
    let now = hub.clock.now();
    let key = PresentedKey {
        name: readable_name(name),
        thumbprint: request.thumbprint(),
        key_jkt: key_jkt.to_owned(),
        certificate_expires_at: now + DEVICE_CERTIFICATE_LIFE,
    };
    let id = hub.store.keep_device(caller, &key, now).await.map_err(in_words)?;
    let keys = hub.keys.organization(caller.org).await.map_err(internal)?;
    let holder = DeviceName { organization: caller.org, user: caller.actor.user(), device: id };
    let certificate = keys.authority.sign_device(&request, holder, now.into()).map_err(unsigned)?;
    let device = hub.store.scoped(caller.org).device(id).await?;
    Ok(Certified {
        device: device.ok_or(StoreError::NotFound { noun: "device" })?,
        certificate_pem: certificate.pem,
        organization_certificate_pem: keys.certificate_pem.clone(),
        expires_at: key.certificate_expires_at,
    })
}

/// Lists the caller's own devices.
pub async fn list(hub: &Hub, caller: &Caller) -> Result<Vec<Device>, ActionError> {
    Ok(hub.store.scoped(caller.org).devices_of(caller.actor.user()).await?)
}

/// Removes a device: its certificate counts for nothing from then on, and its sign-ins end.
pub async fn remove(hub: &Hub, caller: &Caller, id: DeviceId) -> Result<(), ActionError> {
    let found = hub.store.scoped(caller.org).device(id).await?;
    let device = found.ok_or(StoreError::NotFound { noun: "device" })?;
    let facts = hub.facts(caller).await?;
    let action = RemoveDevice { org: caller.org, device: id, owner: device.user_id };
    let permit = hub.decide(caller, action, &facts).await?;
    Ok(hub.store.remove_device(&permit, hub.clock.now()).await?)
}

/// Keeps of a name what people can read in a list.
fn readable_name(name: &str) -> String {
    let kept: String =
        name.trim().chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARACTERS).collect();
    if kept.is_empty() { "laptop".to_owned() } else { kept }
}

fn in_words(error: StoreError) -> ActionError {
    match error {
        StoreError::Conflict { .. } => ActionError::Conflict {
            message: "this key belongs to another user".to_owned(),
            hint: Some("each user of a laptop has their own key: sign in again".to_owned()),
        },
        other => other.into(),
    }
}

fn internal(error: impl std::error::Error) -> ActionError {
    ActionError::Internal(format!("the keys of the organization cannot be used: {error}"))
}

fn unsigned(error: AuthorityError) -> ActionError {
    ActionError::Internal(format!("a device certificate could not be signed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_name_is_made_readable() {
        assert_eq!(readable_name(" ada's\u{7} laptop\n"), "ada's laptop");
        assert_eq!(readable_name("\n"), "laptop");
        assert_eq!(readable_name(&"x".repeat(500)).len(), MAX_NAME_CHARACTERS);
    }
}
