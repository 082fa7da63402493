//! What writes one Service: the version that was looked at and no other, so that nobody who writes meanwhile is written over.
//!
//! Each change is two patches: the key, and then the `managedFields` of before. Why, and what a writer that dies in
//! between leaves to the next one, is told in `docs/decisions/0001-one-selector-key.md`.
#![expect(
    clippy::disallowed_methods,
    reason = "one of the files of apply/, the only place that changes Kubernetes"
)]

use fairlead_model::ServiceRef;
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::super::{
    ApplyError,
    claims::{Claim, claims, without_us},
    info::{self, Info},
    json_patch, key, slices,
};
use crate::{
    names::{FIELD_MANAGER, Sentinel},
    seen::ServiceSeen,
};

/// So often a Service is read again because somebody else wrote it in between.
const TRIES: usize = 5;

/// What may be done with the key.
pub(super) enum Change<'a> {
    Add { sentinel: &'a Sentinel, info: &'a Info, slice: &'a str },
    Try { sentinel: &'a Sentinel, info: &'a Info },
    Remove,
}

impl Change<'_> {
    /// Lists what the first patch changes, given the Service as it is and who is to own its selector afterwards.
    fn operations(&self, before: &Service, name: &ServiceRef, claims: &[Claim]) -> Vec<Value> {
        match self {
            Self::Add { sentinel, info, .. } | Self::Try { sentinel, info } => {
                key::put_on(before, sentinel, &info.text(name, claims))
            }
            Self::Remove => key::take_off(before, claims),
        }
    }

    const fn marks(&self) -> Marks {
        match self {
            Self::Add { .. } | Self::Try { .. } => Marks::Stay,
            Self::Remove => Marks::Go,
        }
    }
}

/// Label and annotation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marks {
    Stay,
    Go,
}

/// What writes one Service.
pub(super) struct Pen<'a> {
    client: &'a Client,
    api: Api<Service>,
    seen: &'a ServiceSeen,
    what: String,
}

impl<'a> Pen<'a> {
    pub(super) fn new(client: &'a Client, seen: &'a ServiceSeen, what: String) -> Self {
        Self { client, api: api(client, &seen.service), seen, what }
    }

    /// Reads the Service, checks that it is the one that was seen, and patches that very version of it. Somebody who
    /// writes in between is read again, not written over.
    pub(super) async fn make(&self, change: Change<'_>) -> Result<(), ApplyError> {
        let dry_run = matches!(change, Change::Try { .. });
        let mut last = self.conflict();
        for left in (0..TRIES).rev() {
            let before = self.read().await?;
            if key::sentinel_of(&before) != self.seen.sentinel() {
                return Err(self.conflict());
            }
            if let Change::Add { slice, .. } = change {
                slices::must_stand(self.client, &self.seen.service, slice, &self.what).await?;
            }
            let fields = fields_owed(&before);
            let claims = match change {
                // No annotation, however little the API likes it, may keep a Service from being given back.
                Change::Remove if left == 0 => info::remembered(&before),
                _ => claims(&fields),
            };
            let operations = change.operations(&before, &self.seen.service, &claims);
            if operations.is_empty() {
                return self.finish(before, fields, change.marks()).await;
            }
            match self.patch(&before, operations, dry_run).await {
                Ok(_) if dry_run => return Ok(()),
                Ok(after) => return self.finish(after, fields, change.marks()).await,
                Err(error) if has_moved_on(&error) => last = self.failed(error),
                Err(error) if matches!(change, Change::Remove) && is_refusal(&error) => {
                    last = self.failed(error);
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(last)
    }

    /// Writes back what is owed to others, and changes nothing else.
    pub(super) async fn write_back(&self) -> Result<(), ApplyError> {
        let current = self.read().await?;
        let fields = fields_owed(&current);
        self.finish(current, fields, Marks::Stay).await
    }

    /// Writes `fields` to the Service as it is in `current`, and takes the marks off where they are to go. Where
    /// somebody wrote in between, their version of it is finished.
    async fn finish(
        &self,
        mut current: Service,
        mut fields: Vec<ManagedFieldsEntry>,
        marks: Marks,
    ) -> Result<(), ApplyError> {
        for left in (0..TRIES).rev() {
            let mut operations = match marks {
                Marks::Go if key::sentinel_of(&current).is_none() => key::unmark(&current),
                _ => Vec::new(),
            };
            if current.managed_fields() != fields {
                operations.push(key::write_fields(&fields));
            }
            if operations.is_empty() {
                return Ok(());
            }
            match self.patch(&current, operations, false).await {
                Ok(_) => return Ok(()),
                Err(error) if has_moved_on(&error) => {
                    current = self.read().await?;
                    fields = match left {
                        // Whatever was remembered, our entry does not stay for it.
                        1 => without_us(current.managed_fields(), &[]),
                        _ => fields_owed(&current),
                    };
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(self.conflict())
    }

    async fn patch(
        &self,
        version: &Service,
        operations: Vec<Value>,
        dry_run: bool,
    ) -> Result<Service, kube::Error> {
        let params = PatchParams { dry_run, ..PatchParams::apply(FIELD_MANAGER) };
        let name = self.seen.service.name.as_str();
        self.api.patch(name, &params, &of_version(version, operations)).await
    }

    async fn read(&self) -> Result<Service, ApplyError> {
        let name = self.seen.service.name.as_str();
        let service = self.api.get(name).await.map_err(|error| self.failed(error))?;
        match service.uid() {
            Some(uid) if uid == self.seen.uid => Ok(service),
            _ => Err(ApplyError::Gone { what: self.what.clone() }),
        }
    }

    fn failed(&self, error: kube::Error) -> ApplyError {
        ApplyError::from_api(&self.what, error)
    }

    fn conflict(&self) -> ApplyError {
        ApplyError::Conflict { what: self.what.clone() }
    }
}

/// Returns the `managedFields` that the Service should have: what a change that was not finished took is given back.
fn fields_owed(service: &Service) -> Vec<ManagedFieldsEntry> {
    without_us(service.managed_fields(), &info::remembered(service))
}

/// A `test` that fails makes the patch invalid (422); two patches at the same moment conflict (409).
fn has_moved_on(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 409 | 422))
}

/// Somebody's admission webhook may dislike what is written, with whichever code.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 404)
}

fn of_version(service: &Service, operations: Vec<Value>) -> Patch<()> {
    let version = service.resource_version();
    let test = json!({"op": "test", "path": "/metadata/resourceVersion", "value": version});
    json_patch(Value::Array([vec![test], operations].concat()))
}

pub(super) fn api(client: &Client, service: &ServiceRef) -> Api<Service> {
    Api::namespaced(client.clone(), service.namespace.as_str())
}
