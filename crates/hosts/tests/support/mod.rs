//! A real systemd in namespaces of its own, over a copy of this machine that nothing is written back from.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sovereign_hosts::systemd::{Answer, Host};

/// What becomes process 1 of its own namespaces. The unified hierarchy of cgroups is the only one that it sees.
const BOOT: &str = r#"
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
root=$1/root
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --make-rslave "$root/sys"
umount -l "$root/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
ip link set lo up
rm -rf "$root/etc/systemd/system"
mkdir "$root/etc/systemd/system"
for other in systemd-udevd systemd-logind systemd-networkd systemd-resolved getty@tty1; do
    ln -s /dev/null "$root/etc/systemd/system/$other.service"
done
ln -s /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
cd "$root"
exec chroot "$root" /usr/bin/env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd systemd.unified_cgroup_hierarchy=1 --log-target=journal --show-status=false
"#;

/// Within which it must have booted: some seconds, on a machine with other things to do many.
const BOOTS_WITHIN: Duration = Duration::from_secs(120);

pub(crate) struct Systemd {
    /// `unshare`, whose end is the end of all.
    unshare: Child,
    /// Process 1, by its number here.
    init: u32,
    _folder: tempfile::TempDir,
}

impl Systemd {
    /// Boots it. `None` for a user who may not.
    pub(crate) fn boot() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let unshare = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net", "--cgroup"])
            .args(["sh", "-c", BOOT, "boot"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let child = || std::fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok();
        let init = eventually("process 1", child);
        let booted = Self { unshare, init, _folder: folder };
        eventually("a system that has booted", || {
            let state = booted.output(&["systemctl", "is-system-running"]);
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            ["running", "degraded"].contains(&state.as_str()).then_some(())
        });
        Some(booted)
    }

    /// A command in there.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string(), "--all", "--root", "--wd"])
            .args(["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
            .args(words)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn output(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// A file in there, by its name here.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.init)).join(path.trim_start_matches('/'))
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

impl Host for Systemd {
    type Error = std::io::Error;

    async fn run(&self, words: &[&str]) -> Result<Answer, std::io::Error> {
        let Output { status, stdout, stderr } = self.output(words);
        let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Answer { code: status.code().unwrap_or(-1), stdout, stderr })
    }

    async fn put(&self, path: &str, text: &str) -> Result<(), std::io::Error> {
        std::fs::File::create(self.path(path))?.write_all(text.as_bytes())
    }
}

pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + BOOTS_WITHIN;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        sleep(Duration::from_millis(50));
    }
}
