//! The journal: every run's steps, written down before and after each.
//!
//! Promise: when [`OpenRun::begun`] returns, the step is on disk; when [`OpenRun::finished`] returns, its receipt is.
//! So after a kill at any point, the next run can say which step was at work. A line that was cut off by the kill is
//! recognised by its checksum and left out; damage anywhere else is an error that names the line.
//!
//! One file per run, `<number>.jsonl`; a line is 16 hex digits of the SHA-256 of the rest, a space, and one record.
//! The newest [`KEPT`] runs are kept.
//!
//! Left out: what to do next. The next run observes and plans anew; steps are safe to repeat.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sovereign_model::{Digest, StepId};
use sovereign_plan::Plan;

use crate::apply::Receipt;

/// The format of records this program writes. It reads this one and those before it.
pub const FORMAT: u32 = 1;
/// How many runs are kept.
pub const KEPT: usize = 50;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "record")]
enum Record {
    Run { format: u32, version: String, command: String, at: u64, plan: Box<Plan> },
    Begun { step: StepId, at: u64 },
    Finished { step: StepId, at: u64, receipt: Receipt },
    Failed { step: StepId, at: u64, error: String },
    Ended { at: u64, outcome: Outcome },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every step was performed.
    Done,
    /// A step failed.
    Failed,
    /// The operator interrupted it.
    Interrupted,
}

/// A run as the journal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The program's version.
    pub version: String,
    /// What the operator asked for, `up` for instance.
    pub command: String,
    /// When it began, in unix milliseconds.
    pub at: u64,
    /// What was to be done.
    pub plan: Plan,
    /// The steps that were begun, in order.
    pub steps: Vec<Performed>,
    /// How it ended; `None` when it was killed, or still runs.
    pub outcome: Option<Outcome>,
}

/// A step as the journal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Performed {
    /// Which.
    pub step: StepId,
    /// When it began, in unix milliseconds.
    pub begun: u64,
    /// When it ended, and how; `None` when the run was killed during it.
    pub ended: Option<(u64, Result<Receipt, String>)>,
}

impl Run {
    /// The steps that were at work when the run ended: one at each place at most.
    pub fn at_work(&self) -> impl Iterator<Item = StepId> {
        self.steps.iter().filter(|step| step.ended.is_none()).map(|step| step.step)
    }

    /// Whether it did all it set out to do.
    pub fn is_done(&self) -> bool {
        self.outcome == Some(Outcome::Done)
    }
}

/// The journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A newer program wrote it.
    #[error("{} has format {found}; this program knows up to {FORMAT}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A line other than the last is damaged.
    #[error("line {line} of {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The file system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl JournalError {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => Some("use the newer sovereign with this stack".to_owned()),
            Self::Damaged { path, .. } => {
                Some(format!("move {} away; nothing is lost but the record of that run", path.display()))
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space on the file system of the state folder".to_owned())
            }
            Self::Io { .. } => None,
        }
    }
}

/// The journal of a stack.
#[derive(Debug, Clone)]
pub struct Journal {
    folder: PathBuf,
}

impl Journal {
    /// The journal in `folder`, which need not exist yet.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The newest run.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last(&self) -> Result<Option<Run>, JournalError> {
        // A run that was killed before its first line was whole did nothing.
        for number in self.numbers()?.into_iter().rev() {
            if let Some(run) = read(&self.path(number))? {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    /// The newest run, when it was killed before its end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn unfinished(&self) -> Result<Option<Run>, JournalError> {
        Ok(self.last()?.filter(|run| run.outcome.is_none()))
    }

    /// Begins a run that carries out `plan`, and lets the oldest ones go.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&self, command: &str, version: &str, plan: &Plan) -> Result<OpenRun, JournalError> {
        let failed = |source| JournalError::Io { path: self.folder.clone(), source };
        crate::file::private_folder(&self.folder).map_err(failed)?;
        let numbers = self.numbers()?;
        let path = self.path(numbers.last().map_or(1, |last| last + 1));
        for old in numbers.iter().rev().skip(KEPT - 1) {
            fs::remove_file(self.path(*old)).map_err(failed)?;
        }
        let opened = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path);
        let file = opened.map_err(|source| JournalError::Io { path: path.clone(), source })?;
        let mut run = OpenRun { path, file };
        let (version, command) = (version.to_owned(), command.to_owned());
        run.write(&Record::Run { format: FORMAT, version, command, at: now(), plan: Box::new(plan.clone()) })?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(run)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:08}.jsonl"))
    }

    /// The numbers of the runs kept, ascending.
    fn numbers(&self) -> Result<Vec<u64>, JournalError> {
        let failed = |source| JournalError::Io { path: self.folder.clone(), source };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// A run that is being written.
#[derive(Debug)]
pub struct OpenRun {
    path: PathBuf,
    file: File,
}

impl OpenRun {
    /// A step is about to be performed. To be called before the world changes.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn begun(&mut self, step: StepId) -> Result<(), JournalError> {
        self.write(&Record::Begun { step, at: now() })
    }

    /// A step was performed.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn finished(&mut self, step: StepId, receipt: &Receipt) -> Result<(), JournalError> {
        self.write(&Record::Finished { step, at: now(), receipt: receipt.clone() })
    }

    /// A step failed.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn failed(&mut self, step: StepId, error: String) -> Result<(), JournalError> {
        self.write(&Record::Failed { step, at: now(), error })
    }

    /// The run is over.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn end(mut self, outcome: Outcome) -> Result<(), JournalError> {
        self.write(&Record::Ended { at: now(), outcome })
    }

    fn write(&mut self, record: &Record) -> Result<(), JournalError> {
        let text = serde_json::to_string(record).expect("records hold what came from or goes to JSON anyway");
        let line = format!("{} {text}\n", checksum(&text));
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|source| JournalError::Io { path: self.path.clone(), source })
    }
}

fn checksum(text: &str) -> String {
    let mut digits = Digest::of(text).hex();
    digits.truncate(16);
    digits
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn read(path: &Path) -> Result<Option<Run>, JournalError> {
    let bytes = fs::read(path).map_err(|source| JournalError::Io { path: path.to_owned(), source })?;
    parse(&bytes).map_err(|fault| match fault {
        Fault::Line(line) => JournalError::Damaged { path: path.to_owned(), line },
        Fault::Newer(found) => JournalError::Newer { path: path.to_owned(), found },
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Line(usize),
    Newer(u32),
}

/// Reads a run. `None` when not even its first line is whole.
fn parse(bytes: &[u8]) -> Result<Option<Run>, Fault> {
    #[derive(Deserialize)]
    struct Preamble {
        format: u32,
    }
    let mut run: Option<Run> = None;
    // What follows the last line feed was cut off; so may be the last line itself, where the disk lost it.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines: Vec<&[u8]> = bytes[..whole].split(|byte| *byte == b'\n').collect();
    let count = lines.len().saturating_sub(1);
    for (number, line) in (1..).zip(&lines[..count]) {
        let Some(text) = checked(line) else {
            if number == count {
                break;
            }
            return Err(Fault::Line(number));
        };
        if number == 1
            && let Ok(Preamble { format }) = serde_json::from_str(text)
            && format > FORMAT
        {
            return Err(Fault::Newer(format));
        }
        let record: Record = serde_json::from_str(text).map_err(|_| Fault::Line(number))?;
        let told = match (record, &mut run) {
            (Record::Run { version, command, at, plan, .. }, None) => {
                run = Some(Run { version, command, at, plan: *plan, steps: Vec::new(), outcome: None });
                Some(())
            }
            (Record::Begun { step, at }, Some(run)) => {
                run.steps.push(Performed { step, begun: at, ended: None });
                Some(())
            }
            (Record::Finished { step, at, receipt }, Some(run)) => run.conclude(step, at, Ok(receipt)),
            (Record::Failed { step, at, error }, Some(run)) => run.conclude(step, at, Err(error)),
            (Record::Ended { outcome, .. }, Some(run)) => {
                run.outcome = Some(outcome);
                Some(())
            }
            (_, None) | (Record::Run { .. }, Some(_)) => None,
        };
        told.ok_or(Fault::Line(number))?;
    }
    Ok(run)
}

impl Run {
    fn conclude(&mut self, step: StepId, at: u64, ended: Result<Receipt, String>) -> Option<()> {
        let under_way = self.steps.iter_mut().find(|under_way| under_way.step == step && under_way.ended.is_none())?;
        under_way.ended = Some((at, ended));
        Some(())
    }
}

/// The record of a line whose checksum is right.
fn checked(line: &[u8]) -> Option<&str> {
    let (sum, text) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    (sum == checksum(text)).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sovereign_model::Step;
    use sovereign_plan::{Kept, Planned, Reason};

    use super::*;

    fn plan() -> Plan {
        let steps = ["ghost", "node"].into_iter().enumerate().map(|(ordinal, image)| {
            let step = Step::PrepareImage { image: image.parse().unwrap(), lock: Digest::of(image) };
            Planned { id: StepId::new(ordinal, &step), step, reason: Reason::Absent, at: None }
        });
        Plan {
            stack: "mine".parse().unwrap(),
            observed: Digest::of("nothing"),
            steps: steps.collect(),
            obstacles: Vec::new(),
            kept: Kept::default(),
            away: std::collections::BTreeMap::new(),
            evacuated: std::collections::BTreeMap::new(),
            unrestored: std::collections::BTreeMap::new(),
        }
    }

    /// A run of two steps, the second of which failed, as bytes.
    fn written(folder: &Path) -> Vec<u8> {
        let (journal, plan) = (Journal::at(folder), plan());
        let mut run = journal.begin("up", "0.1.0", &plan).unwrap();
        run.begun(plan.steps[0].id).unwrap();
        run.finished(plan.steps[0].id, &Receipt::default()).unwrap();
        run.begun(plan.steps[1].id).unwrap();
        run.failed(plan.steps[1].id, "no network".to_owned()).unwrap();
        run.end(Outcome::Failed).unwrap();
        fs::read(folder.join("00000001.jsonl")).unwrap()
    }

    #[test]
    fn a_run_is_told_as_it_went() {
        let folder = tempfile::tempdir().unwrap();
        written(folder.path());
        let journal = Journal::at(folder.path());
        let run = journal.last().unwrap().unwrap();
        assert_eq!((run.command.as_str(), run.outcome), ("up", Some(Outcome::Failed)));
        assert_eq!(run.plan, plan());
        assert_eq!(run.steps.len(), 2);
        assert_eq!(run.steps[1].ended.as_ref().unwrap().1, Err("no network".to_owned()));
        assert_eq!(run.at_work().next(), None);
        assert_eq!(journal.unfinished().unwrap(), None);
    }

    #[test]
    fn cut_anywhere_it_is_the_story_so_far() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = written(folder.path());
        let mut told = Vec::new();
        for length in 0..=bytes.len() {
            let run = parse(&bytes[..length]).unwrap();
            let state = run.map(|run| (run.steps.len(), run.at_work().next().is_some(), run.outcome));
            if told.last() != Some(&state) {
                told.push(state);
            }
        }
        let failed = Some(Outcome::Failed);
        let expected = [
            None,
            Some((0, false, None)),
            Some((1, true, None)),
            Some((1, false, None)),
            Some((2, true, None)),
            Some((2, false, None)),
            Some((2, false, failed)),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn damage_inside_names_its_line_and_a_newer_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = written(folder.path());
        let mut damaged = bytes.clone();
        damaged[30] ^= 1;
        assert_eq!(parse(&damaged), Err(Fault::Line(1)));
        let newer = r#"{"record":"run","format":2,"unheard":1}"#;
        let line = format!("{} {newer}\n", checksum(newer));
        assert_eq!(parse(line.as_bytes()), Err(Fault::Newer(2)));
    }

    #[test]
    fn the_oldest_runs_are_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::at(folder.path());
        for _ in 0..KEPT + 3 {
            journal.begin("up", "0.1.0", &plan()).unwrap().end(Outcome::Done).unwrap();
        }
        let numbers = journal.numbers().unwrap();
        assert_eq!((numbers.len(), numbers[0]), (KEPT, 4));
    }

    proptest! {
        #[test]
        fn garbage_is_never_a_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
