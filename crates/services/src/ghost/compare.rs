//! What changed between two dumps of a Ghost, by title: what `compare.cjs` says of two SQLite databases.
//!
//! Promise: whatever is in a dump, at most one row of it is in memory at a time, and of each row that people know by a
//! title its digest and title. What is not a dump as `mariadb-dump` writes it is an error, never a guess.
//!
//! Left out: everything of a database but posts, pages, members and tags.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use sha2::{Digest as _, Sha256};

use super::data::{Changes, Compared, Titles};

/// More titles of one kind than anybody reads.
const MOST_TITLES: usize = 2000;
/// A title is shown up to so many characters.
const LONGEST_TITLE: usize = 200;
/// A value is shorter: what MariaDB sends or takes at once is 16 MiB, unless somebody has raised it.
const LONGEST_VALUE: usize = 64 << 20;
/// A table of Ghost has fewer columns.
const MOST_COLUMNS: usize = 1000;
/// What changes in members and tags without anybody changing anything.
const IDLE: [&str; 7] = [
    "updated_at",
    "updated_by",
    "last_seen_at",
    "last_commented_at",
    "email_count",
    "email_opened_count",
    "email_open_rate",
];
/// The tables whose rows people know.
const TABLES: [&str; 3] = ["posts", "members", "tags"];

/// Compares two dumps of a Ghost, of the same version or not: columns that both have count. Each is opened and read twice,
/// since what both have is not known before.
///
/// # Errors
/// When one cannot be read, or is no dump.
pub fn compare_dumps<R: BufRead>(
    older: impl Fn() -> io::Result<R>,
    newer: impl Fn() -> io::Result<R>,
) -> io::Result<Compared> {
    let (before, after) = (columns(older()?)?, columns(newer()?)?);
    let mut shared: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for table in TABLES {
        let (Some(before), Some(after)) = (before.get(table), after.get(table)) else { continue };
        let both = after.iter().filter(|column| before.contains(column));
        let counts = |column: &&String| table == "posts" || !IDLE.contains(&column.as_str());
        shared.insert(table, both.filter(counts).cloned().collect());
    }
    let (old, now) = (known(older()?, &shared)?, known(newer()?, &shared)?);
    let changes = |kind: Kind| {
        let none = BTreeMap::new();
        let (old, now) = (old.get(&kind).unwrap_or(&none), now.get(&kind).unwrap_or(&none));
        Changes {
            added: titles(now.iter().filter(|(id, _)| !old.contains_key(*id))),
            changed: titles(now.iter().filter(|(id, row)| old.get(*id).is_some_and(|old| old.sum != row.sum))),
            removed: titles(old.iter().filter(|(id, _)| !now.contains_key(*id))),
        }
    };
    Ok(Compared {
        posts: changes(Kind::Post),
        pages: changes(Kind::Page),
        members: changes(Kind::Member),
        tags: changes(Kind::Tag),
    })
}

/// What a row is to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Post,
    Page,
    Member,
    Tag,
}

/// What is remembered of a row.
struct Known {
    sum: [u8; 32],
    title: String,
}

fn titles<'k>(rows: impl Iterator<Item = (&'k Vec<u8>, &'k Known)>) -> Titles {
    let mut titles: Vec<String> = rows.map(|(_, row)| row.title.clone()).collect();
    titles.sort();
    let count = titles.len() as u64;
    titles.truncate(MOST_TITLES);
    Titles { count, titles }
}

/// The columns of each table.
fn columns(dump: impl BufRead) -> io::Result<BTreeMap<String, Vec<String>>> {
    let mut all = BTreeMap::new();
    Dump { from: dump }.read(&mut |part| {
        if let Part::Table { name, columns } = part {
            all.insert(name.to_owned(), columns.to_vec());
        }
    })?;
    Ok(all)
}

/// The rows that people know, by kind and id.
fn known(
    dump: impl BufRead,
    shared: &BTreeMap<&str, BTreeSet<String>>,
) -> io::Result<BTreeMap<Kind, BTreeMap<Vec<u8>, Known>>> {
    let mut all: BTreeMap<Kind, BTreeMap<Vec<u8>, Known>> = BTreeMap::new();
    Dump { from: dump }.read(&mut |part| {
        let Part::Row { table, columns, values } = part else { return };
        let Some(counted) = shared.get(table) else { return };
        let value = |name: &str| {
            let at = columns.iter().position(|column| column == name)?;
            values.get(at)?.as_deref()
        };
        let text =
            |name: &str| value(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        let (kind, title) = match table {
            "posts" if value("type") == Some(b"page") => (Kind::Page, text("title")),
            "posts" => (Kind::Post, text("title")),
            "tags" => (Kind::Tag, text("name")),
            _ if text("name").is_empty() => (Kind::Member, text("email")),
            _ => (Kind::Member, format!("{} <{}>", text("name"), text("email"))),
        };
        let mut sum = Sha256::new();
        for column in counted {
            match value(column) {
                // With its length, so that no value can pass for two.
                Some(bytes) => {
                    sum.update((bytes.len() as u64).to_le_bytes());
                    sum.update(bytes);
                }
                None => sum.update(u64::MAX.to_le_bytes()),
            }
        }
        let title = title.chars().take(LONGEST_TITLE).collect();
        let id = value("id").unwrap_or_default().to_vec();
        all.entry(kind).or_default().insert(id, Known { sum: sum.finalize().into(), title });
    })?;
    Ok(all)
}

/// A piece of a dump.
enum Part<'p> {
    /// How a table is made.
    Table { name: &'p str, columns: &'p [String] },
    /// A row of the table before it: `None` is NULL.
    Row { table: &'p str, columns: &'p [String], values: &'p [Option<Vec<u8>>] },
}

/// A dump as `mariadb-dump` writes it, with one statement `INSERT INTO ... VALUES` for many rows.
struct Dump<R> {
    from: R,
}

impl<R: BufRead> Dump<R> {
    fn read(&mut self, each: &mut dyn FnMut(Part<'_>)) -> io::Result<()> {
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
                    while values.len() <= columns.len() {
                        values.push(self.value()?);
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

    fn compared(older: &str, newer: &str) -> io::Result<Compared> {
        compare_dumps(|| Ok(older.as_bytes()), || Ok(newer.as_bytes()))
    }

    const BEFORE: &str = "-- MariaDB dump 10.19\n/*!40101 SET NAMES utf8mb4 */;\n\
        --\n-- Table structure for table `posts`\n--\n\nDROP TABLE IF EXISTS `posts`;\n\
        CREATE TABLE `posts` (\n  `id` varchar(24) NOT NULL,\n  `title` varchar(2000) NOT NULL,\n  `type` varchar(50),\n\
        \x20 `updated_at` datetime,\n  `gone` int(11),\n  PRIMARY KEY (`id`),\n  KEY `posts_x` (`title`)\n\
        ) ENGINE=InnoDB;\n\n--\n-- Dumping data for table `posts`\n--\n\nLOCK TABLES `posts` WRITE;\n\
        INSERT INTO `posts` VALUES\n('1','It\\'s (one), \\\"x\\\";','post','2026-01-01 00:00:00',1),\n\
        ('2','two\\nlines','page',NULL,2),\n('3','three','post','2026-01-01 00:00:00',3);\nUNLOCK TABLES;\n\
        CREATE TABLE `members` (\n  `id` varchar(24),\n  `email` varchar(191),\n  `name` varchar(191),\n\
        \x20 `last_seen_at` datetime\n);\nINSERT INTO `members` VALUES\n('m1','a@b','Ann',NULL),('m2','c@d','',NULL);\n\
        CREATE TABLE `settings` (\n  `id` int\n);\nINSERT INTO `settings` VALUES\n(1),(-2.5e3),(0xFF00);\n\
        -- Dump completed\n";

    #[test]
    fn what_changed_is_told_by_title() {
        let after = BEFORE
            .replace("'two\\nlines'", "'two''s lines'")
            .replace(",\n('3','three','post','2026-01-01 00:00:00',3)", ",\n('4','four','post',NULL,4)")
            // A column that is there no more, and one that is new, do not count.
            .replace("  `gone` int(11),\n", "  `new` int(11),\n")
            .replace("'a@b','Ann',NULL", "'a@b','Ann','2026-02-02 00:00:00'")
            .replace("('m2','c@d','',NULL)", "('m2','c@d','Cy',NULL),('m3','e@f','',NULL)");
        insta::assert_json_snapshot!(compared(BEFORE, &after).unwrap());
        assert_eq!(compared(BEFORE, BEFORE).unwrap(), Compared::default());
    }

    #[test]
    fn a_touched_post_has_changed_and_a_member_who_looked_has_not() {
        let touched = BEFORE.replace("'three','post','2026-01-01", "'three','post','2026-01-02");
        assert_eq!(compared(BEFORE, &touched).unwrap().posts.changed.titles, ["three"]);
    }

    #[test]
    fn what_is_no_dump_is_not_guessed_at() {
        for (part, instead) in [
            ("('2',", "("),
            ("'two\\nlines','page',NULL,2)", "'two\\nlines','page',NULL"),
            ("'three','post'", "'three'"),
            ("INSERT INTO `members`", "INSERT INTO `posts`"),
            ("('m2','c@d','',NULL);\n", "('m2','c@d','',NULL)"),
            ("'c@d','',NULL);", "'c@d',',NULL);"),
        ] {
            assert!(BEFORE.contains(part), "{part}");
            let broken = BEFORE.replacen(part, instead, 1);
            assert!(compared(BEFORE, &broken).is_err(), "{part} -> {instead}");
        }
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
            Dump { from: text.as_bytes() }
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
            let mut broken = BEFORE.as_bytes().to_vec();
            let at = cut.index(broken.len());
            broken.splice(at..at, bytes);
            let _ = Dump { from: broken.as_slice() }.read(&mut |_| {});
            broken.truncate(at);
            let _ = Dump { from: broken.as_slice() }.read(&mut |_| {});
        }
    }
}
