//! This program in front of the compiler (`RUSTC_WORKSPACE_WRAPPER`), for the crates of this workspace.
//!
//! Two ways to stand there. [`Front::Lints`]: the lints of clippy and rustdoc are looked at while what is tested is
//! compiled. Asked by `cargo clippy` and `cargo doc`, each would read all dependencies once more, and half of the time of
//! all gates went there. [`Front::Counters`]: coverage counters for the fuzzer, see [`crate::fuzz`]. Either way
//! dependencies stay as every other build has them and are not compiled again.
//!
//! Cargo knows a wrapper by its path, and keeps what was built by one apart from what was built by another; so each way
//! has a name of its own, by which this program knows what it is asked for.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result};

use crate::run::target;

/// A way to stand in front of the compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    /// What compiles keeps the lints of rustc, clippy and rustdoc, warnings denied.
    Lints,
    /// What compiles counts where it was, for libFuzzer.
    Counters,
}

/// What cargo sets for a program in front of the compiler.
pub(crate) const VARIABLE: &str = "RUSTC_WORKSPACE_WRAPPER";
/// Where the pages that rustdoc writes go, for [`Front::Lints`].
const PAGES: &str = "XTASK_PAGES";

impl Front {
    const ALL: [Self; 2] = [Self::Lints, Self::Counters];

    fn name(self) -> &'static str {
        match self {
            Self::Lints => "lints",
            Self::Counters => "counters",
        }
    }

    /// Puts this program in front of the compiler of a `cargo` command.
    ///
    /// # Errors
    /// When this program cannot be given the name.
    pub(crate) fn of(self, cargo: &mut Command) -> Result<&mut Command> {
        let folder = target().join("wrappers");
        let wrapper = folder.join(self.name());
        if !in_place(&wrapper) {
            let program = std::env::current_exe().context("cannot tell where this program lies")?;
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            // A file of its own: what is built in a moment may be this program, and then it is not there for an instant.
            let fresh = folder.join(format!("{}.{}", self.name(), std::process::id()));
            fs::copy(&program, &fresh)
                .and_then(|_| fs::rename(&fresh, &wrapper))
                .with_context(|| format!("cannot write {}", wrapper.display()))?;
        }
        Ok(cargo.env(VARIABLE, wrapper).env(PAGES, target().join("doc")))
    }
}

/// Whether the wrapper is this very program, put there before. A run of the gates asks many times, and in the midst of
/// it cargo may have replaced the file this program was started from.
fn in_place(wrapper: &Path) -> bool {
    let started = std::env::current_exe().and_then(fs::metadata).and_then(|file| file.modified());
    match (fs::metadata(wrapper).and_then(|file| file.modified()), started) {
        (Ok(made), Ok(started)) => made >= started,
        (made, _) => made.is_ok(),
    }
}

/// Stands in front of the compiler, when this process was started to do so.
pub(crate) fn as_compiler() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let called = PathBuf::from(args.next()?);
    let front = Front::ALL.into_iter().find(|front| called.file_name() == Some(OsStr::new(front.name())))?;
    let compiler = PathBuf::from(args.next()?);
    let args: Vec<OsString> = args.collect();
    let ended = match front {
        Front::Lints => linted(&compiler, &args),
        Front::Counters => counted(&compiler, &args),
    };
    Some(match ended {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => {
            eprint(format_args!("cannot run the compiler: {error}\n"));
            ExitCode::FAILURE
        }
    })
}

/// Cargo shows what its compilers say on stderr.
fn eprint(text: std::fmt::Arguments<'_>) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), text);
}

fn linted(compiler: &Path, args: &[OsString]) -> std::io::Result<ExitStatus> {
    // Clippy's driver is the whole compiler with more lints; it lies where the compiler lies.
    let mut driver = Command::new(compiler.with_file_name("clippy-driver"));
    let compiled = driver.arg(compiler).args(args).arg("--deny=warnings").status()?;
    match (documented(args), std::env::var_os(PAGES)) {
        (Some(told), Some(pages)) if compiled.success() => {
            let mut pages_of = Command::new(compiler.with_file_name("rustdoc"));
            // Private items are documented too, so a link to one leads somewhere.
            pages_of.args(told).args(["--document-private-items", "--deny=warnings"]);
            pages_of.args(["--allow=rustdoc::private_intra_doc_links", "--out-dir"]).arg(pages).status()
        }
        _ => Ok(compiled),
    }
}

/// What rustdoc has to know of a call of the compiler, when it compiles something that has pages: a library or a
/// program, no test, no example, no build script, and no question about the compiler itself.
fn documented(args: &[OsString]) -> Option<Vec<OsString>> {
    const TOLD: [&str; 7] = ["--crate-name", "--edition", "--crate-type", "--cfg", "--check-cfg", "--extern", "-L"];
    const SHOWN: [&str; 3] = ["--error-format", "--json", "--color"];
    let source = args.iter().map(Path::new).find(|arg| arg.extension() == Some(OsStr::new("rs")))?;
    let has_pages =
        source.components().any(|part| part.as_os_str() == "src") && !args.iter().any(|arg| arg == "--test");
    if !has_pages {
        return None;
    }
    let mut told = vec![source.as_os_str().to_owned()];
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        let name = text.split_once('=').map_or(text.as_ref(), |(name, _)| name);
        if TOLD.contains(&name) || SHOWN.contains(&name) {
            told.push(arg.clone());
            if name == text {
                told.extend(args.next().cloned());
            }
        }
    }
    Some(told)
}

fn counted(compiler: &Path, args: &[OsString]) -> std::io::Result<ExitStatus> {
    let mut compiler = Command::new(compiler);
    compiler.args(args).args([
        "-Copt-level=2",
        "-Cpasses=sancov-module",
        "-Cllvm-args=-sanitizer-coverage-level=4",
        "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
        "-Cllvm-args=-sanitizer-coverage-pc-table",
        "-Cllvm-args=-sanitizer-coverage-trace-compares",
        // Counters of one crate in one piece: the pass runs per piece, and the linker may drop a lonely table.
        "-Ccodegen-units=1",
    ]);
    compiler.status()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn rustdoc_is_told_what_it_has_to_know() {
        let told = documented(&args(
            "--crate-name sovereign_keys --edition=2024 crates/keys/src/lib.rs --error-format=json --json=artifacts \
             --crate-type lib --emit=dep-info,metadata,link -C debuginfo=1 --warn=clippy::all --cfg x --out-dir out \
             -C extra-filename=-1 -L dependency=deps --extern hex=deps/libhex.rmeta",
        ));
        let expected = "crates/keys/src/lib.rs --crate-name sovereign_keys --edition=2024 --error-format=json \
                        --json=artifacts --crate-type lib --cfg x -L dependency=deps --extern hex=deps/libhex.rmeta";
        assert_eq!(told, Some(args(expected)));
    }

    #[test]
    fn tests_examples_and_questions_have_no_pages() {
        for line in [
            "--crate-name x crates/x/src/lib.rs --test",
            "--crate-name x crates/x/tests/x.rs --test",
            "--crate-name x crates/x/examples/x.rs --crate-type bin",
            "--crate-name build_script_build crates/x/build.rs --crate-type bin",
            "-vV",
            "- --crate-name ___ --print=file-names --crate-type bin",
        ] {
            assert_eq!(documented(&args(line)), None, "{line}");
        }
    }
}
