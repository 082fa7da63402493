//! Which connections are led to the daemon: one nftables table called `fairlead`, replaced as a whole. What stands beside
//! it is in `aborted.rs`.
//!
//! The ruleset is text made by a pure function and given to the `nft` command; each replacement is one transaction
//! of the kernel. Deleting the table is the whole clean-up.

use std::{
    fmt::Write as _,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use fairlead_model::{Port, timers::NFT_MAX};

use crate::{
    aborted,
    commands::{CommandError, ask},
};

pub(crate) const TABLE: &str = "fairlead";

#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    #[error("could not run `{}`", program.display())]
    Run { program: PathBuf, source: io::Error },
    #[error("nft refused the redirect: {said}")]
    Refused { said: String },
    #[error("`{}` did not end within {} s", program.display(), NFT_MAX.as_secs())]
    Hung { program: PathBuf },
}

/// What one user reaches: connections of `uid` to one of `services` go to `listener` on the loopback, and datagrams to
/// the port that `datagrams` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    pub uid: u32,
    pub listener: Port,
    pub services: Vec<SocketAddrV4>,
    pub datagrams: Vec<(SocketAddrV4, Port)>,
}

/// Returns the transaction that leaves exactly these redirects; none of them means: no table.
#[must_use]
pub fn ruleset(redirects: &[Redirect]) -> String {
    let wanted: Vec<_> = redirects.iter().filter(|r| !r.services.is_empty()).collect();
    // Deleting what does not exist would fail the transaction, so it is made first.
    let mut text = format!("table ip {TABLE}\ndelete table ip {TABLE}\n");
    if wanted.is_empty() {
        return text + &aborted::removed();
    }
    let written = "a String takes every write";
    writeln!(text, "table ip {TABLE} {{").expect(written);
    for redirect in &wanted {
        let pairs: Vec<_> =
            redirect.services.iter().map(|s| format!("{} . {}", s.ip(), s.port())).collect();
        writeln!(
            text,
            "  set services_{} {{ type ipv4_addr . inet_service; elements = {{ {} }}; }}",
            redirect.uid,
            pairs.join(", ")
        )
        .expect(written);
    }
    let with_datagrams = || wanted.iter().filter(|redirect| !redirect.datagrams.is_empty());
    for Redirect { uid, datagrams, .. } in with_datagrams() {
        let led = datagrams.iter().map(|(to, at)| format!("{} . {} : {at}", to.ip(), to.port()));
        let ports = datagrams.iter().map(|(_, at)| at.to_string());
        let (led, ports) =
            (led.collect::<Vec<_>>().join(", "), ports.collect::<Vec<_>>().join(", "));
        writeln!(
            text,
            "  map datagrams_{uid} {{ type ipv4_addr . inet_service : inet_service; elements = {{ {led} }}; }}\n  \
               set sockets_{uid} {{ type inet_service; elements = {{ {ports} }}; }}"
        )
        .expect(written);
    }
    writeln!(text, "  chain output {{\n    type nat hook output priority -100; policy accept;")
        .expect(written);
    for Redirect { uid, listener, .. } in &wanted {
        writeln!(
            text,
            "    meta skuid {uid} ip daddr . tcp dport @services_{uid} redirect to :{listener}"
        )
        .expect(written);
    }
    for Redirect { uid, .. } in with_datagrams() {
        writeln!(
            text,
            "    meta skuid {uid} meta l4proto udp redirect to :ip daddr . udp dport map @datagrams_{uid}"
        )
        .expect(written);
    }
    text.push_str("  }\n");
    text.push_str("  chain guard {\n    type filter hook output priority 0; policy accept;\n");
    // The kernel may lead a connection where one was led before that came from the same port. Whoever else comes to the
    // listener would use this user's grant.
    for Redirect { uid, listener, .. } in &wanted {
        writeln!(
            text,
            "    ip daddr 127.0.0.1 tcp dport {listener} tcp flags & (syn | ack) == syn meta skuid != {uid} reject with tcp reset"
        )
        .expect(written);
    }
    // A datagram does not even say that it was redirected.
    for Redirect { uid, .. } in with_datagrams() {
        writeln!(
            text,
            "    ip daddr 127.0.0.1 udp dport @sockets_{uid} meta skuid != {uid} reject"
        )
        .expect(written);
    }
    text.push_str("  }\n");
    text.push_str("}\n");
    text
}

/// The `nft` command.
#[derive(Debug, Clone)]
pub struct Nft {
    program: PathBuf,
}

impl Nft {
    #[must_use]
    pub const fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// Replaces our table. Where several users have redirects, what was aborted is to be forgotten; a kernel that cannot
    /// be told so refuses now and then a connection of one user that comes right after one of another.
    pub fn replace(&self, redirects: &[Redirect]) -> Result<(), RedirectError> {
        let rules = ruleset(redirects);
        if redirects.iter().filter(|r| !r.services.is_empty()).count() < 2 {
            return self.run(&rules);
        }
        match self.run(&format!("{rules}{}", aborted::put())) {
            Err(RedirectError::Refused { .. }) => self.run(&rules),
            put => put,
        }
    }

    /// Removes our tables; that they are not there is fine.
    pub fn remove(&self) -> Result<(), RedirectError> {
        self.run(&ruleset(&[]))
    }

    /// Says whether connections can be redirected on this machine, and changes nothing: `nft` may be missing, the
    /// kernel may lack what it needs, and in a container it may not be ours to change.
    pub fn can_redirect(&self) -> Result<bool, RedirectError> {
        let datagrams = vec![(canary(), canary_port())];
        let listener = canary_port();
        let probe = Redirect { uid: 0, listener, services: vec![canary()], datagrams };
        match self.run_for(&["-c", "-f", "-"], &ruleset(&[probe]), NFT_MAX) {
            Ok(_) => Ok(true),
            Err(RedirectError::Hung { program }) => Err(RedirectError::Hung { program }),
            Err(RedirectError::Run { .. } | RedirectError::Refused { .. }) => Ok(false),
        }
    }

    /// Says whether our table leads every one of these redirects to its listener.
    pub fn stands(&self, redirects: &[Redirect]) -> Result<bool, RedirectError> {
        let Some(table) = self.table()? else { return Ok(redirects.is_empty()) };
        let leads = |r: &Redirect| {
            let end = format!("redirect to :{}", r.listener);
            let map = format!("@datagrams_{}", r.uid);
            table.lines().any(|line| line.trim_end().ends_with(&end))
                && (r.datagrams.is_empty() || table.contains(&map))
        };
        Ok(redirects.iter().all(leads))
    }

    /// Returns our table as nft shows it; `None` when there is none.
    pub fn table(&self) -> Result<Option<String>, RedirectError> {
        match self.run_for(&["-n", "list", "table", "ip", TABLE], "", NFT_MAX) {
            Ok(table) => Ok(Some(table)),
            Err(RedirectError::Refused { said }) if said.contains("No such file") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn run(&self, ruleset: &str) -> Result<(), RedirectError> {
        self.run_for(&["-f", "-"], ruleset, NFT_MAX).map(drop)
    }

    fn run_for(
        &self,
        words: &[&str],
        ruleset: &str,
        patience: Duration,
    ) -> Result<String, RedirectError> {
        let program = || self.program.clone();
        ask(&self.program, words, ruleset, patience).map_err(|error| match error {
            CommandError::Run(source) => RedirectError::Run { program: program(), source },
            CommandError::Hung => RedirectError::Hung { program: program() },
            CommandError::Refused(said) => RedirectError::Refused { said },
        })
    }
}

const fn canary_port() -> Port {
    Port::new(1).expect("not 0")
}

/// Returns the pair that every user's redirect contains besides the services.
#[must_use]
pub(crate) const fn canary() -> SocketAddrV4 {
    let address: Ipv4Addr = crate::addresses::CANARY;
    SocketAddrV4::new(address, canary_port().get())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn redirect(uid: u32, listener: u16, services: &[&str]) -> Redirect {
        let services = services.iter().map(|s| s.parse().expect("address")).collect();
        let listener = Port::new(listener).expect("not 0");
        Redirect { uid, listener, services, datagrams: Vec::new() }
    }

    #[test]
    fn datagrams_of_each_user_go_to_sockets_that_nobody_else_may_use() {
        let dns = ("127.72.1.9:53".parse().expect("address"), Port::new(20_001).expect("not 0"));
        let ada = redirect(1000, 40_001, &["127.72.1.2:80"]);
        let text = ruleset(&[
            Redirect { datagrams: vec![dns], ..ada },
            redirect(1001, 40_002, &["127.72.1.2:80"]),
        ]);
        for line in [
            "map datagrams_1000 { type ipv4_addr . inet_service : inet_service; elements = { 127.72.1.9 . 53 : 20001 }; }",
            "set sockets_1000 { type inet_service; elements = { 20001 }; }",
            "meta skuid 1000 meta l4proto udp redirect to :ip daddr . udp dport map @datagrams_1000",
            "ip daddr 127.0.0.1 udp dport @sockets_1000 meta skuid != 1000 reject",
        ] {
            assert_eq!(text.matches(&format!("  {line}\n")).count(), 1, "{line}\n{text}");
        }
        assert!(!text.contains("datagrams_1001"), "{text}");
    }

    #[test]
    fn each_user_has_a_set_and_a_rule() {
        let text = ruleset(&[
            redirect(1000, 40_001, &["127.72.1.2:80", "127.72.1.3:443"]),
            redirect(1001, 40_002, &["127.72.1.2:80"]),
        ]);
        assert_eq!(
            text,
            "table ip fairlead\n\
             delete table ip fairlead\n\
             table ip fairlead {\n  \
               set services_1000 { type ipv4_addr . inet_service; elements = { 127.72.1.2 . 80, 127.72.1.3 . 443 }; }\n  \
               set services_1001 { type ipv4_addr . inet_service; elements = { 127.72.1.2 . 80 }; }\n  \
               chain output {\n    \
                 type nat hook output priority -100; policy accept;\n    \
                 meta skuid 1000 ip daddr . tcp dport @services_1000 redirect to :40001\n    \
                 meta skuid 1001 ip daddr . tcp dport @services_1001 redirect to :40002\n  \
               }\n  \
               chain guard {\n    \
                 type filter hook output priority 0; policy accept;\n    \
                 ip daddr 127.0.0.1 tcp dport 40001 tcp flags & (syn | ack) == syn meta skuid != 1000 reject with tcp reset\n    \
                 ip daddr 127.0.0.1 tcp dport 40002 tcp flags & (syn | ack) == syn meta skuid != 1001 reject with tcp reset\n  \
               }\n\
             }\n"
        );
    }

    #[test]
    fn nothing_wanted_is_no_table() {
        assert_eq!(
            ruleset(&[]),
            "table ip fairlead\ndelete table ip fairlead\n\
             table ip fairlead_aborted\ndelete table ip fairlead_aborted\n"
        );
        assert_eq!(ruleset(&[redirect(1000, 40_001, &[])]), ruleset(&[]));
    }

    /// Returns an nft that says this, and its exit code.
    fn nft_that(says: &str) -> (tempfile::TempDir, Nft) {
        let folder = tempfile::tempdir().expect("folder");
        let program = folder.path().join("nft");
        std::fs::write(&program, format!("#!/bin/sh\n{says}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
        (folder, Nft::new(program))
    }

    #[test]
    fn a_table_that_lacks_a_redirect_does_not_stand() {
        let (_folder, nft) = nft_that(
            "echo 'meta skuid 1000 ip daddr . tcp dport @services_1000 redirect to :40001'",
        );
        let (ada, grace) = (redirect(1000, 40_001, &[]), redirect(1001, 40_002, &[]));
        assert!(nft.stands(std::slice::from_ref(&ada)).expect("looked"));
        assert!(!nft.stands(&[ada.clone(), grace]).expect("looked"));
        let (_folder, nft) =
            nft_that("echo 'Error: No such file or directory; did you mean x?' >&2; exit 1");
        assert!(
            !nft.stands(std::slice::from_ref(&ada)).expect("looked")
                && nft.stands(&[]).expect("looked")
        );
        let (_folder, nft) = nft_that("echo 'Operation not permitted' >&2; exit 1");
        assert!(nft.stands(&[ada]).is_err());
    }

    #[test]
    fn where_several_users_have_redirects_what_was_aborted_is_forgotten_if_the_kernel_can() {
        let says = |told: &str| {
            format!("cat > $0.new; if grep -q at_once $0.new; then {told}; fi; mv $0.new $0.told")
        };
        let (ada, grace) = (
            redirect(1000, 40_001, &["127.72.1.2:80"]),
            redirect(1001, 40_002, &["127.72.1.2:80"]),
        );
        let forgets = |nft: &Nft, redirects: &[Redirect]| {
            nft.replace(redirects).expect("replaced");
            let told = std::fs::read_to_string(nft.program.with_extension("told")).expect("told");
            assert!(told.contains("skuid 1000"), "{told}");
            told.contains("ip daddr 127.72.0.0/14") && told.contains("ct timeout set")
        };
        let (_folder, nft) = nft_that(&says("true"));
        assert!(!forgets(&nft, std::slice::from_ref(&ada)), "of one user");
        assert!(forgets(&nft, &[ada.clone(), grace.clone()]));
        let (_folder, nft) = nft_that(&says("echo 'no such object' >&2; exit 1"));
        assert!(!forgets(&nft, &[ada, grace]), "an older kernel");
    }

    #[test]
    fn what_nft_says_reaches_the_reader() {
        let missing = Nft::new("/nonexistent/nft".into()).remove().expect_err("no such program");
        assert!(missing.to_string().contains("/nonexistent/nft"), "{missing}");
        let refusing = Nft::new("/bin/false".into()).remove().expect_err("refused");
        assert!(matches!(refusing, RedirectError::Refused { .. }), "{refusing:?}");
    }

    #[test]
    fn an_nft_that_hangs_is_given_up() {
        let folder = tempfile::tempdir().expect("folder");
        let program = folder.path().join("nft");
        std::fs::write(&program, "#!/bin/sh\nexec /bin/sleep 600\n").expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
        // More than a pipe holds, so that it hangs while it is told, too.
        let ruleset = "#".repeat(1 << 20);
        let hanging = Nft::new(program);
        let error =
            hanging.run_for(&[], &ruleset, Duration::from_millis(50)).expect_err("it hangs");
        assert!(matches!(error, RedirectError::Hung { .. }), "{error:?}");
    }
}
