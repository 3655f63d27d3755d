//! What a command answers: a value that is one JSON object for machines and a page for people.

use serde::Serialize;

use super::{Page, Theme};
use crate::exit::Exit;

/// The version of the JSON objects that `--json` prints. Adding a field keeps it, changing or removing one raises it.
pub(crate) const JSON_VERSION: u32 = 1;

/// The answer of a command. Its serialized form must be an object (a struct, a map): its fields come after `version`
/// and `command`.
pub(crate) trait Report: Serialize {
    /// Writes the answer for people.
    fn show(&self, page: &mut Page);

    /// The exit code that goes with it.
    fn exit(&self) -> Exit {
        Exit::Done
    }
}

/// Any [`Report`], so that all commands have one type of answer.
pub(crate) struct Answer(Box<dyn Erased>);

impl<R: Report + 'static> From<R> for Answer {
    fn from(report: R) -> Self {
        Self(Box::new(report))
    }
}

impl Answer {
    pub(super) fn exit(&self) -> Exit {
        self.0.exit()
    }

    pub(super) fn to_json(&self, command: &'static str) -> String {
        self.0.to_json(command)
    }

    pub(super) fn to_text(&self, theme: Theme) -> String {
        let mut page = Page::new(theme);
        self.0.show(&mut page);
        page.into_text()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

/// [`Report`] without its type parameter.
trait Erased {
    fn show(&self, page: &mut Page);
    fn exit(&self) -> Exit;
    fn to_json(&self, command: &'static str) -> String;
}

#[derive(Serialize)]
struct Envelope<'a, R> {
    version: u32,
    command: &'static str,
    #[serde(flatten)]
    report: &'a R,
}

impl<R: Report> Erased for R {
    fn show(&self, page: &mut Page) {
        Report::show(self, page);
    }

    fn exit(&self) -> Exit {
        Report::exit(self)
    }

    fn to_json(&self, command: &'static str) -> String {
        let envelope = Envelope { version: JSON_VERSION, command, report: self };
        let mut json = serde_json::to_string_pretty(&envelope).expect("reports serialize to JSON objects");
        json.push('\n');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Pending {
        changes: Vec<&'static str>,
    }

    impl Report for Pending {
        fn show(&self, page: &mut Page) {
            page.line(format!("{} changes", self.changes.len()));
        }

        fn exit(&self) -> Exit {
            Exit::Attention
        }
    }

    #[test]
    fn one_value_two_forms() {
        let answer = Answer::from(Pending { changes: vec!["start edge@home"] });
        assert_eq!(answer.exit(), Exit::Attention);
        assert_eq!(answer.to_text(Theme::PLAIN), "1 changes\n");
        insta::assert_snapshot!(answer.to_json("plan"), @r#"
        {
          "version": 1,
          "command": "plan",
          "changes": [
            "start edge@home"
          ]
        }
        "#);
    }
}
