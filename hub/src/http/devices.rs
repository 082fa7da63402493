//! `/api/v1/devices`

use axum::{Json, extract::State, http::StatusCode};
use fairlead_model::DeviceId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    error::{ErrorBody, Problem},
    extract::{Body, Named},
    refusals::{PermittedIfSeen, SignedIn},
};
use crate::{
    Hub,
    actions::devices,
    login::{Authenticated, CommandLine},
};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(list, certify)).routes(routes!(remove))
}

#[derive(Serialize, ToSchema)]
struct DeviceList {
    devices: Vec<Device>,
}

#[derive(Serialize, ToSchema)]
struct Device {
    id: Uuid,
    name: String,
    /// Of the device's key: `SHA256:…`.
    thumbprint: String,
    created_at: Timestamp,
    certificate_expires_at: Timestamp,
}

#[derive(Deserialize, ToSchema)]
struct NewDevice {
    /// What the owner calls the laptop.
    name: String,
    /// PKCS#10 with the Ed25519 key that the sign-in is bound to.
    csr_pem: String,
}

#[derive(Serialize, ToSchema)]
struct CertifiedDevice {
    device: Device,
    certificate_pem: String,
    /// What the laptop's peers verify the certificate with.
    organization_certificate_pem: String,
    expires_at: Timestamp,
}

impl From<hub_store::Device> for Device {
    fn from(device: hub_store::Device) -> Self {
        Self {
            id: device.id.as_uuid(),
            name: device.name,
            thumbprint: device.thumbprint.to_string(),
            created_at: device.created_at,
            certificate_expires_at: device.certificate_expires_at,
        }
    }
}

/// Lists the caller's own devices.
#[utoipa::path(
    get, path = "/api/v1/devices", tag = "devices", operation_id = "list_devices",
    responses((status = 200, body = DeviceList), SignedIn)
)]
async fn list(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
) -> Result<Json<DeviceList>, Problem> {
    let devices = devices::list(&hub, &caller).await?;
    Ok(Json(DeviceList { devices: devices.into_iter().map(Device::from).collect() }))
}

/// Certifies the key of the caller's laptop, or renews its certificate.
#[utoipa::path(
    post, path = "/api/v1/devices", tag = "devices", operation_id = "certify_device",
    request_body = NewDevice,
    responses(
        (status = 201, body = CertifiedDevice), SignedIn, (status = 400, body = ErrorBody), (status = 409, body = ErrorBody),
    )
)]
async fn certify(
    State(hub): State<Hub>,
    CommandLine { caller, key_jkt }: CommandLine,
    Body(new): Body<NewDevice>,
) -> Result<(StatusCode, Json<CertifiedDevice>), Problem> {
    let certified = devices::certify(&hub, &caller, &key_jkt, &new.name, &new.csr_pem).await?;
    let answer = CertifiedDevice {
        device: certified.device.into(),
        certificate_pem: certified.certificate_pem,
        organization_certificate_pem: certified.organization_certificate_pem,
        expires_at: certified.expires_at,
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Removes a device; its certificate counts for nothing from then on.
#[utoipa::path(
    delete, path = "/api/v1/devices/{id}", tag = "devices", operation_id = "remove_device",
    params(("id" = Uuid, Path)),
    responses((status = 204), PermittedIfSeen)
)]
async fn remove(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<DeviceId>,
) -> Result<StatusCode, Problem> {
    devices::remove(&hub, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
