//! The commands, one file each: take arguments, call the rooms, return a report. Printing is not theirs.

mod check;
mod completions;
mod schema;

use crate::cli::Command;
use crate::context::Context;
use crate::failure::{Failure, Reason};
use crate::output::Answer;

/// Runs one command.
///
/// # Errors
/// Whatever the command failed with.
pub(crate) fn run(context: &Context, command: Command) -> Result<Answer, Failure> {
    match command {
        Command::Check => check::run(context).map(Answer::from),
        Command::Schema => Ok(schema::run().into()),
        Command::Completions(args) => Ok(completions::run(&args).into()),
        unwired => Err(Unwired { command: unwired.name() }.into()),
    }
}

/// The rooms behind a command are not joined to it in this build.
#[derive(Debug, thiserror::Error)]
#[error("`sovereign {command}` is not part of this build")]
struct Unwired {
    command: &'static str,
}

impl Reason for Unwired {}
