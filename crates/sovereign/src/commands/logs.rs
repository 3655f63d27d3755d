//! `sovereign logs`.

mod on_hosts;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use sovereign_engine::embedded::Client;
use sovereign_engine::embedded::logs::LogReader;
use sovereign_model::EdgeName;
use sovereign_model::layout::StateFolder;

use on_hosts::OnHost;

use super::away::Silent;
use crate::cli::LogsArgs;
use crate::context::Context;
use crate::declared::Declared;
use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::hosts;
use crate::interrupt;
use crate::output::{Page, Report, printable};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The last lines of each unit.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Logs {
    units: Vec<Log>,
    /// What could not be read on hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<Silent>,
}

#[derive(Debug, Serialize)]
struct Log {
    unit: String,
    /// On which host; `None` for this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<EdgeName>,
    lines: Vec<String>,
}

impl Log {
    /// Lines that somebody else wrote.
    fn new<L: AsRef<str>>(unit: String, host: Option<EdgeName>, lines: impl Iterator<Item = L>) -> Self {
        Self { unit, host, lines: lines.map(|line| printable(line.as_ref())).collect() }
    }
}

impl Report for Logs {
    fn show(&self, page: &mut Page) {
        let several = self.units.len() + self.silent.len() > 1;
        for Log { unit, lines, .. } in &self.units {
            if several {
                page.title(unit);
            }
            for line in lines {
                page.line(line);
            }
        }
        page.gap();
        for silent in &self.silent {
            silent.show(page);
        }
    }

    fn exit(&self) -> Exit {
        if self.silent.is_empty() { Exit::Done } else { Exit::Attention }
    }
}

/// There is nothing to show.
#[derive(Debug, thiserror::Error)]
enum LogsError {
    #[error("no log of {unit} is kept")]
    Unknown { unit: String, kept: Vec<String> },
    #[error("cannot read the log of {unit}")]
    Unreadable { unit: String, source: io::Error },
    #[error("{host}: {why}")]
    Silent { host: EdgeName, why: String, help: Option<String> },
}

impl Reason for LogsError {
    fn exit(&self) -> Exit {
        match self {
            Self::Unknown { .. } => Exit::Usage,
            Self::Unreadable { .. } | Self::Silent { .. } => Exit::Failed,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Unknown { kept, .. } if kept.is_empty() => Some("`sovereign up` starts something to log".to_owned()),
            Self::Unknown { kept, .. } => Some(format!("logs are kept of {}", kept.join(", "))),
            Self::Unreadable { .. } => None,
            Self::Silent { help, .. } => help.clone(),
        }
    }
}

/// `logs`, without `--follow`.
pub(crate) fn run(context: &Context, args: &LogsArgs) -> Result<Logs, Failure> {
    let Wanted { declared, here, mut there } = wanted(context, args)?;
    let mut logs = Logs::default();
    for (unit, mut reader) in here {
        let text = read(&unit, &mut reader)?;
        logs.units.push(Log::new(unit, None, text.lines()));
    }
    if there.is_empty() {
        return Ok(logs);
    }
    let reach = hosts::reach(&declared)?;
    let (units, mut silent) = interrupt::run(&context.output, |_| async {
        Ok(on_hosts::read(&mut there, &reach, &declared.stack, args.lines).await)
    })?;
    if args.what.is_some()
        && let Some(Silent { host, message: why, help, .. }) = silent.pop()
    {
        return Err(LogsError::Silent { host, why, help }.into());
    }
    logs.units.extend(units);
    Ok(Logs { silent, ..logs })
}

/// `logs --follow`: writes lines as they come, each with its unit's name when there are several, until Ctrl-C.
pub(crate) fn follow(context: &Context, args: &LogsArgs) -> Result<Logs, Failure> {
    let Wanted { declared, here, there } = wanted(context, args)?;
    let several = here.len() + there.iter().flat_map(OnHost::units).count() > 1;
    interrupt::run(&context.output, |cancel| async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            ended = follow_here(here, several, context) => ended?,
            () = on_hosts::follow(there, &declared, args.lines, several, context) => {}
        }
        Ok(Logs::default())
    })
}

/// Goes on until nobody reads any longer.
async fn follow_here(mut readers: Vec<(String, LogReader)>, several: bool, context: &Context) -> Result<(), LogsError> {
    loop {
        for (unit, reader) in &mut readers {
            let text = read(unit, reader)?;
            for line in text.lines() {
                if stream(context, unit, line, several).is_err() {
                    return Ok(());
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes a line that somebody else wrote.
fn stream(context: &Context, unit: &str, line: &str, several: bool) -> io::Result<()> {
    let line = printable(line);
    let line = if several { format!("{unit}  {line}\n") } else { format!("{line}\n") };
    context.output.stream(line.as_bytes())
}

fn read(unit: &str, reader: &mut LogReader) -> Result<String, LogsError> {
    let bytes = reader.read_new().map_err(|source| LogsError::Unreadable { unit: unit.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The logs that are asked for.
struct Wanted {
    declared: Declared,
    /// On this machine.
    here: Vec<(String, LogReader)>,
    there: Vec<OnHost>,
}

fn wanted(context: &Context, args: &LogsArgs) -> Result<Wanted, Failure> {
    let declared = Declared::load(context)?;
    let what = args.what.as_deref();
    let kept = kept(&declared.state);
    let there = on_hosts::on_hosts(&declared.stack, what);
    let here: Vec<_> = kept.iter().filter(|(name, _)| what.is_none_or(|what| what == name)).collect();
    if let Some(unit) = args.what.clone().filter(|_| here.is_empty() && there.is_empty()) {
        let here = kept.into_iter().map(|(name, _)| name);
        let there = on_hosts::on_hosts(&declared.stack, None);
        let kept = here.chain(there.iter().flat_map(OnHost::units)).collect();
        return Err(LogsError::Unknown { unit, kept }.into());
    }
    let open = |(unit, folder): &(String, PathBuf)| match LogReader::tail(folder, args.lines) {
        Ok(reader) => Ok((unit.clone(), reader)),
        Err(source) => Err(LogsError::Unreadable { unit: unit.clone(), source }),
    };
    let here = here.into_iter().map(open).collect::<Result<_, _>>()?;
    Ok(Wanted { declared, here, there })
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
