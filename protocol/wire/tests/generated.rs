//! The committed code is what the protocol files say.

use std::{fs, path::Path};

#[path = "../codegen/generate.rs"]
mod generate;

#[test]
fn the_committed_code_equals_a_fresh_generation() {
    let fresh = tempfile::tempdir().expect("a temporary directory");
    generate::generate(fresh.path()).expect("the protocol files are valid");
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen");
    let mut compared = 0;
    for file in fs::read_dir(fresh.path()).expect("readable") {
        let name = file.expect("readable").file_name();
        let read = |dir: &Path| fs::read_to_string(dir.join(&name)).unwrap_or_default();
        assert!(
            read(&committed) == read(fresh.path()),
            "{} is stale: run `cargo xtask gen`",
            name.display()
        );
        compared += 1;
    }
    assert!(compared > 0, "nothing was generated");
}
