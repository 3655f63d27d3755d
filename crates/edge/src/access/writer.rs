//! The one who writes: a thread of its own, since a disk may take as long as it likes.
//!
//! It sleeps until there is something, gathers for [`GATHER`], and adds all of it to the file at once. What the disk
//! refuses is dropped and counted, and tried anew with what comes next.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sovereign_model::access_entry::MOST_BYTES;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::Tally;
use super::file::LogFile;
use super::line::{self, Clock};
use super::record::Record;

/// How long entries are gathered before they are written: who follows the log does not notice, and a busy edge writes
/// ten times a second.
const GATHER: Duration = Duration::from_millis(100);
/// How often the queue is emptied meanwhile.
const PAUSE: Duration = Duration::from_millis(10);
/// Lines that are written at once without gathering more.
const MOST_GATHERED: usize = 1 << 20;

/// What the writer is sent.
pub(super) enum Message {
    Entry(Record),
    /// Everything before it is to be written now.
    Flush(oneshot::Sender<()>),
}

/// Writes until nobody can send any more.
pub(super) fn run(mut receiver: mpsc::Receiver<Message>, tally: &Arc<Tally>) {
    let mut writer = Writer {
        tally: tally.clone(),
        path: PathBuf::new(),
        file: None,
        lines: Vec::new(),
        clock: Clock::default(),
        entries: 0,
        failing: false,
    };
    while let Some(first) = receiver.blocking_recv() {
        let flushed = writer.gather(first, &mut receiver);
        writer.write();
        if let Some(flushed) = flushed {
            // Whoever asked may have stopped waiting.
            let _ = flushed.send(());
        }
    }
}

struct Writer {
    tally: Arc<Tally>,
    path: PathBuf,
    file: Option<LogFile>,
    /// What was gathered for the file at `path`.
    lines: Vec<u8>,
    clock: Clock,
    entries: u64,
    failing: bool,
}

impl Writer {
    fn gather(&mut self, first: Message, receiver: &mut mpsc::Receiver<Message>) -> Option<oneshot::Sender<()>> {
        let until = Instant::now() + GATHER;
        let mut next = Ok(first);
        loop {
            match next {
                Ok(Message::Entry(record)) => self.add(&record),
                Ok(Message::Flush(flushed)) => return Some(flushed),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if Instant::now() >= until => return None,
                Err(TryRecvError::Empty) => std::thread::sleep(PAUSE),
            }
            if self.lines.len() >= MOST_GATHERED {
                return None;
            }
            next = receiver.try_recv();
        }
    }

    fn add(&mut self, record: &Record) {
        let Some(path) = record.generation.config.access_log.as_deref() else { return };
        if self.path != path {
            self.write();
            self.path = path.to_owned();
            self.file = None;
        }
        match line::push(&mut self.lines, record, &mut self.clock) {
            Ok(()) => self.entries += 1,
            Err(_) => self.tally.dropped.one(),
        }
    }

    fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        // Before the disk is asked: what is dropped while it takes its time is dropped since.
        let dropped = self.tally.dropped.now();
        match self.append() {
            Ok(()) => {
                self.tally.written.add(self.entries);
                self.tally.wrote(dropped);
                if std::mem::take(&mut self.failing) {
                    info!(dropped, "the access log is written again");
                }
            }
            Err(error) => {
                self.tally.dropped.add(self.entries);
                self.tally.failed(error.to_string());
                self.file = None;
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(path = %self.path.display(), %error, "the access log cannot be written: entries are dropped");
                }
            }
        }
        self.entries = 0;
        self.lines.clear();
        // After a flood.
        self.lines.shrink_to(MOST_GATHERED);
    }

    fn append(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(LogFile::open(&self.path, MOST_BYTES)?),
        };
        file.append(&self.lines)
    }
}
