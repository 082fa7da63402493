//! A laptop that is elsewhere than a moment ago: the kernel tells, and names stay.

use fairlead_tests::eventually;

use crate::machine::{ADA, Machine, SOON};

#[test]
fn other_addresses_are_heard_and_names_stay() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    let hosts = machine.hosts();
    let moves = || machine.fairlead(ADA, &["logs"]).stdout.matches("has other addresses").count();
    assert_eq!(moves(), 0);
    machine.root_does("ip address add 10.77.0.1/32 dev lo");
    eventually(SOON, "it is heard", || Ok(moves() == 1)).expect("heard");
    machine.is_proven(ADA);
    assert_eq!(machine.hosts(), hosts);
}
