//! `fairlead leave ID|SERVICE|--all`.

use fairlead_model::{Phase, ServiceRef};
use laptop_ipc::{
    FailureKind,
    daemon::{Answer, Request, Session},
};

use super::Context;
use crate::{errors::CliError, parts::unexpected};

pub(super) async fn run(context: &Context<'_>, session: Option<&str>) -> Result<(), CliError> {
    let request = match session {
        None => Request::LeaveIntercepts,
        Some(word) => {
            let sessions = context.parts.status().await?.sessions;
            Request::Leave { session: found(word, &sessions)?.id }
        }
    };
    match context.parts.ask_daemon(request).await? {
        Answer::Left { sessions } if sessions.is_empty() => {
            context.output.say("There was nothing to leave.");
        }
        Answer::Left { sessions } => {
            let ids: Vec<_> = sessions.iter().map(ToString::to_string).collect();
            context.output.say(format!("Left {}.", ids.join(", ")));
        }
        other => return Err(unexpected(&other)),
    }
    Ok(())
}

/// Finds the session that is meant. One that is over is shown for a while, and cannot be left.
fn found<'a>(word: &str, sessions: &'a [Session]) -> Result<&'a Session, CliError> {
    let is_live = |session: &&Session| !matches!(session.phase, Phase::Ended | Phase::Refused);
    let is_meant = |session: &&Session| match as_service(word) {
        Some(service) => session.wanted == [service.to_string()],
        None => session.id.to_string().starts_with(word),
    };
    let meant: Vec<_> = sessions.iter().filter(is_live).filter(is_meant).collect();
    match meant[..] {
        [one] => Ok(one),
        [] => Err(CliError::new(
            FailureKind::NotFound,
            format!("this laptop has no session `{word}`"),
            "list them: fairlead list",
        )),
        _ => Err(CliError::new(
            FailureKind::Input,
            format!("`{word}` is the beginning of {} sessions", meant.len()),
            "write more of the id: fairlead list",
        )),
    }
}

/// What `leave` was given.
fn as_service(word: &str) -> Option<ServiceRef> {
    word.parse().ok()
}

#[cfg(test)]
mod tests {
    use fairlead_model::{SessionId, SessionKind, TeamspaceId};
    use laptop_ipc::daemon::Teamspace;

    use super::*;

    fn intercept(phase: Phase) -> Session {
        Session {
            id: SessionId::generate(),
            kind: SessionKind::Intercept,
            teamspace: Teamspace { id: TeamspaceId::generate(), name: "lab".to_owned() },
            phase,
            detail: None,
            failure: None,
            wanted: vec!["shop/cart".to_owned()],
            services: Vec::new(),
            is_home: false,
            of_program: false,
            ports: Vec::new(),
            carriers: 0,
            paths: Vec::new(),
        }
    }

    #[test]
    fn the_session_that_lives_is_meant_whatever_was_refused_before() {
        let sessions = [Phase::Refused, Phase::Active, Phase::Ended].map(intercept);
        assert_eq!(found("shop/cart", &sessions).expect("one lives").id, sessions[1].id);
        let all = sessions.each_ref().map(|session| session.id.to_string());
        assert_eq!(found(&all[1], &sessions).expect("named").id, sessions[1].id);
        assert!(found(&all[0], &sessions).is_err(), "it is over");
    }
}
