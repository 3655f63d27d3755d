//! How a command fails: the error, the exit code that goes with it, and the way out.
//!
//! Libraries define errors with facts and help; this is the one place that gives each an exit code. An error type
//! becomes a [`Failure`] through `?` once it is a [`Reason`].

use std::error::Error;

use serde_json::Value;

use crate::exit::Exit;

/// An error that can end a command.
pub(crate) trait Reason: Error + Send + Sync + 'static {
    /// The exit code.
    fn exit(&self) -> Exit {
        Exit::Failed
    }

    /// What the operator can do about it.
    fn help(&self) -> Option<String> {
        None
    }

    /// Several problems with places of their own (a bad stack file): the text to show instead of one line and its
    /// causes, and the list for machines.
    fn problems(&self) -> Option<Problems> {
        None
    }
}

/// Several problems at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problems {
    /// For people, complete.
    pub(crate) text: String,
    /// For machines: an array.
    pub(crate) list: Value,
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Box<dyn Error + Send + Sync>,
    exit: Exit,
    help: Option<String>,
    problems: Option<Problems>,
}

impl<R: Reason> From<R> for Failure {
    fn from(reason: R) -> Self {
        Self::new(reason)
    }
}

impl Failure {
    /// Takes everything the reason knows.
    pub(crate) fn new(reason: impl Reason) -> Self {
        let (exit, help, problems) = (reason.exit(), reason.help(), reason.problems());
        Self { error: Box::new(reason), exit, help, problems }
    }

    /// The same failure as an interruption: what came after Ctrl-C is a consequence of it.
    pub(crate) fn interrupted(self) -> Self {
        Self { exit: Exit::Interrupted, help: None, ..self }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// What the operator can do about it.
    pub(crate) fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Several problems at once, when that is what failed.
    pub(crate) fn problems(&self) -> Option<&Problems> {
        self.problems.as_ref()
    }

    /// The error's sentence, then its causes, outermost first.
    pub(crate) fn chain(&self) -> Vec<String> {
        let mut chain = vec![self.error.to_string()];
        let mut cause = self.error.source();
        while let Some(error) = cause {
            chain.push(error.to_string());
            cause = error.source();
        }
        chain
    }
}

/// Errors whose library gives help through a method of its own; all end with [`Exit::Failed`].
macro_rules! reasons {
    ($($error:ty),* $(,)?) => {
        $(impl Reason for $error {
            fn help(&self) -> Option<String> {
                <$error>::help(self)
            }
        })*
    };
}

reasons! {
    crate::places::NoHome,
}
