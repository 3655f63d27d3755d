//! Styles by meaning. A plain theme renders nothing, so code that prints does not ask whether there is color.

use anstyle::{AnsiColor, Style};

/// One style for each meaning. Display a style to begin it, display it with `{:#}` to end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Theme {
    /// What failed.
    pub(crate) error: Style,
    /// What should be looked at.
    pub(crate) warning: Style,
    /// What is well, what is made.
    pub(crate) good: Style,
    /// What can be done: help, addresses, commands.
    pub(crate) hint: Style,
    /// Titles.
    pub(crate) title: Style,
    /// What matters less.
    pub(crate) faint: Style,
}

impl Theme {
    /// No styles at all.
    pub(crate) const PLAIN: Self = Self {
        error: Style::new(),
        warning: Style::new(),
        good: Style::new(),
        hint: Style::new(),
        title: Style::new(),
        faint: Style::new(),
    };

    /// The sixteen colors every terminal has, so that the operator's own palette applies.
    pub(crate) const COLORED: Self = Self {
        error: AnsiColor::Red.on_default().bold(),
        warning: AnsiColor::Yellow.on_default().bold(),
        good: AnsiColor::Green.on_default(),
        hint: AnsiColor::Cyan.on_default(),
        title: Style::new().bold(),
        faint: Style::new().dimmed(),
    };
}
