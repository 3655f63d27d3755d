//! Units' logs: `logs/<unit>/current.log`, and `1.log` (the newest) to `5.log` rotated away.
//!
//! A unit writes into the file itself, opened for appending, and not into a pipe of the supervisor's: a pipe would
//! break every unit when its reader dies. So the file cannot be renamed away under its writer; it is copied and cut
//! (as logrotate's `copytruncate`). Lines written between the last read and the cut can be lost, at most a few
//! per five megabytes; a unit that stops writing because its supervisor died would be the worse loss.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A log longer than this is rotated.
pub const MOST_BYTES: u64 = 5 * 1024 * 1024;
/// How many rotated logs are kept.
pub const KEPT: u32 = 5;

/// The file a unit writes to now.
pub fn current(folder: &Path) -> PathBuf {
    folder.join("current.log")
}

fn rotated(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number}.log"))
}

/// Opens a unit's log for its next process.
pub(crate) fn open(folder: &Path) -> io::Result<File> {
    crate::file::private_folder(folder)?;
    OpenOptions::new().append(true).create(true).mode(0o600).open(current(folder))
}

/// Rotates a log that has grown beyond `most` bytes. Says whether it did.
pub(crate) fn rotate(folder: &Path, most: u64) -> io::Result<bool> {
    let path = current(folder);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() > most => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    for number in (1..KEPT).rev() {
        if rotated(folder, number).exists() {
            fs::rename(rotated(folder, number), rotated(folder, number + 1))?;
        }
    }
    let mut from = OpenOptions::new().read(true).write(true).open(&path)?;
    let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(rotated(folder, 1))?;
    io::copy(&mut from, &mut to)?;
    from.set_len(0)?;
    Ok(true)
}

/// Reads a unit's log, and goes on reading what is added, across rotations.
#[derive(Debug)]
pub struct LogReader {
    folder: PathBuf,
    file: Option<File>,
    at: u64,
}

impl LogReader {
    /// Begins at the last `lines` lines of the unit's log in `folder`. A log that does not exist yet is empty.
    ///
    /// # Errors
    /// What the file system says.
    pub fn tail(folder: &Path, lines: usize) -> io::Result<Self> {
        let mut reader = Self { folder: folder.to_owned(), file: None, at: 0 };
        reader.reopen()?;
        if let Some(file) = &mut reader.file {
            reader.at = start_of_last(file, lines)?;
        }
        Ok(reader)
    }

    /// What was written since the last call; empty when nothing was.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read_new(&mut self) -> io::Result<Vec<u8>> {
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        let length = file.metadata()?.len();
        if length < self.at {
            // Rotated: what was added before the cut is at the end of the newest rotated log.
            let mut missed = Vec::new();
            if let Ok(mut older) = File::open(rotated(&self.folder, 1)) {
                older.seek(SeekFrom::Start(self.at))?;
                older.read_to_end(&mut missed)?;
            }
            self.at = 0;
            missed.extend(self.read_new()?);
            return Ok(missed);
        }
        file.seek(SeekFrom::Start(self.at))?;
        let mut new = Vec::new();
        // Bounded, so that a log that is being written fast is still handed out in pieces.
        file.take(MOST_BYTES).read_to_end(&mut new)?;
        self.at += new.len() as u64;
        if new.is_empty() && self.was_replaced() {
            self.file = None;
            self.at = 0;
        }
        Ok(new)
    }

    fn reopen(&mut self) -> io::Result<()> {
        match File::open(current(&self.folder)) {
            Ok(file) => self.file = Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether another file has the log's name now (`down --purge`, then `up`).
    fn was_replaced(&self) -> bool {
        let open = self.file.as_ref().and_then(|file| file.metadata().ok()).map(|metadata| metadata.ino());
        fs::metadata(current(&self.folder)).ok().map(|metadata| metadata.ino()) != open
    }
}

/// Where the last `lines` lines begin.
fn start_of_last(file: &mut File, lines: usize) -> io::Result<u64> {
    const PIECE: u64 = 64 * 1024;
    let mut end = file.metadata()?.len();
    // The newline at the very end closes the last line, so one more is looked for.
    let mut wanted = lines.saturating_add(1);
    if lines == 0 {
        return Ok(end);
    }
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        let mut piece = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut piece)?;
        for (at, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            wanted -= 1;
            if wanted == 0 {
                return Ok(start + at as u64 + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_tail_is_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).unwrap().write_all(b"one\ntwo\nthree\n").unwrap();
        for (lines, expected) in [(0, ""), (1, "three\n"), (2, "two\nthree\n"), (9, "one\ntwo\nthree\n")] {
            let mut reader = LogReader::tail(folder.path(), lines).unwrap();
            assert_eq!(String::from_utf8(reader.read_new().unwrap()).unwrap(), expected);
        }
    }

    #[test]
    fn a_reader_follows_across_a_rotation_and_the_writer_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = LogReader::tail(folder.path(), 10).unwrap();
        assert_eq!(reader.read_new().unwrap(), b"");
        let mut log = open(folder.path()).unwrap();
        log.write_all(b"first\n").unwrap();
        assert_eq!(reader.read_new().unwrap(), b"first\n");
        log.write_all(b"second\n").unwrap();
        assert!(rotate(folder.path(), 3).unwrap());
        log.write_all(b"x\n").unwrap();
        assert_eq!(reader.read_new().unwrap(), b"second\nx\n");
        assert!(!rotate(folder.path(), 3).unwrap());
    }

    #[test]
    fn five_rotated_logs_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path()).unwrap();
        for round in 0..8 {
            writeln!(log, "round {round}").unwrap();
            assert!(rotate(folder.path(), 0).unwrap());
        }
        assert_eq!(fs::read(rotated(folder.path(), 1)).unwrap(), b"round 7\n");
        assert_eq!(fs::read(rotated(folder.path(), KEPT)).unwrap(), b"round 3\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 6);
    }
}
