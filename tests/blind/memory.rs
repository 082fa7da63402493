//! What the hub's process holds in memory: everything a core dump would contain, and taken while it works.

use std::{
    fs::{self, File},
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::Context;
use fairlead_tests::World;

const CHUNK_BYTES: usize = 1 << 20;
const PAGE_BYTES: u64 = 4096;

/// Writes every readable byte of the hub's memory into the file `into`.
pub(crate) fn dump_hub(world: &World, into: &Path) -> anyhow::Result<()> {
    let process = hub_process(world)?;
    let maps = fs::read_to_string(process.join("maps"))?;
    let mut memory = File::open(process.join("mem"))?;
    let mut dump = BufWriter::new(File::create(into)?);
    let mut chunk = vec![0; CHUNK_BYTES];
    for (begin, end) in maps.lines().filter_map(readable) {
        let mut at = begin;
        while at < end {
            let wanted = usize::try_from(end - at)?.min(CHUNK_BYTES);
            memory.seek(SeekFrom::Start(at))?;
            // Pages may go while the process works, and some of the kernel's own are not to be read.
            let read = memory.read(&mut chunk[..wanted]).unwrap_or_default();
            dump.write_all(&chunk[..read])?;
            at += if read == 0 { PAGE_BYTES } else { u64::try_from(read)? };
        }
    }
    Ok(dump.flush()?)
}

/// Returns the address range of a line of `maps` that can be read.
fn readable(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (begin, end) = words.next()?.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    words.next()?.starts_with('r').then_some((address(begin)?, address(end)?))
}

/// Finds this world's hub among all processes by its program and its data directory.
fn hub_process(world: &World) -> anyhow::Result<std::path::PathBuf> {
    let data = world.folder().join("hub").display().to_string();
    let is_it = |process: &std::path::PathBuf| {
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        words.next().is_some_and(|program| program.ends_with("/fairlead-hub"))
            && words.any(|word| word == data)
    };
    let processes = fs::read_dir("/proc")?.filter_map(|entry| Some(entry.ok()?.path()));
    processes.into_iter().find(is_it).context("the hub runs")
}
