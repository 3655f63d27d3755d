//! `cargo xtask dist`: the program as one static file, with its checksum.
//!
//! Static by `+crt-static` on the GNU target: glibc is linked in, so the file runs on any Linux of the architecture.
//! The target is named explicitly, because without that the flag would reach build scripts and procedural macros,
//! which have to be loaded dynamically.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::run::{Deadline, cargo, read, root, run, say, target};

/// LTO over the whole program on two cores, from nothing.
const BUDGET: Duration = Duration::from_secs(30 * 60);

/// Builds, checks that the file is static and runs, and writes it with its checksum. Returns where it lies.
///
/// # Errors
/// When any of that fails.
pub(crate) fn dist() -> Result<PathBuf> {
    let host = host()?;
    let mut build = cargo(["build", "--profile=dist", "--locked", "--package=sovereign", "--target", &host]);
    run(build.env("RUSTFLAGS", "-C target-feature=+crt-static"), Deadline::after(BUDGET))?;
    let built = target().join(&host).join("dist/sovereign");
    ensure_static(&built)?;
    let version = read(Command::new(&built).arg("--version"))?;
    let version = version.split_whitespace().last().context("`sovereign --version` says a version")?;

    let name = format!("sovereign-{version}-{host}");
    let folder = root().join("dist");
    fs::create_dir_all(&folder)?;
    let file = folder.join(&name);
    fs::copy(&built, &file).with_context(|| format!("cannot write {}", file.display()))?;
    let bytes = fs::read(&file)?;
    let digest = hex::encode(Sha256::digest(&bytes));
    // The format of sha256sum, so that `sha256sum --check` takes it.
    fs::write(folder.join(format!("{name}.sha256")), format!("{digest}  {name}\n"))?;
    say(format!("dist/{name}\n  {:.1} MB, static\n  sha256 {digest}", bytes.len() as f64 / 1e6));
    Ok(file)
}

/// A static file names no interpreter: there is no `PT_INTERP` among its program headers (ELF-64, little endian).
fn ensure_static(file: &PathBuf) -> Result<()> {
    const PT_INTERP: u32 = 3;
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let number = |at: usize, length: usize| -> Result<u64> {
        let field = bytes.get(at..at + length).context("the file is cut short")?;
        Ok(field.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    };
    ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "{} is no 64-bit little-endian ELF file", file.display());
    let (table, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    for header in 0..count {
        let at = usize::try_from(table + header * size)?;
        ensure!(number(at, 4)? != u64::from(PT_INTERP), "{} needs a dynamic loader", file.display());
    }
    Ok(())
}

/// The target triple of this machine.
fn host() -> Result<String> {
    let verbose = read(Command::new("rustc").arg("-vV"))?;
    let host = verbose.lines().find_map(|line| line.strip_prefix("host: ")).context("`rustc -vV` names the host")?;
    Ok(host.to_owned())
}
