//! The page `docs/guides/residue.md` is true: each of its commands removes what it says, and all of them everything.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use fairlead_tests::say;

use crate::{
    machine::{ADA, HOSTS, Machine, kill_9},
    resolving::{Resolved, has_link},
};

/// One command of the page, and how its residue is seen.
fn residue_of(command: &str, machine: &Machine) -> bool {
    let is_there = |path: &str| fs::symlink_metadata(machine.path(path)).is_ok();
    let home = |path: &str| is_there(&format!("/mnt/home/{ADA}/{path}"));
    match command {
        "fairlead stop" => machine.daemon_pid(ADA).is_some(),
        c if c.contains("/etc/hosts > ") => machine.hosts() != HOSTS,
        "sudo nft delete table ip fairlead" => machine.rules().contains("table ip fairlead {"),
        "sudo nft delete table ip fairlead_aborted" => {
            machine.rules().contains("table ip fairlead_aborted {")
        }
        "sudo ip link delete fairlead0" => has_link(machine),
        "rm -rf ~/.config/fairlead" => home(".config/fairlead"),
        "rm -rf ~/.local/state/fairlead" => home(".local/state/fairlead"),
        c => is_there(c.rsplit(' ').next().expect("a path")),
    }
}

#[test]
fn every_command_of_the_page_removes_what_it_says() {
    let page =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guides/residue.md"));
    let page = page.expect("the page");
    let commands: Vec<&str> = page
        .split("```sh\n")
        .skip(1)
        .flat_map(|block| block.split("```").next().unwrap_or_default().lines())
        .collect();
    assert!(commands.len() >= 9, "{commands:?}");

    let mut machine = Machine::new();
    // A mount point of the test's machine cannot be removed as the folder of a real one.
    machine.root_does("umount /var/lib/fairlead && rmdir /var/lib/fairlead");
    let resolved = Resolved::on(&machine);
    let before = files(&machine);
    leaves_everything(&mut machine, &resolved);
    for command in commands {
        assert!(residue_of(command, &machine), "before `{command}` there is nothing to remove");
        runs(&machine, command);
        assert!(!residue_of(command, &machine), "`{command}` did not remove it");
    }
    assert_eq!(machine.rules(), "");
    let after = files(&machine);
    let differ: Vec<_> =
        before.keys().chain(after.keys()).filter(|p| before.get(*p) != after.get(*p)).collect();
    assert_eq!(differ, Vec::<&PathBuf>::new(), "these files are not as they were");
}

/// A machine on which everything stood when every process but the daemon was killed.
fn leaves_everything(machine: &mut Machine, resolved: &Resolved) {
    machine.start_supervisor(&resolved.flags());
    machine.has_consumed(ADA, &["shop/cart", "shop/frontend"]);
    machine.starts(ADA);
    let worker = machine.worker().expect("runs");
    let guard = machine.supervisor.as_ref().expect("runs").id();
    machine.root_does(&format!("kill -STOP {guard}"));
    kill_9(worker);
    machine.kill_guard();
    // What takes a kill at the right moment, systemd, a sign-in, or another user.
    machine.root_does(&format!(
        "nft add table ip fairlead_aborted && cp /etc/hosts /etc/.hosts.fairlead && mkdir -p /etc/systemd/system/multi-user.target.wants \
         && cd /etc/systemd/system && echo unit > fairlead-supervisor.service \
         && echo unit > .fairlead-supervisor.service.fairlead \
         && ln -s ../fairlead-supervisor.service multi-user.target.wants/ \
         && mkdir -p /mnt/home/{ADA}/.config/fairlead && echo {{}} > /mnt/home/{ADA}/.config/fairlead/hub.json \
         && chown -R {ADA}:{ADA} /mnt/home/{ADA}"
    ));
}

fn runs(machine: &Machine, line: &str) {
    let line = line.replace("fairlead stop", "/mnt/bin/fairlead stop");
    let shell = match line.strip_prefix("sudo ") {
        Some(line) => {
            let mut shell = machine.root("sh");
            shell.args(["-c", line]);
            shell
        }
        None => {
            let mut shell = machine.user(ADA, "sh");
            shell.args(["-c", &line]);
            shell
        }
    };
    let said = say(shell).expect("runs");
    let is_stop = line.ends_with("fairlead stop");
    assert_eq!(said.code, Some(if is_stop { 90 } else { 0 }), "{said}");
}

/// Every file that this machine has of its own, with its bytes.
fn files(machine: &Machine) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in ["/mnt/upper", "/run", "/var/lib", "/mnt/home"] {
        collect(&machine.path(folder), Path::new(folder), &mut found);
    }
    found
}

fn collect(at: &Path, name: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(at).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        // resolved's own: it says there whom it asks at the moment.
        if name == Path::new("/run/systemd/resolve") {
            continue;
        }
        if entry.file_type().expect("a file").is_dir() {
            collect(&path, &name, found);
        } else {
            found.insert(name, fs::read(&path).unwrap_or_default());
        }
    }
}
