//! Questions. Asked only where a person sits; a script is told which option answers for it.

use std::io::{self, BufRead, Write};

use zeroize::Zeroizing;

use super::Output;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};

/// A question came up and nobody is there to answer.
#[derive(Debug, thiserror::Error)]
#[error("there is a question and no terminal to ask it on: {question}")]
pub(crate) struct NoTerminal {
    question: String,
    instead: String,
}

impl Reason for NoTerminal {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some(self.instead.clone())
    }
}

/// The answer was something else than yes.
#[derive(Debug, thiserror::Error)]
#[error("nothing was done, as you wished")]
struct Declined;

impl Reason for Declined {}

/// The terminal could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read your answer")]
struct Unreadable(#[source] io::Error);

impl Reason for Unreadable {}

impl Output {
    /// Goes on only when the person types `yes`, in full. `assumed` is the command's `--yes`.
    ///
    /// # Errors
    /// When the answer is anything else, or nobody is there.
    pub(crate) fn confirm(&self, question: &str, assumed: bool) -> Result<(), Failure> {
        if assumed {
            return Ok(());
        }
        let answer = self.ask(&format!("{question} Type yes to go on: "), "`--yes` answers it")?;
        if answer.trim() == "yes" { Ok(()) } else { Err(Declined.into()) }
    }

    /// Asks for a line. `instead` says what a script can do.
    ///
    /// # Errors
    /// When nobody is there, or the terminal fails.
    pub(crate) fn ask(&self, question: &str, instead: &str) -> Result<String, Failure> {
        self.must_have_terminal(question, instead)?;
        self.prompt(question)?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(Unreadable)?;
        Ok(line)
    }

    /// Asks for a secret: what is typed is not shown, and wiped from memory by whoever drops the answer.
    ///
    /// # Errors
    /// When nobody is there, or the terminal fails.
    pub(crate) fn ask_secret(&self, question: &str, instead: &str) -> Result<Zeroizing<String>, Failure> {
        self.must_have_terminal(question, instead)?;
        self.prompt(question)?;
        let mut line = Zeroizing::new(String::with_capacity(1024));
        let read = {
            let _hidden = HiddenTyping::begin().map_err(Unreadable)?;
            io::stdin().lock().read_line(&mut line)
        };
        self.write_stderr("");
        // An end of input is no answer: an empty line is one.
        if read.map_err(Unreadable)? == 0 {
            return Err(Declined.into());
        }
        let kept = line.trim_end_matches(['\r', '\n']).len();
        line.truncate(kept);
        Ok(line)
    }

    fn must_have_terminal(&self, question: &str, instead: &str) -> Result<(), NoTerminal> {
        if self.can_ask {
            return Ok(());
        }
        Err(NoTerminal { question: question.trim_end_matches([' ', ':']).to_owned(), instead: instead.to_owned() })
    }

    fn prompt(&self, question: &str) -> Result<(), Unreadable> {
        self.bars
            .suspend(|| {
                let mut stderr = io::stderr().lock();
                write!(stderr, "{question}").and_then(|()| stderr.flush())
            })
            .map_err(Unreadable)
    }
}

/// Turns the terminal's echo off until dropped.
struct HiddenTyping {
    before: rustix::termios::Termios,
}

impl HiddenTyping {
    fn begin() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self { before })
    }
}

impl Drop for HiddenTyping {
    fn drop(&mut self) {
        // A terminal that went away needs no echo.
        let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_told_what_answers_for_it() {
        let failure = Output::silent().confirm("Remove all data of stack demo?", false).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert_eq!(failure.help().as_deref(), Some("`--yes` answers it"));
        assert!(Output::silent().confirm("Remove all data of stack demo?", true).is_ok());
    }
}
