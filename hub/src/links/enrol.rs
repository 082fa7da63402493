//! Enrolment as the cluster agent asks for it, and how a refusal is told to it.

use fairlead_wire::link::v1::{EnrolReply, EnrolRequest};
use tonic::Status;

use super::conversation::clocks_agree;
use crate::{
    Hub,
    actions::enrol::{self, EnrolAsked, EnrolError, Enrolled},
};

/// A UID of Kubernetes has 36; this is what the database takes.
const CLUSTER_UID_MAX_BYTES: usize = 200;

pub(super) async fn enrol(hub: &Hub, request: EnrolRequest) -> Result<EnrolReply, Status> {
    clocks_agree("cluster", request.agent_time_s, hub.clock.now())
        .map_err(|off| Status::failed_precondition(off.to_string()))?;
    if request.cluster_uid.len() > CLUSTER_UID_MAX_BYTES {
        return Err(Status::invalid_argument(format!(
            "the cluster UID is longer than {CLUSTER_UID_MAX_BYTES} bytes: it must be the UID of the namespace \
             kube-system"
        )));
    }
    let asked = EnrolAsked {
        join_token: request.join_token,
        teamspace_certificate: request.teamspace_certificate,
        cluster_uid: request.cluster_uid,
        signature: request.signature,
    };
    let Enrolled { teamspace, keys } =
        enrol::enrol(hub, asked).await.map_err(|error| status(&error))?;
    Ok(EnrolReply {
        organization_id: teamspace.org.to_string(),
        teamspace_id: teamspace.id.to_string(),
        teamspace_name: teamspace.name.to_string(),
        organization_certificate: keys.certificate.to_vec(),
        grant_key: keys.grant_public.to_vec(),
    })
}

fn status(error: &EnrolError) -> Status {
    let message = error.to_string();
    match error {
        EnrolError::Taken { .. }
        | EnrolError::Elsewhere
        | EnrolError::Copied
        | EnrolError::Locked { .. } => Status::failed_precondition(message),
        EnrolError::NotAJoinToken(_)
        | EnrolError::UnreadableCertificate(_)
        | EnrolError::NotTheKey { .. }
        | EnrolError::NoClusterUid => Status::invalid_argument(message),
        EnrolError::Unknown | EnrolError::Used | EnrolError::Expired { .. } => {
            Status::unauthenticated(message)
        }
        EnrolError::Store(cause) => {
            tracing::error!(error = %cause, "An enrolment failed");
            Status::unavailable("the hub cannot reach its database")
        }
        EnrolError::Keys(cause) => {
            tracing::error!(error = cause, "An enrolment failed");
            Status::internal("the hub could not do this; its log says why")
        }
    }
}
