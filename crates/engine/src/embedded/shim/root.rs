//! A root folder of the unit's own: the system's programs and libraries, a few files of `/etc`, the unit's paths at
//! their usual places, and nothing else.
//!
//! Needs the right to mount: root's (outside of most containers), or that of any user in a user namespace of its own
//! (user_namespaces(7)), where the machine lets users have one. It is built in a mount namespace of the unit's own and
//! goes away with its last process.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::{Instruction, ShimError, While as _};

/// Programs and libraries. Where one is a symbolic link (merged `/usr`), the link is made again.
pub(super) const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What programs look up in `/etc`: the loader, names, time, certificates. Nothing secret.
pub(super) const ETC: [&str; 16] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/ssl",
    "/etc/ca-certificates",
];

/// Devices every program may expect.
pub(super) const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Leaves the machine's mount namespace for one of its own, whose mounts nobody else sees.
pub(super) fn own_namespace() -> io::Result<()> {
    #[expect(deprecated, reason = "only sharing of the descriptor table is unsafe, and it stays shared")]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", private)?)
}

/// Leaves the machine's network for one of its own, in which there is nobody.
pub(super) fn own_network() -> io::Result<()> {
    #[expect(deprecated, reason = "only sharing of the descriptor table is unsafe, and it stays shared")]
    Ok(rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET)?)
}

/// [`own_namespace`] for a user who is not root: in a user namespace that knows this user alone, under the same id, and in
/// which it may mount. The rights end with `exec`.
pub(super) fn own_user_namespace() -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    #[expect(deprecated, reason = "only sharing of the descriptor table is unsafe, and it stays shared")]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWUSER)?;
    // Without this a group could not be mapped: one could be left that forbids something.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    own_namespace()
}

/// Builds the unit's root and makes it this process's.
pub(super) fn enter(instruction: &Instruction) -> Result<(), ShimError> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let root = Root(instruction.root.clone());
    root.memory("/", "mode=0755,size=4m")?;
    for folder in SYSTEM {
        match fs::symlink_metadata(folder) {
            Ok(metadata) if metadata.is_symlink() => {
                let target = fs::read_link(folder).to(format!("follow {folder}"))?;
                std::os::unix::fs::symlink(target, root.at(folder)).to(format!("link {folder}"))?;
            }
            Ok(_) => root.bind(folder, Access::Read)?,
            Err(_) => {}
        }
    }
    for path in ETC.into_iter().filter(|path| Path::new(path).exists()) {
        root.bind(path, Access::Read)?;
    }
    for device in DEVICES {
        root.bind(device, Access::Device)?;
    }
    for (name, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        let link = root.at("/dev").join(name);
        std::os::unix::fs::symlink(format!("/proc/self/{target}"), link).to(format!("link /dev/{name}"))?;
    }
    root.processes()?;
    root.memory("/tmp", "mode=1777")?;
    root.memory("/dev/shm", "mode=1777")?;
    // Outer folders first, or they would hide inner ones mounted before.
    let mut paths: Vec<(&PathBuf, Access)> = instruction.read.iter().map(|path| (path, Access::Read)).collect();
    paths.extend(instruction.write.iter().map(|path| (path, Access::Write)));
    paths.sort_by_key(|(path, access)| (path.components().count(), *access));
    for (path, access) in paths {
        if access == Access::Read && SYSTEM.iter().chain(&["/proc"]).any(|there| path.starts_with(there)) {
            continue;
        }
        root.bind(path, access)?;
    }
    root.close()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    Read,
    Write,
    Device,
}

struct Root(PathBuf);

impl Root {
    /// Where the absolute `path` will be.
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn memory(&self, path: &str, options: &str) -> Result<(), ShimError> {
        let target = self.at(path);
        folders(&target).to(format!("make {path}"))?;
        let options = std::ffi::CString::new(options).expect("options are literals without NUL");
        rustix::mount::mount("tmpfs", &target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
            .to(format!("mount {path}"))
    }

    /// `/proc` without other users' processes where the kernel can (since 5.8; an older one refuses the word and
    /// leaves the machine's own `/proc` as it is).
    fn processes(&self) -> Result<(), ShimError> {
        let target = self.at("/proc");
        folders(&target).to("make /proc")?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        match rustix::mount::mount("proc", &target, "proc", flags, c"hidepid=invisible") {
            Ok(()) => Ok(()),
            // Of another user's process only its name and arguments can be read there, and these hold no secrets.
            Err(_) => rustix::mount::mount_bind_recursive("/proc", &target).to("mount /proc"),
        }
    }

    fn bind(&self, path: impl AsRef<Path>, access: Access) -> Result<(), ShimError> {
        let path = path.as_ref();
        let target = self.at(path);
        let is_folder = path.metadata().to(format!("find {}", path.display()))?.is_dir();
        let made = if is_folder {
            folders(&target)
        } else {
            target
                .parent()
                .map_or(Ok(()), folders)
                .and_then(|()| if target.exists() { Ok(()) } else { File::create(&target).map(drop) })
        };
        made.to(format!("make {}", path.display()))?;
        // What is mounted below it belongs to what is read, and cannot be left behind in a user namespace.
        let whole = |_| rustix::mount::mount_bind_recursive(path, &target);
        let bound = if access == Access::Read {
            whole(())
        } else {
            rustix::mount::mount_bind(path, &target).or_else(|_| whole(()))
        };
        bound.to(format!("mount {}", path.display()))?;
        let flags = match access {
            Access::Read => MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV,
            Access::Write => MountFlags::NOSUID | MountFlags::NODEV,
            Access::Device => MountFlags::NOSUID | MountFlags::NOEXEC,
        };
        let flags = flags | restrictions(&target).to(format!("look at {}", path.display()))?;
        rustix::mount::mount_remount(&target, MountFlags::BIND | flags, c"").to(format!("restrict {}", path.display()))
    }

    /// Makes it the root folder and drops the machine's (pivot_root(2), "pivot_root(".", ".")").
    fn close(self) -> Result<(), ShimError> {
        let read_only = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount_remount(&self.0, read_only, c"").to("restrict the root folder")?;
        std::env::set_current_dir(&self.0).to("enter the root folder")?;
        rustix::process::pivot_root(".", ".").to("change the root folder")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH).to("leave the machine's root folder")?;
        std::env::set_current_dir("/").to("enter the root folder")
    }
}

/// How the machine restricts what is mounted at `path`: not for us to lift.
fn restrictions(path: &Path) -> io::Result<MountFlags> {
    use rustix::fs::StatVfsMountFlags as Seen;
    let seen = rustix::fs::statvfs(path)?.f_flag;
    let known =
        [(Seen::RDONLY, MountFlags::RDONLY), (Seen::NOEXEC, MountFlags::NOEXEC), (Seen::NODEV, MountFlags::NODEV)];
    Ok(known.into_iter().filter(|(flag, _)| seen.contains(*flag)).map(|(_, flag)| flag).collect())
}

fn folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}
