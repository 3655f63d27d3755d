//! What the program says, and where: stdout is the answer, stderr the conversation.
//!
//! A command returns a [`Report`] or a [`Failure`]; [`Output`] is the one place that prints
//! them, for people or as JSON. Promises: exactly one JSON object on stdout with `--json`, success or not; colors and
//! moving bars only where a terminal shows them; a reader who closed the pipe is no error. Daemons do not come through
//! here: they log.

mod ask;
mod error;
pub(crate) mod figures;
mod page;
mod printable;
mod progress;
mod report;
mod table;
mod theme;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressDrawTarget};
use tracing_subscriber::fmt::MakeWriter;

pub(crate) use self::error::to_text as render_failure;
pub(crate) use self::page::Page;
pub(crate) use self::printable::printable;
pub(crate) use self::progress::{Progress, Stage, StageTime};
pub(crate) use self::report::{Answer, Report};
pub(crate) use self::table::{Cell, Table};
pub(crate) use self::theme::Theme;
use crate::cli::{ColorWhen, Common};
use crate::environment::Environment;
use crate::exit::Exit;
use crate::failure::Failure;

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors only.
    Quiet,
    /// Stages and what to know.
    Normal,
    /// Log lines too.
    Verbose,
    /// All log lines.
    Everything,
}

/// Both streams of one run. Cheap to clone; usable from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    json: bool,
    verbosity: Verbosity,
    stdout: Theme,
    stderr: Theme,
    /// People sit in front of both stdin and stderr, so a question can be asked.
    can_ask: bool,
    /// Owns the terminal's last lines, so everything written to stderr goes through it.
    bars: Arc<MultiProgress>,
    moving: bool,
}

impl Output {
    /// Decides once, from arguments, environment and what the streams are.
    pub(crate) fn new(common: &Common, environment: &Environment) -> Self {
        let theme = |terminal: bool| match common.color {
            ColorWhen::Always => Theme::COLORED,
            ColorWhen::Auto if terminal && !environment.forbids_color() => Theme::COLORED,
            ColorWhen::Auto | ColorWhen::Never => Theme::PLAIN,
        };
        let verbosity = match (common.quiet, common.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, _) => Verbosity::Everything,
        };
        let terminal = io::stderr().is_terminal();
        // Log lines and moving bars fight for the same rows; whoever asks for log lines gets plain progress.
        let moving = terminal && !environment.is_dumb_terminal() && verbosity == Verbosity::Normal;
        let target = if moving { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            json: common.json,
            verbosity,
            stdout: theme(io::stdout().is_terminal()),
            stderr: theme(terminal),
            can_ask: terminal && io::stdin().is_terminal(),
            bars: Arc::new(MultiProgress::with_draw_target(target)),
            moving,
        }
    }

    /// Whether a person sits here who can be asked.
    pub(crate) fn can_ask(&self) -> bool {
        self.can_ask
    }

    /// Whether the answer is for a program.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// How much is said on stderr.
    pub(crate) fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// A new account of stages, shown on stderr as they go.
    pub(crate) fn progress(&self) -> Progress {
        Progress::new(self.clone())
    }

    /// A line of the conversation. Not shown with `--quiet`.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        if self.verbosity > Verbosity::Quiet {
            self.write_stderr(line.as_ref());
        }
    }

    /// Something that went well enough but should be known. Not shown with `--quiet`.
    pub(crate) fn warn(&self, line: impl AsRef<str>) {
        let style = self.stderr.warning;
        self.say(format!("{style}warning:{style:#} {}", line.as_ref()));
    }

    /// Shows a report in the conversation: the plan before `up` applies it, say.
    pub(crate) fn show(&self, report: &impl Report) {
        let mut page = Page::new(self.stderr);
        report.show(&mut page);
        self.say(page.into_text().trim_end());
    }

    /// Shows people a part of the answer that can be given before the rest; says whether it did. For machines there is
    /// one answer.
    pub(crate) fn begin(&self, report: &impl Report) -> bool {
        if self.json {
            return false;
        }
        let mut page = Page::new(self.stdout);
        report.show(&mut page);
        page.gap(); // between this and the rest
        // That nobody reads it is found when the rest is written.
        write_stdout(&page.into_text()).is_ok()
    }

    /// Prints how a command ended, the answer on stdout or the error on stderr, and returns the exit code to end with.
    pub(crate) fn finish(&self, command: &'static str, outcome: Result<Answer, Failure>) -> Exit {
        match outcome {
            Ok(answer) => {
                let text = if self.json { answer.to_json(command) } else { answer.to_text(self.stdout) };
                match write_stdout(&text) {
                    Ok(()) => answer.exit(),
                    Err(source) => self.fail(command, &Failure::from(StdoutLost(source))),
                }
            }
            Err(failure) => self.fail(command, &failure),
        }
    }

    /// Hands bytes to stdout at once: for answers that have no end, such as followed logs.
    ///
    /// # Errors
    /// What writing failed with. A closed pipe too: the caller has nobody left to talk to and stops.
    pub(crate) fn stream(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    fn fail(&self, command: &'static str, failure: &Failure) -> Exit {
        if self.json {
            // The error still reaches stderr; a reader who is gone misses nothing else.
            let _ = write_stdout(&error::to_json(command, failure));
        }
        self.write_stderr(error::to_text(failure, self.stderr).trim_end());
        failure.exit()
    }

    fn write_stderr(&self, text: &str) {
        // Nobody can be told that stderr is gone.
        let _ = self.bars.suspend(|| writeln!(io::stderr().lock(), "{text}"));
    }
}

/// Prints what is wrong with a command line, or the help that was asked for. With `--json` among the words the error
/// object goes to stdout, as for every other error.
pub(crate) fn explain(misuse: &clap::Error, mut words: impl Iterator<Item = OsString>) -> Exit {
    // Streams that are gone cannot be told so.
    let _ = misuse.print();
    if !misuse.use_stderr() {
        return Exit::Done;
    }
    if words.any(|word| word == "--json") {
        let _ = write_stdout(&error::to_json("sovereign", &Misuse::of(misuse).into()));
    }
    Exit::Usage
}

/// The command line is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misuse(String);

impl Misuse {
    fn of(misuse: &clap::Error) -> Self {
        let text = misuse.to_string();
        let sentence = text.lines().next().unwrap_or_default();
        Self(sentence.strip_prefix("error: ").unwrap_or(sentence).to_owned())
    }
}

impl crate::failure::Reason for Misuse {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn help(&self) -> Option<String> {
        Some("`sovereign --help` lists the commands, `sovereign COMMAND --help` explains one".to_owned())
    }
}

/// The answer could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the answer to standard output")]
struct StdoutLost(#[source] io::Error);

impl crate::failure::Reason for StdoutLost {}

fn write_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Log lines go to stderr too, and must not tear the bars.
impl<'a> MakeWriter<'a> for Output {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        LogLine(&self.bars)
    }
}

/// Writes to stderr between two drawings of the bars.
#[derive(Debug)]
pub(crate) struct LogLine<'a>(&'a MultiProgress);

impl Write for LogLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
impl Output {
    /// Speaks to nobody: for tests of what uses an output.
    pub(crate) fn silent() -> Self {
        Self {
            json: false,
            verbosity: Verbosity::Quiet,
            stdout: Theme::PLAIN,
            stderr: Theme::PLAIN,
            can_ask: false,
            bars: Arc::new(MultiProgress::with_draw_target(ProgressDrawTarget::hidden())),
            moving: false,
        }
    }
}
