//! Where packages come from: the mirrors this machine's apt is set up with, and a setting of apt's own for our use.
//! Pure: decides, and writes texts.
//!
//! The address of a mirror is the operator's choice and stands in the apt configuration already, with proxies and
//! credentials. Of all sources there, those are taken that carry Debian's suites; nothing else of that configuration
//! gets into a lock: no third party's source, no pinning, no key but Debian's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::apt::{Target, encoded};
use super::lock::Archive;
use super::names::{Architecture, SuiteName};
use super::role::Base;

/// Debian's releases and the names that move from one to the next: what tells a source of Debian's from another's. The
/// signature is what is trusted; this only picks whom to ask.
const RELEASES: &[&str] = &[
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// The mirrors of Debian's archives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirrors(BTreeMap<Archive, String>);

impl Mirrors {
    /// Those among this machine's sources that have what `base` needs; of several, the first. Else the suite that none has.
    pub(super) fn choose(targets: &[Target], base: &Base) -> Result<Self, SuiteName> {
        let mut mirrors = BTreeMap::new();
        for suite in &base.suites {
            let archive = Archive::of(suite.as_str());
            if mirrors.contains_key(&archive) {
                continue;
            }
            let exactly = targets.iter().find(|target| target.suite == suite.as_str());
            // A machine with another release of Debian has the same mirror.
            let mirror = exactly.or_else(|| targets.iter().find(|target| carries(&target.suite, archive)));
            let mirror = mirror.filter(|mirror| is_plain(&mirror.uri)).ok_or_else(|| suite.clone())?;
            mirrors.insert(archive, mirror.uri.clone());
        }
        Ok(Self(mirrors))
    }

    /// The mirror of an archive.
    pub(super) fn of(&self, archive: Archive) -> Option<&str> {
        self.0.get(&archive).map(String::as_str)
    }

    /// The archive an address is in, and the path there. The longest address wins: one mirror may lie below another.
    pub(super) fn split<'u>(&self, uri: &'u str) -> Option<(Archive, &'u str)> {
        let inside = self.0.iter().filter_map(|(archive, mirror)| {
            let path = uri.strip_prefix(mirror.as_str())?.strip_prefix('/')?;
            Some((mirror.len(), *archive, path))
        });
        inside.max_by_key(|(length, ..)| *length).map(|(_, archive, path)| (archive, path))
    }

    /// The sources for apt, in its deb822 format. `Check-Valid-Until` and `Trusted` are left to what they are by
    /// default: an old index is refused, and an unsigned one.
    pub(super) fn sources(&self, base: &Base, architecture: &Architecture) -> String {
        let mut text = String::new();
        for (archive, uri) in &self.0 {
            let suites: Vec<_> = base.suites.iter().map(SuiteName::as_str).collect();
            let suites: Vec<_> = suites.into_iter().filter(|suite| Archive::of(suite) == *archive).collect();
            let components: Vec<_> = base.components.iter().map(SuiteName::as_str).collect();
            let (suites, components) = (suites.join(" "), components.join(" "));
            let keyring = base.keyring.display();
            // Writing to a text does not fail.
            let _ = write!(
                text,
                "Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: {components}\n\
                 Architectures: {architecture}\nTargets: Packages\nSigned-By: {keyring}\n\n"
            );
        }
        text
    }
}

/// Whether a suite is one of an archive's.
fn carries(suite: &str, archive: Archive) -> bool {
    let release = suite.split(['-', '/']).next().unwrap_or_default();
    RELEASES.contains(&release) && Archive::of(suite) == archive
}

/// Whether an address can stand in a list of sources as it is, and is of a kind that files can be fetched from.
fn is_plain(uri: &str) -> bool {
    let kind = uri.split(':').next().unwrap_or_default();
    let known = ["http", "https", "file", "copy", "tor+http", "tor+https"].contains(&kind);
    known && uri.chars().all(|c| c.is_ascii_graphic() && c != '\'' && c != '"')
}

/// The address of a file of an archive. apt gives a link for `file:`, and a copy for `copy:`.
pub(super) fn address(mirror: &str, path: &str) -> String {
    let mirror = mirror.strip_prefix("file:").map_or_else(|| mirror.to_owned(), |rest| format!("copy:{rest}"));
    format!("{mirror}/{}", encoded(path))
}

/// The host a mirror is at, for people.
pub(super) fn host(mirror: &str) -> &str {
    let rest = mirror.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit('@').next().unwrap_or_default() {
        "" => "this machine",
        host => host,
    }
}

/// Settings for apt, read after the machine's own: everything of ours below `folder`, and back to their defaults what
/// would weaken a check or reach into another's files; and apt does not count itself among what is essential. Proxies, credentials and how old an index may be stay the
/// operator's.
pub(super) fn settings(folder: &Path, architecture: &Architecture) -> String {
    let folder = folder.display();
    format!(
        r#"#clear APT::Update;
#clear APT::Architectures;
#clear APT::Default-Release;
#clear DPkg;
#clear Dir::Cache::pkgcache;
#clear Dir::Cache::srcpkgcache;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::AllowUnauthenticated "false";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
Acquire::Retries "3";
pkgCacheGen::ForceEssential ",";
Dir::State "{folder}/state";
Dir::State::lists "lists";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
Dir::Cache::archives "archives";
Dir::Etc::sourcelist "{folder}/debian.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::Log "{folder}/log";
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str, suite: &str) -> Target {
        Target { uri: uri.to_owned(), suite: suite.to_owned() }
    }

    fn machine() -> Vec<Target> {
        vec![
            target("https://packages.test/tool/apt", "nodistro"),
            target("http://mirror.test/debian", "bookworm"),
            target("http://mirror.test/debian", "bookworm-updates"),
            target("http://mirror.test/debian-security", "bookworm-security"),
        ]
    }

    #[test]
    fn debians_sources_are_chosen_and_no_others() {
        let mirrors = Mirrors::choose(&machine(), &Base::bookworm()).unwrap();
        assert_eq!(mirrors.of(Archive::Debian), Some("http://mirror.test/debian"));
        assert_eq!(mirrors.of(Archive::DebianSecurity), Some("http://mirror.test/debian-security"));
        insta::assert_snapshot!(mirrors.sources(&Base::bookworm(), &"amd64".parse().unwrap()), @r"
        Types: deb
        URIs: http://mirror.test/debian
        Suites: bookworm bookworm-updates
        Components: main
        Architectures: amd64
        Targets: Packages
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

        Types: deb
        URIs: http://mirror.test/debian-security
        Suites: bookworm-security
        Components: main
        Architectures: amd64
        Targets: Packages
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
        ");
    }

    #[test]
    fn another_release_of_debian_has_the_same_mirror() {
        let other = [target("http://m/debian", "trixie"), target("http://m/security", "stable-security")];
        let mirrors = Mirrors::choose(&other, &Base::bookworm()).unwrap();
        assert_eq!(mirrors.of(Archive::DebianSecurity), Some("http://m/security"));
    }

    #[test]
    fn what_no_source_has_is_named() {
        let missing = Mirrors::choose(&machine()[..3], &Base::bookworm()).unwrap_err();
        assert_eq!(missing.as_str(), "bookworm-security");
        assert!(Mirrors::choose(&[target("cdrom://x", "bookworm")], &Base::bookworm()).is_err());
        assert!(Mirrors::choose(&[target("http://x\nSigned-By: y", "bookworm")], &Base::bookworm()).is_err());
    }

    #[test]
    fn addresses_are_taken_apart_and_put_together() {
        let mirrors = Mirrors::choose(&machine(), &Base::bookworm()).unwrap();
        let split = mirrors.split("http://mirror.test/debian-security/pool/a.deb");
        assert_eq!(split, Some((Archive::DebianSecurity, "pool/a.deb")));
        assert_eq!(mirrors.split("http://mirror.test/debianish/pool/a.deb"), None);
        assert_eq!(address("file:/repo", "pool/g++_1.deb"), "copy:/repo/pool/g%2b%2b_1.deb");
        assert_eq!((host("http://u:p@m.test:80/x"), host("file:/repo")), ("m.test:80", "this machine"));
    }

    #[test]
    fn nothing_that_weakens_a_check_is_set() {
        let text = settings(Path::new("/work"), &"amd64".parse().unwrap());
        assert!(!text.contains("Check-Valid-Until") && !text.contains("Check-Date"), "{text}");
        assert!(!text.contains("\"true\""), "{text}");
    }
}
