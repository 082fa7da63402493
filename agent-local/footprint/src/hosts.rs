//! What the hosts file should say: a pure function from its bytes and our entries to its bytes.
//!
//! Our lines are recognised one by one, by an exact grammar, never by their place between the markers. So nothing of
//! another hand is ever touched, even inside the section, and a marker that somebody deleted damages nothing.

use std::{collections::HashSet, net::Ipv4Addr, str};

use crate::addresses;

const BEGIN: &str = "### FAIRLEAD";
const END: &str = "### /FAIRLEAD";
/// Ends every line that we write.
pub const MARK: &str = "# fairlead";

/// Longest host name that a resolver accepts.
const NAME_MAX_BYTES: usize = 253;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host name")]
pub struct InvalidHostName(String);

/// One line of the section: an address of ours and the names that lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    address: Ipv4Addr,
    names: Vec<String>,
}

impl HostEntry {
    /// Checks that each name is a plain host name, since a line break in one would become a line of the file.
    pub fn new(
        address: Ipv4Addr,
        names: impl IntoIterator<Item = String>,
    ) -> Result<Self, InvalidHostName> {
        let names: Vec<String> = names.into_iter().collect();
        match names.iter().find(|name| !is_host_name(name)) {
            Some(name) => Err(InvalidHostName(name.clone())),
            None => Ok(Self { address, names }),
        }
    }
}

/// Returns the hosts file with our section replaced; every byte of another hand is kept.
///
/// The section stays where it stands. A new one goes to the end, or to the beginning when the last line has no line
/// break, so that removing it gives back exactly what was there. Names that the file defines elsewhere are left out:
/// a service called `localhost` does not become the laptop's localhost.
#[must_use]
pub fn with_section(file: &[u8], entries: &[HostEntry]) -> Vec<u8> {
    let (before, after) = around_section(file);
    let taken = names_in(&before).chain(names_in(&after)).collect();
    let section = section(entries, &taken);
    let at_the_beginning = !has_section(file) && !before.is_empty() && !before.ends_with(b"\n");
    if at_the_beginning {
        [section.as_bytes(), &before, &after].concat()
    } else {
        [before.as_slice(), section.as_bytes(), &after].concat()
    }
}

/// Returns the hosts file without any line of ours.
#[must_use]
pub fn without_section(file: &[u8]) -> Vec<u8> {
    let (before, after) = around_section(file);
    [before, after].concat()
}

/// Returns the hosts file as one program shall see it: these entries, and whatever is reached by everybody as well.
#[must_use]
pub fn with_entries_first(file: &[u8], entries: &[HostEntry]) -> Vec<u8> {
    let of_everybody: Vec<u8> =
        lines(file).filter(|line| is_ours(line)).flatten().copied().collect();
    let mut theirs = with_section(&without_section(file), entries);
    if !theirs.is_empty() && !theirs.ends_with(b"\n") {
        theirs.push(b'\n');
    }
    theirs.extend(of_everybody);
    theirs
}

/// Returns those of some names that lines of another hand define. They lead where those say, and have no line of ours.
#[must_use]
pub fn defined_by_others<'n>(
    file: &[u8],
    names: impl IntoIterator<Item = &'n str>,
) -> Vec<&'n str> {
    let taken: HashSet<String> = names_in(&without_section(file)).collect();
    names.into_iter().filter(|name| taken.contains(*name)).collect()
}

/// Says whether any line of the file is ours.
#[must_use]
pub fn has_section(file: &[u8]) -> bool {
    lines(file).any(is_ours)
}

fn section(entries: &[HostEntry], taken: &HashSet<String>) -> String {
    let lines = entries.iter().filter_map(|entry| line(entry, taken)).collect::<String>();
    if lines.is_empty() { lines } else { format!("{BEGIN}\n{lines}{END}\n") }
}

fn line(entry: &HostEntry, taken: &HashSet<String>) -> Option<String> {
    let free = |name: &&String| !taken.contains(name.as_str());
    let names: Vec<&str> = entry.names.iter().filter(free).map(String::as_str).collect();
    (!names.is_empty()).then(|| format!("{} {} {MARK}\n", entry.address, names.join(" ")))
}

/// Splits the file at the first line of ours, and drops every line of ours from both parts.
fn around_section(file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut before, mut after) = (Vec::with_capacity(file.len()), Vec::new());
    let (mut seen, mut is_open) = (false, false);
    for line in lines(file) {
        if is_ours(line) {
            seen = true;
            is_open = !line.starts_with(END.as_bytes());
        } else if is_open && is_torn(line) {
            // A writer was killed in the middle of its last line.
        } else {
            is_open = false;
            let part = if seen { &mut after } else { &mut before };
            part.extend_from_slice(line);
        }
    }
    (before, after)
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split_inclusive(|byte| *byte == b'\n')
}

/// Says whether a line (with its line break) is exactly as we write one; an editor may have added a `\r`.
fn is_ours(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    str::from_utf8(line).is_ok_and(|line| line == BEGIN || line == END || is_entry(line))
}

/// Says whether a last line without a line break is the beginning of one that we write. Asked only where the line before
/// it is ours and the section has no end.
fn is_torn(line: &[u8]) -> bool {
    let Some(line) = str::from_utf8(line).ok().filter(|line| !line.ends_with('\n')) else {
        return false;
    };
    let address = line.split(' ').next().unwrap_or_default();
    let is_whole = address.parse::<Ipv4Addr>().is_ok_and(addresses::is_ours);
    let is_cut = !line.contains(' ') && line.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    is_whole || is_cut || END.starts_with(line)
}

fn is_entry(line: &str) -> bool {
    let Some(entry) = line.strip_suffix(MARK).and_then(|rest| rest.strip_suffix(' ')) else {
        return false;
    };
    let mut words = entry.split(' ');
    let address = words.next().and_then(|word| word.parse::<Ipv4Addr>().ok());
    let mut names = words.peekable();
    address.is_some_and(addresses::is_ours) && names.peek().is_some() && names.all(is_host_name)
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.len() <= NAME_MAX_BYTES && name.split('.').all(label)
}

fn names_in(file: &[u8]) -> impl Iterator<Item = String> {
    lines(file).filter_map(|line| str::from_utf8(line).ok()).flat_map(|line| {
        let entry = line.split('#').next().unwrap_or_default();
        entry.split_whitespace().skip(1).map(str::to_ascii_lowercase)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &[u8] = b"127.0.0.1\tlocalhost\n::1 localhost\n";

    fn entry(last: u8, names: &[&str]) -> HostEntry {
        let names = names.iter().map(|name| (*name).to_owned());
        HostEntry::new(Ipv4Addr::new(127, 72, 1, last), names).expect("valid names")
    }

    fn text(file: &[u8]) -> String {
        String::from_utf8(file.to_vec()).expect("text")
    }

    #[test]
    fn a_name_that_another_hand_has_defined_is_known() {
        let file = with_section(b"10.0.0.5 Cart.shop # mine\n", &[entry(1, &["pay.shop"])]);
        assert_eq!(defined_by_others(&file, ["cart.shop", "pay.shop"]), ["cart.shop"]);
        assert!(defined_by_others(b"# cart.shop\n", ["cart.shop"]).is_empty());
    }

    #[test]
    fn a_program_sees_its_own_entries_before_those_of_everybody() {
        let entry = |last, name: &str| {
            HostEntry::new(Ipv4Addr::new(127, 72, 1, last), [name.to_owned()]).expect("valid")
        };
        let file =
            with_section(b"127.0.0.1 localhost\n", &[entry(1, "cart.shop"), entry(2, "pay.shop")]);
        let own = [entry(9, "cart.shop"), entry(8, "localhost")];
        let seen = String::from_utf8(with_entries_first(&file, &own)).expect("text");
        let at = |text: &str| seen.find(text).unwrap_or_else(|| panic!("{text} is not in {seen}"));
        assert!(at("127.72.1.9 cart.shop") < at("127.72.1.1 cart.shop"), "{seen}");
        assert!(at("127.72.1.2 pay.shop") > 0 && !seen.contains("127.72.1.8"), "{seen}");
        assert!(seen.starts_with("127.0.0.1 localhost\n"), "{seen}");
    }

    #[test]
    fn a_section_is_added_at_the_end_and_every_line_is_marked() {
        let file = with_section(PLAIN, &[entry(2, &["cart.shop", "cart.shop.svc"])]);
        assert_eq!(
            text(&file),
            format!(
                "{}### FAIRLEAD\n127.72.1.2 cart.shop cart.shop.svc # fairlead\n### /FAIRLEAD\n",
                text(PLAIN)
            )
        );
    }

    #[test]
    fn no_entries_means_no_section() {
        let file = with_section(PLAIN, &[entry(2, &["cart.shop"])]);
        assert_eq!(with_section(&file, &[]), PLAIN);
        assert!(!has_section(PLAIN) && has_section(&file));
    }

    #[test]
    fn a_last_line_without_a_line_break_keeps_it_that_way() {
        let unfinished = b"127.0.0.1 localhost";
        let file = with_section(unfinished, &[entry(2, &["cart.shop"])]);
        assert!(text(&file).starts_with("### FAIRLEAD\n"), "{}", text(&file));
        assert_eq!(without_section(&file), unfinished);
    }

    #[test]
    fn the_section_stays_where_the_developer_moved_it() {
        let file = b"a\n### FAIRLEAD\n127.72.1.2 x.y # fairlead\n### /FAIRLEAD\nb\n";
        let file = with_section(file, &[entry(3, &["cart.shop"])]);
        assert_eq!(
            text(&file),
            "a\n### FAIRLEAD\n127.72.1.3 cart.shop # fairlead\n### /FAIRLEAD\nb\n"
        );
    }

    #[test]
    fn damaged_markers_cost_no_line_of_another_hand() {
        for damaged in [
            "a\n127.72.1.2 x.y # fairlead\n### /FAIRLEAD\nb\n",
            "a\n### FAIRLEAD\n127.72.1.2 x.y # fairlead\nb\n",
            "a\n### FAIRLEAD\n127.72.1.2 x.y # fairlead\n### FAIRLEAD\nb\n### /FAIRLEAD\n",
            "a\n### FAIRLEAD\r\n127.72.1.2 x.y # fairlead\r\nb\n### /FAIRLEAD",
        ] {
            assert_eq!(text(&without_section(damaged.as_bytes())), "a\nb\n", "{damaged}");
        }
        // After a line of theirs, what looks torn is theirs, too.
        for last in ["127.72.1.9 mine", "127.72.1.9", "#", "12"] {
            let damaged = format!("a\n### FAIRLEAD\n127.72.1.2 x.y # fairlead\nb\n{last}");
            assert_eq!(text(&without_section(damaged.as_bytes())), format!("a\nb\n{last}"));
        }
    }

    #[test]
    fn a_section_that_was_torn_anywhere_is_removed_whole() {
        let file = with_section(PLAIN, &[entry(2, &["cart.shop"]), entry(3, &["pay.shop"])]);
        let begun = PLAIN.len() + BEGIN.len() + 1;
        for torn in begun..file.len() {
            assert_eq!(text(&without_section(&file[..torn])), text(PLAIN), "torn at {torn}");
        }
        // The same words after the end of the section are of another hand.
        let theirs = [&file[..], b"127.72.1.9 mine"].concat();
        assert!(text(&without_section(&theirs)).ends_with("127.72.1.9 mine"));
    }

    #[test]
    fn lines_that_only_resemble_ours_are_kept() {
        for other in [
            "127.0.0.1 x # fairlead\n",
            "127.72.1.2 x\n",
            "127.72.1.2  x # fairlead\n",
            "127.72.1.2 # fairlead\n",
            "127.72.1.2 X # fairlead\n",
            " ### FAIRLEAD\n",
            "### FAIRLEAD notes\n",
        ] {
            assert_eq!(text(&without_section(other.as_bytes())), other);
        }
    }

    #[test]
    fn a_name_that_the_file_defines_elsewhere_is_left_out() {
        let file = with_section(PLAIN, &[entry(2, &["localhost", "localhost.shop"])]);
        assert!(text(&file).contains("127.72.1.2 localhost.shop # fairlead\n"));
    }

    #[test]
    fn a_name_cannot_smuggle_a_line() {
        for bad in ["a\n1.2.3.4 bank.example", "a b", "", "a..b", "#"] {
            assert!(
                HostEntry::new(Ipv4Addr::new(127, 72, 1, 2), [bad.to_owned()]).is_err(),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn removing_gives_back_every_byte(file in prop::collection::vec(any::<u8>(), 0..400), count in 0_u8..5) {
            prop_assume!(!has_section(&file));
            let entries: Vec<_> = (0..count).map(|n| entry(n, &["cart.shop"])).collect();
            let with = with_section(&file, &entries);
            prop_assert_eq!(without_section(&with), file);
            prop_assert_eq!(with_section(&with, &entries), with);
        }

        #[test]
        fn other_lines_survive_whatever_happened_to_ours(
            lines in prop::collection::vec(prop::sample::select(vec![
                "### FAIRLEAD\n", "### /FAIRLEAD\n", "127.72.1.9 a.b # fairlead\n", "10.0.0.1 db\n", "# note\n", "\n",
            ]), 0..20)
        ) {
            let file = lines.concat();
            let others: String = lines.iter().filter(|line| !is_ours(line.as_bytes())).copied().collect();
            prop_assert_eq!(text(&without_section(file.as_bytes())), others);
        }
    }
}
