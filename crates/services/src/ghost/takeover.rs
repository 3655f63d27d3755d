//! Taking a Ghost's data over from SQLite to MariaDB: the same site, the same version of Ghost, another engine.
//!
//! ```text
//!  an empty database ── Ghost starts once, is well ──► its tables
//!  Ghost is stopped ([`pause_command`])
//!  a copy of the SQLite database ── [`takeover_command`] ──► all rows, in one transaction
//!  Ghost goes on ([`resume_command`]), and is set up: webhooks and settings as they are to be here
//! ```
//!
//! Ghost keeps the site's own address as `__GHOST_URL__`, so the site may have another one afterwards. The content folder
//! is files, and goes over as files: [`pack_script`] on this side, [`unpack_command`] on that.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::instances::{APP, CONFIGURATION, CONTENT, NODE};

const TAKEOVER: &str = include_str!("assets/takeover.cjs");

/// The exit code of [`takeover_command`] when it refuses: nothing was changed, and it is of no use to run it again. Why is
/// on its standard error.
pub const TAKEOVER_REFUSED: i64 = 65;

/// The command line that puts all that is in a copy of a Ghost's SQLite database into the database of a site, in the place
/// of what is there: to be run in the instance of its Ghost by root, while that is paused. Its answer is a [`Taken`] in
/// JSON; without that answer nothing was changed.
pub fn takeover_command(sqlite: &Path) -> Vec<String> {
    let fixed = [NODE, "-e", TAKEOVER, "--", APP, CONFIGURATION].map(str::to_owned);
    fixed.into_iter().chain([sqlite.display().to_string()]).collect()
}

/// What was taken over. It comes from what is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Taken {
    /// How many rows, by table.
    pub tables: BTreeMap<String, u64>,
}

/// The command line that stops Ghost in its instance until [`resume_command`], to be run there by root.
pub fn pause_command() -> Vec<String> {
    ["systemctl", "stop", "ghost.service"].map(str::to_owned).into()
}

/// The command line that lets it go on.
pub fn resume_command() -> Vec<String> {
    ["systemctl", "start", "ghost.service"].map(str::to_owned).into()
}

/// A script for `sh` that packs a content folder, `$1`, into the archive `$2`. What is noted in `$3` is what the archive
/// before had: only what changed since is in this one, and which names are gone. Links are packed as links.
///
/// That a file changes while it is read is no failure: whoever wants to have it as it is packs once more.
pub fn pack_script() -> &'static str {
    "tar --create --file=\"$2\" --listed-incremental=\"$3\" --no-check-device --directory=\"$1\" . || [ $? -eq 1 ]"
}

/// The command line that unpacks such an archive into the content of a Ghost in its instance, to be run there by Ghost's
/// own user: nobody mightier writes where links of its may lead.
pub fn unpack_command(archive: &Path) -> Vec<String> {
    let archive = format!("--file={}", archive.display());
    let folder = format!("--directory={CONTENT}");
    ["tar", "--extract", &archive, &folder, "--listed-incremental=/dev/null", "--no-same-owner"]
        .map(str::to_owned)
        .into()
}
