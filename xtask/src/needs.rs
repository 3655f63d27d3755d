//! What the gates need from the machine, why, and how it gets there.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::backports;
use crate::run::{Deadline, run, say, target, which};

/// Package lists and packages come over the network; a slow mirror is no reason to give up early.
const INSTALL_BUDGET: Duration = Duration::from_secs(10 * 60);

/// A program of the machine.
struct Need {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

/// The module itself lies where only the machine's architecture leads.
const GEOIP_MODULE: &str = "/usr/share/doc/knot-module-geoip/copyright";

const NEEDS: &[Need] = &[
    Need { program: "gcc", package: "gcc", why: "compiles the cryptography of TLS, and Ghost's SQLite" },
    Need { program: "g++", package: "g++", why: "compiles Ghost's SQLite binding" },
    Need { program: "curl", package: "curl", why: "reads sites from outside, as readers do" },
    Need { program: "openssl", package: "openssl", why: "judges certificates and TLS from outside" },
    Need { program: "restic", package: "restic", why: "reads the archive without us" },
    Need { program: "ssh", package: "openssh-client", why: "carries copies of the archive to hosts that speak SFTP" },
    Need { program: "sshd", package: "openssh-server", why: "is such a host, started by a test" },
    Need { program: "mkfs.ext4", package: "e2fsprogs", why: "makes disks for copies of the archive" },
    Need { program: "duplicity", package: "duplicity", why: "makes archives to import" },
    Need { program: "gpg", package: "gnupg", why: "encrypts them" },
    Need { program: "systemd-analyze", package: "systemd", why: "reads the units that are written for hosts" },
    Need { program: "strace", package: "strace", why: "logs every outgoing connection of an application" },
    Need { program: "wrk", package: "wrk", why: "keeps a constant load up while things are replaced" },
    Need { program: "ip", package: "iproute2", why: "lays networks between edges" },
    Need { program: "nft", package: "nftables", why: "translates addresses on the way" },
    Need { program: "faketime", package: "faketime", why: "moves an edge's clock" },
    Need { program: "kzonecheck", package: "knot-dnssecutils", why: "judges zones from outside" },
    Need { program: "knotd", package: "knot", why: "answers for zones" },
    Need { program: "kdig", package: "knot-dnsutils", why: "asks it as resolvers do" },
    Need { program: GEOIP_MODULE, package: "knot-module-geoip", why: "lets it answer by where a question comes from" },
    Need { program: "/usr/share/tor/geoip", package: "tor-geoipdb", why: "knows in which country an address is" },
    Need { program: "mmdblookup", package: "mmdb-bin", why: "reads what we make of that" },
    Need { program: "pebble", package: "pebble", why: "is an authority that issues certificates" },
    Need { program: "dnssec-dsfromkey", package: "bind9-utils", why: "judges digests of keys" },
    Need { program: "delv", package: "bind9-dnsutils", why: "judges signatures" },
    Need { program: "node", package: "nodejs", why: "runs the HTTP cache test suite" },
    Need { program: "npm", package: "npm", why: "fetches the HTTP cache test suite" },
    Need { program: "python3", package: "python3", why: "runs small applications to supervise" },
    Need { program: "/usr/libexec/incus/incusd", package: "incus-base", why: "runs containers, and hosts of a lab" },
    Need { program: "incus", package: "incus-client", why: "looks into hosts of a lab as an operator would" },
    Need { program: "mkfs.btrfs", package: "btrfs-progs", why: "makes what their disks are cheap copies in" },
    Need { program: "dnsmasq", package: "dnsmasq-base", why: "answers on their networks" },
    Need { program: "busybox", package: "busybox-static", why: "is the smallest container" },
    Need { program: "mmdebstrap", package: "mmdebstrap", why: "makes root file systems of Debian" },
    Need { program: "newuidmap", package: "uidmap", why: "lets a user who is not root make them" },
];

/// Packages that Debian 12 has in its backports only.
const IN_BACKPORTS: &[&str] = &["incus-base", "incus-client"];

/// What the benchmark of the edge needs. Debian starts a server when it is installed as root; where that is not wanted,
/// a `policy-rc.d` that answers 101 keeps it from doing so.
const EDGE_RIVALS: &[Need] = &[
    Need { program: "curl", package: "curl", why: "fills caches and counts answers" },
    Need { program: "wrk", package: "wrk", why: "asks over HTTP/1.1" },
    Need { program: "h2load", package: "nghttp2-client", why: "asks over HTTP/2" },
    Need { program: "nginx", package: "nginx-light", why: "is the origin, and one of the four to compare with" },
    Need { program: "varnishd", package: "varnish", why: "is one of the four" },
    Need { program: "haproxy", package: "haproxy", why: "is one of the four" },
    Need { program: "caddy", package: "caddy", why: "is one of the four" },
];

/// What the benchmark of the archive needs.
const ARCHIVE_RIVALS: &[Need] = &[
    Need { program: "duplicity", package: "duplicity", why: "is one of the three to compare with" },
    Need { program: "gpg", package: "gnupg", why: "encrypts for duplicity" },
    Need { program: "restic", package: "restic", why: "is one of the three" },
    Need { program: "borg", package: "borgbackup", why: "is one of the three" },
    Need { program: "sqlite3", package: "sqlite3", why: "makes a database to back up" },
    Need { program: "diff", package: "diffutils", why: "compares what was restored" },
    Need { program: "python3", package: "python3", why: "measures what commands use" },
];

/// The backend itself lies where only the machine's architecture leads.
const BIND_BACKEND: &str = "/usr/share/doc/pdns-backend-bind/copyright";

/// What figures of name servers need.
const NAMES: &[Need] = &[
    Need { program: "unbound", package: "unbound", why: "is a resolver of the world" },
    Need { program: "dnsperf", package: "dnsperf", why: "asks name servers many times a second" },
    Need { program: "pdns_server", package: "pdns-server", why: "is a name server to compare with" },
    Need { program: BIND_BACKEND, package: "pdns-backend-bind", why: "lets it read a zone file" },
];

/// Makes sure that everything the gates need is there: installs it where this user can, else says how.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn ensure() -> Result<()> {
    ensure_all(NEEDS)
}

/// The same for what the benchmark of the edge needs.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn ensure_edge_rivals() -> Result<()> {
    ensure_all(EDGE_RIVALS)
}

/// The same for what the benchmark of the archive needs.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn ensure_archive_rivals() -> Result<()> {
    ensure_all(ARCHIVE_RIVALS)
}

/// The same for what figures of name servers need.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn ensure_names() -> Result<()> {
    ensure_all(NAMES)
}

fn ensure_all(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| which(need.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    say("Missing on this machine:");
    for Need { program, package, why } in &missing {
        say(format!("  {program:<8} (package {package}): {why}"));
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if which("apt-get").is_none() {
        bail!("there is no apt-get here; install these programs in this system's way");
    }
    if !rustix::process::geteuid().is_root() {
        bail!("install them first: sudo apt-get install {}", packages.join(" "));
    }
    say("Installing them, as this is root:");
    let deadline = Deadline::after(INSTALL_BUDGET);
    let update = || run(&mut apt(&["update"])?, deadline).context("cannot refresh the package lists");
    update()?;
    if packages.iter().any(|package| IN_BACKPORTS.contains(package)) && backports::add()? {
        update()?;
    }
    let install = [&["install", "--yes", "--no-install-recommends"], &packages[..]].concat();
    run(&mut apt(&install)?, deadline).context("cannot install what is missing")
}

/// What `XTASK_APT_OPTIONS` says, as a file for `APT_CONFIG`: tests call apt through the product, which reads the
/// machine's configuration and has no such options. `None` where nothing is to be said, or somebody said it already.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn apt_config() -> Result<Option<PathBuf>> {
    let Ok(options) = std::env::var("XTASK_APT_OPTIONS") else { return Ok(None) };
    if std::env::var_os("APT_CONFIG").is_some() || options.trim().is_empty() {
        return Ok(None);
    }
    let path = target().join("tmp/apt.conf");
    std::fs::create_dir_all(target().join("tmp"))?;
    std::fs::write(&path, apt_settings(&options))?;
    Ok(Some(path))
}

/// Only `-o Name=value` is a setting; other options are for `apt-get` alone.
fn apt_settings(options: &str) -> String {
    let words: Vec<&str> = options.split_whitespace().collect();
    let settings = words.windows(2).filter(|pair| pair[0] == "-o").filter_map(|pair| pair[1].split_once('='));
    settings.map(|(name, value)| format!("{name} \"{value}\";\n")).collect()
}

fn apt(args: &[&str]) -> Result<Command> {
    let mut command = Command::new("apt-get");
    match std::env::var("XTASK_APT_OPTIONS") {
        Ok(options) => command.args(options.split_whitespace()),
        Err(std::env::VarError::NotPresent) => &mut command,
        Err(error) => return Err(error).context("XTASK_APT_OPTIONS"),
    };
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_settings() {
        let settings = apt_settings("-o Acquire::Check-Valid-Until=false -q -o A::B=c=d -o");
        assert_eq!(settings, "Acquire::Check-Valid-Until \"false\";\nA::B \"c=d\";\n");
    }
}
