//! The data of a Ghost whose database is a server of its own: written out as SQL, and read in again.

use std::path::Path;

/// The command line that writes a site's whole database into the file `to`, as SQL and as it is at one moment, to be run
/// in the database's instance by root. Nobody waits for it: neither readers nor writers. `/dev/stdout` is a file too.
pub fn dump_command(to: &Path) -> Vec<String> {
    let options = [
        "mariadb-dump",
        "--single-transaction", // InnoDB keeps what was there when it began
        "--quick",              // row by row, whatever the size of a table
        "--order-by-primary",   // with the next: equal data gives equal bytes
        "--skip-dump-date",
        "--hex-blob",
        "--default-character-set=utf8mb4",
    ];
    let to = format!("--result-file={}", to.display());
    options.map(str::to_owned).into_iter().chain([to, "ghost".to_owned()]).collect()
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
