//! The images of the demo as files, for clusters whose nodes have to be given them or fetch them from a registry.

use std::{fs, io::Write, path::Path};

use anyhow::Context;
use fairlead_lab::{Image, image_in, sibling};

const PROGRAMS: [&str; 2] = ["shop", "fairlead-agent"];

/// Writes the images and says what is to be done with them.
pub(crate) fn save(
    folder: &Path,
    repository: Option<&str>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for program in PROGRAMS {
        let name = image_in(repository, program)?.reference();
        let archive = folder.join(format!("{program}.tar"));
        Image::new(&name).program(program, sibling(program)?).write(&archive)?;
        let archive = archive.display();
        writeln!(out, "{name} is in {archive}. Give it to the nodes, or to a registry:")?;
        writeln!(out, "  kind load image-archive {archive}")?;
        writeln!(out, "  k3d image import {archive}")?;
        writeln!(out, "  ctr --namespace k8s.io images import {archive}    # on each node")?;
        if repository.is_some() {
            writeln!(out, "  skopeo copy oci-archive:{archive} docker://{name}")?;
        }
    }
    Ok(())
}
