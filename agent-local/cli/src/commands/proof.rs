//! Beginning a session, and waiting until bytes have passed. What was not proven does not look done.

use std::time::Duration;

use fairlead_model::{Phase, SessionId, SessionKind};
use laptop_ipc::{
    FailureKind,
    daemon::{Answer, Refused, Request, RunName, Session},
};
use tokio::signal::ctrl_c;

use super::Context;
use crate::{errors::CliError, parts::unexpected};

/// A redirect is programmed within about a second; this is for a slow cluster.
pub(super) const PROOF_MAX: Duration = Duration::from_secs(20);

/// What the daemon says of a session that it has just begun.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) session: Session,
    pub(super) refused: Vec<Refused>,
    pub(super) warnings: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// What the daemon says of a consume that it has just begun for this process.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) session: Session,
    pub(super) refused: Vec<Refused>,
    pub(super) warnings: Vec<String>,
    pub(super) names: Vec<RunName>,
}

/// Has the daemon begin a consume for this process, with which it ends.
pub(super) async fn begin_run(
    context: &Context<'_>,
    request: Request,
) -> Result<Running, CliError> {
    let answer = tokio::select! {
        answer = context.parts.ask_any_daemon(&context.folders, request) => answer?,
        _ = ctrl_c() => return Err(CliError::Interrupted),
    };
    match answer {
        Answer::Running { session, refused, warnings, names } => {
            Ok(Running { session, refused, warnings, names })
        }
        other => Err(unexpected(&other)),
    }
}

/// Has the daemon begin a session. After Ctrl-C the daemon leaves what nobody heard of.
pub(super) async fn begin(context: &Context<'_>, request: Request) -> Result<Begun, CliError> {
    let answer = tokio::select! {
        answer = context.parts.ask_daemon(request) => answer?,
        _ = ctrl_c() => return Err(CliError::Interrupted),
    };
    match answer {
        Answer::Begun { session, refused, warnings, notes } => {
            Ok(Begun { session, refused, warnings, notes })
        }
        other => Err(unexpected(&other)),
    }
}

/// Waits until a session is proven, or patience ends. Ctrl-C ends it; so is nothing left behind that was not proven, and
/// what was consumed before goes on.
pub(super) async fn wait(
    context: &Context<'_>,
    session: Session,
    patience: Duration,
) -> Result<Session, CliError> {
    let id = session.id;
    let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    let answer = tokio::select! {
        // The daemon takes an answer that was delivered for one that was heard.
        biased;
        answer = context.parts.ask_daemon(Request::AwaitProof { session: id, patience_ms }) => answer?,
        _ = ctrl_c() => return Err(give_up(context, id).await),
    };
    let seen = match answer {
        Answer::Awaited { session: Some(seen) } => seen,
        Answer::Awaited { session: None } => Session { phase: Phase::Ended, ..session },
        other => return Err(unexpected(&other)),
    };
    match seen.phase {
        Phase::Refused | Phase::Ended => Err(over(seen)),
        Phase::Preparing | Phase::Active | Phase::Away | Phase::Contested => Ok(seen),
    }
}

/// Has what an interrupted command began taken back, unless the daemon was faster.
async fn give_up(context: &Context<'_>, id: SessionId) -> CliError {
    match context.parts.ask_daemon(Request::GiveUp { session: id }).await {
        Ok(_) => CliError::Interrupted,
        Err(error) => error,
    }
}

/// Says that a session stands, and that no byte has passed yet; with an exit code that a script sees.
pub(super) fn must_be_proven(session: &Session) -> Result<(), CliError> {
    if session.phase == Phase::Active {
        return Ok(());
    }
    let wanted = session.wanted.join(" ");
    let detail = session.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    let end = match session.kind {
        SessionKind::Consume => "fairlead consume clear".to_owned(),
        SessionKind::Intercept => format!("fairlead leave {wanted}"),
    };
    Err(CliError::new(
        FailureKind::Unproven,
        format!(
            "the {} of {wanted} has begun and is not proven to work yet ({}{detail})",
            session.kind, session.phase
        ),
        format!("it goes on trying: fairlead status shows when it works; to end it: {end}"),
    ))
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
