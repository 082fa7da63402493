//! The hosts file: any bytes in, our section out, the rest untouched.

use laptop_footprint::{HostEntry, has_section, with_section, without_section};

/// Adding our section and taking it away gives back every byte of another hand.
pub fn hosts(bytes: &[u8]) {
    let entries = [
        entry(1, &["cart", "cart.shop", "cart.shop.svc.cluster.local"]),
        entry(2, &["localhost", "payment.shop"]),
    ];
    let foreign = without_section(bytes);
    assert!(!has_section(&foreign), "something of ours is left");
    assert_eq!(without_section(&foreign), foreign, "taking away twice takes more");
    let ours = with_section(bytes, &entries);
    assert_eq!(without_section(&ours), foreign, "a byte of another hand was changed");
    assert_eq!(with_section(&ours, &entries), ours, "writing twice is not writing once");
    assert_eq!(with_section(bytes, &[]), foreign, "no entries, and yet a section");
    assert!(is_within(&foreign, bytes), "a byte was invented");
}

fn entry(last: u8, names: &[&str]) -> HostEntry {
    let names = names.iter().map(ToString::to_string);
    HostEntry::new([127, 72, 1, last].into(), names).expect("host names")
}

/// Says whether `part` is `whole` with bytes left out.
fn is_within(part: &[u8], whole: &[u8]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|byte| rest.any(|other| other == byte))
}
