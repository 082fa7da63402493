//! Writes the committed renderings of the charts anew: `cargo run -p fairlead-tests --example gen-charts`.

#[path = "../charts/render.rs"]
mod render;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    for committed in render::committed()? {
        let path = &committed.path;
        std::fs::write(path, committed.text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
