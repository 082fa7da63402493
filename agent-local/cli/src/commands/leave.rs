//! `fairlead leave ID|SERVICE|--all`.

use laptop_ipc::{
    FailureKind,
    daemon::{Answer, Request, Session},
};

use super::Context;
use crate::{args::as_service, errors::CliError, parts::unexpected};

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

fn found<'a>(word: &str, sessions: &'a [Session]) -> Result<&'a Session, CliError> {
    let is_meant = |session: &&Session| match as_service(word) {
        Some(service) => session.wanted == [service.to_string()],
        None => session.id.to_string().starts_with(word),
    };
    let meant: Vec<_> = sessions.iter().filter(is_meant).collect();
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
