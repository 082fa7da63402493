//! The committed code is what the protocol file says.

use std::{fs, path::Path};

#[path = "../codegen/generate.rs"]
mod generate;

#[test]
fn the_committed_code_equals_a_fresh_generation() {
    let fresh = tempfile::tempdir().expect("a temporary directory");
    generate::generate(fresh.path()).expect("the protocol file is valid");
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen");
    let read = |dir: &Path| fs::read_to_string(dir.join("shop.v1.rs")).unwrap_or_default();
    assert!(!read(fresh.path()).is_empty(), "nothing was generated");
    assert!(
        read(&committed) == read(fresh.path()),
        "src/gen/shop.v1.rs is stale: run `cargo xtask gen`"
    );
}
