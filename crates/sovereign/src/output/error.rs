//! Failures as text and as JSON. Pure.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::report::JSON_VERSION;
use super::theme::Theme;
use crate::failure::Failure;

/// `error:`, the causes below it, `help:`. A bad file's problems speak for themselves.
pub(crate) fn to_text(failure: &Failure, theme: Theme) -> String {
    let Theme { error, hint, faint, .. } = theme;
    let mut text = String::new();
    let mut write = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a String takes any text");
    match failure.page(theme) {
        Some(page) => write(format_args!("{}", page.trim_end())),
        None => {
            for (depth, sentence) in failure.chain().iter().enumerate() {
                let sentence = indented(sentence);
                match depth {
                    0 => write(format_args!("{error}error:{error:#} {sentence}")),
                    _ => write(format_args!("  {faint}cause:{faint:#} {sentence}")),
                }
            }
        }
    }
    if let Some(help) = failure.help() {
        write(format_args!("{hint}help:{hint:#} {}", indented(&help)));
    }
    text
}

/// Further lines of a sentence begin under its first, so that they are not taken for lines of their own.
fn indented(sentence: &str) -> String {
    sentence.trim_end().replace('\n', "\n      ")
}

#[derive(Serialize)]
struct Envelope {
    version: u32,
    command: &'static str,
    error: ErrorObject,
}

#[derive(Serialize)]
struct ErrorObject {
    exit_code: u8,
    message: String,
    causes: Vec<String>,
    help: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Value>,
}

/// The object `--json` prints when a command fails.
pub(super) fn to_json(command: &'static str, failure: &Failure) -> String {
    let mut chain = failure.chain();
    let causes = chain.split_off(1);
    let message = chain.remove(0);
    let error = ErrorObject {
        exit_code: failure.exit().code(),
        message,
        causes,
        help: failure.help(),
        problems: failure.problems(),
    };
    let envelope = Envelope { version: JSON_VERSION, command, error };
    let mut json = serde_json::to_string_pretty(&envelope).expect("errors serialize to JSON");
    json.push('\n');
    json
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::exit::Exit;
    use crate::failure::Reason;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot reach host atlas")]
    struct Unreachable(#[source] io::Error);

    impl Reason for Unreachable {
        fn help(&self) -> Option<String> {
            Some("check that `ssh atlas true` works from here".to_owned())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("stack.toml has 2 problems")]
    struct BadFile;

    impl Reason for BadFile {
        fn exit(&self) -> Exit {
            Exit::Usage
        }

        fn page(&self, _: Theme) -> Option<String> {
            Some("stack.toml:1:1: first\nstack.toml:2:1: second\n".to_owned())
        }

        fn problems(&self) -> Option<Value> {
            Some(serde_json::json!([{"line": 1}, {"line": 2}]))
        }
    }

    fn unreachable() -> Failure {
        Unreachable(io::Error::other("no route to host\n(from 10.0.0.2)")).into()
    }

    #[test]
    fn what_failed_why_and_the_way_out() {
        insta::assert_snapshot!(to_text(&unreachable(), Theme::PLAIN), @r"
        error: cannot reach host atlas
          cause: no route to host
              (from 10.0.0.2)
        help: check that `ssh atlas true` works from here
        ");
        assert!(to_text(&unreachable(), Theme::COLORED).contains("\u{1b}[31m"));
    }

    #[test]
    fn machines_get_the_same() {
        insta::assert_snapshot!(to_json("up", &unreachable()), @r#"
        {
          "version": 1,
          "command": "up",
          "error": {
            "exit_code": 1,
            "message": "cannot reach host atlas",
            "causes": [
              "no route to host\n(from 10.0.0.2)"
            ],
            "help": "check that `ssh atlas true` works from here"
          }
        }
        "#);
    }

    #[test]
    fn problems_of_a_file_speak_for_themselves() {
        let failure = Failure::from(BadFile);
        assert_eq!(to_text(&failure, Theme::PLAIN), "stack.toml:1:1: first\nstack.toml:2:1: second\n");
        let json: Value = serde_json::from_str(&to_json("check", &failure)).unwrap();
        assert_eq!(json["error"]["exit_code"], 2);
        assert_eq!(json["error"]["problems"][1]["line"], 2);
    }

    #[test]
    fn after_an_interruption_the_exit_code_says_so() {
        assert_eq!(unreachable().interrupted().exit(), Exit::Interrupted);
    }
}
