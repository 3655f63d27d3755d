//! SFTP, version 3, as far as a copy needs it (draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL for the extensions):
//! packets between bytes and values.
//!
//! Every packet is a length, a kind and what belongs to it. What the host says is parsed like any stranger's bytes.

use std::io::{self, Read};

/// The longest answer that is taken. OpenSSH's server sends no more than 256 KiB.
const LONGEST: usize = (256 << 10) + 1024;

/// What is asked for.
pub(super) mod ask {
    pub(crate) const INIT: u8 = 1;
    pub(crate) const OPEN: u8 = 3;
    pub(crate) const CLOSE: u8 = 4;
    pub(crate) const READ: u8 = 5;
    pub(crate) const WRITE: u8 = 6;
    pub(crate) const FSTAT: u8 = 8;
    pub(crate) const OPENDIR: u8 = 11;
    pub(crate) const READDIR: u8 = 12;
    pub(crate) const REMOVE: u8 = 13;
    pub(crate) const MKDIR: u8 = 14;
    pub(crate) const STAT: u8 = 17;
    pub(crate) const RENAME: u8 = 18;
    pub(crate) const EXTENDED: u8 = 200;
}

/// How a file is opened.
pub(super) mod open {
    pub(crate) const READ: u32 = 1;
    pub(crate) const WRITE: u32 = 2;
    pub(crate) const CREATE: u32 = 8;
    pub(crate) const TRUNCATE: u32 = 16;
}

/// What the attributes of a file may have.
mod attribute {
    pub(super) const SIZE: u32 = 1;
    pub(super) const OWNER: u32 = 2;
    pub(super) const MODE: u32 = 4;
    pub(super) const TIMES: u32 = 8;
    pub(super) const EXTENDED: u32 = 1 << 31;
}

/// A packet that is being written.
pub(super) struct Packet(Vec<u8>);

impl Packet {
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn text(self, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let mut longer = self.u32(value.len().try_into().unwrap_or(u32::MAX));
        longer.0.extend(value);
        longer
    }

    /// No attributes but this mode.
    pub(super) fn mode(self, mode: u32) -> Self {
        self.u32(attribute::MODE).u32(mode)
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let length: u32 = (self.0.len() - 4).try_into().unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes {
    pub(super) size: u64,
    pub(super) mode: Option<u32>,
}

impl Attributes {
    /// Whether it is an ordinary file.
    pub(super) fn is_file(&self) -> bool {
        self.mode.is_some_and(|mode| mode & 0o170_000 == 0o100_000)
    }
}

/// An answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Status {
        code: u32,
        message: String,
    },
    Handle(Vec<u8>),
    Data(Vec<u8>),
    Names(Vec<(Vec<u8>, Attributes)>),
    Attributes(Attributes),
    /// Of an extension: what it is depends on the question.
    Extended(Vec<u8>),
}

pub(super) mod status {
    pub(crate) const OK: u32 = 0;
    pub(crate) const EOF: u32 = 1;
    pub(crate) const NO_SUCH_FILE: u32 = 2;
    pub(crate) const PERMISSION_DENIED: u32 = 3;
    pub(crate) const UNSUPPORTED: u32 = 8;
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the host does not speak SFTP as it should")
}

/// What is left of a packet.
pub(super) struct Rest<'b>(pub(super) &'b [u8]);

impl<'b> Rest<'b> {
    fn take(&mut self, count: usize) -> io::Result<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(nonsense)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> io::Result<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.take(4)?.try_into().map(u32::from_be_bytes).map_err(|_| nonsense())
    }

    pub(super) fn u64(&mut self) -> io::Result<u64> {
        self.take(8)?.try_into().map(u64::from_be_bytes).map_err(|_| nonsense())
    }

    fn text(&mut self) -> io::Result<&'b [u8]> {
        let length = self.u32()?.try_into().map_err(|_| nonsense())?;
        self.take(length)
    }

    fn attributes(&mut self) -> io::Result<Attributes> {
        let has = self.u32()?;
        let mut attributes = Attributes::default();
        if has & attribute::SIZE != 0 {
            attributes.size = self.u64()?;
        }
        if has & attribute::OWNER != 0 {
            self.take(8)?;
        }
        if has & attribute::MODE != 0 {
            attributes.mode = Some(self.u32()?);
        }
        if has & attribute::TIMES != 0 {
            self.take(8)?;
        }
        if has & attribute::EXTENDED != 0 {
            for _ in 0..self.u32()? {
                self.text()?;
                self.text()?;
            }
        }
        Ok(attributes)
    }
}

/// Reads one packet: its kind and what belongs to it.
fn packet(from: &mut dyn Read) -> io::Result<(u8, Vec<u8>)> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| nonsense())?;
    if !(1..=LONGEST).contains(&length) {
        return Err(nonsense());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok((bytes[0], bytes.split_off(1)))
}

/// Reads what the host says to a greeting: the names of its extensions.
pub(super) fn greeting(from: &mut dyn Read) -> io::Result<Vec<String>> {
    let (kind, bytes) = packet(from)?;
    let mut rest = Rest(&bytes);
    if kind != 2 || rest.u32()? < 3 {
        return Err(nonsense());
    }
    let mut extensions = Vec::new();
    while !rest.0.is_empty() {
        extensions.push(String::from_utf8_lossy(rest.text()?).into_owned());
        rest.text()?;
    }
    Ok(extensions)
}

/// Reads an answer, and to which question it is one.
pub(super) fn answer(from: &mut dyn Read) -> io::Result<(u32, Answer)> {
    let (kind, bytes) = packet(from)?;
    parse(kind, &bytes)
}

fn parse(kind: u8, bytes: &[u8]) -> io::Result<(u32, Answer)> {
    let mut rest = Rest(bytes);
    let id = rest.u32()?;
    let answer = match kind {
        101 => {
            let code = rest.u32()?;
            // Old servers leave the message out.
            let message = rest.text().unwrap_or_default();
            let message = String::from_utf8_lossy(message).chars().filter(|c| !c.is_control()).take(200).collect();
            Answer::Status { code, message }
        }
        102 => Answer::Handle(rest.text()?.to_vec()),
        103 => Answer::Data(rest.text()?.to_vec()),
        104 => {
            let mut names = Vec::new();
            for _ in 0..rest.u32()? {
                let name = rest.text()?.to_vec();
                rest.text()?; // as `ls -l` shows it
                names.push((name, rest.attributes()?));
            }
            Answer::Names(names)
        }
        105 => Answer::Attributes(rest.attributes()?),
        201 => Answer::Extended(rest.0.to_vec()),
        _ => return Err(nonsense()),
    };
    let _ = rest.u8(); // whatever a newer host adds
    Ok((id, answer))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(packet: Packet) -> io::Result<(u32, Answer)> {
        answer(&mut &*packet.finish())
    }

    #[test]
    fn answers_are_read() {
        assert_eq!(read(Packet::new(102).u32(7).text(b"h")).unwrap(), (7, Answer::Handle(b"h".to_vec())));
        let status = Answer::Status { code: 4, message: "Failure".to_owned() };
        assert_eq!(read(Packet::new(101).u32(1).u32(4).text("Fail\nure").text("en")).unwrap(), (1, status));
        let names = Packet::new(104).u32(2).u32(1).text("a").text("-rw a");
        let all = names.u32(0x8000_000f).u64(5).u32(0).u32(0).u32(0o100_600).u32(1).u32(2).u32(1).text("x").text("y");
        let file = Attributes { size: 5, mode: Some(0o100_600) };
        assert_eq!(read(all).unwrap(), (2, Answer::Names(vec![(b"a".to_vec(), file)])));
        assert!(file.is_file());
        let hello = Packet::new(2).u32(3).text("fsync@openssh.com").text("1").finish();
        assert_eq!(greeting(&mut &*hello).unwrap(), ["fsync@openssh.com"]);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        read(Packet::new(102).u32(7).u32(1000)).unwrap_err();
        read(Packet::new(104).u32(7).u32(u32::MAX)).unwrap_err();
        answer(&mut &[0xff, 0xff, 0xff, 0xff, 1][..]).unwrap_err();
        answer(&mut &[0, 0, 0, 0][..]).unwrap_err();
        greeting(&mut &*Packet::new(2).u32(2).finish()).unwrap_err();
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_read_or_refused(kind in any::<u8>(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(kind, &bytes);
            let _ = greeting(&mut &*bytes);
        }
    }
}
