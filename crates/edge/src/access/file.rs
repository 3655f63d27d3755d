//! The log's file: lines are added to its end, and it is rotated away when it gets long.
//!
//! Two processes write to it while an edge is replaced. Whoever adds or rotates holds the lock on the file's folder, for
//! the time of one write; so lines stay whole, and what a full disk took only a part of is taken back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sovereign_model::access_entry::{KEPT, rotated};

/// The file at a path, whichever file has the name.
pub(super) struct LogFile {
    path: PathBuf,
    most: u64,
    folder: File,
    file: File,
}

impl LogFile {
    /// Opens the log at `path`, which gets about `most` bytes long.
    pub(super) fn open(path: &Path, most: u64) -> io::Result<Self> {
        let folder = File::open(path.parent().unwrap_or(path))?;
        Ok(Self { path: path.to_owned(), most, folder, file: open(path)? })
    }

    /// Adds `lines`: all of them, or none.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        flock(&self.folder, FlockOperation::LockExclusive)?;
        let appended = self.append_alone(lines);
        // Closing it unlocks too.
        let _ = flock(&self.folder, FlockOperation::Unlock);
        appended
    }

    fn append_alone(&mut self, lines: &[u8]) -> io::Result<()> {
        // The other process may have rotated it away, or somebody has removed it.
        if fs::metadata(&self.path).ok().map(|named| named.ino()) != Some(self.file.metadata()?.ino()) {
            self.file = open(&self.path)?;
        }
        let mut length = self.file.metadata()?.len();
        if length > 0 && length + lines.len() as u64 > self.most {
            rotate(&self.path)?;
            self.file = open(&self.path)?;
            length = 0;
        }
        if let Err(error) = self.close_torn_line(length).and_then(|()| self.file.write_all(lines)) {
            // Where even that fails, the next writer closes the torn line.
            let _ = self.file.set_len(length);
            return Err(error);
        }
        Ok(())
    }

    /// A process that was killed in the midst of a write leaves half a line.
    fn close_torn_line(&mut self, length: u64) -> io::Result<()> {
        let Some(last) = length.checked_sub(1) else { return Ok(()) };
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, last)?;
        if byte == *b"\n" { Ok(()) } else { self.file.write_all(b"\n") }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).read(true).create(true).mode(0o600).open(path)
}

fn rotate(path: &Path) -> io::Result<()> {
    for times in (0..KEPT).rev() {
        match fs::rename(rotated(path, times), rotated(path, times + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn only_the_newest_files_are_kept_and_nobody_else_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.jsonl");
        let mut log = LogFile::open(&path, 10).unwrap();
        for round in 0..8 {
            log.append(format!("round {round}\n").as_bytes()).unwrap();
        }
        assert_eq!(read(&path), "round 7\n");
        assert_eq!(read(&rotated(&path, KEPT)), "round 3\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), KEPT as usize + 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_was_removed_or_rotated_by_another_process_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.jsonl");
        let mut ours = LogFile::open(&path, 10).unwrap();
        let mut theirs = LogFile::open(&path, 10).unwrap();
        ours.append(b"ours 1\n").unwrap();
        theirs.append(b"theirs 1\n").unwrap();
        ours.append(b"ours 2\n").unwrap();
        assert_eq!((read(&path), read(&rotated(&path, 1))), ("ours 2\n".into(), "theirs 1\n".into()));
        fs::remove_file(&path).unwrap();
        ours.append(b"ours 3\n").unwrap();
        assert_eq!(read(&path), "ours 3\n");
    }

    #[test]
    fn half_a_line_of_a_killed_process_stays_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.jsonl");
        fs::write(&path, b"whole\nhal").unwrap();
        LogFile::open(&path, 1000).unwrap().append(b"next\n").unwrap();
        assert_eq!(read(&path), "whole\nhal\nnext\n");
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_whole_lines() {
        const LIMITED: &str = "access::file::tests::writes_until_the_disk_is_full";
        let folder = tempfile::tempdir().unwrap();
        let this = std::env::current_exe().unwrap();
        // The limit on a file's size stands for the disk's: it too takes a part of a write and refuses the rest.
        let script = format!("trap '' XFSZ; ulimit -f 4; exec {:?} --ignored --exact {LIMITED}", this.display());
        let run = Command::new("sh").args(["-c", &script]).env("FOLDER", folder.path()).output().unwrap();
        assert!(run.status.success(), "{run:?}");
        let text = read(&folder.path().join("access.jsonl"));
        assert!(text.len() > 1000 && text.ends_with('\n'));
        assert!(text.lines().all(|line| line == LINE.trim_end()), "{text}");
    }

    #[test]
    fn processes_rotate_the_log_under_each_other_and_no_line_is_torn_or_lost() {
        const WRITER: &str = "access::file::tests::writes_its_lines";
        let folder = tempfile::tempdir().unwrap();
        let writer = |who: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--ignored", "--exact", WRITER]).env("FOLDER", folder.path()).env("WHO", who);
            command.stdout(std::process::Stdio::null()).spawn().unwrap()
        };
        let writers = ["a", "b", "c"].map(writer);
        assert!(writers.into_iter().all(|mut writer| writer.wait().unwrap().success()));
        let path = folder.path().join("access.jsonl");
        let files: Vec<_> =
            (0..=KEPT).rev().filter_map(|times| fs::read_to_string(rotated(&path, times)).ok()).collect();
        assert_eq!(files.len(), KEPT as usize, "it was rotated, and nothing had to go");
        assert!(files.iter().all(|file| file.len() as u64 <= MOST && file.ends_with('\n')));
        for who in ["a", "b", "c"] {
            let lines = files.iter().flat_map(|file| file.lines()).filter_map(|line| line.strip_prefix(who));
            let numbers: Vec<usize> = lines.map(|line| line.trim().parse().unwrap()).collect();
            assert_eq!(numbers, (0..LINES).collect::<Vec<_>>(), "{who}: all lines, in order");
        }
        let lines: usize = files.iter().map(|file| file.lines().count()).sum();
        assert_eq!(lines, 3 * LINES, "and no other");
    }

    const LINES: usize = 3000;
    /// Something more than a quarter of what is written.
    const MOST: u64 = 40_000;

    /// Not a test: a process of the one before.
    #[test]
    #[ignore = "is the process of another test"]
    fn writes_its_lines() {
        let variable = |name: &str| std::env::var(name).unwrap();
        let mut log = LogFile::open(&PathBuf::from(variable("FOLDER")).join("access.jsonl"), MOST).unwrap();
        for number in (0..LINES).step_by(3) {
            let lines: String =
                (number..number + 3).map(|number| format!("{} {number:13}\n", variable("WHO"))).collect();
            log.append(lines.as_bytes()).unwrap();
        }
    }

    const LINE: &str = "a line of thirty bytes, all in\n";

    /// Not a test: the process of the one before.
    #[test]
    #[ignore = "is the process of another test"]
    fn writes_until_the_disk_is_full() {
        let path = PathBuf::from(std::env::var_os("FOLDER").unwrap()).join("access.jsonl");
        let mut log = LogFile::open(&path, 1 << 20).unwrap();
        let failed = (0..1000).find_map(|_| log.append(LINE.repeat(5).as_bytes()).err()).unwrap();
        assert_eq!(failed.raw_os_error(), Some(rustix::io::Errno::FBIG.raw_os_error()));
        // What still fits may be added.
        let _ = log.append(LINE.as_bytes());
    }
}
