//! The writer's slow steps, each a task that ends with what became of it: examining a Service, and carrying out a
//! plan. They know the cluster only as it was when they were planned; `apply` refuses what no longer fits.

use std::{sync::Arc, time::Duration};

use fairlead_model::ServiceRef;
use jiff::Timestamp;
use kube::Client;
use tokio::time::timeout;

use super::{
    plan::{Change, Redirect},
    preflight::{self, NotAllowed},
};
use crate::{
    apply::{ApplyError, info::Info, services, slices},
    names::{Owner, Sentinel},
    seen::{OwnSlice, ServiceSeen},
};

const LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) enum Done {
    Examined {
        service: ServiceRef,
        sentinel: Sentinel,
        verdict: Result<(), NotAllowed>,
    },
    Changed {
        service: ServiceRef,
        changes: Vec<Change>,
        redirect: Option<Redirect>,
        failed: Option<String>,
    },
    /// Somebody keeps removing the key; `by` is the manager that wrote the Service last.
    Blamed {
        service: ServiceRef,
        by: Option<String>,
    },
}

pub(crate) async fn examine(
    client: Client,
    service: Arc<ServiceSeen>,
    sentinel: Sentinel,
    by: String,
    agent_namespace: String,
) -> Done {
    let info = Info { by, since: Timestamp::now(), agent_namespace };
    let verdict = timeout(LIMIT, preflight::ask(&client, &service, &sentinel, &info))
        .await
        .unwrap_or_else(|_| Err(NotAllowed::NotKnown(ApplyError::NoAnswer.to_string())));
    Done::Examined { service: service.service.clone(), sentinel, verdict }
}

/// One plan and what it is about.
pub(crate) struct Job {
    pub(crate) client: Client,
    pub(crate) owner: Owner,
    pub(crate) name: ServiceRef,
    pub(crate) service: Option<Arc<ServiceSeen>>,
    pub(crate) slice: Option<OwnSlice>,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) info: Info,
    pub(crate) changes: Vec<Change>,
}

/// Makes the changes in their order; the first that fails ends it.
pub(crate) async fn carry_out(job: Job) -> Done {
    let made = async {
        for change in &job.changes {
            job.make(change).await?;
        }
        Ok::<_, ApplyError>(())
    };
    let failed = match timeout(LIMIT, made).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(ApplyError::NoAnswer.to_string()),
    };
    Done::Changed { service: job.name, changes: job.changes, redirect: job.redirect, failed }
}

impl Job {
    async fn make(&self, change: &Change) -> Result<(), ApplyError> {
        let service = self.service.as_deref();
        match (change, service, &self.redirect, &self.slice) {
            (Change::CreateSlice, Some(service), Some(redirect), _) => {
                slices::create(&self.client, &self.owner, service, redirect).await
            }
            (Change::PatchSlice, _, Some(redirect), Some(slice)) => {
                let ports: Vec<_> = redirect.ports.iter().map(|port| port.to_object()).collect();
                slices::patch(&self.client, slice, &ports, &redirect.endpoints).await
            }
            (Change::AddKey, Some(service), Some(redirect), _) => {
                let slice = redirect.slice_name(&service.service);
                services::add_key(&self.client, service, &redirect.sentinel, &self.info, &slice)
                    .await
            }
            (Change::RemoveKey, Some(service), ..) => {
                services::remove_key(&self.client, service).await
            }
            (Change::WriteBack, Some(service), ..) => {
                services::write_back(&self.client, service).await
            }
            (Change::DeleteSlice, .., Some(slice)) => slices::delete(&self.client, slice).await,
            _ => Ok(()),
        }
    }
}

pub(crate) async fn blame(client: Client, service: ServiceRef) -> Done {
    let by = timeout(LIMIT, services::last_writer(&client, &service)).await.ok().flatten();
    Done::Blamed { service, by }
}
