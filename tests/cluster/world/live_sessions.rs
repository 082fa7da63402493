//! What the hub remembers as running: the owner sees all of it.

use anyhow::{Context, ensure};
use fairlead_tests::{World, within};

use crate::intercepting::PATIENCE;

/// Returns an error that shows every session that does not end at the hub. A laptop tells it a moment after it has told
/// its user.
pub(crate) fn there_are_none(world: &World) -> anyhow::Result<()> {
    within(PATIENCE, "no session is left at the hub", || {
        let answer = world.olga().call("GET", "/api/v1/sessions?live=true", None)?.json()?;
        let sessions = answer["sessions"].as_array().context("a list of sessions")?;
        ensure!(sessions.is_empty(), "the hub still has live sessions: {sessions:#?}");
        Ok(())
    })?;
    Ok(())
}
