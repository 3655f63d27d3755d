//! A command's point of departure: what is declared, and where its state lies.

use std::path::PathBuf;

use sovereign_images::Lock;
use sovereign_model::Stack;
use sovereign_model::layout::StateFolder;

use crate::context::Context;
use crate::failure::Failure;
use crate::ghost_lock;
use crate::places::Places;
use crate::stack_file::StackFile;

/// A stack and its places.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    /// What the file declares.
    pub(crate) stack: Stack,
    /// The file.
    pub(crate) file: PathBuf,
    /// Where things lie.
    pub(crate) places: Places,
    /// The stack's state folder.
    pub(crate) state: StateFolder,
}

impl Declared {
    /// From the stack file there is.
    ///
    /// # Errors
    /// When there is none, or it is bad: then with every problem in it.
    pub(crate) fn load(context: &Context) -> Result<Self, Failure> {
        Self::at(context.places()?)
    }

    /// From the stack file that lies there.
    ///
    /// # Errors
    /// As [`Declared::load`].
    pub(crate) fn at(places: Places) -> Result<Self, Failure> {
        Ok(Self::new(StackFile::load(&places)?, places))
    }

    /// The same, writing the default file first where there is none and none was named.
    ///
    /// # Errors
    /// As [`Declared::load`], or when the default cannot be written.
    pub(crate) fn load_or_write(context: &Context) -> Result<Self, Failure> {
        let places = context.places()?;
        let (file, written) = StackFile::load_or_write(&places)?;
        if written {
            let path = file.path.display();
            context.output.say(format!("There was no stack file, so {path} was written: yours to change."));
        }
        Ok(Self::new(file, places))
    }

    /// The lock of the Ghost that is to run.
    ///
    /// # Errors
    /// When the operator's cannot be read, or is none.
    pub(crate) fn ghost_lock(&self) -> Result<Lock, Failure> {
        ghost_lock::wanted(&self.file)
    }

    fn new(StackFile { path, stack }: StackFile, places: Places) -> Self {
        let state = StateFolder::new(places.state(&stack.name));
        Self { stack, file: path, places, state }
    }
}
