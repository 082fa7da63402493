//! Proof that bytes pass: a probe through the whole path to a service, again and again until one came through.
//!
//! That one service has no pods is that service's affair; the session is active when any of them answers. Why the others
//! did not is kept for whoever looks.

use fairlead_model::{Callee, Phase, ServicePort, SessionId, timers::LAPTOP_BEAT};
use fairlead_tunnel::{OpenFailed, Opener};
use fairlead_wire::open::OpenRequest;
use tokio::{task::JoinSet, time::sleep};

use crate::{keeper::Keeper, session::Session, tunnel};

/// Tried together; the others have their turn in the next rounds.
const PROBES_MAX: usize = 5;

/// Probes until bytes have passed; from then on the beats of the carriers are the proof, until a command adds services
/// and the agent has accepted the grant for them.
pub(crate) async fn keep_proving(keeper: &Keeper, id: SessionId) {
    let mut changes_rx = keeper.sessions().changes();
    loop {
        let mut round = 0;
        while let Err(reason) = probe(keeper, id, &any_carrier(keeper, id).await, round).await {
            keeper.observe(id, Phase::Preparing, Some(reason));
            round += 1;
            sleep(LAPTOP_BEAT).await;
        }
        while !is_to_be_proven(keeper, id) {
            // The sender lives as long as the sessions.
            drop(changes_rx.changed().await);
        }
    }
}

fn is_to_be_proven(keeper: &Keeper, id: SessionId) -> bool {
    keeper.sessions().live(id).is_some_and(Session::is_to_be_proven)
}

async fn any_carrier(keeper: &Keeper, id: SessionId) -> Opener {
    let openers_rx = tunnel::openers_of(keeper, id);
    let opener = async { tunnel::best(&mut openers_rx?).await };
    match opener.await {
        Some(opener) => opener,
        // The session is over, and soon this is, too.
        None => std::future::pending().await,
    }
}

/// Probes a few services, and shows the session as active at the first answer.
async fn probe(
    keeper: &Keeper,
    id: SessionId,
    opener: &Opener,
    round: usize,
) -> Result<(), String> {
    let provable = keeper.sessions().provable(id);
    let mut probes = JoinSet::new();
    for (callee, port) in of_round(&provable, round) {
        let wish = OpenRequest { session: id, callee, port, probe: true };
        let opener = opener.clone();
        probes.spawn(async move {
            let opened = opener.open(&wish).await.map(drop);
            (wish.callee, opened)
        });
    }
    let (mut has_passed, mut refusals) = (false, Vec::new());
    while let Some(probed) = probes.join_next().await {
        let (callee, opened) = probed.expect("a probe does not panic");
        let refusal = opened.err().map(|error| in_words(&callee, &error));
        keeper.sessions().note(id, &callee, refusal.clone());
        match refusal {
            Some(refusal) => refusals.push(refusal),
            None => {
                has_passed = true;
                keeper.observe(id, Phase::Active, None);
            }
        }
    }
    if has_passed { Ok(()) } else { Err(summary(&refusals)) }
}

/// Picks the services of one round, each with its first port.
fn of_round(provable: &[(Callee, Vec<ServicePort>)], round: usize) -> Vec<(Callee, ServicePort)> {
    let with_port: Vec<_> = provable
        .iter()
        .filter_map(|(callee, ports)| Some((callee.clone(), *ports.first()?)))
        .collect();
    let count = with_port.len().min(PROBES_MAX);
    let begin = if with_port.is_empty() { 0 } else { round * PROBES_MAX % with_port.len() };
    with_port.into_iter().cycle().skip(begin).take(count).collect()
}

/// Says why a service was not reached; the agent names it where the agent refused.
pub(crate) fn in_words(callee: &Callee, error: &OpenFailed) -> String {
    let said = error.to_string();
    if said.contains(&callee.to_string()) { said } else { format!("{callee}: {said}") }
}

fn summary(refusals: &[String]) -> String {
    match refusals {
        [] => "no service is granted at this moment".to_owned(),
        [only] => only.clone(),
        [first, others @ ..] => format!("{first} (and {} more do not answer)", others.len()),
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::{ServiceRef, TeamspaceId};
    use fairlead_wire::open::Refusal;

    use super::*;
    use crate::stage::{self, Agent};

    #[tokio::test]
    async fn a_consume_is_active_only_after_bytes_have_passed() {
        let (_folder, keeper) = stage::keeper();
        let id = stage::consume(&keeper, TeamspaceId::generate());
        let agent = Agent::which_refuses(Refusal::Unreachable, "a NetworkPolicy keeps it out");
        let opener = agent.opener().await;
        let reason = probe(&keeper, id, &opener, 0).await.expect_err("nothing passed");
        assert!(reason.contains("NetworkPolicy") && reason.contains("1 more"), "{reason}");
        let seen = keeper.sessions().live(id).expect("lives").phase;
        assert_eq!(seen, Phase::Preparing);
        let refusals = keeper.sessions().live(id).expect("lives").refusals.clone();
        assert_eq!(refusals.len(), 2, "{refusals:?}");

        agent.refuses_only("shop/cart");
        probe(&keeper, id, &opener, 1).await.expect("one passed");
        assert_eq!(keeper.sessions().live(id).expect("lives").phase, Phase::Active);
        let refused: Vec<_> = keeper
            .sessions()
            .live(id)
            .expect("lives")
            .refusals
            .keys()
            .map(ToString::to_string)
            .collect();
        assert_eq!(refused, ["shop/cart"]);
    }

    #[tokio::test]
    async fn what_a_command_added_is_probed_once_the_agent_has_accepted_the_grant_for_it() {
        let (_folder, keeper) = stage::keeper();
        let id = stage::consume(&keeper, TeamspaceId::generate());
        let agent = Agent::which_refuses(Refusal::Unreachable, "it has no pods");
        agent.refuses_only("shop/frontend");
        let openers = vec![agent.opener().await];
        keeper.sessions().live(id).expect("lives").openers.send_replace(openers);
        let seen = || {
            let sessions = keeper.sessions();
            let session = sessions.live(id).expect("lives");
            (session.phase, session.refusals.len())
        };
        let until = async |wanted: (Phase, usize)| {
            let mut changes_rx = keeper.sessions().changes();
            while seen() != wanted {
                changes_rx.changed().await.expect("the sessions live");
            }
        };
        let story = async {
            until((Phase::Active, 1)).await;
            let [cart, frontend] = ["shop/cart", "shop/frontend"]
                .map(|s| s.parse::<ServiceRef>().expect("valid").into());
            keeper.sessions().note(id, &frontend, None);
            let patterns = keeper.sessions().live(id).and_then(|s| s.patterns().cloned());
            keeper.sessions().note_shown(id, "an older one".to_owned());
            keeper.sessions().note_change(id, patterns.expect("a consume"), &[cart]);
            tokio::task::yield_now().await;
            assert_eq!(seen(), (Phase::Preparing, 0), "the agent does not know of it yet");
            keeper.sessions().note_shown(id, String::new());
            until((Phase::Active, 1)).await;
        };
        tokio::select! {
            () = keep_proving(&keeper, id) => panic!("it never ends"),
            () = story => {}
        }
    }

    #[test]
    fn every_service_has_its_turn() {
        let port = ServicePort::tcp("80".parse().expect("a port"));
        let service = |n| format!("shop/s{n}").parse::<ServiceRef>().expect("valid");
        let granted: Vec<_> = (0..12).map(|n| (service(n).into(), vec![port])).collect();
        let mut tried: Vec<String> = (0..3)
            .flat_map(|round| of_round(&granted, round))
            .map(|(callee, _)| callee.to_string())
            .collect();
        tried.sort();
        tried.dedup();
        assert_eq!(tried.len(), 12);
        assert_eq!(of_round(&granted[..2], 7).len(), 2);
        assert_eq!(of_round(&[], 3), []);
    }
}
