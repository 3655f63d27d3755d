//! Packages for a host: from its own mirrors, or brought along.
//!
//! Brought along means: this machine's apt, told to believe the host's list of what is installed, finds and downloads
//! what is missing there, checks it as it checks its own, and the files are sent. So a host needs no way out.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::{Change, Ready, ReadyError, Step, change, on_the_host, one_at_a_time};
use crate::connection::Connection;
use crate::files::Access;
use crate::run::Run;

/// What must be installed: Incus and its tools, and what name servers are made of.
pub const NEEDED: [&str; 10] = [
    "incus-base",
    "incus-client",
    "btrfs-progs",
    "nftables",
    "dnsmasq-base",
    "udev",
    "knot",
    "knot-dnssecutils",
    "knot-module-geoip",
    "tor-geoipdb",
];
/// What of it a name server is made of: its programs, and where in the world addresses are.
pub const OF_NAME_SERVERS: [&str; 4] = ["knot", "knot-dnssecutils", "knot-module-geoip", "tor-geoipdb"];
/// The exit code of a script that finds no mirror.
pub(crate) const NO_MIRROR: i32 = 75;
/// The largest list of installed packages.
const LONGEST_STATUS: usize = 64 << 20;
/// A mirror that is slow is no reason to give up early.
const DOWNLOAD: Duration = Duration::from_secs(15 * 60);

/// Packages could not be brought along.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// A file of this machine.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no apt.
    #[error("the host has no mirror to install from, and there is no apt-get here to bring packages along with")]
    NoApt(#[source] io::Error),
    /// apt cannot.
    #[error("the host has no mirror to install from, and apt-get here cannot bring the packages along: {said}")]
    Apt {
        /// Its words.
        said: String,
    },
    /// Nothing is known of mirrors.
    #[error("no mirror of Debian is configured here, so no packages can be brought along")]
    NoMirror,
}

impl PackagesError {
    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Io { .. } => return None,
            Self::NoApt(_) | Self::NoMirror => {
                "give the host a mirror, or run this on a Debian machine that has one".to_owned()
            }
            Self::Apt { .. } => "see that `apt-get update` works here, and run the command again".to_owned(),
        })
    }
}

impl Ready<'_> {
    pub(super) async fn packages(&self) -> Result<Change, ReadyError> {
        let action = Step::Packages.to_string();
        let run = one_at_a_time(&action, concat!(include_str!("mask.sh"), include_str!("packages.sh"))).args(NEEDED);
        let ended = self.host.run(&run).await?;
        match ended.code {
            0 => return Ok(change(&ended.stdout)),
            NO_MIRROR => {}
            code => {
                let host = self.host.address().clone();
                return Err(crate::SshError::Failed { host, action, code, said: ended.said() }.into());
            }
        }
        let apt = Apt::of(self.host, self.work).await?;
        let files = apt.download(&self.facts.system.codename, &self.facts.system.version).await?;
        let there = send(self.host, &files).await?;
        let run = one_at_a_time(&action, concat!(include_str!("mask.sh"), include_str!("brought.sh"))).arg(&there);
        let said = self.host.succeed(&run).await?;
        Ok(change(&said))
    }
}

/// Brings packages to a host, into a folder that is its answer.
pub(crate) async fn send(host: &Connection, files: &[PathBuf]) -> Result<PathBuf, ReadyError> {
    let there = on_the_host();
    // Without what a killed run left, which may be older by now.
    host.succeed(&Run::script("make a folder", "rm -rf -- \"$1\" && mkdir -p -- \"$1\"").arg(&there)).await?;
    for file in files {
        if let Some(name) = file.file_name() {
            host.put_file(file, &there.join(name), Access::PUBLIC).await?;
        }
    }
    Ok(there)
}

/// An apt of its own: the host's packages, this machine's mirrors. Removed when dropped.
pub(crate) struct Apt(PathBuf);

impl Apt {
    /// One for a host. `work` is a folder of this machine.
    pub(crate) async fn of(host: &Connection, work: &Path) -> Result<Self, ReadyError> {
        let status = host.get_file(Path::new("/var/lib/dpkg/status"), LONGEST_STATUS).await?.unwrap_or_default();
        Ok(Self::begin(work, &status)?)
    }

    fn begin(work: &Path, status: &[u8]) -> Result<Self, PackagesError> {
        let apt = Self(work.join("apt"));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PackagesError::Io { path, source }
        };
        // What a killed run left.
        let _ = std::fs::remove_dir_all(&apt.0);
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = apt.0.join(folder);
            std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
        }
        let path = apt.0.join("status");
        std::fs::write(&path, status).map_err(failed(&path))?;
        Ok(apt)
    }

    /// Downloads what a host with this Debian lacks.
    async fn download(&self, codename: &str, version: &str) -> Result<Vec<PathBuf>, PackagesError> {
        self.update(codename, version).await?;
        let wanted = NEEDED.map(|name| wanted(name, codename, version));
        said(self.there().args(["-y", "--no-install-recommends", "--download-only", "install"]).args(wanted)).await?;
        self.files()
    }

    /// Has apt upgrade what the host has, or say what it would: `how` says which. What apt says.
    pub(crate) async fn upgrade(&self, codename: &str, version: &str, how: &[&str]) -> Result<String, PackagesError> {
        self.update(codename, version).await?;
        said(self.there().args(how).args(["--with-new-pkgs", "upgrade"])).await
    }

    /// Learns what there is for a host with this Debian.
    async fn update(&self, codename: &str, version: &str) -> Result<(), PackagesError> {
        // Which mirrors there are, apt says of those only whose lists it has.
        said(self.here().arg("update")).await?;
        let mirrors = mirrors(&said(self.here().args(TARGETS)).await?);
        let sources = sources(&mirrors, codename, version).ok_or(PackagesError::NoMirror)?;
        let path = self.0.join("sources.list");
        std::fs::write(&path, sources).map_err(|source| PackagesError::Io { path, source })?;
        said(self.there().arg("update")).await.map(drop)
    }

    /// What was downloaded.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, PackagesError> {
        let archives = self.0.join("cache/archives");
        let failed = |source| PackagesError::Io { path: archives.clone(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&archives).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// With this machine's mirrors.
    fn here(&self) -> Command {
        let mut command = Command::new("apt-get");
        for (option, below) in
            [("Dir::State::lists", "lists"), ("Dir::State::status", "status"), ("Dir::Cache", "cache")]
        {
            command.arg("-o").arg(format!("{option}={}", self.0.join(below).display()));
        }
        command.args(["-o", "Debug::NoLocking=true", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]);
        command.args(["-o", "APT::Architecture=amd64", "-q"]);
        command
    }

    /// With the same mirrors for the host's release.
    fn there(&self) -> Command {
        let mut command = self.here();
        command.arg("-o").arg(format!("Dir::Etc::sourcelist={}", self.0.join("sources.list").display()));
        command.args(["-o", "Dir::Etc::sourceparts=-"]);
        command
    }
}

impl Drop for Apt {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // the next one begins anew
    }
}

async fn said(command: &mut Command) -> Result<String, PackagesError> {
    command.stdin(Stdio::null()).kill_on_drop(true).env("LC_ALL", "C");
    let failed = |said: &str| PackagesError::Apt { said: said.to_owned() };
    let output = timeout(DOWNLOAD, command.output()).await.map_err(|_| failed("it does not end"))?;
    let output = output.map_err(PackagesError::NoApt)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(failed(text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing")))
}

/// This machine's mirrors of Debian: site and release of each.
const TARGETS: [&str; 6] =
    ["indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages", "Component: main", "Origin: Debian"];
/// By whose keys packages are checked, here as on a host.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A mirror of this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Mirror {
    site: String,
    release: String,
}

fn mirrors(targets: &str) -> Vec<Mirror> {
    let mut mirrors: Vec<Mirror> = targets
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(Mirror { site: words.next()?.to_owned(), release: words.next()?.to_owned() })
        })
        .collect();
    mirrors.sort();
    mirrors.dedup();
    mirrors
}

/// The same mirrors for the host's release, and backports where Incus is only there. `None` when there are none.
fn sources(mirrors: &[Mirror], codename: &str, version: &str) -> Option<String> {
    // What comes after the code name: nothing, `-updates`, `-security`.
    let ends = ["", "-updates", "-security"];
    let suited = mirrors.iter().filter_map(|mirror| {
        let base = mirror.release.split(['-', '/']).next()?;
        let end = mirror.release.strip_prefix(base)?;
        ends.contains(&end).then_some((mirror, end))
    });
    let mut lines: Vec<String> =
        suited.clone().map(|(mirror, end)| line(mirror, &format!("{codename}{end}"))).collect();
    if version == "12" {
        lines.extend(
            suited.filter(|(_, end)| end.is_empty()).map(|(mirror, _)| line(mirror, &format!("{codename}-backports"))),
        );
    }
    lines.sort();
    lines.dedup();
    (!lines.is_empty()).then(|| lines.concat())
}

fn line(Mirror { site, .. }: &Mirror, release: &str) -> String {
    format!("deb [signed-by={KEYRING}] {site} {release} main\n")
}

/// Debian 12 has Incus in its backports only.
fn wanted(package: &str, codename: &str, version: &str) -> String {
    if version == "12" && package.starts_with("incus") {
        format!("{package}/{codename}-backports")
    } else {
        package.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_of_this_machine_serve_a_host_of_another_release() {
        let targets = "http://deb.example/debian trixie\n\
                       http://deb.example/debian trixie-updates\nhttp://deb.example/debian-security trixie-security\n\
                       http://deb.example/debian trixie\nhttp://other.example/ trixie-strange\n\nnonsense\n";
        let mirrors = mirrors(targets);
        insta::assert_snapshot!(sources(&mirrors, "bookworm", "12").unwrap());
        insta::assert_snapshot!(sources(&mirrors, "trixie", "13").unwrap());
        assert_eq!(sources(&[], "trixie", "13"), None);
        assert_eq!(wanted("incus-base", "bookworm", "12"), "incus-base/bookworm-backports");
        assert_eq!(wanted("incus-base", "trixie", "13"), "incus-base");
    }
}
