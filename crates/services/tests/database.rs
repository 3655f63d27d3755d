//! The dump of a database that is written to, and the comparison of two, by the scripts and the node of a real image: `SOVEREIGN_GHOST_IMAGE`.
//! Without one these tests say that they were skipped; the end-to-end run names one.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test, a skipped test says so")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sovereign_services::ghost::data::{self, Examined, Table};

/// What Ghost gives SQLite to get a lock, the default of better-sqlite3.
const GHOST_WAITS: Duration = Duration::from_secs(5);

/// Every script begins with this: `db` is the database, as Ghost opens it. A state of it is right when exactly twenty
/// posts, anywhere in it, are of the last turn.
const OPEN: &str = "
const [app, file, ...rest] = process.argv.slice(1);
const fs = require('node:fs');
const db = new (require('node:module').createRequire(`${app}/index.js`)('better-sqlite3'))(file);
";

/// `rest`: how many posts. `users` is there for `examine`.
const MAKE: &str = "
db.pragma('synchronous = off');
db.exec(`CREATE TABLE posts (id INTEGER PRIMARY KEY, turn INTEGER, text BLOB); CREATE INDEX by_turn ON posts (turn);
  CREATE TABLE users (id INTEGER); CREATE TABLE turn (n INTEGER); INSERT INTO turn VALUES (0);
  WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${Number(rest[0])})
  INSERT INTO posts SELECT i, -1, randomblob(2000) FROM n`);
for (const mode of rest.slice(1)) db.pragma(`journal_mode = ${mode}`);
";

/// `rest`: a file to make once it writes, and one that ends it. Says how it fared.
const WRITE: &str = "
const [started, stop] = rest;
const fared = { writes: 0, failed: 0, slowest_ms: 0 };
const posts = db.prepare('SELECT max(id) FROM posts').pluck().get();
const [turn, post] = ['UPDATE turn SET n = n + 1 RETURNING n',
  'UPDATE posts SET turn = ?, text = randomblob(2000) WHERE id = ?'].map((statement) => db.prepare(statement));
const write = db.transaction(() => {
  const [{ n }, first] = [turn.get(), Math.floor(Math.random() * posts)];
  for (let i = 0; i < 20; i += 1) post.run(n, 1 + ((first + i * Math.floor(posts / 20)) % posts));
});
while (!fs.existsSync(stop)) {
  const begun = performance.now();
  try {
    write.immediate();
    fared.writes += 1;
  } catch (error) {
    if (error.code !== 'SQLITE_BUSY') throw error;
    fared.failed += 1;
  }
  fared.slowest_ms = Math.max(fared.slowest_ms, Math.ceil(performance.now() - begun));
  if (fared.writes > 0) fs.writeFileSync(started, '');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
}
console.log(JSON.stringify(fared));
";

/// `rest`: a file to make when half of a long transaction is in the database, which never ends.
const BREAK: &str = "
db.pragma('cache_size = 10');
db.exec('BEGIN; UPDATE turn SET n = n + 1; UPDATE posts SET text = zeroblob(2000)');
fs.writeFileSync(rest[0], '');
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
";

/// Says in which state the database is, and fails when it is none.
const LOOK: &str = "
const n = db.prepare('SELECT n FROM turn').pluck().get();
const of_last = db.prepare('SELECT count(*) FROM posts WHERE turn = (SELECT n FROM turn)').pluck().get();
const empty = db.prepare('SELECT count(*) FROM posts WHERE text = zeroblob(2000)').pluck().get();
if (empty !== 0 || of_last !== (n === 0 ? 0 : 20)) throw new Error(JSON.stringify({ n, of_last, empty }));
console.log(n);
";

struct Lab {
    image: PathBuf,
    folder: tempfile::TempDir,
}

impl Lab {
    /// A database with so many posts of 2 kB. `None` when no image is named.
    fn new(posts: u32, journal: &str) -> Option<Self> {
        let Some(image) = std::env::var_os("SOVEREIGN_GHOST_IMAGE").map(PathBuf::from) else {
            eprintln!("SKIPPED: SOVEREIGN_GHOST_IMAGE names no Ghost image, nothing was tested");
            return None;
        };
        let lab = Self { image, folder: tempfile::tempdir().unwrap() };
        fs::create_dir(lab.path("dump")).unwrap();
        said(lab.node(MAKE, &lab.database(), &[&posts.to_string(), journal]));
        Some(lab)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.path("ghost.db")
    }

    fn dumped(&self) -> PathBuf {
        self.path("dump").join(data::DUMP_FILE)
    }

    fn node(&self, script: &str, database: &Path, rest: &[&str]) -> Child {
        let app = self.image.join("app");
        let mut command = Command::new(self.image.join("node/bin/node"));
        command.args(["-e", &format!("{OPEN}{script}"), "--"]).arg(app).arg(database).args(rest);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Somebody who writes, and what to make to have them end.
    fn writer(&self) -> (Child, PathBuf) {
        let (started, stop) = (self.path("started"), self.path("stop"));
        let writer = self.node(WRITE, &self.database(), &[started.to_str().unwrap(), stop.to_str().unwrap()]);
        appears(&started);
        (writer, stop)
    }

    fn dump(&self) -> Duration {
        let began = Instant::now();
        let arguments = data::dump_arguments(&self.image, &self.database(), &self.dumped());
        let mut command = Command::new(self.image.join("node/bin/node"));
        said(command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        began.elapsed()
    }

    /// The turn that the dump is of. It must be sound, and alone in its folder.
    fn turn_of_dump(&self) -> u64 {
        let mut command = Command::new(self.image.join("node/bin/node"));
        command.args(data::examine_arguments(&self.image, &self.dumped()));
        let examined = said(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let Examined { sound, found, .. } = serde_json::from_str(&examined).unwrap();
        assert!(sound, "{found:?}");
        let there: Vec<_> = fs::read_dir(self.path("dump")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(there, [data::DUMP_FILE]);
        said(self.node(LOOK, &self.dumped(), &[])).trim().parse().unwrap()
    }
}

/// What a process said that ended well.
#[track_caller]
fn said(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn appears(file: &Path) {
    let began = Instant::now();
    while !file.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "{} never came", file.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_large_database_is_dumped_while_its_writers_go_on() {
    let Some(lab) = Lab::new(150_000, "delete") else { return };
    let (writer, stop) = lab.writer();
    let took = lab.dump();
    fs::write(stop, "").unwrap();
    let fared: Value = serde_json::from_str(&said(writer)).unwrap();
    let size = fs::metadata(lab.database()).unwrap().len();
    eprintln!("{} MB dumped in {took:?}, writers meanwhile: {fared}", size / 1_000_000);
    let slowest = Duration::from_millis(fared["slowest_ms"].as_u64().unwrap());
    assert_eq!(fared["failed"], 0, "{fared}");
    assert!(slowest < GHOST_WAITS / 2, "{fared}");
    assert!(slowest < took / 2, "the lock is held for a part of the {took:?} only: {fared}");
    let turn = lab.turn_of_dump();
    assert!((1..=fared["writes"].as_u64().unwrap()).contains(&turn), "turn {turn} of {fared}");
}

#[test]
fn what_a_killed_writer_left_half_written_is_not_in_the_dump() {
    let Some(lab) = Lab::new(10_000, "delete") else { return };
    let half = lab.path("half");
    let mut writer = lab.node(BREAK, &lab.database(), &[half.to_str().unwrap()]);
    appears(&half);
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_eq!(data::stamp(&lab.database()).unwrap(), None, "a transaction is half written");
    // As a run leaves it that was killed too.
    for name in ["ghost.db.torn", "ghost.db.new", "ghost.db.new-journal"] {
        fs::write(lab.path("dump").join(name), "half").unwrap();
    }
    lab.dump();
    assert_eq!(lab.turn_of_dump(), 0);
}

#[test]
fn a_database_with_a_write_ahead_log_is_dumped_with_what_is_only_there() {
    let Some(lab) = Lab::new(10_000, "wal") else { return };
    let (writer, stop) = lab.writer();
    lab.dump();
    fs::write(stop, "").unwrap();
    let fared: Value = serde_json::from_str(&said(writer)).unwrap();
    assert_eq!(fared["failed"], 0, "{fared}");
    assert!(lab.turn_of_dump() > 0);
}

/// Everything that a value can be, a name that has to be quoted, and an index.
const ODD: &str = "
db.exec(`CREATE TABLE \"a \"\"table\"\"\" (id INTEGER PRIMARY KEY, \"the value\", doubled AS (id * 2));
  CREATE INDEX odd ON \"a \"\"table\"\"\" (\"the value\")`);
const put = db.prepare('INSERT INTO \"a \"\"table\"\"\" (\"the value\") VALUES (?)');
for (const value of [null, 0.1, 1e300, 9007199254740993n, '', \"it's; --\\n\\u00e4\\u{1f600}\", Buffer.from([0, 255])]) put.run(value);
";

/// Says what is in it, types included. `rest`: SQL that makes it first, where there is some.
const TELL: &str = "
if (rest[0]) db.exec(fs.readFileSync(rest[0], 'utf8'));
const rows = db.prepare('SELECT id, typeof(\"the value\"), quote(\"the value\"), doubled FROM \"a \"\"table\"\"\"').raw().all();
console.log(JSON.stringify([rows, db.prepare(\"SELECT name FROM sqlite_schema WHERE name = 'odd'\").pluck().get()]));
";

#[test]
fn a_table_is_the_same_when_its_sql_has_made_it_again() {
    let Some(lab) = Lab::new(10, "delete") else { return };
    said(lab.node(ODD, &lab.database(), &[]));
    let to = lab.path("table.sql");
    let write = |table: &str| {
        let mut command = Command::new(lab.image.join("node/bin/node"));
        command.args(data::table_arguments(&lab.image, &lab.database(), table, &to));
        let answer = said(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        serde_json::from_str::<Table>(&answer).unwrap()
    };
    let names = ["a \"table\"", "posts", "turn", "users"].map(str::to_owned).to_vec();
    assert_eq!(write("nothing"), Table { rows: None, tables: names });
    assert!(!to.exists());
    assert_eq!(write("a \"table\"").rows, Some(7));
    let again = said(lab.node(TELL, &lab.path("again.db"), &[to.to_str().unwrap()]));
    assert_eq!(again, said(lab.node(TELL, &lab.database(), &[])));
    assert!(again.contains("\"odd\""), "{again}");
}

/// What is compared of a Ghost's database; `rest`: statements that are run after the first ones.
const SMALL_GHOST: &str = "
db.exec(`CREATE TABLE posts (id TEXT PRIMARY KEY, type TEXT, title TEXT, html TEXT, updated_at TEXT);
  CREATE TABLE members (id TEXT PRIMARY KEY, name TEXT, email TEXT, last_seen_at TEXT);
  CREATE TABLE tags (id TEXT PRIMARY KEY, name TEXT);
  INSERT INTO posts VALUES ('1', 'post', 'Stays', 'x', 't'), ('2', 'post', 'Edited', 'x', 't'), ('3', 'post', 'Goes', 'x', 't'),
    ('4', 'page', 'About', 'x', 't');
  INSERT INTO members VALUES ('1', 'Ada', 'ada@example.org', 't'), ('2', NULL, 'bob@example.org', 't');
  INSERT INTO tags VALUES ('1', 'News')`);
for (const statement of rest) db.exec(statement);
";

#[test]
fn two_databases_are_compared_by_title() {
    let Some(image) = std::env::var_os("SOVEREIGN_GHOST_IMAGE").map(PathBuf::from) else {
        eprintln!("SKIPPED: SOVEREIGN_GHOST_IMAGE names no Ghost image, nothing was tested");
        return;
    };
    let lab = Lab { image, folder: tempfile::tempdir().unwrap() };
    let (older, newer, to) = (lab.path("older.db"), lab.path("newer.db"), lab.path("compared.json"));
    said(lab.node(SMALL_GHOST, &older, &[]));
    let long = format!("INSERT INTO posts VALUES ('6', 'post', '{}', 'x', 't', 0)", "long ".repeat(1000));
    let changes = [
        "ALTER TABLE posts ADD COLUMN since INTEGER",
        "UPDATE posts SET html = 'y' WHERE id = '2'; DELETE FROM posts WHERE id = '3'; UPDATE posts SET title = 'Über' WHERE id = '4'",
        "INSERT INTO posts VALUES ('5', 'post', '\u{1b}[31mNew\n', 'x', 't', 0)",
        &long,
        "UPDATE members SET last_seen_at = 'now'; INSERT INTO members VALUES ('3', 'Eve', 'eve@example.org', 't')",
    ];
    said(lab.node(SMALL_GHOST, &newer, &changes));
    let mut command = Command::new(lab.image.join("node/bin/node"));
    command.args(data::compare_arguments(&lab.image, &older, &newer, &to));
    said(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let compared: data::Compared = serde_json::from_slice(&fs::read(&to).unwrap()).unwrap();
    let titles = |titles: &data::Titles| (titles.count, titles.titles.clone());
    let (added, changed, removed) =
        (titles(&compared.posts.added), titles(&compared.posts.changed), titles(&compared.posts.removed));
    assert_eq!(
        (added.0, added.1[0].as_str(), added.1[1].len()),
        (2, "\u{1b}[31mNew\n", 200),
        "cut, and not made harmless yet"
    );
    assert_eq!((changed, removed), ((1, vec!["Edited".to_owned()]), (1, vec!["Goes".to_owned()])));
    assert_eq!(titles(&compared.pages.changed), (1, vec!["Über".to_owned()]));
    assert_eq!(titles(&compared.members.added), (1, vec!["Eve <eve@example.org>".to_owned()]));
    assert_eq!(compared.members.changed.count, 0, "who was seen is not who changed");
    assert_eq!(compared.tags, data::Changes::default());
}
