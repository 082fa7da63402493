//! Join tokens: made, listed and withdrawn.

use fairlead_model::{JoinTokenId, TeamspaceId, Token, TokenKind, timers::JOIN_TOKEN_LIFE};
use hub_policy::{
    Caller,
    actions::{CreateJoinToken, DeleteJoinToken, ListJoinTokens},
};
use hub_store::JoinToken;

use super::ActionError;
use crate::Hub;

/// Makes a token. Its secret is in the answer and nowhere else.
pub async fn create(
    hub: &Hub,
    caller: &Caller,
    teamspace: TeamspaceId,
) -> Result<(JoinToken, Token), ActionError> {
    let facts = hub.facts(caller).await?;
    let teamspace = hub.store.scoped(caller.org).teamspace(teamspace).await?;
    let permit =
        hub.decide(caller, CreateJoinToken { teamspace: teamspace.facts() }, &facts).await?;
    let token = Token::new(TokenKind::Join, rand::random());
    let now = hub.clock.now();
    let expires_at = now + JOIN_TOKEN_LIFE;
    let remembered = hub.store.create_join_token(&permit, &token, expires_at, now).await?;
    Ok((remembered, token))
}

pub async fn list(
    hub: &Hub,
    caller: &Caller,
    teamspace: TeamspaceId,
) -> Result<Vec<JoinToken>, ActionError> {
    let facts = hub.facts(caller).await?;
    let teamspace = hub.store.scoped(caller.org).teamspace(teamspace).await?;
    let permit =
        hub.decide(caller, ListJoinTokens { teamspace: teamspace.facts() }, &facts).await?;
    Ok(hub.store.join_tokens(&permit, hub.clock.now()).await?)
}

pub async fn delete(hub: &Hub, caller: &Caller, id: JoinTokenId) -> Result<(), ActionError> {
    let facts = hub.facts(caller).await?;
    let scope = hub.store.scoped(caller.org);
    let token = scope.join_token(id).await?;
    let teamspace = scope.teamspace(token.teamspace).await?;
    let permit =
        hub.decide(caller, DeleteJoinToken { teamspace: teamspace.facts(), id }, &facts).await?;
    Ok(hub.store.delete_join_token(&permit, hub.clock.now()).await?)
}
