//! The rows of a dump as `mariadb-dump` writes it: a text that anybody could have written, read part by part.
//!
//! Promise: whatever is in it, at most one row is in memory at a time. What is not such a dump is an error, never a guess.
//!
//! Left out: what the rows mean, and all statements but those that make tables and fill them.

use std::io::{self, BufRead};

/// A value is shorter: what MariaDB sends or takes at once is 16 MiB, unless somebody has raised it.
const LONGEST_VALUE: usize = 64 << 20;
/// A row is shorter: so much is in memory at most.
const LONGEST_ROW: usize = 128 << 20;
/// A table of Ghost has fewer columns.
const MOST_COLUMNS: usize = 1000;

/// What is in a dump that was read to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rows {
    /// How many rows there are in all.
    pub all: u64,
    /// How many of them are posts and pages.
    pub posts: u64,
    /// How many are people who write.
    pub staff: u64,
}

/// Reads every row of a dump: each has as many values as its table has columns, and each value an end.
///
/// # Errors
/// When it cannot be read, or is no dump.
pub fn count_rows(dump: impl BufRead) -> io::Result<Rows> {
    let mut rows = Rows::default();
    Dump::new(dump).read(&mut |part| {
        let Part::Row { table, .. } = part else { return };
        rows.all += 1;
        rows.posts += u64::from(table == "posts");
        rows.staff += u64::from(table == "users");
    })?;
    Ok(rows)
}

/// A piece of a dump.
pub(super) enum Part<'p> {
    /// How a table is made.
    Table { name: &'p str, columns: &'p [String] },
    /// A row of the table before it: `None` is NULL.
    Row { table: &'p str, columns: &'p [String], values: &'p [Option<Vec<u8>>] },
}

/// A dump as `mariadb-dump` writes it, with one statement `INSERT INTO ... VALUES` for many rows.
pub(super) struct Dump<R> {
    from: R,
}

impl<R: BufRead> Dump<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from }
    }

    /// Hands each part on, in the order in which they are written.
    ///
    /// # Errors
    /// When it cannot be read, or is no dump.
    pub(super) fn read(&mut self, each: &mut dyn FnMut(Part<'_>)) -> io::Result<()> {
        let (mut name, mut columns): (String, Vec<String>) = Default::default();
        while let Some(line) = self.line()? {
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some(made) = quoted(&line, "CREATE TABLE `") {
                (name, columns) = (made, self.columns()?);
                each(Part::Table { name: &name, columns: &columns });
            } else if let Some(filled) = quoted(&line, "INSERT INTO `") {
                if filled != name {
                    return Err(nonsense("rows of a table that was not made"));
                }
                self.rows(&name, &columns, each)?;
            }
        }
        Ok(())
    }

    /// The next line, up to where rows begin; `None` at the end. What is too long to be one is cut.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        const LONGEST: usize = 1 << 10;
        let mut line = Vec::new();
        while let Some(byte) = self.next()? {
            if byte == b'\n' || line.ends_with(b"` VALUES") {
                return Ok(Some(line));
            }
            if line.len() < LONGEST {
                line.push(byte);
            }
        }
        Ok((!line.is_empty()).then_some(line))
    }

    /// The columns of a table, from the lines after the one that makes it.
    fn columns(&mut self) -> io::Result<Vec<String>> {
        let mut columns = Vec::new();
        while let Some(line) = self.line()? {
            if line.starts_with(b")") {
                return Ok(columns);
            }
            columns.extend(quoted(&String::from_utf8_lossy(&line), "  `"));
            if columns.len() > MOST_COLUMNS {
                return Err(nonsense("a table with too many columns"));
            }
        }
        Err(nonsense("a table that does not end"))
    }

    fn rows(&mut self, table: &str, columns: &[String], each: &mut dyn FnMut(Part<'_>)) -> io::Result<()> {
        let mut values: Vec<Option<Vec<u8>>> = Vec::new();
        loop {
            match self.next()? {
                Some(b' ' | b'\n' | b'\r' | b',') => {}
                Some(b';') => return Ok(()),
                Some(b'(') => {
                    values.clear();
                    let mut long = 0;
                    while values.len() <= columns.len() {
                        let value = self.value()?;
                        long += value.as_ref().map_or(0, Vec::len);
                        if long > LONGEST_ROW {
                            return Err(nonsense("a row that is too long"));
                        }
                        values.push(value);
                        match self.next()? {
                            Some(b',') => {}
                            Some(b')') => break,
                            _ => return Err(nonsense("a row that does not end")),
                        }
                    }
                    if values.len() != columns.len() {
                        return Err(nonsense("a row with more or fewer values than its table has columns"));
                    }
                    each(Part::Row { table, columns, values: &values });
                }
                _ => return Err(nonsense("rows that do not end")),
            }
        }
    }

    fn value(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.peek()? == Some(b'\'') {
            self.next()?;
            return self.string().map(Some);
        }
        // A number, digits of bytes, or NULL.
        let mut word = Vec::new();
        while let Some(byte) = self.peek()?.filter(|byte| !matches!(byte, b',' | b')')) {
            push(&mut word, byte)?;
            self.next()?;
        }
        match word.as_slice() {
            b"" => Err(nonsense("a value that is not there")),
            b"NULL" => Ok(None),
            _ => Ok(Some(word)),
        }
    }

    /// What is between quotes (MariaDB's manual, "String Literals").
    fn string(&mut self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            let byte = match self.next()? {
                Some(b'\'') if self.peek()? == Some(b'\'') => self.next()?,
                Some(b'\'') => return Ok(text),
                Some(b'\\') => self.next()?.map(|escaped| match escaped {
                    b'0' => 0,
                    b'b' => 8,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'Z' => 26,
                    other => other,
                }),
                other => other,
            };
            push(&mut text, byte.ok_or_else(|| nonsense("a text that does not end"))?)?;
        }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.from.fill_buf()?.first().copied())
    }

    fn next(&mut self) -> io::Result<Option<u8>> {
        let next = self.peek()?;
        self.from.consume(usize::from(next.is_some()));
        Ok(next)
    }
}

fn push(to: &mut Vec<u8>, byte: u8) -> io::Result<()> {
    if to.len() >= LONGEST_VALUE {
        return Err(nonsense("a value that is too long"));
    }
    to.push(byte);
    Ok(())
}

/// The name that begins a line after `before`, up to its closing backtick.
fn quoted(line: &str, before: &str) -> Option<String> {
    let mut name = String::new();
    let mut characters = line.strip_prefix(before)?.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '`' && characters.next_if_eq(&'`').is_none() {
            return Some(name);
        }
        name.push(character);
    }
    None
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("this is no dump of a database: {what}"))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    const SMALL: &str = "CREATE TABLE `posts` (\n  `id` int,\n  `text` text,\n  PRIMARY KEY (`id`)\n);\n\
        INSERT INTO `posts` VALUES\n(1,'a\\'),(\\n'),\n(2,NULL);\nCREATE TABLE `users` (\n  `id` int\n);\n\
        INSERT INTO `users` VALUES (0xFF00);\n-- Dump completed\n";

    #[test]
    fn every_row_counts() {
        assert_eq!(count_rows(SMALL.as_bytes()).unwrap(), Rows { all: 3, posts: 2, staff: 1 });
        assert_eq!(count_rows(&b""[..]).unwrap(), Rows::default());
    }

    fn literal(value: Option<&[u8]>) -> String {
        let Some(value) = value else { return "NULL".to_owned() };
        let mut text = "'".to_owned();
        for character in String::from_utf8_lossy(value).chars() {
            match character {
                '\0' => text.push_str("\\0"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\u{1a}' => text.push_str("\\Z"),
                '\'' | '"' | '\\' => write!(text, "\\{character}").unwrap(),
                other => text.push(other),
            }
        }
        text + "'"
    }

    proptest! {
        #[test]
        fn any_row_is_read_as_what_was_written(rows in proptest::collection::vec(
            proptest::collection::vec(proptest::option::of(any::<String>()), 3), 1..8,
        )) {
            let rows: Vec<Vec<Option<Vec<u8>>>> =
                rows.into_iter().map(|row| row.into_iter().map(|value| value.map(String::into_bytes)).collect()).collect();
            let lines: Vec<String> = rows
                .iter()
                .map(|row| format!("({})", row.iter().map(|value| literal(value.as_deref())).collect::<Vec<_>>().join(",")))
                .collect();
            let text = format!(
                "CREATE TABLE `odd``name` (\n  `a` int,\n  `b` int,\n  `c` int\n);\nINSERT INTO `odd``name` VALUES\n{};\n",
                lines.join(",\n")
            );
            let mut read = Vec::new();
            Dump::new(text.as_bytes())
                .read(&mut |part| {
                    if let Part::Row { table, values, .. } = part {
                        assert_eq!(table, "odd`name");
                        read.push(values.to_vec());
                    }
                })
                .unwrap();
            prop_assert_eq!(read, rows);
        }

        #[test]
        fn no_bytes_make_the_reader_fail_otherwise_than_by_saying_so(bytes in any::<Vec<u8>>(), cut in any::<prop::sample::Index>()) {
            let mut broken = SMALL.as_bytes().to_vec();
            let at = cut.index(broken.len());
            broken.splice(at..at, bytes);
            let _ = Dump::new(broken.as_slice()).read(&mut |_| {});
            broken.truncate(at);
            let _ = Dump::new(broken.as_slice()).read(&mut |_| {});
        }
    }
}
