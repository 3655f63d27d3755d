//! What is wrong with a stack file: every problem with its place, the text concerned and a way out.
//!
//! A [`Problem`] carries the facts; [`Problems`] renders all of them for people (in the manner of `rustc`) or as JSON.
//! Columns count characters, not the cells of a terminal: a file with wide characters is underlined a bit off.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// The kind of a problem: what a program that reads the JSON can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The text is not TOML.
    Syntax,
    /// The file was written for a newer version of the format.
    Version,
    /// A key that the format does not have at this place.
    UnknownKey,
    /// Something that must be there is not.
    Missing,
    /// A value of another type than the key takes.
    WrongType,
    /// A value of the right type that cannot be used.
    BadValue,
    /// A word of the format that this version cannot do yet.
    Unavailable,
    /// The same name, address or entry twice.
    Duplicate,
    /// A name that nothing declares.
    UnknownReference,
    /// Values that are right by themselves and wrong together.
    Conflict,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// One sentence, without a full stop.
    pub message: String,
    /// Where the text concerned begins and ends, in bytes from the start of the file.
    pub span: Range<usize>,
    /// The line it begins in, counted from 1.
    pub line: usize,
    /// The character it begins at, counted from 1.
    pub column: usize,
    /// The text concerned, as far as it stands in that line.
    pub text: String,
    /// That whole line, without its end.
    pub source: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Other places that matter.
    pub notes: Vec<Note>,
}

/// A place that explains a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What is there.
    pub message: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The character, counted from 1.
    pub column: usize,
}

/// How [`Problems::render`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Text only.
    #[default]
    Plain,
    /// With ANSI colors, for a terminal.
    Color,
}

/// Everything that is wrong with a file, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// The file's name, as it was given.
    pub file: String,
    /// The problems.
    pub problems: Vec<Problem>,
}

impl Problems {
    /// All problems for people, each in the manner of `rustc`, and a line that counts them.
    pub fn render(&self, style: Style) -> String {
        let paint = Paint(style);
        let mut out = String::new();
        for problem in &self.problems {
            self.render_one(problem, paint, &mut out);
        }
        let count = match self.problems.len() {
            1 => "1 problem".to_owned(),
            several => format!("{several} problems"),
        };
        out += &format!("{}: {count} in {}\n", paint.error("error"), self.file);
        out
    }

    fn render_one(&self, problem: &Problem, paint: Paint, out: &mut String) {
        let number = problem.line.to_string();
        let margin = " ".repeat(number.len());
        let bar = paint.frame("|");
        let lead: String =
            problem.source.chars().take(problem.column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
        let carets = "^".repeat(problem.text.chars().count().max(1));
        let source: String = problem.source.chars().map(visible).collect();
        *out += &format!("{}{}\n", paint.error("error"), paint.strong(&format!(": {}", problem.message)));
        *out += &format!("{margin}{} {}:{}:{}\n", paint.frame("-->"), self.file, problem.line, problem.column);
        *out += &format!(
            "{margin} {bar}\n{} {bar} {source}\n{margin} {bar} {lead}{}\n",
            paint.frame(&number),
            paint.error(&carets)
        );
        for note in &problem.notes {
            let Note { message, line, column } = note;
            *out += &format!(
                "{margin} {} {}: {message} ({}:{line}:{column})\n",
                paint.frame("="),
                paint.strong("note"),
                self.file
            );
        }
        if let Some(help) = &problem.help {
            *out += &format!("{margin} {} {}: {help}\n", paint.frame("="), paint.strong("help"));
        }
        out.push('\n');
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl std::error::Error for Problems {}

/// A character as it may be shown: a file must not steer the terminal.
fn visible(c: char) -> char {
    if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
}

#[derive(Clone, Copy)]
struct Paint(Style);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        match self.0 {
            Style::Plain => text.to_owned(),
            Style::Color => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    fn error(self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn frame(self, text: &str) -> String {
        self.with("1;34", text)
    }

    fn strong(self, text: &str) -> String {
        self.with("1", text)
    }
}

/// A problem as it is found: the place is still only a span.
#[derive(Debug)]
pub(super) struct Finding {
    kind: ProblemKind,
    message: String,
    span: Range<usize>,
    help: Option<String>,
    notes: Vec<(String, Range<usize>)>,
}

impl Finding {
    pub(super) fn new(kind: ProblemKind, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), span, help: None, notes: Vec::new() }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn help_maybe(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    pub(super) fn note(mut self, span: Range<usize>, message: impl Into<String>) -> Self {
        self.notes.push((message.into(), span));
        self
    }

    pub(super) fn kind(&self) -> ProblemKind {
        self.kind
    }
}

/// Turns findings into problems with lines and columns, in the order of the file.
pub(super) fn locate(file: &str, text: &str, findings: Vec<Finding>) -> Problems {
    let lines = Lines::of(text);
    let mut problems: Vec<Problem> = findings
        .into_iter()
        .map(|Finding { kind, message, span, help, notes }| {
            let place = lines.place(span.start);
            let end = lines.clip(span.end).clamp(place.offset, place.end);
            Problem {
                kind,
                message,
                line: place.line,
                column: place.column,
                text: text[place.offset..end].to_owned(),
                source: text[place.start..place.end].to_owned(),
                help,
                notes: notes
                    .into_iter()
                    .map(|(message, span)| {
                        let place = lines.place(span.start);
                        Note { message, line: place.line, column: place.column }
                    })
                    .collect(),
                span,
            }
        })
        .collect();
    problems.sort_by_key(|p| (p.span.start, p.span.end));
    problems.dedup();
    Problems { file: file.to_owned(), problems }
}

/// Where lines begin.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

struct Place {
    line: usize,
    column: usize,
    /// The offset itself, moved onto a character and into its line.
    offset: usize,
    start: usize,
    end: usize,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The nearest character boundary at or before `offset`.
    fn clip(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }

    fn place(&self, offset: usize) -> Place {
        let offset = self.clip(offset);
        let index = self.starts.partition_point(|start| *start <= offset) - 1;
        let start = self.starts[index];
        let line = self.text[start..].split('\n').next().unwrap_or_default();
        let end = start + line.strip_suffix('\r').unwrap_or(line).len();
        let offset = offset.min(end);
        Place { line: index + 1, column: self.text[start..offset].chars().count() + 1, offset, start, end }
    }
}
