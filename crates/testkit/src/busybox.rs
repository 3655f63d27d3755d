//! The smallest root file system that a container starts from: one static program under its many names.

use std::fs::File;
use std::io;
use std::path::Path;

/// Where Debian's package `busybox-static` has it.
const PROGRAM: &str = "/usr/bin/busybox";

/// Older releases have it here.
const OLDER: &str = "/bin/busybox";

/// The names it is given.
const NAMES: &[&str] = &[
    "bin/sh",
    "bin/cat",
    "bin/echo",
    "bin/false",
    "bin/id",
    "bin/ls",
    "bin/pwd",
    "bin/sleep",
    "bin/stat",
    "bin/true",
    "bin/yes",
    "bin/httpd",
    "bin/ip",
    "bin/udhcpc",
    "bin/nc",
    "bin/head",
    "bin/test",
    "bin/wc",
    "sbin/init",
    "sbin/poweroff",
];

/// What is in one that serves. Its init ends at once when it is told to; busybox's own takes seconds.
const SERVER: [(&str, &str); 5] = [
    (
        "sbin/init",
        "#!/bin/sh
trap 'exit 0' PWR
test ! -e /etc/ends || { test ! -e /etc/convert || sh /etc/convert; exit 1; }
udhcpc -f -t 50 -T 1 -i eth0 -s /etc/address &
sh /etc/serve &
wait
",
    ),
    (
        "etc/address",
        "#!/bin/sh
test \"$1\" = bound || exit 0
ip addr add $ip/$mask dev eth0
ip route add default via $router
",
    ),
    (
        "etc/serve",
        "test ! -e /etc/convert || sh /etc/convert
test ! -e /etc/broken || exec sleep 3600
exec httpd -f -p 8080 -h /srv
",
    ),
    ("bin/systemctl", "#!/bin/sh\ntest -e \"/srv/$2\" || { echo inactive; exit 3; }\n"),
    ("bin/journalctl", "#!/bin/sh\ncat /srv/journal\n"),
];

/// Why it cannot be made here.
pub fn missing() -> Option<String> {
    program().is_none().then(|| "there is no busybox here (package busybox-static)".to_owned())
}

fn program() -> Option<&'static Path> {
    [PROGRAM, OLDER].into_iter().map(Path::new).find(|path| path.is_file())
}

/// Writes the root file system as a tar archive. The same busybox gives the same bytes.
///
/// # Errors
/// When there is no busybox, or the file cannot be written.
pub fn rootfs(to: &Path) -> io::Result<()> {
    // Waits, so that there is something to exec into; ends when it is told to.
    rootfs_with(to, &[("etc/inittab", "::sysinit:/bin/true\n::respawn:/bin/sleep 3600\n")])
}

/// Writes one that gets an address and serves `/srv` over HTTP on port 8080. Before that it does what `/etc/convert` says,
/// if it is there; when `/etc/broken` is, it does not serve, and when `/etc/ends` is, it ends. Its `systemctl` finds a unit active when a file in `/srv` has
/// its name, and its `journalctl` shows `/srv/journal`.
///
/// # Errors
/// As [`rootfs`].
pub fn server(to: &Path) -> io::Result<()> {
    rootfs_with(to, &SERVER)
}

fn rootfs_with(to: &Path, files: &[(&str, &str)]) -> io::Result<()> {
    let program = program().ok_or(io::ErrorKind::NotFound)?;
    let mut archive = tar::Builder::new(File::create(to)?);
    for folder in ["bin", "sbin", "dev", "proc", "sys", "etc", "root", "run", "srv", "tmp", "usr", "var"] {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        archive.append_data(&mut header, format!("{folder}/"), io::empty())?;
    }
    let busybox = std::fs::read(program)?;
    let mut header_of_file = header(tar::EntryType::Regular, 0o755, busybox.len() as u64);
    archive.append_data(&mut header_of_file, "bin/busybox", busybox.as_slice())?;
    for name in NAMES.iter().filter(|name| files.iter().all(|(path, _)| path != *name)) {
        archive.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), name, "/bin/busybox")?;
    }
    for (path, text) in files {
        let mut header = header(tar::EntryType::Regular, 0o755, text.len() as u64);
        archive.append_data(&mut header, path, text.as_bytes())?;
    }
    archive.into_inner()?.sync_all()
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
