//! Descriptors at a program's start: those it was given, and none by accident.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

/// Descriptors are kept from here on while the low numbers are being arranged.
const ASIDE: RawFd = 200;

/// Closes every descriptor above standard error: a terminal, a pipe of a build tool or a socket that whoever started
/// this program left open by accident, and that a process which runs for months would hold for months. To be called
/// first of all, before this process has opened anything.
#[expect(unsafe_code, reason = "there is no safe way to close a descriptor by its number")]
pub(crate) fn shed_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|fd| *fd > 2).collect();
    for number in numbers {
        // The listing's own descriptor is in the list and closed by now; ask before taking possession.
        if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok() {
            // SAFETY: the process has one thread and has opened nothing yet, so nothing in it owns this number.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

/// Takes standard input away as a descriptor of its own, out of the way of low numbers; `/dev/null` takes its place.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    let taken = rustix::io::fcntl_dupfd_cloexec(io::stdin(), ASIDE)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(taken)
}

/// Gives `descriptors` the numbers 3, 4, ... and has them survive `exec` (sd_listen_fds(3)).
pub(crate) fn place_from_three(descriptors: Vec<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
    let aside: Vec<OwnedFd> =
        descriptors.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, ASIDE)).collect::<Result<_, _>>()?;
    drop(descriptors);
    // A duplicate gets the lowest free number: nothing is open between standard error and those put aside.
    let placed: Vec<OwnedFd> = aside.iter().map(rustix::io::dup).collect::<Result<_, _>>()?;
    let in_order = placed.iter().zip(3..).all(|(fd, number)| fd.as_raw_fd() == number);
    if in_order { Ok(placed) } else { Err(io::Error::other("a descriptor was in the way")) }
}
