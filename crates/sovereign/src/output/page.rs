//! Text for people, gathered before it is written.

use std::fmt::Display;

use super::{Table, Theme};

/// A growing text with a theme.
#[derive(Debug)]
pub(crate) struct Page {
    theme: Theme,
    text: String,
}

impl Page {
    /// An empty page.
    pub(crate) fn new(theme: Theme) -> Self {
        Self { theme, text: String::new() }
    }

    /// The styles to write with.
    pub(crate) fn theme(&self) -> Theme {
        self.theme
    }

    /// One line.
    pub(crate) fn line(&mut self, line: impl Display) {
        self.raw(format_args!("{line}\n"));
    }

    /// An empty line, unless the page is empty or just had one.
    pub(crate) fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// The title of a section, set apart from what is above.
    pub(crate) fn title(&mut self, title: impl Display) {
        let style = self.theme.title;
        self.gap();
        self.line(format_args!("{style}{title}{style:#}"));
    }

    /// What to do next: `help: ...`.
    pub(crate) fn help(&mut self, help: impl Display) {
        let style = self.theme.hint;
        self.line(format_args!("{style}help:{style:#} {help}"));
    }

    /// A table.
    pub(crate) fn table(&mut self, table: &Table) {
        let text = table.render(self.theme);
        self.text.push_str(&text);
    }

    /// Text as it is, no line end added: a document, a script, a certificate.
    pub(crate) fn raw(&mut self, text: impl Display) {
        use std::fmt::Write as _;
        write!(self.text, "{text}").expect("a String takes any text");
    }

    /// What was written.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_do_not_pile_up() {
        let mut page = Page::new(Theme::PLAIN);
        page.title("Sites");
        page.line("blog");
        page.gap();
        page.title("Mirrors");
        page.help("wait");
        assert_eq!(page.into_text(), "Sites\nblog\n\nMirrors\nhelp: wait\n");
    }
}
