//! A program that a host's systemd runs once, confined: for what reads strangers' files.

use std::path::Path;

use super::{HARDENING, specifiers};
use crate::run::Run;

/// Where the root folder of such programs is on a host: in memory, with nothing in it but empty folders and files that
/// something is mounted on.
const ROOT: &str = "/run/sovereign-once";

/// Where the program is found in its root folder.
const PROGRAM: &str = "/sovereign";

/// What it takes at most, whatever it reads.
const MEMORY: &str = "256M";

/// It may read what it is shown, whoever's that is, and can do nothing else that others cannot.
const READS_ALL: &str = "CAP_DAC_READ_SEARCH";

/// With that right whole file systems can be read past all mounts, by these.
const KEPT_FROM_IT: &str = "~open_by_handle_at name_to_handle_at @debug";

/// A program of ours, which reads on a host and answers.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The program, on the host.
    pub program: &'a Path,
    /// Its arguments. Never a secret.
    pub args: &'a [String],
    /// Folders and files of the host, and where each is found by the program: all that it sees but the system's libraries.
    /// None of them changes anything on the way to it but for root of the host.
    pub shown: &'a [(&'a Path, &'a Path)],
}

/// The command for it: on its standard input and output, until both end. It has no network and no user's rights but to read
/// what is shown, changes nothing, and is gone with its end.
pub fn reading(action: &str, reading: &Reading<'_>) -> Run {
    let mut settings: Vec<String> = HARDENING.iter().map(|setting| (*setting).to_owned()).collect();
    let library = |folder: &&str| format!("BindReadOnlyPaths=-{folder}");
    settings.extend(["/usr", "/lib", "/lib64"].iter().map(library));
    settings.extend([
        "DynamicUser=yes".to_owned(),
        format!("CapabilityBoundingSet={READS_ALL}"),
        format!("AmbientCapabilities={READS_ALL}"),
        format!("SystemCallFilter={KEPT_FROM_IT}"),
        "PrivateNetwork=yes".to_owned(),
        "MountAPIVFS=yes".to_owned(),
        format!("RootDirectory={ROOT}"),
        format!("MemoryMax={MEMORY}"),
        format!("BindReadOnlyPaths={}:{PROGRAM}", quoted(reading.program)),
    ]);
    let shown = reading.shown.iter();
    settings.extend(shown.map(|(from, to)| format!("BindReadOnlyPaths={}:{}", quoted(from), quoted(to))));
    let run = Run::script(action, "mkdir -p \"$1\"; shift; exec systemd-run \"$@\"").arg(ROOT);
    let run = run.args(["--pipe", "--wait", "--collect", "--quiet", "--service-type=exec"]);
    let run = settings.iter().fold(run, |run, setting| run.arg("-p").arg(setting));
    run.arg("--").arg(PROGRAM).args(reading.args)
}

/// A path among the paths of a setting, which are taken apart at spaces and colons.
fn quoted(path: &Path) -> String {
    let escaped: String = path.to_string_lossy().chars().fold(String::new(), |mut text, character| {
        if matches!(character, '\\' | '"' | ':') {
            text.push('\\');
        }
        text.push(character);
        text
    });
    format!("\"{}\"", specifiers(&escaped))
}
