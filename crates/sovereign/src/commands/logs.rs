//! `sovereign logs`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use sovereign_engine::embedded::Client;
use sovereign_engine::embedded::logs::LogReader;
use sovereign_model::layout::StateFolder;

use crate::cli::LogsArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::interrupt;
use crate::output::{Page, Report, printable};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The last lines of each unit.
#[derive(Debug, Serialize)]
pub(crate) struct Logs {
    units: Vec<Log>,
}

#[derive(Debug, Serialize)]
struct Log {
    unit: String,
    lines: Vec<String>,
}

impl Report for Logs {
    fn show(&self, page: &mut Page) {
        let several = self.units.len() > 1;
        for Log { unit, lines } in &self.units {
            if several {
                page.title(unit);
            }
            for line in lines {
                page.line(line);
            }
        }
    }
}

/// There is nothing to show.
#[derive(Debug, thiserror::Error)]
enum LogsError {
    #[error("no log of {unit} is kept")]
    Unknown { unit: String, kept: Vec<String> },
    #[error("cannot read the log of {unit}")]
    Unreadable { unit: String, source: io::Error },
}

impl Reason for LogsError {
    fn exit(&self) -> Exit {
        match self {
            Self::Unknown { .. } => Exit::Usage,
            Self::Unreadable { .. } => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Unknown { kept, .. } if kept.is_empty() => Some("`sovereign up` starts something to log".to_owned()),
            Self::Unknown { kept, .. } => Some(format!("logs are kept of {}", kept.join(", "))),
            Self::Unreadable { .. } => None,
        }
    }
}

/// `logs`, without `--follow`.
pub(crate) fn run(context: &Context, args: &LogsArgs) -> Result<Logs, Failure> {
    let readers = readers(context, args)?;
    let mut units = Vec::new();
    for (unit, mut reader) in readers {
        let text = read(&unit, &mut reader)?;
        units.push(Log { unit, lines: text.lines().map(printable).collect() });
    }
    Ok(Logs { units })
}

/// `logs --follow`: writes lines as they come, each with its unit's name when there are several, until Ctrl-C.
pub(crate) fn follow(context: &Context, args: &LogsArgs) -> Result<Logs, Failure> {
    let mut readers = readers(context, args)?;
    let several = readers.len() > 1;
    interrupt::run(&context.output, |cancel| async move {
        loop {
            for (unit, reader) in &mut readers {
                let text = read(unit, reader)?;
                for line in text.lines() {
                    let line = printable(line);
                    let line = if several { format!("{unit}  {line}\n") } else { format!("{line}\n") };
                    if context.output.stream(line.as_bytes()).is_err() {
                        return Ok(Logs { units: Vec::new() }); // nobody reads any longer
                    }
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(Logs { units: Vec::new() }),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    })
}

fn read(unit: &str, reader: &mut LogReader) -> Result<String, LogsError> {
    let bytes = reader.read_new().map_err(|source| LogsError::Unreadable { unit: unit.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn readers(context: &Context, args: &LogsArgs) -> Result<Vec<(String, LogReader)>, Failure> {
    let state = Declared::load(context)?.state;
    let kept = kept(&state);
    let wanted: Vec<_> = match &args.what {
        None => kept,
        Some(unit) => {
            let names = kept.iter().map(|(name, _)| name.clone()).collect();
            let found = kept.into_iter().find(|(name, _)| name == unit);
            vec![found.ok_or_else(|| LogsError::Unknown { unit: unit.clone(), kept: names })?]
        }
    };
    let open = |(unit, folder): (String, PathBuf)| match LogReader::tail(&folder, args.lines) {
        Ok(reader) => Ok((unit, reader)),
        Err(source) => Err(LogsError::Unreadable { unit, source }.into()),
    };
    wanted.into_iter().map(open).collect()
}

/// The units whose logs are kept, the supervisor among them.
fn kept(state: &StateFolder) -> Vec<(String, PathBuf)> {
    let own = Client::of(state.clone()).log_folder();
    let Some(folders) = own.parent().and_then(|all| std::fs::read_dir(all).ok()) else { return Vec::new() };
    let mut kept: Vec<_> =
        folders.flatten().map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect();
    kept.sort();
    kept
}
