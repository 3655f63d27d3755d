//! `MemoryEngine`: the engine port on the planner's own idea of what a step does.
//!
//! It is a small working engine, not a list of expected calls: steps change what it observes, and what it observes can
//! be kept in a file, so that it survives the process that used it, as a real machine does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sovereign_engine::apply::{Count, Engine, Failure, Progress, Receipt, Unit};
use sovereign_model::{Observed, Step};
use sovereign_plan::{Wanted, simulate};

/// An engine whose machines are a value.
#[derive(Debug)]
pub struct MemoryEngine {
    want: Wanted,
    seen: Mutex<Observed>,
    file: Option<PathBuf>,
    failing: Mutex<Option<Step>>,
}

/// What goes wrong in a memory engine.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A test asked for it ([`MemoryEngine::fail_at`]).
    #[error("this step fails in this test")]
    Asked,
    /// Its file cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Failure for MemoryError {
    fn help(&self) -> Option<String> {
        None
    }
}

impl MemoryEngine {
    /// An engine on which nothing is yet. `want` describes the units steps speak of.
    pub fn empty(want: Wanted) -> Self {
        Self::with(want, Observed::default())
    }

    /// An engine on which `seen` is.
    pub fn with(want: Wanted, seen: Observed) -> Self {
        Self { want, seen: Mutex::new(seen), file: None, failing: Mutex::new(None) }
    }

    /// An engine whose things are kept in `file`.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn kept_in(want: Wanted, file: &Path) -> Result<Self, MemoryError> {
        let failed = |source| MemoryError::File { path: file.to_owned(), source };
        let seen = match std::fs::read(file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Observed::default(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { file: Some(file.to_owned()), ..Self::with(want, seen) })
    }

    /// Changes what there is behind everybody's back.
    pub fn change(&self, change: impl FnOnce(&mut Observed)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What there is.
    pub fn seen(&self) -> Observed {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has one step fail, once.
    pub fn fail_at(&self, step: Step) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = Some(step);
    }
}

impl Engine for MemoryEngine {
    type Error = MemoryError;

    async fn observe(&self) -> Result<Observed, MemoryError> {
        Ok(self.seen())
    }

    async fn perform(&self, step: &Step, progress: &(dyn Fn(Progress) + Send + Sync)) -> Result<Receipt, MemoryError> {
        let fails = self.failing.lock().unwrap_or_else(PoisonError::into_inner).take_if(|failing| failing == step);
        if fails.is_some() {
            return Err(MemoryError::Asked);
        }
        progress(Progress::Counted(Count { done: 0, total: Some(1), of: Unit::Things("steps") }));
        self.change(|seen| simulate(step, &self.want, seen));
        if let Some(path) = &self.file {
            let failed = |source| MemoryError::File { path: path.clone(), source };
            let text = serde_json::to_vec_pretty(&self.seen()).map_err(|error| failed(error.into()))?;
            sovereign_runtime::file::replace(path, &text, 0o600).map_err(|error| failed(error.source))?;
        }
        progress(Progress::Counted(Count { done: 1, total: Some(1), of: Unit::Things("steps") }));
        Ok(Receipt::default())
    }
}
