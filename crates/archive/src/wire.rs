//! What is said between the management machine and a source, as frames: four bytes of length, one of kind, a payload.
//!
//! ```text
//!  puller                                  source
//!  Hello(version) ───────────────────────▶
//!                 ◀─────────────────────── Hello(magic, version)
//!  List           ───────────────────────▶
//!                 ◀─────────────────────── Entry, Entry, ..., Unlisted, ..., ListEnd(how many)
//!  Read(entry)    ───────────────────────▶
//!                 ◀─────────────────────── Data, Data, ..., FileEnd    or at any point: FileFault(why)
//!  Quit           ───────────────────────▶
//! ```
//!
//! Promise: decoding takes any bytes, allocates no more than [`LARGEST_FRAME`] for them, and gives a value whose parts
//! are checked, or an error. Numbers are big-endian.

use std::io::{self, Read, Write};

use crate::entry::{Entry, Kind, Malformed, Moment, TreePath, shown};

/// The protocol spoken here. One that is newer or older is refused, by both.
pub const VERSION: u32 = 1;
/// How a source introduces itself, so that a login banner is not taken for one.
const MAGIC: &[u8] = b"sovereign-archive-source";
/// The most bytes of content in one frame.
pub const PIECE: usize = 128 << 10;
/// The longest frame: a piece of content, or an entry with its path and target.
pub const LARGEST_FRAME: usize = PIECE + 1;
/// The longest explanation taken from the other side.
const LONGEST_REASON: usize = 500;

/// A frame that says nothing.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection ended or broke.
    #[error("the connection to the source ended")]
    Io(#[source] io::Error),
    /// Longer than any frame.
    #[error("a frame of {0} bytes came")]
    TooLong(u32),
    /// Of no known kind, or not as its kind is.
    #[error("a frame that makes no sense came (kind {0})")]
    Senseless(u8),
    /// Not what had to come now.
    #[error("something else came where {0} had to come")]
    Unexpected(&'static str),
    /// An entry that cannot be.
    #[error("an entry came that cannot be")]
    Malformed(#[source] Malformed),
    /// Another protocol.
    #[error("the source speaks version {0} of the protocol, this program version {VERSION}")]
    Version(u32),
}

/// What the management machine says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The version it speaks.
    Hello(u32),
    /// List everything.
    List,
    /// The bytes of a file, if it still is as it was listed.
    Read(Wanted),
    /// That was all.
    Quit,
}

/// A file as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub path: TreePath,
    /// Its size then.
    pub size: u64,
    /// When it had last been modified.
    pub modified: Moment,
    /// When anything about it had last changed.
    pub changed: Moment,
    /// Its number.
    pub inode: u64,
}

/// Why something cannot be had, as far as that says whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It is not what it was a moment ago: another attempt may find it at rest.
    Changed,
    /// It cannot be read: no permission, a bad disk. The same will happen again.
    Unreadable,
}

/// What a source says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tell {
    /// The version it speaks.
    Hello(u32),
    /// The next of the list.
    Entry(Entry),
    /// Something that should be on the list and cannot be: where, and why.
    Unlisted(Cause, String, String),
    /// The list's end: how many entries it has, how many pipes, sockets and devices were left out.
    ListEnd(u64, u64),
    /// The next bytes.
    Data(Vec<u8>),
    /// All bytes have come, and the file is as it was listed.
    FileEnd,
    /// The file cannot be had as it was listed.
    FileFault(Cause, String),
}

/// Writes frames into memory.
#[derive(Default)]
struct Form(Vec<u8>);

impl Form {
    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn moment(&mut self, moment: Moment) -> &mut Self {
        self.0.extend(moment.seconds.to_be_bytes());
        self.u32(moment.nanoseconds)
    }

    fn cause(&mut self, cause: Cause) -> &mut Self {
        self.0.push(match cause {
            Cause::Changed => 0,
            Cause::Unreadable => 1,
        });
        self
    }

    fn text(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32);
        self.0.extend(bytes);
        self
    }
}

/// Takes frames apart.
struct Parts<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::Senseless(self.kind))?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        let bytes = self.take(4)?.try_into().map_err(|_| WireError::Senseless(self.kind))?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        let bytes = self.take(8)?.try_into().map_err(|_| WireError::Senseless(self.kind))?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// Checked here, because not only entries have one: what is asked for has, too, and a source calculates with it.
    fn moment(&mut self) -> Result<Moment, WireError> {
        let moment = Moment { seconds: self.u64()?.cast_signed(), nanoseconds: self.u32()? };
        if moment.is_possible() { Ok(moment) } else { Err(WireError::Senseless(self.kind)) }
    }

    fn cause(&mut self) -> Result<Cause, WireError> {
        match self.take(1)? {
            [0] => Ok(Cause::Changed),
            [1] => Ok(Cause::Unreadable),
            _ => Err(WireError::Senseless(self.kind)),
        }
    }

    fn text(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn path(&mut self) -> Result<TreePath, WireError> {
        TreePath::parse(self.text()?).map_err(WireError::Malformed)
    }

    fn reason(&mut self) -> Result<String, WireError> {
        let text = self.text()?;
        Ok(shown(&text[..text.len().min(LONGEST_REASON)]))
    }

    fn end<T>(self, value: T) -> Result<T, WireError> {
        if self.rest.is_empty() { Ok(value) } else { Err(WireError::Senseless(self.kind)) }
    }
}

fn cut(reason: &str) -> &[u8] {
    &reason.as_bytes()[..reason.len().min(LONGEST_REASON)]
}

impl Ask {
    fn encode(&self) -> (u8, Vec<u8>) {
        let mut form = Form::default();
        let kind = match self {
            Self::Hello(version) => {
                form.u32(*version);
                b'H'
            }
            Self::List => b'L',
            Self::Read(Wanted { path, size, modified, changed, inode }) => {
                form.text(path.as_bytes()).u64(*size).moment(*modified).moment(*changed).u64(*inode);
                b'R'
            }
            Self::Quit => b'Q',
        };
        (kind, form.0)
    }

    /// From a frame's kind and payload.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn decode(kind: u8, payload: &[u8]) -> Result<Self, WireError> {
        let mut parts = Parts { kind, rest: payload };
        let ask = match kind {
            b'H' => Self::Hello(parts.u32()?),
            b'L' => Self::List,
            b'R' => Self::Read(Wanted {
                path: parts.path()?,
                size: parts.u64()?,
                modified: parts.moment()?,
                changed: parts.moment()?,
                inode: parts.u64()?,
            }),
            b'Q' => Self::Quit,
            _ => return Err(WireError::Senseless(kind)),
        };
        parts.end(ask)
    }

    /// Sends it.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&self, to: &mut impl Write) -> io::Result<()> {
        let (kind, payload) = self.encode();
        send(to, kind, &payload)
    }

    /// Receives the next one; `None` when the other side has gone.
    ///
    /// # Errors
    /// When what came says nothing.
    pub fn receive(from: &mut impl Read) -> Result<Option<Self>, WireError> {
        receive(from)?.map(|(kind, payload)| Self::decode(kind, &payload)).transpose()
    }
}

impl Tell {
    fn encode(&self) -> (u8, Vec<u8>) {
        let mut form = Form::default();
        let kind = match self {
            Self::Hello(version) => {
                form.0.extend(MAGIC);
                form.u32(*version);
                b'h'
            }
            Self::Entry(entry) => {
                let Entry { path, kind, mode, modified, changed, user, group, inode } = entry;
                let (tag, size, target): (u8, u64, &[u8]) = match kind {
                    Kind::Folder => (0, 0, &[]),
                    Kind::File { size } => (1, *size, &[]),
                    Kind::Link { target } => (2, 0, target),
                };
                form.0.push(tag);
                form.text(path.as_bytes()).u32(*mode).moment(*modified).moment(*changed);
                form.u32(*user).u32(*group).u64(*inode).u64(size).text(target);
                b'e'
            }
            Self::Unlisted(cause, path, why) => {
                form.cause(*cause).text(cut(path)).text(cut(why));
                b'x'
            }
            Self::ListEnd(count, left_out) => {
                form.u64(*count).u64(*left_out);
                b'l'
            }
            Self::Data(bytes) => {
                form.0.extend(bytes);
                b'd'
            }
            Self::FileEnd => b'f',
            Self::FileFault(cause, why) => {
                form.cause(*cause).text(cut(why));
                b'z'
            }
        };
        (kind, form.0)
    }

    /// From a frame's kind and payload.
    ///
    /// # Errors
    /// When it says nothing, or an entry that cannot be.
    pub fn decode(kind: u8, payload: &[u8]) -> Result<Self, WireError> {
        let mut parts = Parts { kind, rest: payload };
        let tell = match kind {
            b'h' => {
                if parts.take(MAGIC.len())? != MAGIC {
                    return Err(WireError::Senseless(kind));
                }
                Self::Hello(parts.u32()?)
            }
            b'e' => Self::Entry(entry(&mut parts)?),
            b'x' => Self::Unlisted(parts.cause()?, parts.reason()?, parts.reason()?),
            b'l' => Self::ListEnd(parts.u64()?, parts.u64()?),
            b'd' if payload.is_empty() => return Err(WireError::Senseless(kind)),
            b'd' => Self::Data(std::mem::take(&mut parts.rest).to_vec()),
            b'f' => Self::FileEnd,
            b'z' => Self::FileFault(parts.cause()?, parts.reason()?),
            _ => return Err(WireError::Senseless(kind)),
        };
        parts.end(tell)
    }

    /// Sends it.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&self, to: &mut impl Write) -> io::Result<()> {
        let (kind, payload) = self.encode();
        send(to, kind, &payload)
    }

    /// Receives the next one.
    ///
    /// # Errors
    /// When the source has gone, or what came says nothing.
    pub fn receive(from: &mut impl Read) -> Result<Self, WireError> {
        match receive(from)? {
            // Most of what comes: no copy of it is made.
            Some((b'd', payload)) if !payload.is_empty() => Ok(Self::Data(payload)),
            Some((kind, payload)) => Self::decode(kind, &payload),
            None => Err(WireError::Io(io::Error::from(io::ErrorKind::UnexpectedEof))),
        }
    }
}

/// Sends a [`Tell::Data`] of bytes that are somewhere already.
pub(crate) fn send_data(bytes: &[u8], to: &mut impl Write) -> io::Result<()> {
    send(to, b'd', bytes)
}

fn entry(parts: &mut Parts<'_>) -> Result<Entry, WireError> {
    let tag = parts.take(1)?[0];
    let path = parts.path()?;
    let mode = parts.u32()?;
    let (modified, changed) = (parts.moment()?, parts.moment()?);
    let (user, group, inode, size) = (parts.u32()?, parts.u32()?, parts.u64()?, parts.u64()?);
    let target = parts.text()?.to_vec();
    let kind = match (tag, size, target.is_empty()) {
        (0, 0, true) => Kind::Folder,
        (1, size, true) => Kind::File { size },
        (2, 0, false) => Kind::Link { target },
        _ => return Err(WireError::Senseless(parts.kind)),
    };
    let entry = Entry { path, kind, mode, modified, changed, user, group, inode };
    entry.checked().map_err(WireError::Malformed)
}

fn send(to: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    to.write_all(&(payload.len() as u32 + 1).to_be_bytes())?;
    to.write_all(&[kind])?;
    to.write_all(payload)
}

/// The next frame; `None` when the stream ends before one.
fn receive(from: &mut impl Read) -> Result<Option<(u8, Vec<u8>)>, WireError> {
    let mut head = [0; 4];
    let mut have = 0;
    while have < head.len() {
        match from.read(&mut head[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(WireError::Io(io::Error::from(io::ErrorKind::UnexpectedEof))),
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(WireError::Io(error)),
        }
    }
    let length = u32::from_be_bytes(head);
    if length == 0 || length as usize > LARGEST_FRAME {
        return Err(WireError::TooLong(length));
    }
    let mut kind = [0];
    from.read_exact(&mut kind).map_err(WireError::Io)?;
    let mut payload = vec![0; length as usize - 1];
    from.read_exact(&mut payload).map_err(WireError::Io)?;
    Ok(Some((kind[0], payload)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moment() -> impl Strategy<Value = Moment> {
        (0..10_000_000_000_i64, 0..1_000_000_000_u32).prop_map(|(seconds, nanoseconds)| Moment { seconds, nanoseconds })
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![
            Just(Kind::Folder),
            (0..1_u64 << 40).prop_map(|size| Kind::File { size }),
            proptest::collection::vec(1..255_u8, 1..40).prop_map(|target| Kind::Link { target }),
        ];
        let numbers = (0..=0o7777_u32, any::<u32>(), any::<u32>(), any::<u64>());
        ("[a-z]{1,9}(/[a-z.]{3,9}x){0,4}", kind, numbers, moment(), moment()).prop_map(
            |(path, kind, (mode, user, group, inode), modified, changed)| {
                let path = TreePath::parse(path.as_bytes()).unwrap();
                Entry { path, kind, mode, modified, changed, user, group, inode }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_sent_is_received(entry in any_entry(), data in proptest::collection::vec(any::<u8>(), 1..500)) {
            let Entry { path, modified, changed, inode, .. } = entry.clone();
            let wanted = Wanted { path, size: 5, modified, changed, inode };
            for ask in [Ask::Hello(7), Ask::List, Ask::Read(wanted), Ask::Quit] {
                let mut bytes = Vec::new();
                ask.send(&mut bytes).unwrap();
                prop_assert_eq!(Ask::receive(&mut bytes.as_slice()).unwrap(), Some(ask));
            }
            let faults = [
                Tell::FileFault(Cause::Changed, "gone".into()),
                Tell::Unlisted(Cause::Unreadable, "a".into(), "b".into()),
            ];
            let rest = [Tell::Hello(1), Tell::Entry(entry), Tell::ListEnd(1, 2), Tell::Data(data), Tell::FileEnd];
            for tell in faults.into_iter().chain(rest) {
                let mut bytes = Vec::new();
                tell.send(&mut bytes).unwrap();
                prop_assert_eq!(Tell::receive(&mut bytes.as_slice()).unwrap(), tell);
            }
        }

        #[test]
        fn any_bytes_are_taken_apart_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Tell::receive(&mut bytes.as_slice());
            let _ = Ask::receive(&mut bytes.as_slice());
            if let Some((kind, payload)) = bytes.split_first() {
                let _ = Tell::decode(*kind, payload);
                let _ = Ask::decode(*kind, payload);
            }
        }
    }

    #[test]
    fn a_huge_frame_is_refused_before_there_is_room_for_it() {
        let mut bytes: &[u8] = &[0xff, 0xff, 0xff, 0xff, b'd'];
        assert!(matches!(Tell::receive(&mut bytes), Err(WireError::TooLong(u32::MAX))));
    }

    #[test]
    fn a_file_is_not_asked_for_with_a_time_that_there_is_not() {
        let path = TreePath::parse(b"a").unwrap();
        let now = Moment { seconds: 1, nanoseconds: 0 };
        for changed in [
            Moment { seconds: i64::MAX, nanoseconds: 0 },
            Moment { seconds: i64::MIN, nanoseconds: 0 },
            Moment { seconds: 1, nanoseconds: u32::MAX },
        ] {
            let mut bytes = Vec::new();
            Ask::Read(Wanted { path: path.clone(), size: 1, modified: now, changed, inode: 1 })
                .send(&mut bytes)
                .unwrap();
            let refused = Ask::receive(&mut bytes.as_slice());
            assert!(matches!(refused, Err(WireError::Senseless(b'R'))), "{refused:?}");
        }
    }

    #[test]
    fn reasons_are_fit_for_a_terminal() {
        let mut bytes = Vec::new();
        Tell::FileFault(Cause::Changed, "\u{1b}]0;title\u{7}".to_owned()).send(&mut bytes).unwrap();
        let told = Tell::receive(&mut bytes.as_slice()).unwrap();
        assert_eq!(told, Tell::FileFault(Cause::Changed, "\\u{1b}]0;title\\u{7}".to_owned()));
    }
}
