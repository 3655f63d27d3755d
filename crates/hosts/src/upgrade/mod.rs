//! Debian's packages on a host, upgraded; and the host booted again, when it must be.
//!
//! Packages come from the host's own mirrors. Where it reaches none they come from this machine's, checked by the
//! archive's signatures, as they do when a host is made ready. Nothing is removed: `apt-get upgrade --with-new-pkgs`
//! brings a new kernel in beside the old one, and leaves what would need a removal.
//!
//! When a host must boot again is kept simple, and errs on the side of booting: its newest kernel does not run, Debian
//! says so (`/run/reboot-required`), or what process 1 began still runs with a C library that was replaced.
//!
//! Left out: what runs on a host meanwhile (the engine), the order of hosts and whether one may be touched (the
//! command).

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::connection::Connection;
use crate::error::SshError;
use crate::facts::Facts;
use crate::ready::{Apt, NO_MIRROR, PATIENCE, ReadyError, one_at_a_time, send_packages};
use crate::run::Run;

/// What the look at a host's packages may take: its mirrors are asked.
const LOOK: Duration = Duration::from_secs(5 * 60);
/// More lines of one kind are not believed.
const MOST: usize = 5000;
/// Longer texts are cut.
const LONGEST: usize = 300;

/// A package that has a newer version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Upgradable {
    /// Its name.
    pub name: String,
    /// The version that is there; `None` for one that comes in beside the others, as a kernel does.
    pub from: Option<String>,
    /// The version to come.
    pub to: String,
}

/// What there is to upgrade on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pending {
    /// The packages, by name.
    pub packages: Vec<Upgradable>,
    /// Whether they come by way of this machine.
    pub brought: bool,
}

impl Pending {
    /// Whether Incus is among them with another version of its makers': members of a cluster wait for each other then.
    pub fn changes_incus(&self) -> bool {
        self.packages.iter().any(|package| {
            package.name.starts_with("incus")
                && package.from.as_deref().is_some_and(|from| upstream(from) != upstream(&package.to))
        })
    }
}

/// A version without what Debian adds: `6.0.4` of `1:6.0.4-2+deb13u7`.
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    version.rsplit_once('-').map_or(version, |(upstream, _)| upstream)
}

/// How a host has booted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Booted {
    /// Another one each time.
    #[serde(skip)]
    pub boot: String,
    /// Whether it is a container, whose kernel is the one of the machine around it.
    pub container: bool,
    /// Why it must boot again, a sentence each; none when it need not.
    pub reasons: Vec<String>,
}

/// What has a newer version. Only the host's lists of packages change.
///
/// # Errors
/// When the host cannot, or neither it nor this machine reaches a mirror.
pub async fn pending(host: &Connection, facts: &Facts, work: &Path) -> Result<Pending, ReadyError> {
    let action = "look for newer packages";
    let ended = host.run(&one_at_a_time(action, include_str!("look.sh")).within(LOOK)).await?;
    match ended.code {
        0 => Ok(Pending { packages: parse(&ended.stdout), brought: false }),
        NO_MIRROR => {
            let apt = Apt::of(host, work).await?;
            let said = apt.upgrade(&facts.system.codename, &facts.system.version, &["--simulate"]).await?;
            Ok(Pending { packages: parse_apt(&said), brought: true })
        }
        code => {
            let (host, action) = (host.address().clone(), action.to_owned());
            Err(SshError::Failed { host, action, code, said: ended.said() }.into())
        }
    }
}

/// Upgrades all that [`pending`] found. Killed, it goes on when it is done again.
///
/// # Errors
/// When the host cannot: in apt's words.
pub async fn install(host: &Connection, facts: &Facts, work: &Path, brought: bool) -> Result<(), ReadyError> {
    let run = one_at_a_time("upgrade packages", include_str!("install.sh"));
    if !brought {
        host.succeed(&run.arg("")).await?;
        return Ok(());
    }
    let apt = Apt::of(host, work).await?;
    apt.upgrade(&facts.system.codename, &facts.system.version, &["-y", "--download-only"]).await?;
    let files = apt.files()?;
    if files.is_empty() {
        return Ok(());
    }
    let there = send_packages(host, &files).await?;
    host.succeed(&run.arg(there)).await?;
    Ok(())
}

/// How it has booted, and why it must again.
///
/// # Errors
/// When the host cannot say.
pub async fn booted(host: &Connection) -> Result<Booted, SshError> {
    let said = host.succeed(&Run::script("say how it has booted", include_str!("state.sh"))).await?;
    let booted = parse_booted(&said);
    if booted.boot.is_empty() {
        return Err(SshError::Nonsense {
            host: host.address().clone(),
            why: "it does not say when it began".to_owned(),
        });
    }
    Ok(booted)
}

/// Has a host end what serves readers, and boot again a moment after this returns, so that it can still say that it will.
///
/// # Errors
/// When it cannot.
pub async fn reboot(host: &Connection) -> Result<(), SshError> {
    let run = one_at_a_time("boot again", include_str!("reboot.sh"));
    host.succeed(&run.within(PATIENCE)).await.map(drop)
}

fn text(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

fn parse(said: &[u8]) -> Vec<Upgradable> {
    let said = String::from_utf8_lossy(said);
    let package = |line: &str| {
        let mut words = line.strip_prefix("package ")?.split_whitespace();
        let (name, from, to) = (text(words.next()?), text(words.next()?), text(words.next()?));
        Some(Upgradable { name, from: Some(from).filter(|from| from != "-"), to })
    };
    sorted(said.lines().filter_map(package).take(MOST))
}

/// What apt says of a simulated upgrade: `Inst curl [7.88.1-10] (7.88.1-11 Debian:12.9/stable [amd64])`.
fn parse_apt(said: &str) -> Vec<Upgradable> {
    let package = |line: &str| {
        let mut words = line.strip_prefix("Inst ")?.split_whitespace().peekable();
        let name = text(words.next()?);
        let from = words.next_if(|word| word.starts_with('[')).map(|word| text(word.trim_matches(['[', ']'])));
        Some(Upgradable { name, from, to: text(words.next()?.trim_start_matches('(')) })
    };
    sorted(said.lines().filter_map(package).take(MOST))
}

fn sorted(packages: impl Iterator<Item = Upgradable>) -> Vec<Upgradable> {
    let mut packages: Vec<_> = packages.collect();
    packages.sort();
    packages.dedup();
    packages
}

fn parse_booted(said: &[u8]) -> Booted {
    let said = String::from_utf8_lossy(said);
    let mut booted = Booted::default();
    for line in said.lines().take(MOST) {
        match line.split_once(' ') {
            Some(("boot", id)) => booted.boot = text(id),
            Some(("reboot", why)) => booted.reasons.push(text(why.trim())),
            None if line == "container" => booted.container = true,
            _ => {}
        }
    }
    booted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_newer_is_the_same_in_both_ways_of_telling() {
        let said =
            b"package libc6 2.36-9+deb12u9 2.36-9+deb12u10\npackage linux-image-6.1.0-38-amd64 - 6.1.147-1\nnoise\n\
                     package cut\n";
        let packages = parse(said);
        let apt = "Reading package lists...\nInst libc6 [2.36-9+deb12u9] (2.36-9+deb12u10 Debian:12.9/stable [amd64])\n\
                   Inst linux-image-6.1.0-38-amd64 (6.1.147-1 Debian-Security:12/stable [amd64])\nConf libc6 (2.36)\n";
        assert_eq!(parse_apt(apt), packages);
        assert_eq!(packages.len(), 2);
        assert_eq!(packages[1].from, None);
    }

    #[test]
    fn another_incus_of_its_makers_is_told_from_another_package_of_debians() {
        let incus = |from: &str, to: &str| {
            let (from, to) = (Some(from.to_owned()), to.to_owned());
            Pending { packages: vec![Upgradable { name: "incus-base".to_owned(), from, to }], brought: false }
        };
        assert!(!incus("6.0.4-2+deb13u6~bpo12+1", "6.0.4-2+deb13u7~bpo12+1").changes_incus());
        assert!(incus("6.0.4-2+deb13u7", "6.0.5-1").changes_incus());
        assert!(incus("6.0.4-2", "1:7.0.2-1").changes_incus());
        let mut other = incus("1-1", "2-1");
        other.packages[0].name = "curl".to_owned();
        assert!(!other.changes_incus());
    }

    #[test]
    fn why_a_host_must_boot_again_is_its_own_word() {
        let said = b"boot 5d2f-1200\ncontainer\nreboot kernel 6.1.0-38-amd64 is installed, and 6.1.0-37-amd64 runs\n\
                     reboot Debian asks for it: libc6 \n";
        let booted = parse_booted(said);
        assert_eq!((booted.boot.as_str(), booted.container, booted.reasons.len()), ("5d2f-1200", true, 2));
        assert_eq!(booted.reasons[1], "Debian asks for it: libc6");
        assert_eq!(parse_booted(b"nonsense"), Booted::default());
    }
}
