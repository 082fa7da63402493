//! Writes `src/gen` anew: `cargo run -p shop --example gen-shop`.

use std::{error::Error, path::Path};

#[path = "../codegen/generate.rs"]
mod generate;

fn main() -> Result<(), Box<dyn Error>> {
    generate::generate(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen"))
}
