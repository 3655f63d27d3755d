//! What hosts start from: a bare Debian that only has SSH, built with mmdebstrap once and kept by the digest of what it
//! was built from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sovereign_model::Digest;
use tokio::process::Command;

use crate::error::LabError;
use crate::keys::make_folder;

/// The release.
const RELEASE: &str = "bookworm";

/// What a machine has after an installation over the network, and what one that is a container needs beside it: with
/// `/sys` writable, as it is where containers may be nested, its network waits for udev.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,udev,kmod,procps,iproute2,openssh-server,ca-certificates";

/// What is done to it in the end. Nothing of the machine that built it stays, and no key: every host gets its own.
const FINISH: &str = r#"set -e
rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname "$1"/etc/resolv.conf
: > "$1"/etc/machine-id
mkdir -p -m 700 "$1"/root/.ssh
mkdir -p "$1"/etc/systemd/network
chroot "$1" systemctl enable systemd-networkd ssh >/dev/null 2>&1
chroot "$1" systemctl mask systemd-networkd-wait-online getty.target console-getty >/dev/null 2>&1
"#;

/// The root file system as a tar archive below `cache`; built when it is not there. `apt_options` are for apt, as
/// `apt.conf` has them.
///
/// # Errors
/// When mmdebstrap cannot be run or fails.
pub async fn rootfs(cache: &Path, apt_options: &[String]) -> Result<PathBuf, LabError> {
    let inputs = Digest::of([RELEASE, PACKAGES, FINISH].join("\0"));
    let path = cache.join(format!("debian-{RELEASE}-{}.tar", inputs.short()));
    if path.exists() {
        return Ok(path);
    }
    make_folder(cache)?;
    // Whole or not there: it gets its name when it is done.
    let beside = cache.join(format!(".{}.new", std::process::id()));
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--components=main", "--quiet", "--format=tar"]);
    command.arg(format!("--include={PACKAGES}")).arg("--aptopt=APT::Install-Recommends \"false\"");
    command.args(apt_options.iter().map(|option| format!("--aptopt={option}")));
    command.arg(format!("--customize-hook={FINISH}")).arg(RELEASE).arg(&beside);
    command.args(sources().await);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = command.output().await.map_err(|source| LabError::Program { program: "mmdebstrap", source })?;
    let failed = |action, path: &Path, source| LabError::File { action, path: path.to_owned(), source };
    if !ended.status.success() {
        // Best effort: the error that matters is the one below.
        let _ = fs::remove_file(&beside);
        let said = String::from_utf8_lossy(&ended.stderr);
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        let said = last.into_iter().rev().collect::<Vec<_>>().join("; ");
        return Err(LabError::Ended { program: "mmdebstrap", status: ended.status, said });
    }
    fs::rename(&beside, &path).map_err(|source| failed("make", &path, source))?;
    Ok(path)
}

/// The mirrors that this machine has the release from; none: those that mmdebstrap knows.
async fn sources() -> Vec<String> {
    let format = "$(RELEASE) $(REPO_URI)";
    let targets = Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]).output();
    let Ok(targets) = targets.await else { return Vec::new() };
    mirrors(&String::from_utf8_lossy(&targets.stdout))
}

fn mirrors(targets: &str) -> Vec<String> {
    let mut sources: Vec<String> = Vec::new();
    for line in targets.lines() {
        let Some((release, uri)) = line.split_once(' ') else { continue };
        let wanted = [RELEASE, &format!("{RELEASE}-updates"), &format!("{RELEASE}-security")].contains(&release);
        let source = format!("deb {uri} {release} main");
        if wanted && !sources.contains(&source) {
            sources.push(source);
        }
    }
    // Updates alone are no system.
    if sources.iter().any(|source| source.ends_with(&format!(" {RELEASE} main"))) { sources } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_those_of_this_machine_or_none() {
        let targets = "bookworm http://m.test/debian/\nbookworm http://m.test/debian/\nbookworm-backports http://m.test/debian/\n\
                       bookworm-security http://m.test/security/\n";
        let expected =
            ["deb http://m.test/debian/ bookworm main", "deb http://m.test/security/ bookworm-security main"];
        assert_eq!(mirrors(targets), expected);
        assert!(mirrors("bookworm-security http://m.test/security/\ntrixie http://m.test/debian/\n").is_empty());
    }
}
