//! A conversation with a host over OpenSSH's client.
//!
//! Questions are sent without waiting, as many as one likes within reason, and answers taken when they are needed.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sovereign_ssh::{Complaint, Login, Why};

use super::wire::{Answer, Packet, ask, greeting, status};
use crate::patience::{Hear as _, Patient};

/// A host that keeps us waiting for so long is given up. Connecting included.
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers that nobody has asked for yet: more than are ever under way are a flood.
const MOST_EARLY: usize = 4096;
/// What is kept of ssh's complaints.
const LONGEST_COMPLAINT: usize = 4 << 10;

/// A question that is still to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked(u32);

pub(super) struct Session {
    ssh: Child,
    to: Option<ChildStdin>,
    from: BufReader<Patient<ChildStdout>>,
    complaints: Arc<Mutex<Vec<u8>>>,
    listener: Option<JoinHandle<()>>,
    next: u32,
    /// Answers to other questions than the one that was waited for.
    early: BTreeMap<Asked, Answer>,
    extensions: Vec<String>,
}

impl Session {
    /// Logs in.
    pub(super) fn begin(login: &Login) -> io::Result<Self> {
        let mut command = login.ssh(["-s"], ["sftp"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut ssh = command.spawn().map_err(sovereign_ssh::not_started)?;
        let pipes = (ssh.stdin.take(), ssh.stdout.take(), ssh.stderr.take());
        let (Some(to), Some(from), Some(mut stderr)) = pipes else {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        };
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&complaints);
        let listener = std::thread::spawn(move || {
            let mut some = [0; 1024];
            while let Ok(count @ 1..) = stderr.read(&mut some) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&some[..count]);
                let surplus = kept.len().saturating_sub(LONGEST_COMPLAINT);
                kept.drain(..surplus);
            }
        });
        let mut session = Self {
            ssh,
            to: Some(to),
            from: BufReader::with_capacity(64 << 10, Patient::new(from, PATIENCE)),
            complaints,
            listener: Some(listener),
            next: 0,
            early: BTreeMap::new(),
            extensions: Vec::new(),
        };
        let greeted = session.write(&Packet::new(ask::INIT).u32(3).finish());
        match greeted.and_then(|()| greeting(&mut session.from)) {
            Ok(extensions) => session.extensions = extensions,
            Err(error) => return Err(session.broken(error)),
        }
        Ok(session)
    }

    /// Whether the host knows an extension.
    pub(super) fn knows(&self, extension: &str) -> bool {
        self.extensions.iter().any(|known| known == extension)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.to {
            Some(to) => to.write_all(bytes),
            None => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
        }
    }

    /// Sends a question, to which `more` adds what belongs to it.
    pub(super) fn ask(&mut self, kind: u8, more: impl FnOnce(Packet) -> Packet) -> io::Result<Asked> {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let packet = more(Packet::new(kind).u32(id)).finish();
        self.write(&packet).map_err(|error| self.broken(error))?;
        Ok(Asked(id))
    }

    /// Waits for the answer to a question.
    pub(super) fn answer(&mut self, asked: Asked) -> io::Result<Answer> {
        loop {
            if let Some(answer) = self.early.remove(&asked) {
                return Ok(answer);
            }
            let (id, answer) = super::wire::answer(&mut self.from).map_err(|error| self.broken(error))?;
            self.from.get_mut().answer();
            if let Answer::Data(data) = &answer {
                self.moved(data.len());
            }
            self.early.insert(Asked(id), answer);
            if self.early.len() > MOST_EARLY {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the host answers what it was not asked"));
            }
        }
    }

    /// Waits for the word that something is done.
    pub(super) fn done(&mut self, asked: Asked) -> io::Result<()> {
        match self.answer(asked)? {
            Answer::Status { code: status::OK, .. } => Ok(()),
            other => Err(refused(other)),
        }
    }

    /// So much has come or gone: it buys patience, enough for a line of 8 KiB a second.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.from.get_mut().content(bytes.saturating_mul(8));
    }

    /// The connection is over: what ssh says about it says more than the pipe.
    fn broken(&mut self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::InvalidData {
            return error;
        }
        self.to = None;
        // It may still be connecting, or hang.
        if error.kind() == io::ErrorKind::TimedOut {
            let _ = self.ssh.kill();
        }
        let _ = self.ssh.wait();
        let _ = self.listener.take().map(JoinHandle::join);
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Complaint { line, why }) = Complaint::of(&complaints) else { return error };
        let kind = if why == Why::Other { error.kind() } else { io::ErrorKind::PermissionDenied };
        io::Error::new(kind, format!("ssh: {line}"))
    }
}

/// An answer that is a refusal, or none to the question.
pub(super) fn refused(answer: Answer) -> io::Error {
    let Answer::Status { code, message } = answer else {
        return io::Error::new(io::ErrorKind::InvalidData, "the host answers another question");
    };
    let kind = match code {
        status::NO_SUCH_FILE => io::ErrorKind::NotFound,
        status::PERMISSION_DENIED => io::ErrorKind::PermissionDenied,
        status::UNSUPPORTED => io::ErrorKind::Unsupported,
        status::EOF => io::ErrorKind::UnexpectedEof,
        _ => io::ErrorKind::Other,
    };
    let message = if message.is_empty() { format!("status {code}") } else { message };
    io::Error::new(kind, format!("the host says: {message}"))
}

impl Drop for Session {
    fn drop(&mut self) {
        // Without its input ssh ends; one that does not is of no use any more.
        self.to = None;
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}
