//! The one who writes: a thread of its own, since a disk may take as long as it likes.
//!
//! It sleeps until there is something, lets lines gather, and adds them to the file at once. What the disk refuses is
//! dropped and counted, and tried anew with what comes next.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sovereign_model::access_entry::MOST_BYTES;
use tracing::{info, warn};

use super::file::LogFile;
use super::{Queue, Tally, line};
use crate::lane::LANES;

/// Writes what comes to `queue`, until it is closed.
pub(super) fn run(queue: &Queue) {
    let mut writer = Writer { tally: queue.tally.clone(), path: PathBuf::new(), file: None, failing: false };
    let (mut taken, mut lines) = (<[Vec<u8>; LANES]>::default(), Vec::new());
    loop {
        queue.lines.wait();
        // First: what is gathered after this may not be asked for.
        let closed = queue.is_closed();
        let flushes = queue.take_flushes();
        // Before the disk is asked: what is dropped while it takes its time is dropped since.
        let dropped = queue.tally.dropped.now();
        let count = queue.lines.take(&mut taken);
        if let Some(path) = queue.path()
            && count > 0
        {
            lines.clear();
            line::merge(&taken, &mut lines);
            writer.write(path, &lines, count, dropped);
        }
        for flushed in flushes {
            // Whoever asked may have stopped waiting.
            let _ = flushed.send(());
        }
        if closed {
            return;
        }
    }
}

struct Writer {
    tally: Arc<Tally>,
    path: PathBuf,
    file: Option<LogFile>,
    failing: bool,
}

impl Writer {
    fn write(&mut self, path: PathBuf, lines: &[u8], count: u64, dropped: u64) {
        if self.path != path {
            self.path = path;
            self.file = None;
        }
        match self.append(lines) {
            Ok(()) => {
                self.tally.written.add(count);
                self.tally.wrote(dropped);
                if std::mem::take(&mut self.failing) {
                    info!(dropped, "the access log is written again");
                }
            }
            Err(error) => {
                self.tally.dropped.add(count);
                self.tally.failed(error.to_string());
                self.file = None;
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(path = %self.path.display(), %error, "the access log cannot be written: entries are dropped");
                }
            }
        }
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(LogFile::open(&self.path, MOST_BYTES)?),
        };
        file.append(lines)
    }
}
