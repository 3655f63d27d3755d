//! What changed between two dumps of a Ghost, by title: what `compare.cjs` says of two SQLite databases.
//!
//! Promise: of each row that people know by a title, its digest and title are in memory, and of all others nothing.
//!
//! Left out: everything of a database but posts, pages, members and tags.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use sha2::{Digest as _, Sha256};

use super::data::{Changes, Compared, Titles};
use super::rows::{Dump, Part};

/// More titles of one kind than anybody reads.
const MOST_TITLES: usize = 2000;
/// A title is shown up to so many characters.
const LONGEST_TITLE: usize = 200;
/// An id is shorter.
const LONGEST_ID: usize = 255;
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
    Dump::new(dump).read(&mut |part| {
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
    Dump::new(dump).read(&mut |part| {
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
        // Ghost's are 24 characters long: longer ones are told apart by what they begin with.
        let id = value("id").unwrap_or_default().iter().copied().take(LONGEST_ID).collect();
        all.entry(kind).or_default().insert(id, Known { sum: sum.finalize().into(), title });
    })?;
    Ok(all)
}

#[cfg(test)]
mod tests {
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
}
