//! The folder of one hub: who we are there, which teamspace is meant, which keys we trust.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use fairlead_model::{ProxySettings, TeamspaceId, Thumbprint};
use serde::{Deserialize, Serialize};

use crate::{AccountError, HubUrl, files};

/// All hubs this user signed in to, and which one is meant when none is named.
#[derive(Debug, Clone)]
pub struct Accounts {
    folder: PathBuf,
}

impl Accounts {
    #[must_use]
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the account that commands mean.
    pub fn current(&self) -> Result<Account, AccountError> {
        let hub: Option<HubUrl> = files::read_json(&self.current_path())?;
        let account = self.at(&hub.ok_or(AccountError::SignedOut)?);
        if account.is_signed_in() { Ok(account) } else { Err(AccountError::SignedOut) }
    }

    /// Returns the hub that was last signed in to, even when the sign-in is over.
    pub fn last_hub(&self) -> Result<Option<HubUrl>, AccountError> {
        files::read_json(&self.current_path())
    }

    /// Returns the account at a hub, whether anybody signed in there or not.
    #[must_use]
    pub fn at(&self, hub: &HubUrl) -> Account {
        let folder = self.folder.join("hubs").join(hub.folder_name());
        Account { hub: hub.clone(), folder, proxies: self.proxies_path() }
    }

    /// Returns through whom hubs are dialled: what the shell said in which the user signed in or started the daemon last.
    /// The daemon has no other way to know.
    pub fn proxies(&self) -> Result<ProxySettings, AccountError> {
        Ok(files::read_json(&self.proxies_path())?.unwrap_or_default())
    }

    /// Keeps through whom hubs are dialled; says whether that is news.
    pub fn keep_proxies(&self, proxies: &ProxySettings) -> Result<bool, AccountError> {
        // A file that cannot be read is replaced by one that can.
        if self.proxies().is_ok_and(|known| known == *proxies) {
            return Ok(false);
        }
        files::write_json(&self.proxies_path(), proxies)?;
        Ok(true)
    }

    /// Makes this the account that commands mean.
    pub fn select(&self, hub: &HubUrl) -> Result<(), AccountError> {
        files::write_json(&self.current_path(), hub)
    }

    fn current_path(&self) -> PathBuf {
        self.folder.join("hub.json")
    }

    fn proxies_path(&self) -> PathBuf {
        self.folder.join("proxy.json")
    }
}

/// Who is signed in, as the hub said at that time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub email: String,
    pub organization: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectedTeamspace {
    pub id: TeamspaceId,
    pub name: String,
}

/// One hub's folder.
#[derive(Debug, Clone)]
pub struct Account {
    hub: HubUrl,
    folder: PathBuf,
    proxies: PathBuf,
}

impl Account {
    #[must_use]
    pub const fn hub(&self) -> &HubUrl {
        &self.hub
    }

    #[must_use]
    pub fn is_signed_in(&self) -> bool {
        self.tokens_path().exists()
    }

    pub fn profile(&self) -> Result<Option<Profile>, AccountError> {
        files::read_json(&self.folder.join("account.json"))
    }

    pub(crate) fn keep_profile(&self, profile: &Profile) -> Result<(), AccountError> {
        files::write_json(&self.folder.join("account.json"), profile)
    }

    pub fn teamspace(&self) -> Result<Option<SelectedTeamspace>, AccountError> {
        files::read_json(&self.folder.join("teamspace.json"))
    }

    pub fn select_teamspace(&self, teamspace: &SelectedTeamspace) -> Result<(), AccountError> {
        files::write_json(&self.folder.join("teamspace.json"), teamspace)
    }

    /// Keeps a copy of the authority that signed the hub's certificate, so that the original may move.
    pub fn keep_ca(&self, pem: &[u8]) -> Result<(), AccountError> {
        files::write(&self.ca_path(), pem)
    }

    /// Returns the file of the extra authority, if one was named at sign-in.
    #[must_use]
    pub fn ca_file(&self) -> Option<PathBuf> {
        Some(self.ca_path()).filter(|path| path.exists())
    }

    /// Returns through whom the hub is dialled.
    pub fn proxies(&self) -> Result<ProxySettings, AccountError> {
        Ok(files::read_json(&self.proxies)?.unwrap_or_default())
    }

    #[must_use]
    pub fn pins(&self) -> Pins {
        Pins { path: self.folder.join("pins.json"), names: self.folder.join("pinned-names.json") }
    }

    /// Forgets tokens and certificate. The key stays: the same laptop signs in again as the same device.
    pub fn forget_sign_in(&self) -> Result<(), AccountError> {
        files::remove(&self.tokens_path())?;
        files::remove(&self.certificate_path())
    }

    pub(crate) fn tokens_path(&self) -> PathBuf {
        self.folder.join("tokens.json")
    }

    pub(crate) fn key_path(&self) -> PathBuf {
        self.folder.join("device.key")
    }

    pub(crate) fn certificate_path(&self) -> PathBuf {
        self.folder.join("device.json")
    }

    pub(crate) fn lock_path(&self) -> PathBuf {
        self.folder.join("lock")
    }

    fn ca_path(&self) -> PathBuf {
        self.folder.join("hub-ca.pem")
    }

    /// Takes the lock that command and daemon share, without blocking the runtime.
    pub(crate) async fn lock(&self) -> Result<fs::File, AccountError> {
        let path = self.lock_path();
        tokio::task::spawn_blocking(move || files::lock(&path))
            .await
            .expect("locking does not panic")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key of teamspace `{name}` is not the one this laptop knows; refusing to connect\n  known:     {known}\n  \
     presented: {presented}"
)]
pub struct PinChanged {
    pub name: String,
    pub known: Thumbprint,
    pub presented: Thumbprint,
}

/// The teamspace keys that this laptop has seen: trusted at first sight, never replaced silently.
///
/// A key belongs to an id, and the name remembers the id: the hub gives out both, and a known name under an id made up for
/// the occasion is no first sight.
#[derive(Debug, Clone)]
pub struct Pins {
    path: PathBuf,
    names: PathBuf,
}

impl Pins {
    /// Accepts the key that is known, or the first one ever presented.
    pub fn check(
        &self,
        teamspace: TeamspaceId,
        name: &str,
        presented: Thumbprint,
    ) -> Result<(), AccountError> {
        let pins = self.read()?;
        let named = self.names()?.get(name).and_then(|id| pins.get(id).copied());
        match pins.get(&teamspace.to_string()).copied().or(named) {
            Some(known) if known != presented => {
                Err(PinChanged { name: name.to_owned(), known, presented }.into())
            }
            Some(_) | None => self.trust(teamspace, name, presented),
        }
    }

    pub fn of(&self, teamspace: TeamspaceId) -> Result<Option<Thumbprint>, AccountError> {
        Ok(self.read()?.get(&teamspace.to_string()).copied())
    }

    /// Trusts a key because a person said so.
    pub fn trust(
        &self,
        teamspace: TeamspaceId,
        name: &str,
        key: Thumbprint,
    ) -> Result<(), AccountError> {
        // Carriers come at the same time, and none may write over what another one has just learned.
        static TRUSTING: Mutex<()> = Mutex::new(());
        let _turn = TRUSTING.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut pins, mut names) = (self.read()?, self.names()?);
        let is_new_pin = pins.insert(teamspace.to_string(), key) != Some(key);
        let is_new_name =
            names.insert(name.to_owned(), teamspace.to_string()) != Some(teamspace.to_string());
        if is_new_pin {
            files::write_json(&self.path, &pins)?;
        }
        if is_new_name {
            files::write_json(&self.names, &names)?;
        }
        Ok(())
    }

    fn read(&self) -> Result<BTreeMap<String, Thumbprint>, AccountError> {
        Ok(files::read_json(&self.path)?.unwrap_or_default())
    }

    fn names(&self) -> Result<BTreeMap<String, String>, AccountError> {
        Ok(files::read_json(&self.names)?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> (tempfile::TempDir, Accounts, Account) {
        let folder = tempfile::tempdir().expect("folder");
        let accounts = Accounts::new(folder.path().to_owned());
        let account = accounts.at(&"https://hub.example.com".parse().expect("valid"));
        (folder, accounts, account)
    }

    #[test]
    fn nobody_is_signed_in_at_first() {
        let (_folder, accounts, account) = account();
        assert!(matches!(accounts.current(), Err(AccountError::SignedOut)));
        accounts.select(account.hub()).expect("written");
        assert!(matches!(accounts.current(), Err(AccountError::SignedOut)), "no tokens yet");
        assert_eq!(accounts.last_hub().expect("read").as_ref(), Some(account.hub()));
    }

    #[test]
    fn proxies_are_kept_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, accounts, account) = account();
        assert_eq!(account.proxies().expect("none"), ProxySettings::default());
        let said = |name: &str| (name == "HTTPS_PROXY").then(|| "http://ada:p@proxy".to_owned());
        let proxies = ProxySettings::read(said).expect("valid");
        assert!(accounts.keep_proxies(&proxies).expect("kept"));
        assert!(!accounts.keep_proxies(&proxies).expect("kept"), "no news");
        assert_eq!(account.proxies().expect("kept"), proxies);
        let file = fs::metadata(folder.path().join("proxy.json")).expect("there");
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert!(accounts.keep_proxies(&ProxySettings::default()).expect("kept"));
        assert_eq!(account.proxies().expect("kept"), ProxySettings::default());
    }

    #[test]
    fn a_key_is_trusted_at_first_sight_and_another_one_is_refused_naming_both() {
        let (_folder, _, account) = account();
        let (teamspace, pins) = (TeamspaceId::generate(), account.pins());
        let (first, other) = (Thumbprint::of_spki(b"first"), Thumbprint::of_spki(b"other"));
        pins.check(teamspace, "staging", first).expect("first sight");
        pins.check(teamspace, "staging", first).expect("known");
        let error = pins.check(teamspace, "staging", other).expect_err("changed").to_string();
        assert!(
            error.contains(&first.to_string()) && error.contains(&other.to_string()),
            "{error}"
        );

        pins.check(TeamspaceId::generate(), "other", other).expect("another teamspace");
        pins.trust(teamspace, "staging", other).expect("written");
        pins.check(teamspace, "staging", other).expect("trusted by a person");
    }

    #[test]
    fn a_known_name_under_another_id_is_no_first_sight() {
        let (_folder, _, account) = account();
        let (teamspace, pins) = (TeamspaceId::generate(), account.pins());
        let (first, other) = (Thumbprint::of_spki(b"first"), Thumbprint::of_spki(b"other"));
        pins.check(teamspace, "staging", first).expect("first sight");
        let made_up = TeamspaceId::generate();
        pins.check(made_up, "staging", other).expect_err("the name had another key");
        assert_eq!(pins.of(made_up).expect("read"), None);
        pins.check(made_up, "staging", first).expect("made anew in the same cluster");
        pins.check(teamspace, "renamed", first).expect("the id is known");
        pins.trust(made_up, "staging", other).expect("a person said so");
        pins.check(made_up, "staging", other).expect("trusted");
    }

    #[test]
    fn keys_that_are_pinned_at_the_same_time_are_all_kept() {
        let (_folder, _, account) = account();
        let pins = account.pins();
        let teamspaces: Vec<_> = (0..16).map(|_| TeamspaceId::generate()).collect();
        let key = |n: usize| Thumbprint::of_spki(&n.to_be_bytes());
        std::thread::scope(|scope| {
            for (n, id) in teamspaces.iter().enumerate() {
                let pins = &pins;
                scope.spawn(move || pins.check(*id, &format!("t{n}"), key(n)).expect("kept"));
            }
        });
        for (n, id) in teamspaces.iter().enumerate() {
            assert_eq!(pins.of(*id).expect("readable"), Some(key(n)));
        }
    }
}
