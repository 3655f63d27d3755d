//! A place on a host that speaks SFTP, by OpenSSH's client: `ssh -s host sftp` carries the protocol, which is spoken here.
//!
//! Promise: how the host is reached is what `sovereign_ssh` promises. A file is written beside and renamed when all of it
//! is on the host's disk, as far as the host can tell (`fsync@openssh.com`). Names last when the host's file system says
//! so: SFTP has no word for that.

mod session;
mod wire;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sovereign_model::archive_copy::SftpPlace;
use sovereign_ssh::Keys;

use super::place::{FileKind, FileName, Free, LARGEST_FILE, Listed, Place};
use crate::place::UNFINISHED;
use session::{Asked, Session, refused};
use wire::{Answer, Rest, ask, open, status};

/// So much is written or read with one question. All servers take it.
const PIECE: usize = 32 << 10;
/// So many questions are sent before the first answer is waited for: 2 MiB under way, for a line that is long and wide.
const AHEAD: usize = 64;
/// So many folders are open at a time: servers have some hundred handles.
const OPEN_FOLDERS: usize = 32;

/// More files than an archive has: 32 TB of packs.
const MOST_NAMES: usize = 4 << 20;

/// How to get to a host.
#[derive(Debug, Clone)]
pub struct Login {
    /// Where.
    pub place: SftpPlace,
    /// A file for the host's key.
    pub known_hosts: PathBuf,
}

impl Login {
    fn ssh(&self) -> sovereign_ssh::Login {
        let Self { place: SftpPlace { address, key, host_key }, known_hosts } = self;
        sovereign_ssh::Login {
            address: address.server().clone(),
            host_key: host_key.clone(),
            keys: Keys { files: vec![key.clone()], agent: None },
            known_hosts: known_hosts.clone(),
        }
    }
}

/// The folder on the host.
pub struct Sftp {
    login: Login,
    session: Mutex<Session>,
}

impl fmt::Debug for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sftp({})", self.login.place.address)
    }
}

impl Sftp {
    /// Logs in.
    ///
    /// # Errors
    /// When the host cannot be reached, is another one, or does not let us in.
    pub fn connect(login: Login) -> io::Result<Self> {
        let ssh = login.ssh();
        ssh.write_known_hosts()?;
        let session = Mutex::new(Session::begin(&ssh)?);
        Ok(Self { login, session })
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.login.place.address.folder())
    }

    /// Everything in some folders, each told with its place among them. One that is not there is empty.
    fn list_all(
        session: &mut Session,
        folders: &[String],
        tell: &mut dyn FnMut(usize, &[u8], wire::Attributes),
    ) -> io::Result<()> {
        let mut told = 0;
        for (batch, folders) in folders.chunks(OPEN_FOLDERS).enumerate() {
            let asked: Vec<Asked> = folders
                .iter()
                .map(|folder| session.ask(ask::OPENDIR, |packet| packet.text(folder)))
                .collect::<io::Result<_>>()?;
            let mut handles = Vec::new();
            for (index, asked) in asked.into_iter().enumerate() {
                match session.answer(asked)? {
                    Answer::Handle(handle) => handles.push((batch * OPEN_FOLDERS + index, handle)),
                    Answer::Status { code: status::NO_SUCH_FILE, .. } => {}
                    other => return Err(refused(other)),
                }
            }
            let mut open = handles.clone();
            while !open.is_empty() {
                let asked: Vec<Asked> = open
                    .iter()
                    .map(|(_, handle)| session.ask(ask::READDIR, |packet| packet.text(handle)))
                    .collect::<io::Result<_>>()?;
                let mut more = Vec::new();
                for ((index, handle), asked) in open.into_iter().zip(asked) {
                    match session.answer(asked)? {
                        Answer::Names(names) => {
                            told += names.len();
                            if told > MOST_NAMES {
                                return Err(io::Error::new(io::ErrorKind::InvalidData, "the host's list has no end"));
                            }
                            names.iter().for_each(|(name, attributes)| tell(index, name, *attributes));
                            more.push((index, handle));
                        }
                        Answer::Status { code: status::EOF, .. } => {}
                        other => return Err(refused(other)),
                    }
                }
                open = more;
            }
            let asked: Vec<Asked> = handles
                .iter()
                .map(|(_, handle)| session.ask(ask::CLOSE, |packet| packet.text(handle)))
                .collect::<io::Result<_>>()?;
            asked.into_iter().try_for_each(|asked| session.done(asked))?;
        }
        Ok(())
    }

    fn open(session: &mut Session, path: &str, how: u32) -> io::Result<Vec<u8>> {
        let asked = session.ask(ask::OPEN, |packet| packet.text(path).u32(how).mode(0o600))?;
        match session.answer(asked)? {
            Answer::Handle(handle) => Ok(handle),
            other => Err(refused(other)),
        }
    }

    fn close(session: &mut Session, handle: &[u8]) -> io::Result<()> {
        let asked = session.ask(ask::CLOSE, |packet| packet.text(handle))?;
        session.done(asked)
    }

    fn size(session: &mut Session, handle: &[u8]) -> io::Result<u64> {
        let asked = session.ask(ask::FSTAT, |packet| packet.text(handle))?;
        match session.answer(asked)? {
            Answer::Attributes(attributes) => Ok(attributes.size),
            other => Err(refused(other)),
        }
    }

    /// A part of an open file, many questions ahead.
    fn read_open(session: &mut Session, handle: &[u8], offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut pieces: VecDeque<(usize, usize)> =
            (0..length).step_by(PIECE).map(|begin| (begin, PIECE.min(length - begin))).collect();
        let mut under_way = VecDeque::new();
        while !pieces.is_empty() || !under_way.is_empty() {
            while under_way.len() < AHEAD {
                let Some((begin, count)) = pieces.pop_front() else { break };
                let asked = session.ask(ask::READ, |packet| {
                    packet.text(handle).u64(offset + begin as u64).u32(count.try_into().unwrap_or(u32::MAX))
                })?;
                under_way.push_back((asked, begin, count));
            }
            let Some((asked, begin, count)) = under_way.pop_front() else { break };
            match session.answer(asked)? {
                Answer::Data(data) if !data.is_empty() && data.len() <= count => {
                    bytes[begin..begin + data.len()].copy_from_slice(&data);
                    if data.len() < count {
                        pieces.push_front((begin + data.len(), count - data.len()));
                    }
                }
                other => return Err(refused(other)),
            }
        }
        Ok(bytes)
    }

    fn write_open(session: &mut Session, handle: &[u8], content: &[u8]) -> io::Result<()> {
        let mut under_way = VecDeque::new();
        for (index, piece) in content.chunks(PIECE).enumerate() {
            if under_way.len() >= AHEAD
                && let Some(asked) = under_way.pop_front()
            {
                session.done(asked)?;
                session.moved(PIECE);
            }
            let offset = (index * PIECE) as u64;
            under_way.push_back(session.ask(ask::WRITE, |packet| packet.text(handle).u64(offset).text(piece))?);
        }
        under_way.into_iter().try_for_each(|asked| {
            session.done(asked)?;
            session.moved(PIECE);
            Ok(())
        })
    }

    /// Writes what is open, to the end, and on the host's disk.
    fn fill(session: &mut Session, handle: &[u8], content: &[u8]) -> io::Result<()> {
        let written = Self::write_open(session, handle, content).and_then(|()| {
            if !session.knows("fsync@openssh.com") {
                return Ok(());
            }
            let asked = session.ask(ask::EXTENDED, |packet| packet.text("fsync@openssh.com").text(handle))?;
            session.done(asked)
        });
        // Closed in any case, and the first error told.
        written.and(Self::close(session, handle))
    }

    fn rename(session: &mut Session, from: &str, to: &str) -> io::Result<()> {
        let over = session.knows("posix-rename@openssh.com");
        if !over {
            // Without it a file that is there is in the way.
            Self::remove_at(session, to)?;
        }
        let asked = if over {
            session.ask(ask::EXTENDED, |packet| packet.text("posix-rename@openssh.com").text(from).text(to))?
        } else {
            session.ask(ask::RENAME, |packet| packet.text(from).text(to))?
        };
        session.done(asked)
    }

    fn remove_at(session: &mut Session, path: &str) -> io::Result<()> {
        let asked = session.ask(ask::REMOVE, |packet| packet.text(path))?;
        match session.done(asked) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes a folder that may be there.
    fn make(session: &mut Session, path: &str) -> io::Result<()> {
        let asked = session.ask(ask::MKDIR, |packet| packet.text(path).mode(0o700))?;
        let Err(error) = session.done(asked) else { return Ok(()) };
        // SFTP 3 has no word for "it is there".
        let asked = session.ask(ask::STAT, |packet| packet.text(path))?;
        match session.answer(asked)? {
            Answer::Attributes(attributes) if attributes.mode.is_some_and(|mode| mode & 0o170_000 == 0o040_000) => {
                Ok(())
            }
            _ => Err(error),
        }
    }
}

impl Place for Sftp {
    fn location(&self) -> String {
        self.login.place.address.to_string()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut session = self.session();
        let folder = self.login.place.address.folder().to_owned();
        let asked = session.ask(ask::STAT, |packet| packet.text(&folder))?;
        match session.answer(asked)? {
            Answer::Attributes(_) => {}
            other => return Err(refused(other)),
        }
        let mut names = Vec::new();
        Self::list_all(&mut session, &[folder], &mut |_, name, _| {
            if name != b"." && name != b".." {
                names.push(String::from_utf8_lossy(name).into_owned());
            }
        })?;
        Ok(names)
    }

    fn prepare(&self) -> io::Result<()> {
        let mut session = self.session();
        let folder = self.login.place.address.folder();
        Self::make(&mut session, folder)?;
        for name in FileKind::ALL.map(FileKind::folder).into_iter().chain(["locks"]) {
            Self::make(&mut session, &format!("{folder}/{name}"))?;
        }
        Ok(())
    }

    fn list(&self, kind: FileKind) -> io::Result<Listed> {
        let mut session = self.session();
        let folder = self.at(kind.folder());
        let mut listed = Listed::default();
        let mut folders = Vec::new();
        Self::list_all(&mut session, std::slice::from_ref(&folder), &mut |_, name, attributes| {
            let name = String::from_utf8_lossy(name);
            if kind == FileKind::Pack {
                if name.len() == 2 && name != ".." {
                    folders.push(format!("{folder}/{name}"));
                }
            } else if attributes.is_file() {
                listed.note(&name, attributes.size);
            }
        })?;
        Self::list_all(&mut session, &folders, &mut |_, name, attributes| {
            if attributes.is_file() {
                listed.note(&String::from_utf8_lossy(name), attributes.size);
            }
        })?;
        Ok(listed)
    }

    fn read(&self, name: &FileName) -> io::Result<Vec<u8>> {
        let mut session = self.session();
        let session = &mut *session;
        let handle = Self::open(session, &self.at(&name.path()), open::READ)?;
        let read = Self::size(session, &handle).and_then(|size| match usize::try_from(size) {
            Ok(length) if size <= LARGEST_FILE => Self::read_open(session, &handle, 0, length),
            _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, "no file of a repository is so large")),
        });
        let closed = Self::close(session, &handle);
        let bytes = read?;
        closed.map(|()| bytes)
    }

    fn read_part(&self, name: &FileName, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut session = self.session();
        let session = &mut *session;
        let handle = Self::open(session, &self.at(&name.path()), open::READ)?;
        let read = Self::read_open(session, &handle, offset, length);
        let closed = Self::close(session, &handle);
        let bytes = read?;
        closed.map(|()| bytes)
    }

    fn write(&self, name: &FileName, content: &[u8]) -> io::Result<()> {
        let mut session = self.session();
        let session = &mut *session;
        let path = self.at(&name.path());
        let beside = format!("{path}{UNFINISHED}");
        let how = open::WRITE | open::CREATE | open::TRUNCATE;
        let handle = match Self::open(session, &beside, how) {
            // Folders of packs are made when they are needed.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && matches!(name, FileName::Named(FileKind::Pack, _)) =>
            {
                if let Some((folder, _)) = path.rsplit_once('/') {
                    Self::make(session, folder)?;
                }
                Self::open(session, &beside, how)?
            }
            other => other?,
        };
        let written = Self::fill(session, &handle, content).and_then(|()| Self::rename(session, &beside, &path));
        written.inspect_err(|_| {
            let _ = Self::remove_at(session, &beside); // the error that matters is the other one
        })
    }

    fn remove(&self, name: &FileName) -> io::Result<()> {
        Self::remove_at(&mut self.session(), &self.at(&name.path()))
    }

    fn discard(&self, name: &FileName) -> io::Result<()> {
        Self::remove_at(&mut self.session(), &(self.at(&name.path()) + UNFINISHED))
    }

    fn settle(&self) -> io::Result<()> {
        Ok(())
    }

    fn room(&self) -> io::Result<Option<Free>> {
        let mut session = self.session();
        if !session.knows("statvfs@openssh.com") {
            return Ok(None);
        }
        let folder = self.login.place.address.folder();
        let asked = session.ask(ask::EXTENDED, |packet| packet.text("statvfs@openssh.com").text(folder))?;
        match session.answer(asked)? {
            Answer::Extended(bytes) => {
                // Size of a block, of a fragment, then fragments: all, free, free for this user.
                let mut rest = Rest(&bytes);
                let [_, fragment, all, _, free] = [rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?];
                Ok(Some(Free { free: free.saturating_mul(fragment), all: all.saturating_mul(fragment) }))
            }
            other => Err(refused(other)),
        }
    }

    fn is_far(&self) -> bool {
        true
    }
}
