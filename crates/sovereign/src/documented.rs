//! Every `sovereign` command that README.md and docs/ name is one that this program takes.
//!
//! Commands in code blocks must be complete; those in running text may leave arguments out. What they print is not
//! looked at here.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::cli::Cli;

/// A command as a page names it.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    words: Vec<String>,
    /// It stands in a code block: to be typed as it is.
    whole: bool,
}

impl Named {
    /// From a line of shell: up to the first word that means something to the shell, without `$` prompt and comment.
    fn parse(shell: &str, whole: bool) -> Option<Self> {
        let line = shell.strip_prefix("$ ").unwrap_or(shell);
        if !line.starts_with("sovereign ") {
            return None; // also a picture with processes' names, which are indented
        }
        let words = line.split_whitespace().take_while(|word| !matches!(*word, "#" | ">" | "<" | "|" | "&&" | "\\"));
        let words: Vec<_> = words.map(|word| word.trim_matches(['<', '>', '"', '\'']).to_lowercase()).collect();
        (words.len() > 1).then_some(Self { words, whole })
    }

    fn is_right(&self) -> Result<(), ErrorKind> {
        match Cli::try_parse_from(&self.words).map_err(|error| error.kind()) {
            Ok(_) | Err(ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => Ok(()),
            Err(
                ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
            ) if !self.whole => Ok(()),
            Err(kind) => Err(kind),
        }
    }
}

/// The commands of a Markdown page.
fn named(page: &str) -> Vec<Named> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            found.extend(Named::parse(line, true));
        } else if let Some(indented) = line.strip_prefix("    ") {
            found.extend(Named::parse(indented, true));
        } else {
            // Odd parts are between backticks. A span that goes over two lines is not seen.
            found.extend(line.split('`').skip(1).step_by(2).filter_map(|span| Named::parse(span, false)));
        }
    }
    found
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    docs.filter(|path| path.extension().is_some_and(|end| end == "md")).chain([root.join("README.md")]).collect()
}

#[test]
fn pages_name_commands_that_exist() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for path in pages() {
        for command in named(&fs::read_to_string(&path).unwrap()) {
            seen += 1;
            if let Err(kind) = command.is_right() {
                wrong.push(format!("{}: `{}`: {kind:?}", path.display(), command.words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 50, "only {seen} commands were found: are they still written as this test expects?");
}

#[test]
fn commands_are_found_where_pages_have_them() {
    let page = "Say `sovereign plan`, or `sovereign`.\n\n    sovereign site staff list <site>   # who\n\n```console\n$ sovereign ca show > ca.pem\n  sovereign supervise   a process\n```\n";
    let words: Vec<_> = named(page).into_iter().map(|named| (named.words.join(" "), named.whole)).collect();
    assert_eq!(
        words,
        [
            ("sovereign plan".to_owned(), false),
            ("sovereign site staff list site".to_owned(), true),
            ("sovereign ca show".to_owned(), true),
        ]
    );
}

#[test]
fn what_does_not_exist_is_found() {
    for wrong in ["sovereign fly", "sovereign up --now", "sovereign site credentials"] {
        assert!(Named::parse(wrong, true).is_some_and(|named| named.is_right().is_err()), "{wrong}");
    }
    assert!(Named::parse("sovereign site credentials", false).is_some_and(|named| named.is_right().is_ok()));
}
