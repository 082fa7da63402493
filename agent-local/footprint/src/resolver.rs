//! Split DNS: systemd-resolved asks the DNS server of this laptop for names of the cluster, and for no others.
//!
//! What resolved is told belongs to one link and goes with it, so taking back is deleting the link. resolved does not
//! take `lo`, and asks nobody on a link that has loopback addresses only: hence a link that leads nowhere, with an
//! address that nobody has (RFC 2544). Without resolved nothing is changed.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use laptop_ipc::supervisor::{CLUSTER_DOMAIN, DOMAIN};
use nix::net::if_::if_nametoindex;

use crate::{
    DNS_SERVER,
    commands::{CommandError, ask},
};

pub const LINK: &str = "fairlead0";
/// The other end of the link where it is a pair, because the kernel has no `dummy`.
const OTHER_END: &str = "fairlead0p";
const ADDRESS: &str = "198.18.72.53/32";
/// Both commands wait for the kernel and for resolved alone.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    #[error("could not run `{}`", program.display())]
    Run { program: PathBuf, source: io::Error },
    #[error("`{} {words}` was refused: {said}", program.display())]
    Refused { program: PathBuf, words: String, said: String },
    #[error("`{}` did not end within {} s", program.display(), PATIENCE.as_secs())]
    Hung { program: PathBuf },
}

/// Where the commands are that make the link and tell resolved about it, and where resolved shows that it runs.
#[derive(Debug, Clone)]
pub struct Resolver {
    pub ip: PathBuf,
    pub resolvectl: PathBuf,
    pub resolved_dir: PathBuf,
}

impl Resolver {
    /// Says whether there is a resolved on this machine that can be told.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let files = [&self.resolved_dir.join("stub-resolv.conf"), &self.resolvectl, &self.ip];
        files.iter().all(|file| file.exists())
    }

    /// Makes the link, unless it is there, and has resolved ask our server for names of the cluster.
    pub fn put(&self) -> Result<(), ResolverError> {
        if !self.stands() {
            self.make_link()?;
        }
        let domains = domains();
        let server = DNS_SERVER.to_string();
        let told: [&[&str]; 5] = [
            // Before it has a server: with one and without domains it would be asked for every name.
            &["default-route", LINK, "no"],
            &["llmnr", LINK, "no"],
            &["mdns", LINK, "no"],
            &["domain", LINK, &domains[0], &domains[1], &domains[2]],
            &["dns", LINK, &server],
        ];
        told.iter().try_for_each(|words| run(&self.resolvectl, words))
    }

    /// Removes the link and with it what resolved was told; that it is not there is fine.
    pub fn remove(&self) -> Result<(), ResolverError> {
        if self.stands() { run(&self.ip, &["link", "delete", LINK]) } else { Ok(()) }
    }

    /// Says whether the link is there.
    #[must_use]
    pub fn stands(&self) -> bool {
        stands()
    }

    fn make_link(&self) -> Result<(), ResolverError> {
        let ip = |words: &[&str]| run(&self.ip, words);
        if ip(&["link", "add", LINK, "type", "dummy"]).is_err() {
            ip(&["link", "add", LINK, "type", "veth", "peer", "name", OTHER_END])?;
            ip(&["link", "set", "dev", OTHER_END, "up"])?;
        }
        ip(&["address", "add", ADDRESS, "dev", LINK])?;
        ip(&["link", "set", "dev", LINK, "up"])
    }
}

/// Says whether the link is there; everybody may look.
#[must_use]
pub(crate) fn stands() -> bool {
    if_nametoindex(LINK).is_ok()
}

/// The domains that are asked of us, as resolved writes those that are for routing alone. Not those of namespaces:
/// `dev` and `app` are domains of the Internet, too.
fn domains() -> [String; 3] {
    ["svc", CLUSTER_DOMAIN, DOMAIN].map(|domain| format!("~{domain}"))
}

fn run(program: &Path, words: &[&str]) -> Result<(), ResolverError> {
    let program = || program.to_owned();
    ask(&program(), words, "", PATIENCE).map(drop).map_err(|error| match error {
        CommandError::Run(source) => ResolverError::Run { program: program(), source },
        CommandError::Hung => ResolverError::Hung { program: program() },
        CommandError::Refused(said) => {
            ResolverError::Refused { program: program(), words: words.join(" "), said }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// Commands that note what they are asked; `ip` knows no dummy links.
    fn machine() -> (tempfile::TempDir, Resolver) {
        let folder = tempfile::tempdir().expect("folder");
        let here = folder.path().display();
        let note =
            format!("#!/bin/sh\nPATH=/usr/bin:/bin\necho \"${{0##*/}} $*\" >> {here}/asked\n");
        let ip = format!(
            "{note}case \"$*\" in *dummy*) echo 'Unknown device type.' >&2; exit 2;; esac\n"
        );
        for (name, script) in [("ip", &ip), ("resolvectl", &note)] {
            let path = folder.path().join(name);
            fs::write(&path, script).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
        }
        let at = |name: &str| folder.path().join(name);
        let resolver =
            Resolver { ip: at("ip"), resolvectl: at("resolvectl"), resolved_dir: at("resolve") };
        (folder, resolver)
    }

    #[test]
    fn a_machine_without_resolved_is_told_from_one_that_has_it() {
        let (folder, resolver) = machine();
        assert!(!resolver.is_there());
        fs::create_dir(folder.path().join("resolve")).expect("made");
        fs::write(folder.path().join("resolve/stub-resolv.conf"), "").expect("written");
        assert!(resolver.is_there());
        fs::remove_file(folder.path().join("resolvectl")).expect("removed");
        assert!(!resolver.is_there());
    }

    #[test]
    fn resolved_asks_us_for_names_of_the_cluster_alone_and_hears_last_where_we_are() {
        let (folder, resolver) = machine();
        resolver.put().expect("put");
        let asked = fs::read_to_string(folder.path().join("asked")).expect("noted");
        let lines: Vec<_> = asked.lines().collect();
        assert!(lines.contains(&"ip link add fairlead0 type veth peer name fairlead0p"), "{asked}");
        assert!(lines.contains(&"resolvectl default-route fairlead0 no"), "{asked}");
        let last = &lines[lines.len() - 2..];
        let domains = "resolvectl domain fairlead0 ~svc ~cluster.local ~fairlead";
        assert_eq!(last, [domains, "resolvectl dns fairlead0 127.72.0.53"]);
    }

    #[test]
    fn what_is_refused_is_said_with_the_words() {
        let (folder, mut resolver) = machine();
        fs::write(&resolver.resolvectl, "#!/bin/sh\necho 'Access denied' >&2\nexit 1\n")
            .expect("written");
        resolver.ip = folder.path().join("ip");
        let error = resolver.put().expect_err("refused").to_string();
        assert!(
            error.contains("default-route fairlead0 no") && error.contains("Access denied"),
            "{error}"
        );
    }
}
