//! A backup in the place of a running Ghost: killed in the midst, undone, refused, while a reader asks all the time.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::staff::Staff;
use crate::support::{Operator, Readers, eventually, files, kill};
use crate::{CANONICAL, HOME, OFFICE};

const LATE: &str = "/after-the-backup/";

fn folder(operator: &Operator) -> PathBuf {
    operator.state().join("dc/home/restore/blog")
}

/// What both data centers answer for the page that is not in the backup.
#[track_caller]
fn both_answer(operator: &Operator, status: u16) {
    for port in [HOME, OFFICE] {
        eventually(&format!("{status} for {LATE} at {port}"), Duration::from_secs(10), || {
            (operator.curl(CANONICAL, port, LATE, &[]).status == status).then_some(())
        });
        operator.curl(CANONICAL, port, "/first-light/", &[]).ok();
    }
}

/// Asks what only the application can answer, until told to stop: the statuses, each once, and whether every 503 said when
/// to come back.
fn asked_of_ghost(operator: &Operator, stop: &AtomicBool) -> (Vec<u16>, bool) {
    let (mut statuses, mut polite) = (Vec::new(), true);
    while !stop.load(Ordering::Relaxed) {
        let answer = operator.curl(CANONICAL, HOME, "/ghost/api/admin/site/", &[]);
        polite &= answer.status != 503 || answer.header("retry-after").is_some();
        statuses.push(answer.status);
    }
    statuses.sort_unstable();
    statuses.dedup();
    (statuses, polite)
}

pub(crate) fn in_place_and_back(operator: &Operator) {
    let backup = operator.json(&["backup", "blog"]);
    let snapshot = backup["snapshots"][0]["snapshot"].as_str().unwrap().to_owned();
    drilled(operator, &snapshot);
    let staff = Staff::log_in(operator, CANONICAL, HOME);
    staff.publish("After the backup", "after-the-backup", "<p>Lost?</p>");
    both_answer(operator, 200);
    // The database in the backup signs its notices with the key of before.
    operator.run(&["rotate", "webhook/blog"]).success();
    operator.up();

    // What was written since would be gone: that has to be said.
    let said = operator.run(&["restore", "blog", "--snapshot", &snapshot, "--yes"]).exits(1).stderr();
    assert!(said.contains("would be gone from it") && said.contains("--accept-loss"), "{said}");
    operator.run(&["restore", "blog", "--undo", "--yes"]).exits(1);
    damaged(operator, &snapshot);

    let readers = Readers::start(operator, "blog.localhost", &[HOME, OFFICE], "/first-light/");
    let stop = AtomicBool::new(false);
    let (statuses, polite) = thread::scope(|scope| {
        let asking = scope.spawn(|| asked_of_ghost(operator, &stop));
        killed_and_finished(operator, &snapshot);
        stop.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });
    assert!(statuses == [200, 503] && polite, "{statuses:?}, with Retry-After: {polite}");
    both_answer(operator, 404);
    operator.run(&["backup", "blog"]).success();
    operator.run(&["status"]).success();
    operator.run(&["plan"]).exits(0);

    // All of it is back, though that is killed too, and gone again.
    undo_is_killed_and_finished(operator);
    both_answer(operator, 200);
    let began = Instant::now();
    let undone = operator.json(&["restore", "blog", "--undo", "--yes"]);
    eprintln!("undone in {:?}", began.elapsed());
    assert_eq!((&undone["runs"], &undone["behind"]), (&true.into(), &serde_json::json!({})), "{undone}");
    both_answer(operator, 404);
    dies_of_it(operator);
    readers.stop_without_failure();
    Staff::log_in(operator, CANONICAL, HOME).publish("After all", "after-all", "<p>Goes on.</p>");

    one_table(operator, &snapshot);
    operator.run(&["restore", "blog", "--discard", "--yes"]).success();
    assert_eq!(fs::read_dir(folder(operator)).unwrap().count(), 0, "nothing is left of it");
}

/// A Ghost on the backup, beside the live one, says the same; one that is killed leaves nothing that the next does not end.
fn drilled(operator: &Operator, snapshot: &str) {
    let before = operator.processes();
    let drill = operator.state().join("drill");
    let mut running =
        operator.command(&["drill", "restore"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the drill's Ghost", Duration::from_secs(60), || {
        drill.join("dc/home/sites/blog/run/ghost.sock").exists().then_some(())
    });
    kill(running.id().try_into().unwrap(), "KILL");
    running.wait().unwrap();
    assert!(drill.exists() && operator.processes() != before, "it was too fast for this test");

    let drilled = operator.json(&["drill", "restore"]);
    eprintln!("drilled: {drilled}");
    let row = &drilled["sites"][0];
    assert_eq!(row["snapshot"], snapshot);
    for differing in ["different", "only_restored", "only_live", "broken"] {
        assert_eq!(row["compared"][differing], serde_json::json!([]), "{drilled}");
    }
    assert!(row["compared"]["same"].as_u64().unwrap() > 5 && row["compared"]["feed_same"] == true, "{drilled}");
    assert!(!drill.exists(), "nothing is left of it");
    assert_eq!(operator.processes(), before);
}

/// A snapshot that cannot be read as it was changes nothing.
fn damaged(operator: &Operator, snapshot: &str) {
    let packs = files(&operator.state().join("archive/repository/data"));
    let write = |damage: u8| {
        for (pack, bytes) in &packs {
            let mut bytes = bytes.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= damage;
            fs::write(operator.state().join("archive/repository/data").join(pack), bytes).unwrap();
        }
    };
    let ghost = operator.pid("ghost-blog@home");
    write(1);
    let args = ["restore", "blog", "--snapshot", snapshot, "--yes", "--accept-loss", "--no-backup"];
    operator.run(&args).exits(1);
    write(0);
    assert_eq!(operator.pid("ghost-blog@home"), ghost, "it was not even stopped");
    both_answer(operator, 200);
}

/// Killed while it puts the backup in place; the next run brings it to its end.
fn killed_and_finished(operator: &Operator, snapshot: &str) {
    let args = ["restore", "blog", "--snapshot", snapshot, "--yes", "--accept-loss"];
    let mut running = operator.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let kept = folder(operator).join("before-1/data");
    eventually("the old database out of its place", Duration::from_secs(60), || kept.exists().then_some(()));
    kill(running.id().try_into().unwrap(), "KILL");
    assert!(!running.wait().unwrap().success(), "it was too fast for this test");
    let said = operator.run(&["backup", "blog"]).exits(1).stdout();
    assert!(said.contains("was cut off"), "some of both is not backed up: {said}");
    let finished = operator.json(&["restore", "blog"]);
    eprintln!("finished: {finished}");
    assert_eq!((&finished["resumed"], &finished["runs"]), (&true.into(), &true.into()), "{finished}");
    assert_eq!(finished["snapshot"], snapshot);
    assert_eq!(finished["shown"], serde_json::json!(["home", "office"]), "{finished}");
}

/// Killed while it goes back; the next `up` brings that to its end.
fn undo_is_killed_and_finished(operator: &Operator) {
    let args = ["restore", "blog", "--undo", "--yes"];
    let mut running = operator.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let intent = folder(operator).join("intent.json");
    eventually("an undo under way", Duration::from_secs(60), || intent.exists().then_some(()));
    kill(running.id().try_into().unwrap(), "KILL");
    assert!(!running.wait().unwrap().success(), "it was too fast for this test");
    let said = operator.up().stderr();
    assert!(said.contains("a restore of site blog that was cut off is finished"), "{said}");
    assert!(!intent.exists());
}

/// Data that the application does not come to life with: what was live is put back without being asked.
fn dies_of_it(operator: &Operator) {
    let newest = fs::read_dir(folder(operator)).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let database = newest.join("data/ghost.db");
    let bytes = fs::read(&database).unwrap();
    fs::write(&database, b"SQLite format 3\0 and nothing that SQLite could make sense of").unwrap();
    let began = Instant::now();
    let said = operator.run(&["restore", "blog", "--undo", "--yes"]).exits(1).stderr();
    eprintln!("put back in {:?}: {said}", began.elapsed());
    assert!(said.contains("what was live before is live again"), "{said}");
    both_answer(operator, 404);
    fs::write(&database, bytes).unwrap();
}

fn one_table(operator: &Operator, snapshot: &str) {
    let to = operator.home().join("table");
    let restore = |table: &str| {
        operator.run(&["restore", "blog", "--table", table, "--to", to.to_str().unwrap(), "--snapshot", snapshot])
    };
    restore("posts").success();
    let said = restore("post").exits(2).stderr();
    assert!(said.contains("posts_tags"), "it names the tables there are: {said}");
    let script = "import sqlite3, sys
db = sqlite3.connect(':memory:')
db.executescript(open(sys.argv[1]).read())
print([slug for slug, in db.execute('select slug from posts')])";
    let output = std::process::Command::new("python3").args(["-c", script]).arg(to.join("posts.sql")).output().unwrap();
    let slugs = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(slugs.contains("'first-light'") && !slugs.contains("after-the-backup"), "{output:?}");
}
