//! What an organization is called: its name for people, and its short name, which stays.

use hub_policy::{Caller, actions::ManageOrganization};

use super::ActionError;
use crate::Hub;

const MAX_NAME_CHARACTERS: usize = 100;
const MAX_SLUG_BYTES: usize = 63;

/// Gives the organization another name; its short name stays.
pub async fn rename(hub: &Hub, caller: &Caller, name: &str) -> Result<(), ActionError> {
    let facts = hub.facts(caller).await?;
    let permit = hub.decide(caller, ManageOrganization, &facts).await?;
    let name = self::name(name)?;
    Ok(hub.store.rename_organization(&permit, &name, hub.clock.now()).await?)
}

pub(super) fn name(text: &str) -> Result<String, ActionError> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > MAX_NAME_CHARACTERS {
        return Err(ActionError::invalid(format!(
            "the organization needs a name of 1 to {MAX_NAME_CHARACTERS} characters"
        )));
    }
    Ok(text.to_owned())
}

pub(super) fn slug(text: &str) -> Result<String, ActionError> {
    let fits = !text.is_empty()
        && text.len() <= MAX_SLUG_BYTES
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    fits.then(|| text.to_owned()).ok_or_else(|| {
        ActionError::invalid(format!(
            "`{text}` is no short name: up to {MAX_SLUG_BYTES} small letters, digits and `-`, for example `acme`"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_a_dns_label() {
        assert!(slug("acme-2").is_ok());
        for bad in ["", "Acme", "-a", "a-", "a.b", "ä", &"a".repeat(64)] {
            assert!(slug(bad).is_err(), "{bad}");
        }
    }
}
