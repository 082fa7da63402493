//! What the hub says over the link, and what follows from it here.

use std::sync::Arc;

use fairlead_model::{Phase, SessionId, SessionKind};
use fairlead_wire::link::v1::{self, laptop_down::Message as Down};
use tokio::sync::mpsc;
use tracing::warn;

use crate::{
    granted::Granted, intercept, keeper::Keeper, link::Said, orphans::Orphans, session::Session,
};

/// Hears what the hub says, for as long as the daemon lives.
pub(crate) async fn follow_link(keeper: Arc<Keeper>, mut said_rx: mpsc::Receiver<Said>) {
    let orphans = Orphans::begin(Arc::clone(&keeper));
    while let Some(said) = said_rx.recv().await {
        match said {
            Said::Welcome(welcome) => {
                // A link that begins anew may do so in another network.
                keeper.ways.forget();
                let live: Vec<_> =
                    welcome.live_sessions.iter().filter_map(|id| id.parse().ok()).collect();
                let why = "it ended at the hub while this laptop was away";
                end_all_but(&keeper, &live, why).await;
                orphans.are_among(live);
            }
            Said::Message(message) => hear(&keeper, &orphans, message).await,
            Said::NothingLives(why) => end_all_but(&keeper, &[], &why).await,
        }
    }
}

/// The hub says what lives; the rest has ended while we were away.
async fn end_all_but(keeper: &Keeper, live: &[SessionId], why: &str) {
    let over = keeper.sessions().missing_from(live);
    for id in over {
        keeper.end_here(id, Phase::Ended, Some(why.to_owned())).await;
    }
}

async fn hear(keeper: &Arc<Keeper>, orphans: &Orphans, message: Down) {
    match message {
        Down::Carrier(offer) => {
            if let Some(offer) = keeper.offers.take(offer)
                && offer.kind() == v1::SessionKind::Intercept
            {
                tokio::spawn(intercept::take_carrier(Arc::clone(keeper), offer));
            }
        }
        Down::CarrierRefused(refused) => keeper.offers.refuse(refused.request_id, refused.reason),
        Down::Grant(grant) => hear_grant(keeper, orphans, grant).await,
        Down::Revoked(revoked) => {
            if let Ok(id) = revoked.session_id.parse()
                && !is_leaving(keeper, id)
            {
                keeper.end_here(id, Phase::Ended, Some(revoked.reason)).await;
            }
        }
        Down::Observed(observed) => hear_observed(keeper, observed).await,
        Down::Echo(echo) => keeper.echoes.take(echo),
        // These belong to the beginning of a link; the link's task has read them.
        Down::Challenge(_) | Down::Welcome(_) | Down::Heartbeat(_) => {}
    }
}

/// A fresh grant may name services that are new, and lack others: the hub follows the cluster's catalogue.
async fn hear_grant(keeper: &Keeper, orphans: &Orphans, grant: v1::Grant) {
    let Ok(id) = grant.session_id.parse::<SessionId>() else { return };
    orphans.are_among(vec![id]);
    let granted = Granted::heard(grant.grant, &grant.patterns);
    if keeper.take(id, granted)
        && let Err(failure) = keeper.apply().await
    {
        warn!("Names and redirects could not be changed: {failure}");
    }
}

/// Whoever leaves a session ends it; what the hub says about that end comes too late or too early.
fn is_leaving(keeper: &Keeper, id: SessionId) -> bool {
    keeper.sessions().live(id).is_some_and(|session| session.is_leaving)
}

async fn hear_observed(keeper: &Keeper, observed: v1::SessionObserved) {
    let Ok(id) = observed.session_id.parse::<SessionId>() else { return };
    let Ok(phase) = Phase::try_from(observed.phase()) else { return };
    let kind = keeper.sessions().live(id).map(Session::kind);
    // Of a consume we know more than anybody.
    if kind == Some(SessionKind::Consume) {
        return;
    }
    let detail = Some(observed.detail).filter(|detail| !detail.is_empty());
    match phase {
        Phase::Refused | Phase::Ended if is_leaving(keeper, id) => {}
        // The link may overtake the answer that names the session.
        Phase::Refused | Phase::Ended => keeper.end_here(id, phase, detail).await,
        Phase::Preparing | Phase::Active | Phase::Away | Phase::Contested => {
            keeper.observe(id, phase, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::TeamspaceId;

    use super::*;
    use crate::{session::Origin, sessions, stage};

    #[tokio::test]
    async fn what_is_held_for_a_hub_that_knows_this_laptop_no_more_is_over() {
        let (_folder, keeper) = stage::keeper();
        let desired = sessions::tests::intercept(TeamspaceId::generate()).desired;
        let id = desired.id;
        keeper.keep(desired, Origin::Restored);
        let (said_tx, said_rx) = mpsc::channel(1);
        let why = "the hub does not know this device";
        said_tx.send(Said::NothingLives(why.to_owned())).await.expect("heard");
        drop(said_tx);
        follow_link(Arc::clone(&keeper), said_rx).await;
        let seen = keeper.sessions().view_of(id).expect("shown");
        assert_eq!((seen.phase, seen.detail.as_deref()), (Phase::Ended, Some(why)));
        assert_eq!(keeper.before(), [], "a daemon that comes after this one does not try again");
    }

    #[tokio::test]
    async fn an_intercept_that_is_refused_before_its_answer_has_come_is_refused() {
        let (_folder, keeper) = stage::keeper();
        let desired = sessions::tests::intercept(TeamspaceId::generate()).desired;
        let id = desired.id;
        let refused = v1::SessionObserved {
            session_id: id.to_string(),
            phase: v1::Phase::Refused.into(),
            detail: "it is redirected by another agent".to_owned(),
            replica: String::new(),
        };
        hear_observed(&keeper, refused).await;
        keeper.keep(desired, Origin::Begun);
        let seen = keeper.sessions().view_of(id).expect("shown");
        assert_eq!(seen.phase, Phase::Refused);
        assert_eq!(seen.detail.as_deref(), Some("it is redirected by another agent"));
        assert_eq!(keeper.before(), [], "a daemon that comes after this one does not try again");
    }
}
