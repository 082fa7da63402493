//! Taking up the sessions that a daemon before this one had.

use std::sync::Arc;

use tracing::{info, warn};

use crate::{carriers, keeper::Keeper, session::Origin};

/// Brings names back at once; what no longer lives at the hub ends with its welcome.
pub(crate) async fn restore(keeper: &Arc<Keeper>) {
    for session in keeper.before() {
        info!(session = %session.id, "Taking up the session again");
        let id = session.id;
        keeper.keep(session, Origin::Restored);
        carriers::begin(keeper, id);
    }
    if let Err(failure) = keeper.apply().await {
        warn!("Names and redirects could not be put back: {failure}");
    }
}
