//! `docs/internals/tunnel.md` says which test covers what; here it is held against the tests that there are.

use std::{collections::BTreeMap, fs, path::Path};

const PAGE: &str = include_str!("../../../docs/internals/tunnel.md");

/// Returns each `file::test` that a page names.
fn named(page: &str) -> Vec<(&str, &str)> {
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter_map(|quoted| quoted.split_once(".rs::")).collect()
}

/// Says whether `source` has a test of this name.
fn has(source: &str, test: &str) -> bool {
    let Some((before, _)) = source.split_once(&format!("fn {test}(")) else { return false };
    let Some((above, _)) = before.rsplit_once('\n') else { return false };
    let lines = above.lines().rev().map(str::trim);
    let mut attributes = lines.take_while(|line| line.starts_with(['#', '/']));
    attributes.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = BTreeMap::new();
    let mut missing = Vec::new();
    for (file, test) in named(PAGE) {
        let source = sources.entry(file).or_insert_with(|| {
            fs::read_to_string(root.join(format!("{file}.rs"))).unwrap_or_default()
        });
        if !has(source, test) {
            missing.push(format!("{file}.rs::{test}"));
        }
    }
    assert!(sources.len() > 10, "the page names hardly any test");
    assert!(
        missing.is_empty(),
        "docs/internals/tunnel.md names tests that are not there: {missing:#?}"
    );
}

#[test]
fn a_function_that_is_no_test_does_not_count() {
    let source = "#[test]\nfn a_test() {\n}\n\nfn no_test() {\n}\n\n#[tokio::test(flavor = \"x\")]\n// Why.\nasync fn another() {}\n";
    assert!(has(source, "a_test") && has(source, "another"));
    assert!(!has(source, "no_test") && !has(source, "missing"));
    assert_eq!(named("| `a/b.rs::c`, `d.rs` | e.rs::f"), [("a/b", "c")]);
}
