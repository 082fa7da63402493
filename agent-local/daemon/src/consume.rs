//! Consume as a session: it begins, changes what it is about, and ends. What passes through it is in `connections.rs`.

use std::sync::Arc;

use fairlead_model::{
    Callee, ExternalHost, Pattern, Patterns, Phase, ServiceRef, SessionId, TeamspaceId,
};
use laptop_account::{AccountError, Hub, Refusal, RefusedService, SessionBegun, UnmatchedPattern};
use laptop_ipc::{
    Failure, FailureKind,
    daemon::{Answer, Refused, Teamspace},
};
use tracing::warn;

use crate::{
    desired::{DesiredSession, Wish},
    granted::{self, Granted},
    keeper::Keeper,
    proof,
    session::Origin,
    tunnel,
};

/// Begins a consume, or changes what the one there is of this teamspace is about.
///
/// A change is one of the same session: its carriers stay, and with them every open connection. Whoever interrupts it, or
/// is refused, has what was there before.
pub(crate) async fn begin(
    keeper: &Arc<Keeper>,
    hub: &str,
    teamspace: Teamspace,
    patterns: Patterns,
    may_remap: bool,
) -> Result<Answer, Failure> {
    let _acting = keeper.acting.lock().await;
    let hub = keeper.hub_called(hub)?;
    must_leave_our_way(hub.account().hub().host(), &patterns)?;
    if let Some((id, before)) = before(keeper, &teamspace) {
        // Now: the hub says it over the link as well, which may be faster.
        let had = keeper.sessions().granted(id);
        if may_remap {
            keeper.sessions().let_remap(id);
        }
        match hub.change_consume(id, &joined(&before, patterns.clone())?).await {
            Ok(changed) => {
                let had = Had { id, before, had };
                return change(keeper, &hub, &had, changed, &patterns).await;
            }
            Err(AccountError::Refused(Refusal { status: 409, message, .. })) => {
                keeper.end_here(id, Phase::Ended, Some(message)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let device = hub.device().await?;
    let mut begun = hub.begin_consume(teamspace.id, device.id, &patterns).await?;
    let (id, grant) = (begun.session.id, begun.grant.clone());
    let services = services_of(&mut begun);
    let wish = Wish::Consume { patterns: patterns.clone(), services };
    keeper.keep(DesiredSession { id, teamspace, grant, wish, may_remap }, Origin::Begun);

    if let Err(failure) = keeper.apply().await {
        // Nothing half done: the session goes.
        keeper.forget(id);
        if let Err(again) = keeper.apply().await {
            warn!("Names and redirects could not be taken back: {again}");
        }
        if let Err(error) = hub.end_session(id).await {
            warn!("The hub was not told: {error}");
        }
        return Err(failure);
    }
    tunnel::begin(keeper, id);
    answer(keeper, id, begun, &patterns).await
}

/// Refuses the host by which this laptop reaches its hub: its name would lead into the carriers that need the hub.
fn must_leave_our_way(hub: &str, patterns: &Patterns) -> Result<(), Failure> {
    let our_way = |host: &&ExternalHost| host.name.as_str() == hub;
    let Some(host) = patterns.hosts().into_iter().find(our_way) else { return Ok(()) };
    let message = format!("{} is this laptop's hub, and what is consumed needs it", host.name);
    Err(Failure::new(FailureKind::Input, message)
        .hint("for one program it can be done: fairlead run --also"))
}

/// A consume before it was changed.
struct Had {
    id: SessionId,
    before: Patterns,
    had: Vec<Callee>,
}

/// Follows a change that the hub has made.
async fn change(
    keeper: &Arc<Keeper>,
    hub: &Hub,
    Had { id, before, had }: &Had,
    mut changed: SessionBegun,
    asked: &Patterns,
) -> Result<Answer, Failure> {
    keeper.take(*id, granted_by(&mut changed));
    keeper.sessions().note_change(*id, before.clone(), had);
    if let Err(failure) = keeper.apply().await {
        put_back(keeper, hub, *id, before).await;
        return Err(failure);
    }
    answer(keeper, *id, changed, asked).await
}

/// Takes back what a command changed and nobody has heard of.
pub(crate) async fn take_back(keeper: &Keeper, id: SessionId, before: &Patterns) {
    match keeper.hub() {
        Ok(hub) => put_back(keeper, &hub, id, before).await,
        Err(failure) => warn!(session = %id, "What it was about could not be put back: {failure}"),
    }
}

async fn put_back(keeper: &Keeper, hub: &Hub, id: SessionId, before: &Patterns) {
    let put_back = async {
        let mut changed = hub.change_consume(id, before).await?;
        keeper.take(id, granted_by(&mut changed));
        keeper.sessions().note_put_back(id);
        keeper.apply().await
    };
    if let Err(failure) = put_back.await {
        warn!(session = %id, "What it was about could not be put back: {failure}");
    }
}

fn services_of(begun: &mut SessionBegun) -> granted::Services {
    granted::services_of(std::mem::take(&mut begun.services), std::mem::take(&mut begun.hosts))
}

fn granted_by(begun: &mut SessionBegun) -> Granted {
    let services = services_of(begun);
    Granted {
        jwt: begun.grant.clone(),
        services: Some(services),
        patterns: begun.session.patterns.take(),
    }
}

async fn answer(
    keeper: &Arc<Keeper>,
    id: SessionId,
    begun: SessionBegun,
    asked: &Patterns,
) -> Result<Answer, Failure> {
    proof::prove_once(keeper).await;
    let ended = || Failure::new(FailureKind::Conflict, "the consume has just ended");
    let session = keeper.sessions().view_of(id).ok_or_else(ended)?;
    let (refused, warnings) = in_vain(asked, begun.refused, &begun.unmatched);
    Ok(Answer::Begun { session, refused, warnings, notes: Vec::new() })
}

/// Says of each word of this command why it brought nothing, and of earlier ones only which they are: that was said.
fn in_vain(
    asked: &Patterns,
    refused: Vec<RefusedService>,
    unmatched: &[UnmatchedPattern],
) -> (Vec<Refused>, Vec<String>) {
    let is_new = |word: &&UnmatchedPattern| asked.iter().any(|p| p.to_string() == word.pattern);
    let (new, earlier): (Vec<_>, Vec<_>) = unmatched.iter().partition(is_new);
    let (refused, refused_earlier): (Vec<_>, Vec<_>) =
        refused.into_iter().partition(|refused| is_about(asked, &refused.service));
    let earlier = earlier.iter().map(|word| word.pattern.clone());
    let earlier: Vec<String> =
        earlier.chain(refused_earlier.iter().map(|refused| as_word(&refused.service))).collect();
    let mut warnings: Vec<String> = new.into_iter().map(slip).collect();
    warnings.extend(earlier.first().map(|first| {
        format!(
            "earlier words bring nothing yet: {}; take one back: fairlead consume '!{first}'",
            earlier.join(" ")
        )
    }));
    (refused_of(refused), warnings)
}

/// Says whether words speak of what the hub calls by this name: a service, or a host with its port.
fn is_about(asked: &Patterns, name: &str) -> bool {
    let mut words = asked.iter().filter(|pattern| !pattern.excludes());
    match name.parse::<ServiceRef>() {
        Ok(service) => words.any(|pattern| pattern.covers(&service)),
        Err(_) => words.any(|pattern| pattern.host().is_some_and(|host| host.to_string() == name)),
    }
}

fn as_word(name: &str) -> String {
    match name.parse::<ServiceRef>() {
        Ok(_) => name.to_owned(),
        Err(_) => format!("+{name}"),
    }
}

pub(crate) fn refused_of(refused: Vec<RefusedService>) -> Vec<Refused> {
    let refused = refused.into_iter().map(|r| Refused {
        service: r.service,
        reason: r.reason,
        policies: r.policies,
    });
    refused.collect()
}

/// Says which words brought nothing, which may be a slip of the pen.
pub(crate) fn slip(word: &UnmatchedPattern) -> String {
    let similar: Vec<_> = word.similar.iter().map(|name| format!("`{name}`")).collect();
    let meant = match similar[..] {
        [] => String::new(),
        _ => format!(" (similar: {})", similar.join(", ")),
    };
    format!("{}{meant}; it is added when it appears", word.reason)
}

/// Ends every consume, or that of one teamspace, but not what single programs have.
pub(crate) async fn clear(
    keeper: &Arc<Keeper>,
    teamspace: Option<TeamspaceId>,
) -> Result<Answer, Failure> {
    let _acting = keeper.acting.lock().await;
    let consumes = keeper.sessions().consumes_of(teamspace);
    keeper.leave_each(consumes).await?;
    Ok(Answer::Done)
}

/// Returns the consume of a teamspace, and what it is about.
fn before(keeper: &Keeper, teamspace: &Teamspace) -> Option<(SessionId, Patterns)> {
    let sessions = keeper.sessions();
    let here = sessions.all_live().filter(|s| s.desired.teamspace.id == teamspace.id);
    let consumes = here.filter(|session| session.is_of_everybody());
    let consume = consumes.max_by_key(|session| session.began)?;
    Some((consume.desired.id, consume.patterns().cloned()?))
}

/// Adds patterns to those there are; a new word takes back an earlier exclusion of the same, and the other way round.
fn joined(before: &Patterns, wanted: Patterns) -> Result<Patterns, Failure> {
    let opposite = |pattern: &Pattern| {
        let text = pattern.to_string();
        text.strip_prefix('!').map_or_else(|| format!("!{text}"), str::to_owned)
    };
    let mut all: Vec<Pattern> = wanted.into();
    let taken_back: Vec<String> = all.iter().map(opposite).collect();
    for pattern in before.iter() {
        if !all.contains(pattern) && !taken_back.contains(&pattern.to_string()) {
            all.push(pattern.clone());
        }
    }
    Patterns::new(all).map_err(|error| Failure::new(FailureKind::Input, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(words: &[&str]) -> Patterns {
        Patterns::new(words.iter().map(|word| word.parse().expect("valid")).collect())
            .expect("valid")
    }

    fn join(before: &[&str], wanted: &[&str]) -> Vec<String> {
        let joined = joined(&patterns(before), patterns(wanted)).expect("valid");
        joined.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_word_that_brought_nothing_comes_with_what_may_have_been_meant() {
        let word = |similar: &[&str]| UnmatchedPattern {
            pattern: "shop/crat".to_owned(),
            reason: "no service that you may see matches `shop/crat`".to_owned(),
            similar: similar.iter().map(ToString::to_string).collect(),
        };
        let said = slip(&word(&["shop/cart"]));
        assert!(said.contains("matches `shop/crat` (similar: `shop/cart`); it is"), "{said}");
        assert!(!slip(&word(&[])).contains("similar"));
    }

    #[test]
    fn of_earlier_words_that_bring_nothing_only_their_names_are_said() {
        let word = |pattern: &str| UnmatchedPattern {
            pattern: pattern.to_owned(),
            reason: format!("nothing matches `{pattern}`"),
            similar: Vec::new(),
        };
        let refused = |name: &str| RefusedService {
            service: name.to_owned(),
            reason: "no policy allows it".to_owned(),
            policies: Vec::new(),
        };
        let asked = patterns(&["shop/crat", "+a.example.net:1", "pay/*"]);
        let all = ["a.example.net:1", "b.example.net:1", "pay/api", "shop/cart"].map(refused);
        let (left_out, warnings) =
            in_vain(&asked, all.into(), &[word("shop/crat"), word("nope/x")]);
        let named: Vec<_> = left_out.iter().map(|refused| refused.service.as_str()).collect();
        assert_eq!(named, ["a.example.net:1", "pay/api"]);
        let earlier = "earlier words bring nothing yet: nope/x +b.example.net:1 shop/cart; take one \
                       back: fairlead consume '!nope/x'";
        assert_eq!(warnings, [slip(&word("shop/crat")), earlier.to_owned()]);
        assert!(in_vain(&asked, Vec::new(), &[]).1.is_empty());
    }

    #[test]
    fn the_hub_is_not_reached_through_itself() {
        let asked =
            |word: &str| must_leave_our_way("hub.example.com", &patterns(&["shop/*", word]));
        asked("+db.example.com:443").expect("another host");
        let refused = asked("+hub.example.com:8443").expect_err("at whichever port");
        assert!(refused.message.contains("hub.example.com is this laptop's hub"), "{refused:?}");
    }

    #[test]
    fn what_is_consumed_already_stays() {
        assert_eq!(join(&["shop/*"], &["pay/api"]), ["pay/api", "shop/*"]);
        assert_eq!(join(&["shop/*"], &["shop/*"]), ["shop/*"]);
    }

    #[test]
    fn the_last_word_about_a_service_counts() {
        assert_eq!(join(&["shop/*", "!shop/pay"], &["shop/pay"]), ["shop/pay", "shop/*"]);
        let words = ["shop/*", "!+a.b:1"];
        assert_eq!(join(&["shop/*", "+a.b:1"], &words), words);
    }
}
