//! The stack file: text in, a valid [`Stack`] or every problem at once out.
//!
//! The parser works on the spanned tree of the `toml` crate. One set of tables ([`mod@format`]) drives it, the JSON Schema
//! ([`json_schema`]) and the reference page ([`reference_markdown`]). Nothing is read from disk: whether a folder
//! exists or a port is free is for others to find out.

use std::path::Path;

use toml::de::DeTable;

use crate::stack::Stack;

mod check;
mod complaint;
pub mod form;
pub mod format;
mod problem;
mod reader;
mod reference;
mod schema;

pub use complaint::{Complaint, complain};
pub use problem::{Note, Problem, ProblemKind, Problems, Style};
pub use reference::reference_markdown;
pub use schema::json_schema;

use problem::Finding;
use reader::Reader;

/// Parses the text of a stack file.
///
/// `file_name` is what problems are reported under; `base` is the absolute folder that relative paths in the file
/// start from.
///
/// # Errors
/// Every problem of the file, in its order. Where the text is not even TOML, only those problems are added that the
/// broken part cannot have caused.
pub fn parse(file_name: &str, text: &str, base: &Path) -> Result<Stack, Problems> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let syntax: Vec<Finding> = errors.iter().map(|error| syntax_finding(error, text)).collect();
    let table = tree.get_ref();
    if syntax.is_empty()
        && let Some(newer) = newer_version(table)
    {
        return Err(problem::locate(file_name, text, vec![newer]));
    }
    let mut reader = Reader::default();
    let node = reader.table(table, 0..0, &format::FILE);
    let stack = check::stack(&node, base, &mut reader);
    let mut findings = reader.findings;
    if !syntax.is_empty() {
        findings.retain(|finding| stands_beside_syntax_errors(finding.kind()));
        findings.extend(syntax);
    }
    match stack {
        Some(stack) if findings.is_empty() => Ok(stack),
        _ => Err(problem::locate(file_name, text, findings)),
    }
}

/// The commented stack file that `sovereign up` writes where there is none.
pub fn default_file() -> &'static str {
    include_str!("default.toml")
}

fn syntax_finding(error: &toml::de::Error, text: &str) -> Finding {
    let span = error.span().unwrap_or(text.len()..text.len());
    let mut lines = error.message().lines();
    let message = lines.next().unwrap_or("this is not TOML").to_owned();
    let help = lines.collect::<Vec<_>>().join(", ");
    let finding = Finding::new(ProblemKind::Syntax, span, message);
    if help.is_empty() { finding } else { finding.help(help) }
}

/// A newer file may mean anything by its other keys: its version is the only problem worth reporting.
fn newer_version(table: &DeTable<'_>) -> Option<Finding> {
    let version = table.get("version")?;
    let number = version.get_ref().as_integer()?;
    let read = i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX);
    (read > format::VERSION).then(|| {
        let message = format!("this file has version {number} of the format, newer than this binary");
        Finding::new(ProblemKind::Version, version.span(), message)
            .help(format!("this sovereign reads version {}: use a newer sovereign", format::VERSION))
    })
}

/// Whether a problem would be there if the syntax were mended.
fn stands_beside_syntax_errors(kind: ProblemKind) -> bool {
    match kind {
        ProblemKind::UnknownKey | ProblemKind::BadValue | ProblemKind::Unavailable | ProblemKind::Duplicate => true,
        ProblemKind::Syntax
        | ProblemKind::Version
        | ProblemKind::Missing
        | ProblemKind::WrongType
        | ProblemKind::UnknownReference
        | ProblemKind::Conflict => false,
    }
}

#[cfg(test)]
mod tests;
