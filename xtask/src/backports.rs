//! Debian 12 has some packages in its backports only. Where this machine's apt does not read them, it is told to, from
//! the same mirror that it has the release from.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{read, say};

/// The release whose backports are needed.
const RELEASE: &str = "bookworm";

/// Debian's keys, that its packages are signed with: they are on every Debian.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where apt is told so.
const FILE: &str = "/etc/apt/sources.list.d/sovereign-backports.sources";

/// Has apt read the backports, when this is Debian 12 and it does not yet; whether it has to look there now. apt names its
/// mirrors once it has their lists.
///
/// # Errors
/// When apt cannot say what it reads, or the file cannot be written.
pub(crate) fn add() -> Result<bool> {
    let codename = read(Command::new("sh").args(["-c", ". /etc/os-release; echo \"$ID $VERSION_CODENAME\""]))?;
    if codename.trim() != format!("debian {RELEASE}") {
        return Ok(false);
    }
    let format = "$(RELEASE) $(REPO_URI)";
    let targets = read(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    let Some(source) = source(&targets) else { return Ok(false) };
    say(format!("Reading backports too, by {FILE}"));
    fs::write(FILE, source).with_context(|| format!("cannot write {FILE}"))?;
    Ok(true)
}

/// The source to add, by what apt reads. `None` when it reads them already, or does not read the release.
fn source(targets: &str) -> Option<String> {
    let of_release: BTreeMap<&str, &str> = targets.lines().filter_map(|line| line.split_once(' ')).collect();
    let backports = format!("{RELEASE}-backports");
    if of_release.contains_key(backports.as_str()) {
        return None;
    }
    let uri = of_release.get(RELEASE)?;
    Some(format!("Types: deb\nURIs: {uri}\nSuites: {backports}\nComponents: main\nSigned-By: {KEYRING}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backports_come_from_where_the_release_does() {
        let targets = "bookworm-updates http://mirror.test/debian/\nbookworm http://mirror.test/debian/\n\
                       nodistro https://other.test/\n";
        let expected = "Types: deb\nURIs: http://mirror.test/debian/\nSuites: bookworm-backports\nComponents: main\n\
                        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        assert_eq!(source(targets).as_deref(), Some(expected));
        assert_eq!(source(&format!("{targets}bookworm-backports http://mirror.test/debian/\n")), None);
        assert_eq!(source("trixie http://mirror.test/debian/\n"), None);
    }
}
