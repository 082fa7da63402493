//! What the command says and how it exits, where no hub is needed.

use std::process::Stdio;

use crate::machine::{ADA, Machine};

#[track_caller]
fn says(machine: &Machine, words: &[&str], code: i32, expected: &[&str]) {
    let said = machine.fairlead(ADA, words);
    assert_eq!(said.code, Some(code), "{said}");
    assert_eq!(said.stdout, "", "stdout is for data");
    for expected in expected {
        assert!(said.stderr.contains(expected), "`{expected}` is not in: {said}");
    }
}

#[test]
fn each_failure_says_what_to_do_and_has_its_code() {
    let machine = Machine::new();
    says(
        &machine,
        &["status"],
        80,
        &["error: the daemon is not running", "hint: start it: fairlead start"],
    );
    says(&machine, &["start"], 81, &["no supervisor is running", "hint: ", "run --detach"]);
    says(&machine, &["whoami"], 31, &["not signed in", "hint: sign in: fairlead login"]);
    says(&machine, &["consume", "cart"], 20, &["namespace/service"]);
    // About what is consumed already, of which nobody can know yet.
    says(&machine, &["consume", "!shop/cart"], 31, &["not signed in"]);
    says(&machine, &["consume", "!shop/cart", "cart"], 20, &["namespace/service"]);
    says(&machine, &["intercept", "shop/cart:http", "3000"], 20, &["not a port"]);
    says(&machine, &["leave"], 20, &["--all"]);
    says(&machine, &["login"], 20, &["which hub?"]);
    says(&machine, &["login", "http://hub"], 20, &["https://"]);
    says(&machine, &["login", "https://127.0.0.1:1"], 40, &["could not reach", "hint: check"]);
    says(&machine, &["login", "https://hub", "--ca-file", "/etc/hosts"], 20, &["no certificate"]);
    says(&machine, &["cleanup"], 90, &["sudo"]);
    says(&machine, &["stop"], 0, &["was not running"]);
}

#[test]
fn a_read_verb_is_data_in_each_format() {
    let machine = Machine::with_supervisor();
    machine.has_consumed(ADA, &["shop/cart"]);
    machine.starts(ADA);
    let list = machine.fairlead(ADA, &["list", "-o", "json"]).json().expect("JSON");
    assert_eq!(list[0]["wanted"][0], "shop/*");
    let reached = machine.fairlead(ADA, &["consume", "list"]).stdout;
    let lines: Vec<&str> = reached.lines().collect();
    assert!(
        lines[0].starts_with("SERVICE    NAME") && lines[1].starts_with("shop/cart  cart.shop"),
        "{reached}"
    );
    let yaml = machine.fairlead(ADA, &["status", "-o", "yaml"]).stdout;
    assert!(yaml.contains("state: proven"), "{yaml}");
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let machine = Machine::new();
    let mut fairlead = machine.user(ADA, "/mnt/bin/fairlead");
    let mut child =
        fairlead.args(["completion", "bash"]).stdout(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}
