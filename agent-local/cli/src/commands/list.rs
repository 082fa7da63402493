//! `fairlead list`, `fairlead intercept list`, and waiting until a session is proven.

use std::time::{Duration, Instant};

use fairlead_model::{InterceptPort, Phase, SessionKind};
use laptop_ipc::{
    FailureKind,
    daemon::{Request, Session},
};
use serde::Serialize;
use tokio::time::sleep;

use super::Context;
use crate::{errors::CliError, output::Shown, table::table};

/// A redirect is programmed within about a second; this is for a slow cluster.
pub(super) const PROOF_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[derive(Serialize)]
#[serde(transparent)]
struct Sessions(Vec<Session>);

impl Shown for Sessions {
    fn to_text(&self) -> String {
        sessions_table(&self.0)
    }
}

pub(super) async fn all(context: &Context<'_>) -> Result<(), CliError> {
    context.output.show(&Sessions(context.parts.status().await?.sessions))
}

pub(super) async fn intercepts(context: &Context<'_>) -> Result<(), CliError> {
    let mut sessions = context.parts.status().await?.sessions;
    sessions.retain(|session| session.kind == SessionKind::Intercept);
    context.output.show(&Sessions(sessions))
}

pub(super) fn sessions_table(sessions: &[Session]) -> String {
    let rows = sessions.iter().map(|session| {
        [
            session.id.to_string(),
            session.kind.to_string(),
            session.wanted.join(" "),
            session.phase.to_string(),
            where_to(session),
            session.teamspace.name.clone(),
        ]
    });
    table(["SESSION", "KIND", "WHAT", "PHASE", "WHERE", "TEAMSPACE"], rows, "No sessions.")
}

fn where_to(session: &Session) -> String {
    let mapping = |p: &InterceptPort| format!("{} -> localhost:{}", p.service_port, p.laptop_port);
    match session.kind {
        SessionKind::Consume if session.services.len() == 1 => "1 service".to_owned(),
        SessionKind::Consume => format!("{} services", session.services.len()),
        SessionKind::Intercept => session.ports.iter().map(mapping).collect::<Vec<_>>().join(", "),
    }
}

/// Waits until bytes have passed. Ctrl-C ends the session; what was not proven is not left behind.
pub(super) async fn wait_until_proven(
    context: &Context<'_>,
    session: Session,
    patience: Duration,
) -> Result<Session, CliError> {
    let id = session.id;
    let proven = tokio::select! {
        proven = watch(context, session, patience) => proven?,
        _ = tokio::signal::ctrl_c() => {
            context.parts.ask_daemon(Request::Leave { session: id }).await?;
            return Err(CliError::Interrupted);
        }
    };
    match proven.phase {
        Phase::Refused | Phase::Ended => Err(over(proven)),
        Phase::Active => Ok(proven),
        Phase::Preparing | Phase::Away | Phase::Contested => {
            context.output.warn(format!(
                "not proven to work yet ({}{}); fairlead status shows when it is",
                proven.phase,
                proven.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default()
            ));
            Ok(proven)
        }
    }
}

fn over(session: Session) -> CliError {
    if let Some(failure) = session.failure {
        return failure.into();
    }
    let message = format!("the {} of {} {}", session.kind, session.wanted.join(" "), why(&session));
    let hint = match session.kind {
        SessionKind::Consume => "fairlead services shows what you may reach",
        SessionKind::Intercept => "fairlead services shows what can be taken over, and who has it",
    };
    CliError::new(FailureKind::Conflict, message, hint)
}

fn why(session: &Session) -> String {
    let verb = if session.phase == Phase::Refused { "was refused" } else { "has ended" };
    match &session.detail {
        Some(detail) => format!("{verb}: {detail}"),
        None => verb.to_owned(),
    }
}

async fn watch(
    context: &Context<'_>,
    mut session: Session,
    patience: Duration,
) -> Result<Session, CliError> {
    let deadline = Instant::now() + patience;
    while matches!(session.phase, Phase::Preparing | Phase::Away) && Instant::now() < deadline {
        sleep(LOOK_EVERY).await;
        let sessions = context.parts.status().await?.sessions;
        match sessions.into_iter().find(|other| other.id == session.id) {
            Some(seen) => session = seen,
            None => session.phase = Phase::Ended,
        }
    }
    Ok(session)
}
