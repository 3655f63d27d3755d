//! Archives of the real duplicity: imported, listed, restored, compared; damaged, locked, and killed in the midst.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use support::{Operator, eventually, files, kill, process};

const PASSPHRASE: &str = "an old pass word";
/// Anybody's: 24 words with a right checksum.
const WORDS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
                     abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art";
const STACK: &str = r#"version = 1

[stack]
name = "new"

[[datacenter]]
name = "home"
engine = "embedded"

[[datacenter.uplink]]
name = "loopback"
address = "127.0.0.1"
port = 18443
reach = "direct"

[[site]]
name = "blog"
app = "ghost"
canonical = "blog.localhost"
primary = "home"

[[site]]
name = "leaf"
app = "static"
folder = "public"
canonical = "leaf.localhost"
primary = "home"
"#;

/// Makes or changes a database as Ghost would.
const DATABASE: &str = "import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute('create table if not exists posts (id integer primary key, html text)')
database.execute('create table if not exists users (id integer primary key)')
database.execute('insert or ignore into users values (1)')
database.executemany('insert into posts (html) values (?)', [(os.urandom(500).hex(),) for _ in range(int(sys.argv[2]))])
database.commit()
if sys.argv[3] == 'killed':
    database.execute('pragma journal_mode = wal')
    database.execute('insert into posts (html) values (1)')
    database.commit()
    os.kill(os.getpid(), 9)";

/// Bytes that neither compress nor repeat.
fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    bytes
}

/// An operator who starts anew, with the old site's content folder and archive.
struct Old {
    operator: Operator,
    changes: Cell<u64>,
}

impl Old {
    fn new() -> Self {
        let operator = Operator::new().with_shared_images();
        operator.write("stack.toml", STACK);
        operator.write("passphrase", PASSPHRASE);
        let mut restoring = operator.command(&["seed", "restore"]).stdin(Stdio::piped()).spawn().unwrap();
        writeln!(restoring.stdin.take().unwrap(), "{WORDS}").unwrap();
        assert!(restoring.wait().unwrap().success());
        let old = Self { operator, changes: Cell::new(0) };
        old.write("images/2024/a.jpg", &noise(1_200_000));
        old.write("images/2024/b.jpg", &noise(900_000));
        old.write("themes/mine/index.hbs", b"{{#foreach posts}}{{/foreach}}");
        old.write("settings/routes.yaml", b"routes:\n");
        std::os::unix::fs::symlink("/etc/passwd", old.content().join("images/link")).unwrap();
        old.posts(1500);
        old
    }

    fn content(&self) -> PathBuf {
        self.operator.home().join("old/content")
    }

    fn archive(&self) -> PathBuf {
        self.operator.home().join("old archive 100%")
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.content().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        self.changed(&path);
    }

    /// Gives a file a second of its own: what changes twice within one, duplicity takes for unchanged.
    fn changed(&self, path: &Path) {
        self.changes.set(self.changes.get() + 1);
        let then = SystemTime::now() - Duration::from_secs(86_400) + Duration::from_secs(10 * self.changes.get());
        fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    }

    /// How many files there are to prove: the link is none.
    fn count(&self) -> usize {
        files(&self.content()).len() - 1
    }

    fn posts(&self, count: usize) {
        assert!(self.ghost(count, "well").success());
        self.changed(&self.content().join("data/ghost.db"));
    }

    /// As many posts more, and one that stays in the log beside the database when whoever wrote it is `killed`.
    fn ghost(&self, count: usize, ended: &str) -> std::process::ExitStatus {
        fs::create_dir_all(self.content().join("data")).unwrap();
        let mut python = Command::new("python3");
        python.args(["-c", DATABASE]).arg(self.content().join("data/ghost.db")).args([&count.to_string(), ended]);
        python.status().unwrap()
    }

    /// One more backup, a full one first. Duplicity's names have seconds in them, so no two are of the same one.
    fn back_up(&self, archive: &Path, more: &[&str]) {
        let before = files_of(archive, "manifest");
        eventually("another second", Duration::from_secs(10), || {
            let now = Command::new("date").args(["-u", "+%Y%m%dT%H%M%SZ"]).output().unwrap();
            let now = String::from_utf8_lossy(&now.stdout).trim().to_owned();
            before.iter().all(|name| !name.contains(&now)).then_some(())
        });
        let url = format!("file://{}", archive.display()).replace('%', "%25");
        let made = Command::new("duplicity")
            .args(["--volsize", "1", "--allow-source-mismatch", "--archive-dir"])
            .arg(self.operator.home().join("duplicity"))
            .args(more)
            .arg(self.content())
            .arg(url)
            .env("PASSPHRASE", PASSPHRASE)
            .env("GNUPGHOME", self.operator.home())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn address(&self) -> String {
        format!("duplicity://{}", self.archive().display())
    }

    fn import(&self, more: &[&str]) -> Value {
        let address = self.address();
        self.operator.json(&[&["import", &address, "blog", "--passphrase-file", "passphrase"], more].concat())
    }

    /// Why an import fails.
    fn refused(&self, address: &str, more: &[&str]) -> String {
        self.operator.run(&[&["import", address, "blog"], more].concat()).exits(1).stderr()
    }

    /// Everything that a snapshot of the site has, in the places of the old content folder.
    fn restored(&self, name: &str, snapshot: &str) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
        let to = self.operator.home().join(name);
        let args = ["restore", "blog", "--to", to.to_str().unwrap(), "--snapshot", snapshot];
        self.operator.run(&args).success();
        fs::rename(to.join("database/ghost.db"), to.join("content/data/ghost.db")).unwrap();
        assert_eq!(fs::read_link(to.join("content/images/link")).unwrap(), Path::new("/etc/passwd"));
        files(&to.join("content"))
    }

    fn snapshots(&self) -> usize {
        let listed = self.operator.json(&["archive", "list"]);
        listed["snapshots"].as_array().map_or(0, |rows| rows.iter().filter(|row| row["of"] == "blog").count())
    }
}

fn files_of(folder: &Path, word: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.retain(|name| name.contains(word));
    names.sort();
    names
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn a_chain_of_duplicity_is_taken_over_byte_for_byte() {
    let old = Old::new();
    let archive = old.archive();
    old.back_up(&archive, &[]);
    let first = files(&old.content());
    let volumes = files_of(&archive, ".vol").len();
    assert!(volumes >= 3, "{volumes}");
    old.write("images/2025/c.jpg", &noise(1_500_000));
    old.posts(200);
    old.back_up(&archive, &[]);
    old.write("images/2024/b.jpg", b"smaller");
    fs::remove_file(old.content().join("settings/routes.yaml")).unwrap();
    old.posts(100);
    old.back_up(&archive, &[]);
    let last = files(&old.content());

    let imported = old.import(&[]);
    if imported["message"].as_str().is_some_and(|why| why.contains("image of Ghost")) {
        eprintln!("SKIPPED: there is no image of Ghost to look at a database with\n{imported}");
        return;
    }
    assert_eq!((&imported["encrypted"], &imported["increments"]), (&true.into(), &2.into()), "{imported}");
    assert_eq!(imported["volumes"], files_of(&archive, ".vol").len(), "{imported}");
    assert!(imported["examined"].as_str().unwrap().contains("integrity ok, 1800 posts"), "{imported}");
    assert_eq!(imported["files_proven"], old.count(), "{imported}");
    assert_eq!(old.snapshots(), 1);
    assert!(old.restored("newest", imported["snapshot"].as_str().unwrap()) == last, "not what was backed up");

    // The state of the first backup, by the time in its name.
    let full = files_of(&archive, "duplicity-full.").remove(0);
    let digits = full.split('.').nth(1).unwrap();
    let (date, time) = digits.split_at(8);
    let time =
        format!("{}-{}-{}T{}:{}:{}Z", &date[..4], &date[4..6], &date[6..], &time[1..3], &time[3..5], &time[5..7]);
    let older = old.import(&["--time", &time]);
    assert_eq!(older["state_of"], time, "{older}");
    assert!(old.restored("oldest", older["snapshot"].as_str().unwrap()) == first, "not what was backed up first");
    assert!(old.refused(&old.address(), &["--passphrase-file", "passphrase", "--time", "2001-01-01"]).contains(&time));

    // Passed on to duplicity as it is, which then sees what the operator sees.
    let passed_on = format!("duplicity+file://{}", archive.display().to_string().replace('%', "%25"));
    let args = ["import", &passed_on, "blog", "--passphrase-file", "passphrase"];
    assert_eq!(old.operator.json(&args)["files_proven"], old.count());

    what_is_wrong_is_said(&old, &time);
    assert!(!old.operator.state().join("archive/import").exists());
}

fn what_is_wrong_is_said(old: &Old, first: &str) {
    let (archive, address, with) = (old.archive(), old.address(), ["--passphrase-file", "passphrase"]);
    let before = old.snapshots();
    old.operator.write("wrong", "not the pass word");
    let said = old.refused(&address, &["--passphrase-file", "wrong"]);
    assert!(said.contains("the passphrase does not open the archive"), "{said}");
    old.operator.run(&["import", &address, "blog"]).exits(2);
    old.operator.run(&["import", "duplicity+sftp://ann:secret@host/x", "blog"]).exits(2);

    // One bit of a volume in the middle of the first increment: named, with the last state before it.
    let volume = files_of(&archive, ".vol").into_iter().find(|name| name.contains("-inc.")).unwrap();
    let whole = fs::read(archive.join(&volume)).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(archive.join(&volume), &damaged).unwrap();
    let said = old.refused(&address, &with);
    assert!(said.contains(&format!("{volume} is not what its manifest says")), "{said}");
    assert!(said.contains(&format!("--time {first}")), "{said}");
    let older = old.import(&["--time", first]);
    assert!(older["remarks"][0].as_str().unwrap().contains(&volume), "{older}");

    // The same found by duplicity itself, which would not end.
    let passed_on = format!("duplicity+file://{}", archive.display().to_string().replace('%', "%25"));
    let said = old.refused(&passed_on, &with);
    assert!(said.contains(&format!("{volume} is not what its manifest says")), "{said}");

    fs::remove_file(archive.join(&volume)).unwrap();
    let said = old.refused(&address, &with);
    assert!(said.contains(&volume[..volume.find(".difftar").unwrap()]) && said.contains("is missing"), "{said}");
    fs::write(archive.join(&volume), &whole).unwrap();

    let manifest = files_of(&archive, "manifest.gpg").remove(0);
    let whole = fs::read(archive.join(&manifest)).unwrap();
    fs::write(archive.join(&manifest), &whole[..whole.len() / 2]).unwrap();
    let said = old.refused(&address, &with);
    assert!(said.contains(&format!("{manifest} cannot be decrypted")), "{said}");
    fs::write(archive.join(&manifest), &whole).unwrap();

    // Nothing there, and what a Ghost here cannot use: not encrypted, so nothing is asked.
    fs::create_dir(old.operator.home().join("empty")).unwrap();
    let folder = |name: &str| format!("duplicity://{}", old.operator.home().join(name).display());
    assert!(old.refused(&folder("empty"), &with).contains("finds no archive"));
    assert!(old.refused(&folder("gone"), &with).contains("No such file"));
    assert!(!old.operator.home().join("gone").exists());
    fs::remove_file(old.content().join("data/ghost.db")).unwrap();
    old.write("data/ghost.sql", b"CREATE TABLE posts");
    old.back_up(&old.operator.home().join("mysql"), &["--no-encryption"]);
    let said = old.refused(&folder("mysql"), &[]);
    assert!(said.contains("a dump of MySQL (data/ghost.sql)") && said.contains("Import/Export"), "{said}");
    assert_eq!(old.snapshots(), before + 1, "one snapshot for the older state, none for what was refused");

    // The same folder is data enough for a static site.
    let static_site = old.operator.json(&["import", &folder("mysql"), "leaf"]);
    assert_eq!(static_site["encrypted"], false, "{static_site}");
    assert_eq!(static_site["files_proven"], old.count(), "{static_site}");
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn an_import_that_is_killed_leaves_nothing_half() {
    let old = Old::new();
    // Enough for duplicity to be met in the midst of it.
    for number in 0..8 {
        old.write(&format!("images/{number}.jpg"), &noise(5_000_000));
    }
    old.back_up(&old.archive(), &[]);
    let state = old.operator.state().display().to_string();
    let address = old.address();
    let args = ["import", address.as_str(), "blog", "--passphrase-file", "passphrase"];
    for (step, signal) in [("list-current-files", "KILL"), ("restore", "KILL"), ("restore", "TERM")] {
        let mut importing = old.operator.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let ended = std::cell::Cell::new(None);
        let found = eventually("duplicity", Duration::from_secs(60), || {
            ended.set(importing.try_wait().unwrap());
            process([&format!("duplicity\0{step}"), &state]).map(Some).or(ended.get().map(|_| None))
        });
        let Some(pid) = found else {
            let output = importing.wait_with_output().unwrap();
            eprintln!("SKIPPED: it ended by itself: {}", String::from_utf8_lossy(&output.stderr));
            assert!(String::from_utf8_lossy(&output.stderr).contains("image of Ghost"));
            return;
        };
        // No secret is where others could read it, and it has no rights to speak of.
        for part in ["environ", "cmdline"] {
            let text = fs::read(format!("/proc/{pid}/{part}")).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains(PASSPHRASE), "{part}");
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "it is not confined: {status}");
        kill(importing.id().try_into().unwrap(), signal);
        let code = importing.wait().unwrap().code();
        assert_eq!(code, (signal == "TERM").then_some(130), "{step}");
        eventually("the end of duplicity", Duration::from_secs(20), || {
            process(["duplicity", &state]).is_none().then_some(())
        });
        assert_eq!(old.snapshots(), 0, "{step}");
        // What was restored in the open is only ours to read, and goes with the next command.
        let scratch = old.operator.state().join("archive/import");
        assert_eq!(scratch.metadata().map(|there| there.mode() & 0o777).ok(), (signal == "KILL").then_some(0o700));
        if step == "restore" && signal == "KILL" {
            old.operator.json(&["backup", "leaf"]);
            assert!(!scratch.exists());
        }
    }
    // Copied from a Ghost that was killed: what is in the log beside the database belongs to it.
    assert!(!old.ghost(20, "killed").success() && old.content().join("data/ghost.db-wal").exists());
    old.back_up(&old.archive(), &[]);
    let imported = old.import(&[]);
    assert!(imported["examined"].as_str().unwrap().contains("1521 posts"), "{imported}");
    let snapshot = imported["snapshot"].as_str().unwrap();
    let restored = old.restored("restored", snapshot);
    assert!(restored.keys().all(|path| !path.to_string_lossy().contains("ghost.db-")), "{:?}", restored.keys());
}
