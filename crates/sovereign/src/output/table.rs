//! Tables for people: columns aligned by what the terminal shows, not by bytes.

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::Theme;

/// Space between two columns.
const GAP: usize = 2;

/// One cell: text and what it means.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Text with one of the theme's styles.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(value: T) -> Self {
        Self { text: value.to_string(), style: Style::new() }
    }
}

/// Rows under titled columns.
#[derive(Debug)]
pub(crate) struct Table {
    titles: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these column titles. A title that begins with `>` aligns its column to the right (numbers).
    pub(crate) fn new<const COLUMNS: usize>(titles: [&'static str; COLUMNS]) -> Self {
        Self {
            titles: titles.iter().map(|title| title.trim_start_matches('>')).collect(),
            right: titles.iter().map(|title| title.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [Cell; COLUMNS]) {
        debug_assert_eq!(COLUMNS, self.titles.len(), "a row has as many cells as there are columns");
        self.rows.push(cells.into());
    }

    /// Whether there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines. No trailing spaces.
    pub(super) fn render(&self, theme: Theme) -> String {
        let header: Vec<Cell> = self.titles.iter().map(|&title| Cell::styled(title, theme.faint)).collect();
        let lines = || std::iter::once(&header).chain(&self.rows);
        let width = |column: usize| lines().filter_map(|row| row.get(column)).map(|cell| cell.text.width()).max();
        let widths: Vec<usize> = (0..self.titles.len()).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in lines() {
            let mut owed = 0;
            for ((cell, &width), &right) in row.iter().zip(&widths).zip(&self.right) {
                let padding = width - cell.text.width();
                let (before, after) = if right { (padding, 0) } else { (0, padding) };
                let style = cell.style;
                // Padding after a cell is owed until something follows it.
                if !cell.text.is_empty() {
                    text.push_str(&" ".repeat(owed + before));
                    text.push_str(&format!("{style}{}{style:#}", cell.text));
                    owed = 0;
                } else {
                    owed += before;
                }
                owed += after + GAP;
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_by_display_width() {
        let mut table = Table::new(["SITE", ">SIZE", "NOTE"]);
        table.row(["blog".into(), "1.2 MB".into(), "".into()]);
        table.row(["日本語".into(), "900 B".into(), "fresh".into()]);
        table.row(["".into(), "".into(), "last".into()]);
        insta::assert_snapshot!(table.render(Theme::PLAIN), @r"
        SITE      SIZE  NOTE
        blog    1.2 MB
        日本語   900 B  fresh
                        last
        ");
    }

    #[test]
    fn styles_take_no_width() {
        let mut table = Table::new(["A", "B"]);
        table.row([Cell::styled("x", Theme::COLORED.good), "y".into()]);
        assert_eq!(table.render(Theme::PLAIN), "A  B\n\u{1b}[32mx\u{1b}[0m  y\n");
    }
}
