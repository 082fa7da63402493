//! A hosts file that cannot be written, or not in the usual way: the names are there, or nothing is half done.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use fairlead_tests::eventually;
use laptop_ipc::{FailureKind, supervisor::Answer};

use crate::machine::{ADA, Attached, HOSTS, Machine, SOON};

fn refused(machine: &Machine) -> laptop_ipc::Failure {
    let failure = Attached::to(machine).sets(&["shop/cart"]).expect_err("refused");
    assert_eq!(failure.kind, FailureKind::LaptopNetwork);
    assert!(failure.hint.is_some(), "it says what to do");
    machine.leaves_nothing();
    failure
}

#[test]
fn a_bind_mounted_hosts_file_is_written_in_place() {
    let machine = Machine::with_supervisor();
    machine.root_does("cp /etc/hosts /mnt/hosts && mount --bind /mnt/hosts /etc/hosts");
    let inode = || std::fs::metadata(machine.path("/etc/hosts")).expect("there").ino();
    let before = inode();
    let mut attached = Attached::to(&machine);
    let reply = attached.sets(&["shop/cart"]);
    assert!(matches!(reply, Ok(Answer::Set { .. })), "{reply:?}");
    assert!(machine.hosts().contains("cart.shop"));
    attached.sets(&[]).expect("set");
    assert_eq!((machine.hosts().as_str(), inode()), (HOSTS, before));
    machine.leaves_nothing();
}

#[test]
fn a_read_only_hosts_file_says_so_and_nothing_is_half_done() {
    let machine = Machine::with_supervisor();
    machine.makes_hosts_read_only();
    let failure = refused(&machine);
    assert!(failure.message.contains("read-only"), "{failure}");
}

#[test]
fn a_full_disk_says_so_and_nothing_is_half_done() {
    let machine = Machine::with_supervisor();
    machine.root_does("cat /dev/zero > /mnt/filler 2>/dev/null || true");
    let failure = refused(&machine);
    assert!(failure.message.contains("full"), "{failure}");
    machine.root_does("rm /mnt/filler");
    let mut attached = Attached::to(&machine);
    attached.sets(&["shop/cart"]).expect("there is room again");
    drop(attached);
    machine.leaves_nothing();
}

#[test]
fn a_full_disk_below_the_journal_says_so_before_anything_is_changed() {
    let machine = Machine::with_supervisor();
    machine.root_does("cat /dev/zero > /mnt/lib/filler 2>/dev/null || true");
    let failure = refused(&machine);
    assert!(failure.hint.is_some_and(|hint| hint.contains("full")));
}

#[test]
fn a_full_disk_below_a_a_bind_mounted_hosts_file_leaves_its_bytes() {
    let machine = Machine::with_supervisor();
    // A file system of its own, filled to the last byte: not even the first page can grow.
    machine.root_does("mkdir /mnt/small && mount -t tmpfs -o size=8k tmpfs /mnt/small && cp /etc/hosts /mnt/small/hosts \
         && mount --bind /mnt/small/hosts /etc/hosts && (cat /dev/zero > /mnt/small/filler 2>/dev/null || true)",
    );
    let many: Vec<String> = (0..200).map(|n| format!("shop/service-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let failure = Attached::to(&machine).sets(&many).expect_err("refused");
    assert!(failure.message.contains("full"), "{failure}");
    machine.leaves_nothing();
}

#[test]
fn edits_of_another_hand_survive() {
    let machine = Machine::with_supervisor();
    let mut attached = Attached::to(&machine);
    attached.sets(&["shop/cart"]).expect("set");
    machine.root_does("printf '\\n10.9.9.9 added' >> /etc/hosts");
    attached.sets(&["shop/cart", "shop/pay"]).expect("set");
    assert!(machine.hosts().contains("pay.shop"));
    attached.sets(&[]).expect("set");
    assert_eq!(machine.hosts(), format!("{HOSTS}\n10.9.9.9 added"));
}

#[test]
fn what_another_program_removes_is_put_back_and_what_it_wrote_is_kept() {
    let machine = Machine::with_supervisor();
    machine.root_does("echo >> /etc/hosts");
    let mut attached = Attached::to(&machine);
    attached.sets(&["shop/cart", "shop/pay"]).expect("set");
    let whole = machine.hosts();
    let is = |expected: &str| {
        eventually(SOON, "the file is as it should be", || Ok(machine.hosts() == expected))
            .unwrap_or_else(|error| panic!("{error:#}\n{}", machine.hosts()));
    };
    // One name of two; then a new file that knows nothing of us; then an older copy of the file.
    machine.root_does("sed -i /pay.shop/d /etc/hosts");
    is(&whole);
    machine.root_does("cp /etc/hosts /mnt/copy");
    machine
        .root_does("grep -vi fairlead /etc/hosts > /etc/hosts.new; mv /etc/hosts.new /etc/hosts");
    is(&whole);
    attached.sets(&[]).expect("set");
    is(&format!("{HOSTS}\n"));
    machine.root_does("cp /mnt/copy /etc/hosts");
    is(&format!("{HOSTS}\n"));
}

#[test]
fn a_line_of_another_hand_wins_and_is_named() {
    let machine = Machine::with_supervisor();
    machine.root_does("cp /etc/hosts /mnt/before; printf '\n10.9.8.7 cart.shop\n' >> /etc/hosts");
    machine.has_consumed(ADA, &["shop/cart", "shop/pay"]);
    machine.starts(ADA);
    assert!(machine.hosts().contains("cart.shop.svc.cluster.local # fairlead"));
    let listed = machine.fairlead(ADA, &["consume", "list"]).ok().expect("listed");
    let warned = "warning: a line of /etc/hosts that is not Fairlead's has cart.shop: ";
    assert!(listed.stderr.contains(warned), "{listed}");
    let says_doctor = || machine.fairlead(ADA, &["doctor"]).stdout;
    let advice = "do: take the line out of /etc/hosts; the name follows by itself\n";
    assert!(says_doctor().contains(advice), "{}", says_doctor());
    let edit = "grep -v '^10.9.8.7' /etc/hosts > /mnt/edited; cat /mnt/edited > /etc/hosts";
    machine.root_does(edit);
    eventually(SOON, "the name follows", || Ok(machine.hosts().contains(" cart.shop ")))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", machine.hosts()));
    assert!(!says_doctor().contains(advice), "{}", says_doctor());
    machine.root_does("printf '10.9.8.7 cart.shop\n' >> /etc/hosts");
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    assert!(machine.hosts().ends_with("10.9.8.7 cart.shop\n"));
    machine.root_does("cat /mnt/before > /etc/hosts");
    machine.leaves_nothing();
}

#[test]
fn a_program_that_fights_for_the_hosts_file_is_left_alone_and_named_in_status() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/cart", "shop/pay"]);
    machine.starts(ADA);
    let fight =
        "while sleep 0.1; do grep -q pay.shop /etc/hosts && sed -i /pay.shop/d /etc/hosts; done";
    let mut fighter = machine.root("sh");
    let fighter = begin_in_background(fighter.args(["-c", fight]));
    eventually(SOON * 2, "status says so", || {
        let said = machine.fairlead(ADA, &["status"]).ok()?;
        Ok(said.stdout.contains("broken: another program keeps changing the section")
            && said.stdout.contains("of /etc/hosts"))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", machine.fairlead(ADA, &["status"])));
    assert!(!machine.hosts().contains("pay.shop"), "it is not put back for ever");
    drop(fighter);
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}

/// A program that works in the machine until it is dropped.
struct Background(std::process::Child);

fn begin_in_background(command: &mut std::process::Command) -> Background {
    Background(command.spawn().expect("starts"))
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("ends");
    }
}

/// Edits the hosts file in its own way, again and again, until it is told to stop; returns the lines it added.
fn edits(path: PathBuf, add: fn(&Path, &str), stopping: Arc<AtomicBool>) -> Vec<String> {
    let mut lines = Vec::new();
    while !stopping.load(Ordering::Relaxed) {
        let line =
            format!("10.9.{}.{} theirs-{}\n", lines.len() / 250, lines.len() % 250, lines.len());
        add(&path, &line);
        lines.push(line);
        thread::sleep(Duration::from_millis(1));
    }
    lines
}

fn appends(path: &Path, line: &str) {
    let mut file = OpenOptions::new().append(true).open(path).expect("opened");
    file.write_all(line.as_bytes()).expect("written");
}

fn writes_anew(path: &Path, line: &str) {
    let mut text = fs::read_to_string(path).expect("read");
    text.push_str(line);
    let beside = path.with_file_name("hosts.theirs");
    fs::write(&beside, text).expect("written");
    fs::rename(beside, path).expect("renamed");
}

#[test]
fn no_line_of_a_program_that_edits_at_the_same_time_is_lost() {
    for (add, is_bound) in [
        (appends as fn(&Path, &str), false),
        (writes_anew as fn(&Path, &str), false),
        (appends, true),
    ] {
        let machine = Machine::with_supervisor();
        machine.root_does("echo >> /etc/hosts");
        if is_bound {
            machine.root_does("cp /etc/hosts /mnt/hosts && mount --bind /mnt/hosts /etc/hosts");
        }
        let before = machine.hosts();
        let mut attached = Attached::to(&machine);
        let stopping = Arc::new(AtomicBool::new(false));
        let editor = thread::spawn({
            let (path, stopping) = (machine.path("/etc/hosts"), Arc::clone(&stopping));
            move || edits(path, add, stopping)
        });
        for round in 0..40 {
            let services: &[&str] =
                if round % 2 == 0 { &["shop/cart"] } else { &["shop/cart", "shop/pay"] };
            let reply = attached.sets(services);
            assert!(matches!(reply, Ok(Answer::Set { .. })), "{reply:?}");
            if round % 10 == 9 {
                attached.sets(&[]).expect("cleared");
            }
        }
        stopping.store(true, Ordering::Relaxed);
        let added = editor.join().expect("no panic");
        attached.sets(&["shop/cart"]).expect("set");
        let hosts = machine.hosts();
        assert_eq!(hosts.matches("cart.shop.svc.cluster.local # fairlead\n").count(), 1, "{hosts}");
        attached.sets(&[]).expect("cleared");
        assert!(added.len() > 40, "{} lines", added.len());
        let expected = format!("{before}{}", added.concat());
        let lost: Vec<_> = added.iter().filter(|line| !machine.hosts().contains(*line)).collect();
        assert_eq!(lost, Vec::<&String>::new(), "of {}", added.len());
        assert_eq!(machine.hosts(), expected);
    }
}
