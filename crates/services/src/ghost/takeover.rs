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
use sovereign_model::instance::users::GHOST;

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

/// The command line that makes the content folder of a Ghost that was never started, to be run in its instance by root.
pub fn make_room_command() -> Vec<String> {
    let user = GHOST.to_string();
    ["install", "-d", "-m", "0700", "-o", &user, "-g", &user, CONTENT].map(str::to_owned).into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    fn ran(program: &str, args: &[&str]) {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {output:?}");
    }

    #[test]
    fn what_changed_since_goes_over_too_and_links_stay_links() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        for place in [&from, &to] {
            fs::create_dir_all(place.join("images")).unwrap();
        }
        fs::write(folder.path().join("secret"), "secret").unwrap();
        symlink(folder.path().join("secret"), from.join("images/link")).unwrap();
        symlink(folder.path(), from.join("folder")).unwrap();
        fs::write(from.join("images/gone.png"), "gone").unwrap();
        fs::write(from.join("images/stays.png"), "stays").unwrap();
        fs::write(to.join("images/stray.png"), "of a run that was killed").unwrap();
        let [archive, noted] = ["content.tar", "noted"].map(|name| folder.path().join(name));
        let carry = || {
            let paths = [&from, &archive, &noted].map(|path| path.to_str().unwrap());
            ran("sh", &[&["-c", pack_script(), "pack"], &paths[..]].concat());
            let there = format!("--directory={}", to.display());
            let line = unpack_command(&archive).into_iter();
            let line: Vec<_> =
                line.map(|word| if word.starts_with("--directory") { there.clone() } else { word }).collect();
            ran(&line[0], &line[1..].iter().map(String::as_str).collect::<Vec<_>>());
            fs::metadata(&archive).unwrap().len()
        };
        let all = carry();
        assert!(!to.join("images/stray.png").exists());
        fs::remove_file(from.join("images/gone.png")).unwrap();
        fs::write(from.join("images/new.png"), "new").unwrap();
        let since = carry();
        assert!(since <= all);
        let mut names: Vec<_> =
            fs::read_dir(to.join("images")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["link", "new.png", "stays.png"]);
        assert_eq!(fs::read_link(to.join("images/link")).unwrap(), folder.path().join("secret"));
        assert_eq!(fs::read_link(to.join("folder")).unwrap(), folder.path());
    }
}
