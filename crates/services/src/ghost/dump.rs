//! The data of a Ghost whose database is a server of its own: written out as SQL, and read in again.

use std::io::{self, BufRead, Read as _, Write};
use std::path::Path;

use super::data::Table;

const DUMP: [&str; 7] = [
    "mariadb-dump",
    "--single-transaction", // InnoDB keeps what was there when it began
    "--quick",              // row by row, whatever the size of a table
    "--order-by-primary",   // with the next: equal data gives equal bytes
    "--skip-dump-date",
    "--hex-blob",
    "--default-character-set=utf8mb4",
];

/// The name of the database, on its server.
const DATABASE: &str = "ghost";

/// How the last line of a dump begins: what has none was cut off.
const COMPLETED: &str = "-- Dump completed";

/// The command line that writes a site's whole database into the file `to`, as SQL and as it is at one moment, to be run
/// in the database's instance by root. Nobody waits for it: neither readers nor writers.
pub fn dump_command(to: &Path) -> Vec<String> {
    let to = format!("--result-file={}", to.display());
    DUMP.map(str::to_owned).into_iter().chain([to, DATABASE.to_owned()]).collect()
}

/// The same to its standard output.
pub fn dump_out_command() -> Vec<String> {
    DUMP.into_iter().chain([DATABASE]).map(str::to_owned).collect()
}

/// What a dump says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DumpSeen {
    /// Whether it was written to its end.
    pub is_complete: bool,
    /// How many tables it makes.
    pub tables: u64,
}

impl DumpSeen {
    /// Reads a dump, whatever is in it, in little memory. A line break within a value is written in another way, so that
    /// no value can pass for a line.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(mut dump: impl BufRead) -> io::Result<Self> {
        let mut seen = Self::default();
        loop {
            let mut begin = Vec::new();
            let long = COMPLETED.len() as u64 + 64;
            (&mut dump).take(long).read_until(b'\n', &mut begin)?;
            if begin.is_empty() {
                return Ok(seen);
            }
            if begin.last() != Some(&b'\n') {
                skip_line(&mut dump)?;
            }
            seen.is_complete = begin.starts_with(COMPLETED.as_bytes());
            seen.tables += u64::from(begin.starts_with(b"CREATE TABLE "));
        }
    }
}

/// Reads on to the end of the line, and keeps nothing.
fn skip_line(from: &mut impl BufRead) -> io::Result<()> {
    pass_line(from, &mut io::sink())
}

/// Hands on what is left of the line.
fn pass_line(from: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
    loop {
        let there = from.fill_buf()?;
        let end = there.iter().position(|byte| *byte == b'\n');
        let (count, is_end) = (end.map_or(there.len(), |end| end + 1), end.is_some() || there.is_empty());
        to.write_all(&there[..count])?;
        from.consume(count);
        if is_end {
            return Ok(());
        }
    }
}

/// How the part of a table begins.
const TABLE_BEGINS: &str = "-- Table structure for table `";
/// How the statements begin that end a dump.
const ENDING: &str = "/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE";
/// A line that says what comes next is shorter.
const LONGEST_HEADING: u64 = 1 << 10;

/// Writes what a dump says of one table: the statements that make it and fill it, and those that every dump begins and
/// ends with. Any dump is read in little memory; `rows` is `None` when the table is not in it.
///
/// # Errors
/// When the dump cannot be read, or `to` not written.
pub fn write_table(mut dump: impl BufRead, table: &str, mut to: impl Write) -> io::Result<Table> {
    let (mut rows, mut tables, mut is_wanted) = (None, Vec::new(), true);
    loop {
        let mut begin = Vec::new();
        (&mut dump).take(LONGEST_HEADING).read_until(b'\n', &mut begin)?;
        if begin.is_empty() {
            to.flush()?;
            return Ok(Table { rows, tables });
        }
        let text = String::from_utf8_lossy(&begin);
        if let Some(name) = text.strip_prefix(TABLE_BEGINS).and_then(|rest| rest.trim_end().strip_suffix('`')) {
            let name = name.replace("``", "`");
            is_wanted = name == table;
            rows = if is_wanted { rows.or(Some(0)) } else { rows };
            tables.push(name.chars().filter(|c| !c.is_control()).collect());
        } else if text.starts_with(ENDING) {
            is_wanted = true;
        } else if is_wanted && begin.first() == Some(&b'(') {
            rows = rows.map(|rows| rows + 1);
        }
        if is_wanted {
            to.write_all(&begin)?;
        }
        match (begin.last() == Some(&b'\n'), is_wanted) {
            (true, _) => {}
            (false, true) => pass_line(&mut dump, &mut to)?,
            (false, false) => skip_line(&mut dump)?,
        }
    }
}

/// Refuses what was cut off before it takes away what is there. A dump comes from a host that may be somebody else's by then:
/// its client runs no commands of the system that are written in it, as `mariadb-dump` itself asks of it, in a first line
/// that a hostile one would leave out. To a client that does not know the mode it is a comment.
const LOAD: &str = r#"
tail -n 1 -- "$1" | grep -q '^-- Dump completed' || { echo "the dump is not complete: $1" >&2; exit 65; }
mariadb -e 'DROP DATABASE IF EXISTS ghost; CREATE DATABASE ghost CHARACTER SET utf8mb4'
{ printf '%s\n' '/*M!999999\- enable the sandbox mode */'; cat -- "$1"; } | mariadb --default-character-set=utf8mb4 ghost
"#;

/// The command line that puts such a dump into the place of all that is in a site's database, to be run in the database's
/// instance by root while no Ghost uses it. Cut short, it is to be run again.
pub fn load_command(from: &Path) -> Vec<String> {
    ["sh", "-euc", LOAD, "load"].map(str::to_owned).into_iter().chain([from.display().to_string()]).collect()
}

/// How many tables there are: to be run where [`load_command`] was. A dump can be loaded and still be less than it says.
pub fn count_tables_command() -> Vec<String> {
    let count = format!("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '{DATABASE}'");
    ["mariadb", "--batch", "--skip-column-names", "-e", &count].map(str::to_owned).into()
}

/// Every table says when its rows were made and changed, but for those that Ghost writes into by itself and those of
/// who is logged in. Times are UTC.
const LAST_WRITTEN: &str = r#"
ask() { mariadb --batch --skip-column-names -e "SET time_zone = '+00:00', group_concat_max_len = 1048576; $1"; }
each=$(ask "SELECT GROUP_CONCAT('SELECT MAX(', column_name, ') AS at FROM ghost.', table_name SEPARATOR ' UNION ALL ')
    FROM information_schema.columns WHERE table_schema = 'ghost' AND data_type = 'datetime'
    AND column_name IN ('created_at', 'updated_at') AND column_name RLIKE '^[a-z_]+$' AND table_name RLIKE '^[a-z_]+$'
    AND table_name NOT IN ('sessions', 'jobs', 'brute')")
[ "$each" != NULL ] || exit 0
ask "SELECT COALESCE(UNIX_TIMESTAMP(MAX(at)), '') FROM ($each) AS each_table"
"#;

/// The command line that says when a site was written last, in seconds of the epoch, or nothing when it never was: to be
/// run in the database's instance by root.
pub fn last_written_command() -> Vec<String> {
    ["sh", "-euc", LAST_WRITTEN].map(str::to_owned).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: &str = "-- MariaDB dump\nCREATE TABLE `posts` (\n  `id` int\n);\nINSERT INTO `posts` VALUES\n(1,'a\\nb');\n\
        CREATE TABLE `tags` (\n);\n\n-- Dump completed\n";

    #[test]
    fn a_dump_is_complete_when_its_last_line_says_so() {
        let read = |text: &str| DumpSeen::read(text.as_bytes()).unwrap();
        assert_eq!(read(WHOLE), DumpSeen { is_complete: true, tables: 2 });
        assert_eq!(read(WHOLE.trim_end()), DumpSeen { is_complete: true, tables: 2 });
        assert_eq!(read(&format!("{WHOLE}INSERT")), DumpSeen { is_complete: false, tables: 2 });
        let long = format!("INSERT '{}-- Dump completed", "x".repeat(200_000));
        assert_eq!(read(&long), DumpSeen::default());
    }

    #[test]
    fn a_table_is_written_with_what_every_dump_begins_and_ends_with() {
        let part = |name: &str, rows: &str| {
            format!(
                "-- Table structure for table `{name}`\n--\n\nDROP TABLE IF EXISTS `{name}`;\nCREATE TABLE `{name}` (\n  \
                 `id` int\n);\nINSERT INTO `{name}` VALUES\n{rows};\nUNLOCK TABLES;\n"
            )
        };
        let long = "x".repeat(100_000);
        let posts = part("posts", &format!("(1,'-- Table structure for table `tags`'),\n(2,'{long}')"));
        let (head, foot) = (
            "/*!40014 SET FOREIGN_KEY_CHECKS=0 */;\n",
            "/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n-- Dump completed\n",
        );
        let dump = format!("{head}{}{posts}{}{foot}", part("members", "(1)"), part("tags", "(1),\n(2),\n(3)"));
        let mut made = Vec::new();
        let seen = write_table(dump.as_bytes(), "posts", &mut made).unwrap();
        assert_eq!((seen.rows, seen.tables), (Some(2), ["members", "posts", "tags"].map(str::to_owned).into()));
        assert_eq!(String::from_utf8(made).unwrap(), format!("{head}{posts}{foot}"));
        assert_eq!(write_table(dump.as_bytes(), "pages", io::sink()).unwrap().rows, None);
    }

    proptest! {
        #[test]
        fn a_table_of_any_bytes_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            write_table(bytes.as_slice(), "posts", io::sink()).unwrap();
        }

        #[test]
        fn a_dump_that_is_cut_off_is_not_complete(length in 0..WHOLE.len() - "\n".len() - 1) {
            // But for what comes after the words.
            prop_assume!(!WHOLE[..length].ends_with(COMPLETED));
            prop_assert!(!DumpSeen::read(&WHOLE.as_bytes()[..length]).unwrap().is_complete);
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            DumpSeen::read(bytes.as_slice()).unwrap();
        }
    }
}
