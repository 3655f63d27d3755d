//! The near side: asks a source for its list and for files, and believes nothing.
//!
//! Files come one after the other, in the order of the list; some are asked for before the one in front has come, so that
//! neither side waits for the other. Every fault of the source is kept here and counted, because what is stored without what it did not give is no
//! snapshot: see [`Pull::fault`].

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::entry::{Entry, Kind, TreePath};
use crate::manifest::{Disorder, Listing, Manifest};
use crate::patience::{Buffered, Hear, Patient, Trusting};
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
        Self { from: Box::new(Buffered::new(Trusting(from))), to: Box::new(BufWriter::new(to)) }
    }

    /// The same, with an end to waiting: see [`crate::patience`].
    pub fn patient(
        from: impl Read + AsFd + Send + 'static,
        to: impl Write + Send + 'static,
        patience: Duration,
    ) -> Self {
        Self { from: Box::new(Buffered::new(Patient::new(from, patience))), to: Box::new(BufWriter::new(to)) }
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

/// How much is asked for before what was asked for first has come: enough that nobody waits for the other, and less than
/// a pipe holds, so that asking never waits while the source waits to be heard.
const ASKED_AHEAD: usize = 16 << 10;

/// A line that files are read from, one after the other.
#[derive(Debug)]
pub(crate) struct Pull<'m> {
    /// Nothing once it broke.
    line: Option<Line>,
    /// What is still to be asked for, in the order in which it is read.
    wanted: std::vec::IntoIter<&'m Entry>,
    /// How many bytes were asked with for each of those that have not come yet.
    asked: VecDeque<usize>,
    fault: Option<Fault>,
    bytes: u64,
}

impl<'m> Pull<'m> {
    /// For these files, in this order.
    pub(crate) fn new(line: Line, wanted: Vec<&'m Entry>) -> Self {
        Self { line: Some(line), wanted: wanted.into_iter(), asked: VecDeque::new(), fault: None, bytes: 0 }
    }

    /// What went wrong, if anything did.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault.clone()
    }

    /// How many bytes were read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Says that nothing more will be asked for.
    pub(crate) fn quit(&mut self) {
        if let Some(line) = &mut self.line {
            let _ = line.ask(&Ask::Quit); // a source that has gone already knows
        }
    }

    fn note(&mut self, path: &TreePath, cause: Option<Cause>, why: String) {
        let more = Fault::new(path.to_string(), cause, why);
        match &mut self.fault {
            Some(fault) => fault.and(more),
            none => *none = Some(more),
        }
    }

    /// Begins to read the next file, as it was listed.
    pub(crate) fn open(&mut self, entry: &Entry) -> io::Result<FileBytes<'_, 'm>> {
        let asked = self.ask_ahead();
        let mut file = FileBytes {
            path: entry.path.clone(),
            left: entry.size(),
            has_ended: false,
            piece: Vec::new(),
            given: 0,
            pull: self,
        };
        match asked {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(file.lost(&error)),
            None => return Err(file.lost(&io::Error::new(io::ErrorKind::BrokenPipe, "the source has gone"))),
        }
        file.pull.asked.pop_front();
        // So that a file that has gone is known before anything of it is stored, and an empty one is asked for at all.
        file.next_piece()?;
        Ok(file)
    }

    /// `None` without a line.
    fn ask_ahead(&mut self) -> Option<Result<(), WireError>> {
        let line = self.line.as_mut()?;
        let mut under_way: usize = self.asked.iter().sum();
        let mut any = false;
        while self.asked.is_empty() || under_way < ASKED_AHEAD {
            let Some(Entry { path, modified, changed, inode, kind, .. }) = self.wanted.next() else { break };
            let size = if let Kind::File { size } = kind { *size } else { 0 };
            let wanted = Wanted { path: path.clone(), size, modified: *modified, changed: *changed, inode: *inode };
            if let Err(error) = Ask::Read(wanted).send(&mut line.to) {
                return Some(Err(WireError::Io(error)));
            }
            let length = path.as_bytes().len() + ASKING;
            self.asked.push_back(length);
            under_way += length;
            any = true;
        }
        Some(if any { line.to.flush().map_err(WireError::Io) } else { Ok(()) })
    }
}

/// What asking takes beside the path.
const ASKING: usize = 64;

/// The bytes of one file, as they come.
#[derive(Debug)]
pub(crate) struct FileBytes<'p, 'm> {
    pull: &'p mut Pull<'m>,
    path: TreePath,
    left: u64,
    /// Whether the source has said its last word on it.
    has_ended: bool,
    piece: Vec<u8>,
    given: usize,
}

impl FileBytes<'_, '_> {
    /// The connection is of no use any more.
    fn lost(&mut self, why: &dyn std::error::Error) -> io::Error {
        let causes = std::iter::successors(why.source(), |error| error.source());
        let why = causes.fold(why.to_string(), |text, cause| format!("{text}: {cause}"));
        self.pull.line = None;
        self.has_ended = true;
        self.pull.note(&self.path, None, why.clone());
        io::Error::new(io::ErrorKind::BrokenPipe, why)
    }

    /// The file is not to be had, but others are.
    fn refused(&mut self, cause: Cause, why: String) -> io::Error {
        self.has_ended = true;
        self.pull.note(&self.path, Some(cause), why.clone());
        io::Error::other(why)
    }

    fn hear(&mut self) -> Result<Tell, WireError> {
        let ended = || WireError::Io(io::Error::from(io::ErrorKind::BrokenPipe));
        self.pull.line.as_mut().ok_or_else(ended)?.hear()
    }

    /// Gets the next piece; the end too, when there is nothing behind it: a file is not done before the source said
    /// that it stayed as it was.
    fn next_piece(&mut self) -> io::Result<()> {
        if self.left > 0 {
            match self.hear() {
                Ok(Tell::Data(bytes)) if bytes.len() as u64 > self.left => {
                    return Err(self.lost(&io::Error::other("more bytes came than were announced")));
                }
                Ok(Tell::Data(bytes)) => {
                    self.left -= bytes.len() as u64;
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
        match self.hear() {
            Ok(Tell::FileEnd) => {
                self.has_ended = true;
                Ok(())
            }
            Ok(Tell::FileFault(cause, why)) => Err(self.refused(cause, why)),
            Ok(Tell::Data(_)) => Err(self.lost(&io::Error::other("more bytes came than were announced"))),
            Ok(_) => Err(self.lost(&WireError::Unexpected("a file's end"))),
            Err(error) => Err(self.lost(&error)),
        }
    }
}

impl Read for FileBytes<'_, '_> {
    /// Fills the buffer but at the file's end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.given == self.piece.len() {
                if self.has_ended {
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
        self.pull.bytes += filled as u64;
        Ok(filled)
    }
}

impl Drop for FileBytes<'_, '_> {
    fn drop(&mut self) {
        if !self.has_ended {
            // Somebody stopped in the middle: what comes next on the line belongs to nothing.
            self.pull.line = None;
        }
    }
}
