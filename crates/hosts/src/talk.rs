//! A command on a host that is talked with while it runs.
//!
//! Promise: it ends with this value, at the latest when its standard input does: dropping this closes both ways. What it
//! complains of is bounded. Left out: an end to waiting for its answers, which is for whoever reads them.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::OwnedSemaphorePermit;

use crate::connection::{Connection, LONGEST_COMPLAINT};
use crate::error::SshError;
use crate::quote;
use crate::run::Run;

/// The command. Dropped, it is ended.
pub struct Talk {
    child: Child,
    complaints: Arc<Mutex<Vec<u8>>>,
    _session: OwnedSemaphorePermit,
}

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Talk({})", self.child.id())
    }
}

impl Connection {
    /// Starts a command. What it writes to its standard output is read from the one pipe; what is written into the other
    /// is its standard input. Nobody looks at its patience, its input, or how much it may answer.
    ///
    /// # Errors
    /// When ssh cannot be started on this machine. That the host does not do it is seen in the end of its answers.
    pub async fn talk(&self, run: &Run) -> Result<(Talk, PipeReader, PipeWriter), SshError> {
        let here = |source| SshError::Here { action: format!("send a command to {}", self.address()), source };
        let session = Arc::clone(&self.sessions).acquire_owned().await;
        let session = session.map_err(|error| here(io::Error::other(error)))?;
        self.commands.fetch_add(1, Ordering::Relaxed);
        let begin = || {
            let (answers, its_answers) = io::pipe()?;
            let (its_questions, questions) = io::pipe()?;
            let mut command = self.ssh([quote::command(run.words().iter().map(OsString::as_os_str))]);
            command.stdin(its_questions).stdout(its_answers).stderr(Stdio::piped());
            // Ctrl-C on the terminal is for this process, which ends what is to end.
            command.process_group(0);
            let mut child = command.spawn().map_err(sovereign_ssh::not_started)?;
            let complaints = Arc::new(Mutex::new(Vec::new()));
            if let Some(mut stderr) = child.stderr.take() {
                let kept = Arc::clone(&complaints);
                thread::spawn(move || {
                    let mut some = [0; 1024];
                    while let Ok(count @ 1..) = stderr.read(&mut some) {
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        kept.extend(&some[..count]);
                        let surplus = kept.len().saturating_sub(LONGEST_COMPLAINT);
                        kept.drain(..surplus);
                    }
                });
            }
            Ok((Talk { child, complaints, _session: session }, answers, questions))
        };
        begin().map_err(here)
    }
}

impl Talk {
    /// Ends it, if it has not ended. Returns its complaints, in a line or a few.
    pub fn end(mut self) -> String {
        self.finish();
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&complaints);
        text.chars().filter(|c| !c.is_control() || *c == '\n').collect::<String>().trim().to_owned()
    }

    fn finish(&mut self) {
        // The command on the host sees its input end, and that nobody hears it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.finish();
    }
}
