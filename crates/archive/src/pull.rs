//! The near side: asks a source for its list and for files, and believes nothing.
//!
//! One file is on the line at a time. Whoever reads a file holds the line until its last byte has come; others wait.
//! Every fault of the source is kept here and counted, because the library that stores what is read passes over
//! errors: see [`Pull::fault`].

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::entry::{Entry, TreePath};
use crate::manifest::{Disorder, Listing, Manifest};
use crate::patience::{Hear, Patient, Trusting};
use crate::wire::{Ask, Cause, Tell, VERSION, Wanted, WireError};

/// Both directions to a source.
pub struct Line {
    from: Box<dyn Hear>,
    to: Box<dyn Write + Send>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

impl Line {
    /// Over these two; nothing is said yet. Nobody gives up on a source that stays silent.
    pub fn new(from: impl Read + Send + 'static, to: impl Write + Send + 'static) -> Self {
        Self { from: Box::new(Trusting(from)), to: Box::new(to) }
    }

    /// The same, with an end to waiting: see [`crate::patience`].
    pub fn patient(
        from: impl Read + AsFd + Send + 'static,
        to: impl Write + Send + 'static,
        patience: Duration,
    ) -> Self {
        Self { from: Box::new(Patient::new(from, patience)), to: Box::new(to) }
    }

    fn ask(&mut self, ask: &Ask) -> Result<(), WireError> {
        ask.send(&mut self.to).and_then(|()| self.to.flush()).map_err(WireError::Io)
    }

    fn hear(&mut self) -> Result<Tell, WireError> {
        let tell = Tell::receive(&mut self.from)?;
        match &tell {
            Tell::Data(bytes) => self.from.content(bytes.len()),
            _ => self.from.answer(),
        }
        Ok(tell)
    }
}

/// What went wrong at the source.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// What it said makes no sense, or it went away.
    #[error("the source cannot be followed")]
    Wire(#[source] WireError),
    /// Its list is no tree.
    #[error("the source's list is none")]
    Disorder(#[source] Disorder),
    /// It counted otherwise.
    #[error("the source announced a list of {announced} entries, and {came} came")]
    Count {
        /// By its own word.
        announced: u64,
        /// Counted here.
        came: u64,
    },
    /// Some of it cannot be had.
    #[error("{}", .0)]
    Fault(Fault),
}

impl PullError {
    /// Whether the same may go well when it is tried again: files and folders that change while they are read.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.cause == Some(Cause::Changed))
    }

    /// Whether the source says that it cannot read something.
    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.cause == Some(Cause::Unreadable))
    }
}

/// One file that cannot be had, and how many more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub path: String,
    /// Why, in the source's words or ours.
    pub why: String,
    /// How many others.
    pub others: usize,
    /// Its kind; none when the line broke. Of several the worst: [`Cause::Changed`] only when all are.
    cause: Option<Cause>,
}

impl Fault {
    fn new(path: String, cause: Option<Cause>, why: String) -> Self {
        Self { path, why, others: 0, cause }
    }

    /// One more: the worst is told, of two that are alike the first.
    fn and(&mut self, other: Self) {
        let others = self.others + 1;
        if other.badness() > self.badness() {
            *self = other;
        }
        self.others = others;
    }

    fn badness(&self) -> u8 {
        match self.cause {
            Some(Cause::Changed) => 0,
            Some(Cause::Unreadable) => 1,
            None => 2,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.why)?;
        if self.others > 0 { write!(f, " (and {} more)", self.others) } else { Ok(()) }
    }
}

/// A list, and what could not be on it.
#[derive(Debug)]
pub struct Listed {
    /// The list.
    pub manifest: Manifest,
    /// Pipes, sockets and devices that were passed over.
    pub left_out: u64,
}

/// Introduces itself to the source and takes its list.
///
/// # Errors
/// When the source cannot list everything, or lists what cannot be.
pub fn list(line: &mut Line, seen: &dyn Fn(u64)) -> Result<Listed, PullError> {
    line.ask(&Ask::Hello(VERSION)).map_err(PullError::Wire)?;
    match line.hear().map_err(PullError::Wire)? {
        Tell::Hello(VERSION) => {}
        Tell::Hello(other) => return Err(PullError::Wire(WireError::Version(other))),
        _ => return Err(PullError::Wire(WireError::Unexpected("a greeting"))),
    }
    line.ask(&Ask::List).map_err(PullError::Wire)?;
    let mut listing = Listing::default();
    let mut fault: Option<Fault> = None;
    loop {
        match line.hear().map_err(PullError::Wire)? {
            Tell::Entry(entry) => listing.push(entry).map_err(PullError::Disorder)?,
            Tell::Unlisted(cause, path, why) => match &mut fault {
                None => fault = Some(Fault::new(path, Some(cause), why)),
                // An endless tale of woe is none.
                Some(fault) if fault.others < crate::manifest::MOST_ENTRIES => {
                    fault.and(Fault::new(path, Some(cause), why));
                }
                Some(_) => return Err(PullError::Disorder(Disorder::TooMany("faults"))),
            },
            Tell::ListEnd(announced, left_out) => {
                let came = listing.len() as u64;
                return match fault {
                    Some(fault) => Err(PullError::Fault(fault)),
                    None if announced != came => Err(PullError::Count { announced, came }),
                    None => Ok(Listed { manifest: listing.finish(), left_out }),
                };
            }
            _ => return Err(PullError::Wire(WireError::Unexpected("an entry"))),
        }
        seen(listing.len() as u64);
    }
}

/// The SHA-256 of a file's bytes, as they came.
pub type Sum = [u8; 32];

#[derive(Debug)]
struct State {
    /// The line, while nobody reads from it.
    line: Option<Line>,
    broken: bool,
    /// Broken by this side, which has reasons of its own: no fault of the source.
    given_up: bool,
    fault: Option<Fault>,
    /// What was read, in whole.
    sums: BTreeMap<TreePath, Sum>,
    bytes: u64,
}

/// A line that files are read from, by several threads.
#[derive(Debug)]
pub(crate) struct Pull {
    state: Mutex<State>,
    free: Condvar,
}

impl Pull {
    pub(crate) fn new(line: Line) -> Self {
        let state =
            State { line: Some(line), broken: false, given_up: false, fault: None, sums: BTreeMap::new(), bytes: 0 };
        Self { state: Mutex::new(state), free: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What went wrong, if anything did.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.state().fault.clone()
    }

    /// What was read: sums by path, and how many bytes in all.
    pub(crate) fn read(&self) -> (BTreeMap<TreePath, Sum>, u64) {
        let mut state = self.state();
        (std::mem::take(&mut state.sums), state.bytes)
    }

    /// Says that nothing more will be asked for.
    pub(crate) fn quit(&self) {
        if let Some(line) = &mut self.state().line {
            let _ = line.ask(&Ask::Quit); // a source that has gone already knows
        }
    }

    fn note(&self, path: &TreePath, cause: Option<Cause>, why: String) {
        let more = Fault::new(path.to_string(), cause, why);
        match &mut self.state().fault {
            Some(fault) => fault.and(more),
            none => *none = Some(more),
        }
    }

    /// Begins to read a file as it was listed.
    pub(crate) fn open(self: &Arc<Self>, entry: &Entry) -> io::Result<FileBytes> {
        let Entry { path, modified, changed, inode, .. } = entry;
        let mut line = {
            let mut state = self.state();
            loop {
                if state.broken {
                    let why = io::Error::new(io::ErrorKind::BrokenPipe, "the source has gone");
                    let given_up = state.given_up;
                    drop(state);
                    if !given_up {
                        self.note(path, None, why.to_string());
                    }
                    return Err(why);
                }
                match state.line.take() {
                    Some(line) => break line,
                    None => state = self.free.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        let wanted =
            Wanted { path: path.clone(), size: entry.size(), modified: *modified, changed: *changed, inode: *inode };
        let asked = line.ask(&Ask::Read(wanted));
        let mut file = FileBytes {
            pull: Arc::clone(self),
            path: path.clone(),
            line: Some(line),
            left: entry.size(),
            piece: Vec::new(),
            given: 0,
            sum: Sha256::new(),
        };
        if let Err(error) = asked {
            return Err(file.lost(&error));
        }
        // So that a file that has gone is known before anything of it is stored, and an empty one is asked for at all.
        file.next_piece()?;
        Ok(file)
    }

    fn put_back(&self, line: Option<Line>) {
        let mut state = self.state();
        state.broken |= line.is_none();
        state.line = line;
        drop(state);
        self.free.notify_all();
    }
}

/// The bytes of one file, as they come.
#[derive(Debug)]
pub(crate) struct FileBytes {
    pull: Arc<Pull>,
    path: TreePath,
    /// The line, until the last byte has come.
    line: Option<Line>,
    left: u64,
    piece: Vec<u8>,
    given: usize,
    sum: Sha256,
}

impl FileBytes {
    /// The connection is of no use any more.
    fn lost(&mut self, why: &dyn std::error::Error) -> io::Error {
        self.line = None;
        let causes = std::iter::successors(why.source(), |error| error.source());
        let why = causes.fold(why.to_string(), |text, cause| format!("{text}: {cause}"));
        self.pull.note(&self.path, None, why.clone());
        self.pull.put_back(None);
        io::Error::new(io::ErrorKind::BrokenPipe, why)
    }

    /// The file is not to be had, but others are.
    fn refused(&mut self, cause: Cause, why: String) -> io::Error {
        self.pull.note(&self.path, Some(cause), why.clone());
        let line = self.line.take();
        self.pull.put_back(line);
        io::Error::other(why)
    }

    /// Gets the next piece; the end too, when there is nothing behind it: a file is not done before the source said
    /// that it stayed as it was.
    fn next_piece(&mut self) -> io::Result<()> {
        let Some(line) = &mut self.line else { return Ok(()) };
        if self.left > 0 {
            match line.hear() {
                Ok(Tell::Data(bytes)) if bytes.len() as u64 > self.left => {
                    return Err(self.lost(&io::Error::other("more bytes came than were announced")));
                }
                Ok(Tell::Data(bytes)) => {
                    self.left -= bytes.len() as u64;
                    self.sum.update(&bytes);
                    (self.piece, self.given) = (bytes, 0);
                }
                Ok(Tell::FileFault(cause, why)) => return Err(self.refused(cause, why)),
                Ok(Tell::FileEnd) => {
                    return Err(self.lost(&io::Error::other("fewer bytes came than were announced")));
                }
                Ok(_) => return Err(self.lost(&WireError::Unexpected("a file's bytes"))),
                Err(error) => return Err(self.lost(&error)),
            }
        }
        if self.left > 0 {
            return Ok(());
        }
        let Some(line) = &mut self.line else { return Ok(()) };
        match line.hear() {
            Ok(Tell::FileEnd) => {
                let mut state = self.pull.state();
                state.sums.insert(self.path.clone(), self.sum.clone().finalize().into());
                drop(state);
                let line = self.line.take();
                self.pull.put_back(line);
                Ok(())
            }
            Ok(Tell::FileFault(cause, why)) => Err(self.refused(cause, why)),
            Ok(Tell::Data(_)) => Err(self.lost(&io::Error::other("more bytes came than were announced"))),
            Ok(_) => Err(self.lost(&WireError::Unexpected("a file's end"))),
            Err(error) => Err(self.lost(&error)),
        }
    }
}

impl Read for FileBytes {
    /// Fills the buffer but at the file's end: the chunker of the library makes its own buffer as small as the
    /// shortest answer it ever got.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.given == self.piece.len() {
                if self.line.is_none() {
                    break;
                }
                self.next_piece()?;
                continue;
            }
            let count = (self.piece.len() - self.given).min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&self.piece[self.given..self.given + count]);
            self.given += count;
            filled += count;
        }
        self.pull.state().bytes += filled as u64;
        Ok(filled)
    }
}

impl Drop for FileBytes {
    fn drop(&mut self) {
        if self.line.is_some() {
            // Somebody stopped in the middle: what comes next on the line belongs to nothing.
            self.pull.state().given_up = true;
            self.pull.put_back(None);
        }
    }
}
