//! Taking up the sessions that a daemon before this one had.

use std::sync::Arc;

use tracing::{info, warn};

use crate::{keeper::Keeper, session::Origin, tunnel};

/// Holds them again. Before the hub is heard: what it names and nobody holds is ended there, and what it does not name
/// ends here.
pub(crate) fn take_up(keeper: &Arc<Keeper>) {
    for session in keeper.before() {
        info!(session = %session.id, "Taking up the session again");
        let id = session.id;
        keeper.keep(session, Origin::Restored);
        tunnel::begin(keeper, id);
    }
}

/// Brings their names back.
pub(crate) async fn put_names_back(keeper: &Keeper) {
    if let Err(failure) = keeper.apply().await {
        warn!("Names and redirects could not be put back: {failure}");
    }
}
