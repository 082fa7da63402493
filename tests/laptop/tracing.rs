//! `fairlead trace` on a laptop: each hop that can fail here is broken, and it is the one that is named.

use std::fs;

use serde_json::Value;

use crate::{
    hub::Hub,
    machine::{ADA, HOSTS, Machine},
};

/// What another program's rule does to connections to our addresses, before ours sees them.
const REJECTED: &str = "\
nft add table ip theirs
nft 'add chain ip theirs out { type filter hook output priority -300; }'
nft add rule ip theirs out ip daddr 127.72.0.0/14 tcp dport 80 reject with tcp reset";

/// Traces, and returns how each hop went; it ends with this exit code, and names this hop.
#[track_caller]
fn traces(machine: &Machine, what: &str, code: i32, failing: &str) -> Vec<String> {
    let said = machine.fairlead(ADA, &["trace", what, "-o", "json"]);
    assert_eq!(said.code, Some(code), "{said}");
    assert!(said.stderr.contains(&format!("fails at its hop `{failing}`")), "{said}");
    assert!(said.stderr.contains("hint: "), "{said}");
    let trace = said.json().expect("JSON");
    let word = |hop: &Value, key: &str| hop[key].as_str().expect("a word").to_owned();
    let hops = trace["hops"].as_array().expect("hops").iter();
    hops.map(|hop| format!("{} {}", word(hop, "hop"), word(hop, "state"))).collect()
}

#[test]
fn the_hop_that_fails_is_named() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    let signed_out = traces(&machine, "http://cart.shop/", 31, "hub");
    let expected = [
        "name passed",
        "redirect passed",
        "hub failed",
        "agent failed",
        "service not_tried",
        "answer not_tried",
    ];
    assert_eq!(signed_out, expected);
    let table = machine.fairlead(ADA, &["trace", "shop/cart"]).stdout;
    assert!(table.starts_with("HOP             TIME  WHAT\nname "), "{table}");

    machine.root_does(REJECTED);
    let rejected = traces(&machine, "shop/cart", 60, "redirect");
    assert_eq!(rejected[..2], ["name passed", "redirect failed"]);
    machine.root_does("nft delete table ip theirs");
    machine.is_proven(ADA);
    assert_eq!(traces(&machine, "shop/cart", 31, "hub")[1], "redirect passed");
}

#[test]
fn a_name_that_another_line_of_the_hosts_file_has_is_what_fails() {
    let machine = Machine::with_supervisor();
    fs::write(machine.path("/etc/hosts"), format!("10.9.9.9 cart.shop\n{HOSTS}")).expect("written");
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    assert_eq!(
        traces(&machine, "http://cart.shop", 60, "name")[..2],
        ["name failed", "redirect passed"]
    );
    let said = machine.fairlead(ADA, &["trace", "http://cart.shop"]).stderr;
    assert!(said.contains("cart.shop is 10.9.9.9, not 127."), "{said}");
    assert_eq!(traces(&machine, "http://cart.shop.svc", 31, "hub")[0], "name passed");
}

#[test]
fn of_what_is_not_consumed_the_hub_says_whether_it_could_be() {
    let machine = Machine::with_supervisor();
    let hub = Hub::on(&machine);
    hub.has_signed_in(&machine, ADA);
    machine.fairlead(ADA, &["start"]).ok().expect("starts");
    for (what, said) in [
        ("http://cart.shop", "do not consume shop/cart of teamspace `staging`"),
        ("shop/kart", "teamspace `staging` has no service shop/kart that you may see"),
    ] {
        traces(&machine, what, 50, "name");
        let text = machine.fairlead(ADA, &["trace", what]).stderr;
        assert!(text.contains(said), "{text}");
    }
    let text = machine.fairlead(ADA, &["trace", "http://10.0.0.1/"]);
    assert!(text.code == Some(50) && text.stderr.contains("no service that you reach"), "{text}");
    let text = machine.fairlead(ADA, &["trace", "cart"]);
    assert_eq!(text.code, Some(20), "{text}");
}
