//! What every command is given.

use std::path::Path;

use crate::cli::Common;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::output::Output;
use crate::places::Places;

/// The surroundings of one run: where it speaks, where things lie, what the environment said.
#[derive(Debug)]
pub(crate) struct Context {
    /// Both streams.
    pub(crate) output: Output,
    /// The environment, read once.
    pub(crate) environment: Environment,
    common: Common,
}

impl Context {
    /// Gathers the surroundings.
    pub(crate) fn new(common: Common, environment: Environment) -> Self {
        Self { output: Output::new(&common, &environment), environment, common }
    }

    /// Where things lie. Not every command needs a home folder, so this is asked for when it is needed.
    ///
    /// # Errors
    /// When nothing says where this user's files belong.
    pub(crate) fn places(&self) -> Result<Places, Failure> {
        Ok(Places::new(self.common.stack.clone(), self.common.state.clone(), &self.environment)?)
    }

    /// The state folder that `--state` named: daemons are started with it.
    pub(crate) fn named_state(&self) -> Option<&Path> {
        self.common.state.as_deref()
    }
}
