//! Packs an OCI image archive from static programs, without a registry and without a container engine.

use anyhow::{Context, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// An image of a few files in one layer.
#[derive(Debug, Clone)]
pub struct Image {
    reference: String,
    files: Vec<(String, PathBuf, u32)>,
    entrypoint: Vec<String>,
}

impl Image {
    /// Begins an image. The reference has to be complete (`docker.io/local/NAME:TAG`), or a kubelet looks for
    /// another name and tries to pull it.
    pub fn new(reference: &str) -> Self {
        Self { reference: reference.to_owned(), files: Vec::new(), entrypoint: Vec::new() }
    }

    /// Adds a program at the root of the image; the first one is the entrypoint.
    #[must_use]
    pub fn program(self, name: &str, file: impl Into<PathBuf>) -> Self {
        let mut image = self.file(name, file, 0o755);
        if image.entrypoint.is_empty() {
            image.entrypoint.push(format!("/{name}"));
        }
        image
    }

    /// Adds a file at a path relative to the root of the image.
    #[must_use]
    pub fn file(mut self, path: &str, file: impl Into<PathBuf>, mode: u32) -> Self {
        self.files.push((path.trim_start_matches('/').to_owned(), file.into(), mode));
        self
    }

    /// Writes the archive. It appears under its name only when it is complete.
    pub fn write(&self, archive: &Path) -> anyhow::Result<()> {
        let (_, tag) =
            self.reference.rsplit_once(':').context("an image reference ends in a tag")?;
        let layer = self.layer()?;
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": self.entrypoint, "Env": ["PATH=/"] },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        });
        let config = serde_json::to_vec(&config)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        let manifest = serde_json::to_vec(&manifest)?;
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["annotations"] = json!({
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [entry] }))?;

        let unfinished = archive.with_extension(format!("{}.part", std::process::id()));
        let mut tar = Tar::new(BufWriter::new(File::create(&unfinished)?));
        tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
        tar.file("index.json", &index, 0o644)?;
        for blob in [&layer, &config, &manifest] {
            tar.file(&format!("blobs/sha256/{}", hex_digest(blob)), blob, 0o644)?;
        }
        tar.end()?.into_inner()?.sync_data()?;
        fs::rename(&unfinished, archive)
            .with_context(|| format!("cannot write {}", archive.display()))
    }

    fn layer(&self) -> anyhow::Result<Vec<u8>> {
        let mut tar = Tar::new(Vec::new());
        let mut folders = BTreeSet::new();
        for (path, file, mode) in &self.files {
            for (end, _) in path.match_indices('/') {
                if folders.insert(&path[..end]) {
                    tar.folder(&path[..end])?;
                }
            }
            let content =
                fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            tar.file(path, &content, *mode)?;
        }
        tar.end()
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn descriptor(media_type: &str, blob: &[u8]) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": digest(blob), "size": blob.len() })
}

fn digest(blob: &[u8]) -> String {
    format!("sha256:{}", hex_digest(blob))
}

fn hex_digest(blob: &[u8]) -> String {
    hex::encode(Sha256::digest(blob))
}

/// A tar archive consists of blocks of this size.
const BLOCK: usize = 512;

/// A tar archive in the ustar format; equal content gives equal bytes.
struct Tar<W> {
    out: W,
}

impl<W: Write> Tar<W> {
    fn new(out: W) -> Self {
        Self { out }
    }

    fn folder(&mut self, path: &str) -> anyhow::Result<()> {
        self.header(path, 0o755, 0, b'5')
    }

    fn file(&mut self, path: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
        self.header(path, mode, content.len(), b'0')?;
        self.out.write_all(content)?;
        let rest = content.len().next_multiple_of(BLOCK) - content.len();
        self.out.write_all(&[0; BLOCK][..rest])?;
        Ok(())
    }

    fn end(mut self) -> anyhow::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn header(&mut self, path: &str, mode: u32, size: usize, kind: u8) -> anyhow::Result<()> {
        ensure!(path.len() < 100, "the path {path} is too long for a plain tar header");
        let mut header = [0; BLOCK];
        let mut put =
            |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, path);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{size:011o}"));
        put(136, "00000000000");
        // The sum counts its own field as blanks.
        put(148, "        ");
        put(257, "ustar");
        put(263, "00");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.out.write_all(&header)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn packed(folder: &Path) -> PathBuf {
        let program = folder.join("program");
        fs::write(&program, "not really a program").unwrap();
        let archive = folder.join("image.tar");
        Image::new("docker.io/local/one:dev")
            .program("one", &program)
            .file("etc/one/file", &program, 0o644)
            .write(&archive)
            .unwrap();
        archive
    }

    #[test]
    fn tar_reads_the_archive_and_its_layer() {
        let folder = tempfile::tempdir().unwrap();
        let archive = packed(folder.path());
        let unpack = |file: &Path| {
            let done =
                Command::new("tar").arg("xf").arg(file).arg("-C").arg(folder.path()).status();
            assert!(done.unwrap().success(), "{}", file.display());
        };
        unpack(&archive);
        let blobs = fs::read_dir(folder.path().join("blobs/sha256"))
            .unwrap()
            .map(|blob| blob.unwrap().path());
        let layer = blobs.max_by_key(|blob| fs::metadata(blob).unwrap().len()).unwrap();
        unpack(&layer);
        assert_eq!(
            fs::read_to_string(folder.path().join("etc/one/file")).unwrap(),
            "not really a program"
        );
    }

    #[test]
    fn the_same_files_give_the_same_archive() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bytes = |folder: &Path| fs::read(packed(folder)).unwrap();
        assert_eq!(bytes(one.path()), bytes(other.path()));
    }
}
