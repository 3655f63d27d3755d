//! A confined program that is talked with over pipes while it runs.
//!
//! For what reads strangers' bytes and has much to say about them: should it be taken over by what it reads, it has no key,
//! no network and nothing to write into but what it was given. It is confined like what is run [`super::once`], and
//! ended like it.
//!
//! Left out: an end to waiting for its answers.

use std::fmt;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use sovereign_model::layout::StateFolder;

use super::once::{self, Once, Pipe};

/// The process. Dropped, it is ended.
pub struct Talk {
    child: Child,
    complaints: Pipe,
}

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Talk({})", self.child.id())
    }
}

/// Starts it. What it writes to its standard output is read from the one pipe; what is written into the other is its
/// standard input. It is ended with the thread that started it at the latest. Nobody looks at its patience.
///
/// # Errors
/// When it cannot be started, or this machine has nothing to confine it with.
pub fn talk(state: &StateFolder, once: &Once) -> io::Result<(Talk, PipeReader, PipeWriter)> {
    let (answers, its_answers) = io::pipe()?;
    let (its_questions, questions) = io::pipe()?;
    let (complaints, its_complaints) = Pipe::new()?;
    let child = once::launch(state, once, &[its_answers.as_fd(), its_complaints.as_fd(), its_questions.as_fd()])?;
    Ok((Talk { child, complaints }, answers, questions))
}

/// This program with `args`, none of them a secret, which sees what is in `read` and changes nothing.
pub fn reading(args: Vec<String>, read: Vec<PathBuf>) -> Once {
    let program = super::this_program();
    Once { program, args, working_dir: "/".into(), read, write: Vec::new(), user: None, patience: Duration::MAX }
}

impl Talk {
    /// Ends it, if it has not ended. Returns its complaints.
    pub fn end(mut self) -> String {
        once::end(&mut self.child);
        self.complaints()
    }

    /// Waits until it has ended by itself. Returns how, and its complaints.
    ///
    /// # Errors
    /// When nobody can tell.
    pub fn ended(mut self) -> io::Result<(ExitStatus, String)> {
        let status = self.child.wait()?;
        Ok((status, self.complaints()))
    }

    fn complaints(&mut self) -> String {
        // A pipe that cannot be read has nothing to tell.
        let _ = self.complaints.read();
        once::printable(&self.complaints.kept)
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        once::end(&mut self.child);
        let _ = self.child.wait(); // it is killed
    }
}
