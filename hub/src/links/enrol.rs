//! How a refused enrolment is told to the cluster agent.

use fairlead_wire::link::v1::{EnrolReply, EnrolRequest};
use tonic::Status;

use crate::{
    Hub,
    actions::enrol::{self, EnrolAsked, EnrolError, Enrolled},
};

pub(super) async fn enrol(hub: &Hub, request: EnrolRequest) -> Result<EnrolReply, Status> {
    let asked = EnrolAsked {
        join_token: request.join_token,
        teamspace_certificate: request.teamspace_certificate,
        cluster_uid: request.cluster_uid,
        agent_time_s: request.agent_time_s,
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
        EnrolError::ClockOff { .. }
        | EnrolError::Taken { .. }
        | EnrolError::Copied { .. }
        | EnrolError::Locked { .. } => Status::failed_precondition(message),
        EnrolError::NotAJoinToken(_)
        | EnrolError::UnreadableCertificate(_)
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
