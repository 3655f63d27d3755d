//! The data of a Ghost whose database is a server of its own: written out as SQL, and read in again.

use std::io::{self, BufRead, Read as _};
use std::path::Path;

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
    loop {
        let there = from.fill_buf()?;
        let end = there.iter().position(|byte| *byte == b'\n');
        let (count, is_end) = (end.map_or(there.len(), |end| end + 1), end.is_some() || there.is_empty());
        from.consume(count);
        if is_end {
            return Ok(());
        }
    }
}

/// Refuses what was cut off before it takes away what is there.
const LOAD: &str = r#"
tail -n 1 -- "$1" | grep -q '^-- Dump completed' || { echo "the dump is not complete: $1" >&2; exit 65; }
mariadb -e 'DROP DATABASE IF EXISTS ghost; CREATE DATABASE ghost CHARACTER SET utf8mb4'
exec mariadb --default-character-set=utf8mb4 ghost <"$1"
"#;

/// The command line that puts such a dump into the place of all that is in a site's database, to be run in the database's
/// instance by root while no Ghost uses it. Cut short, it is to be run again.
pub fn load_command(from: &Path) -> Vec<String> {
    ["sh", "-euc", LOAD, "load"].map(str::to_owned).into_iter().chain([from.display().to_string()]).collect()
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

    proptest! {
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
