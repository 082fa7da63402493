//! Turns `proto/` into Rust. Shared by the generator (`examples/gen.rs`) and by the test that finds drift.

use std::{error::Error, path::Path};

/// Writes the generated code of the shop's gRPC service into the directory `out`.
pub(crate) fn generate(out: &Path) -> Result<(), Box<dyn Error>> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files = protox::compile(["shop/v1/recommend.proto"], [proto])?;
    tonic_prost_build::configure().build_transport(false).out_dir(out).compile_fds(files)?;
    Ok(())
}
