//! The description of the REST API, generated from the routes themselves. `openapi.json` is a copy for those who
//! build against it; a test compares the two.

use super::router;

/// Returns the document as it is committed.
#[must_use]
pub fn document() -> String {
    let (_, document) = router::api();
    let mut text = document.to_pretty_json().expect("the document is a tree of strings");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_document_is_the_generated_one() {
        let committed = include_str!("../../openapi.json");
        assert!(
            committed == super::document(),
            "hub/openapi.json is out of date: run `cargo xtask gen` (or `fairlead-hub openapi > hub/openapi.json`)"
        );
    }

    #[test]
    #[ignore = "writes hub/openapi.json"]
    fn regenerate() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        std::fs::write(path, super::document()).expect("the document can be written");
    }
}
