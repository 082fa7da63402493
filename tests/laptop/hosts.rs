//! A hosts file that cannot be written, or not in the usual way: the names are there, or nothing is half done.

use std::os::unix::fs::MetadataExt as _;

use laptop_ipc::{FailureKind, supervisor::Answer};

use crate::machine::{Attached, HOSTS, Machine};

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
fn a_missing_nft_says_what_to_install() {
    let mut machine = Machine::new();
    machine.start_supervisor(&["--nft", "/nonexistent/nft"]);
    let failure = Attached::to(&machine).sets(&["shop/cart"]).expect_err("refused");
    assert!(failure.hint.is_some_and(|hint| hint.contains("nftables")));
    assert_eq!(machine.hosts(), HOSTS);
}
