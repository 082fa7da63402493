//! What must hold for any bytes that a stranger, another program or a broken disk may hand us.
//!
//! One function per parser, which panics when it does not hold. libFuzzer calls them with bytes of its own
//! (`cargo xtask fuzz`), the test below with those that are committed in `corpus/`: what was once found stays found.

mod dns;
mod frames;
mod grants;
mod hosts;
mod ipc;
mod opens;
mod patterns;

pub use dns::dns;
pub use frames::frames;
pub use grants::grants;
pub use hosts::hosts;
pub use ipc::ipc;
pub use opens::opens;
pub use patterns::patterns;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    type Target = (&'static str, fn(&[u8]));

    const TARGETS: [Target; 7] = [
        ("frames", frames),
        ("opens", opens),
        ("grants", grants),
        ("hosts", hosts),
        ("dns", dns),
        ("ipc", ipc),
        ("patterns", patterns),
    ];

    #[test]
    fn the_committed_corpus_holds() {
        for (name, holds) in TARGETS {
            let mut seen = 0;
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
            for entry in fs::read_dir(&folder).expect("every target has a corpus") {
                let bytes = fs::read(entry.expect("readable").path()).expect("readable");
                holds(&bytes);
                seen += 1;
            }
            assert!(seen > 0, "{} is empty", folder.display());
        }
    }
}
