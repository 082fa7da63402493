//! The ways to the relay of the hub that this user is signed in to, kept for as long as account and network stay.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fairlead_model::ProxySettings;
use fairlead_tunnel::connect::{Connector, HubTrust, Ways};
use laptop_account::{Account, HubUrl};

use crate::carriers::CarrierError;

/// What is known of the ways, and for which hub and through which proxies.
#[derive(Debug, Default)]
pub(crate) struct KnownWays(Mutex<Option<(HubUrl, ProxySettings, Ways)>>);

impl KnownWays {
    /// Returns the ways to the account's hub.
    pub(crate) fn towards(&self, account: &Account) -> Result<Ways, CarrierError> {
        let (hub, proxies) = (account.hub(), account.proxies()?);
        if let Some((known_hub, known_proxies, ways)) = &*self.known()
            && known_hub == hub
            && *known_proxies == proxies
        {
            return Ok(ways.clone());
        }
        let trust = HubTrust::new(account.ca_file().as_deref())?;
        let ways = Ways::to_hub(&hub.to_string(), Connector::new(proxies.clone(), trust))?;
        *self.known() = Some((hub.clone(), proxies, ways.clone()));
        Ok(ways)
    }

    /// Forgets them: the network may be another one, or the hub may have another authority.
    pub(crate) fn forget(&self) {
        *self.known() = None;
    }

    fn known(&self) -> MutexGuard<'_, Option<(HubUrl, ProxySettings, Ways)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
