//! A machine for tests, and what one of its users wants.

use std::{fs, os::unix::fs::PermissionsExt as _};

use fairlead_model::{Port, ServiceRef, TeamspaceId};
use laptop_ipc::supervisor::Reached;

use super::{Footprint, Paths, Wanted};
use crate::Resolver;

pub(super) const PLAIN: &str = "127.0.0.1 localhost\n";

/// A machine in a folder; its `nft` keeps the last ruleset, or refuses while a file `refuse` stands there.
pub(super) struct Machine {
    pub(super) folder: tempfile::TempDir,
    pub(super) paths: Paths,
}

impl Machine {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("hosts"), PLAIN).expect("written");
        let here = folder.path().display();
        let nft = format!(
            "#!/bin/sh\ncase $1 in -n)\n\
               /bin/grep -q skuid {here}/rules 2>/dev/null && exec /bin/cat {here}/rules\n\
               echo 'No such file' >&2; exit 1;;\n\
             -c) exec /bin/cat > /dev/null;;\n\
             esac\ntest ! -e {here}/refuse && exec /bin/cat > {here}/rules\n"
        );
        fs::write(at("nft"), nft).expect("written");
        fs::set_permissions(at("nft"), fs::Permissions::from_mode(0o755)).expect("mode");
        let paths = Paths {
            hosts: at("hosts"),
            nft: at("nft"),
            journal: at("residue.jsonl"),
            addresses: at("addresses.json"),
            resolver: Resolver {
                ip: at("ip"),
                resolvectl: at("resolvectl"),
                resolved_dir: at("resolve"),
            },
        };
        Self { folder, paths }
    }

    pub(super) fn footprint(&self) -> Footprint {
        Footprint::open(&self.paths).expect("opens")
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("text")
    }

    /// Has a resolved, whose `resolvectl` does this.
    pub(super) fn has_resolved(&self, does: &str) {
        fs::create_dir(self.folder.path().join("resolve")).expect("made");
        fs::write(self.folder.path().join("resolve/stub-resolv.conf"), "").expect("written");
        for (name, does) in [("ip", "exit 0"), ("resolvectl", does)] {
            let path = self.folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{does}\n")).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
        }
    }

    pub(super) fn nft_refuses(&self, refuses: bool) {
        let path = self.folder.path().join("refuse");
        if refuses { fs::write(path, "") } else { fs::remove_file(path) }.expect("done");
    }

    pub(super) fn is_clean(&self) {
        assert_eq!(self.read("hosts"), PLAIN);
        assert_eq!(self.read("rules"), crate::ruleset(&[]));
        assert_eq!(self.read("residue.jsonl"), "");
    }
}

pub(super) fn wanted(teamspace: TeamspaceId, listener: u16, services: &[&str]) -> Wanted {
    let services = services.iter().map(|service| Reached {
        teamspace,
        callee: service.parse::<ServiceRef>().expect("valid").into(),
        ports: vec!["80".parse().expect("a port")],
        is_home: true,
        beside: None,
    });
    Wanted {
        listener: Port::new(listener).expect("not 0"),
        services: services.collect(),
        may_remap: false,
        datagrams: Vec::new(),
    }
}
