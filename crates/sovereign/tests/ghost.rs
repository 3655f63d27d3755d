//! The main job on real input: the default stack with real Ghost, from an empty home, through kills, to purge.
//!
//! One test, because the stack under test is the expensive part: each stage builds on the one before.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; figures are shown")]

mod renamed;
mod restored;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::staff::Staff;
use support::{Operator, Readers, eventually, files, kill};

const HOME: u16 = 8443;
const OFFICE: u16 = 8444;
const CANONICAL: &str = "blog.localhost:8443";
const FAR: &str = "blog.localhost:8444";

/// A 1×1 PNG that decoders accept.
const PIXEL: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, 0x49, 0x48, 0x44, 0x52, 0, 0, 0, 1, 0, 0, 0, 1, 8, 6,
    0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 13, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x64, 0xf8, 0xcf, 0x50,
    0x0f, 0, 3, 0x86, 1, 0x80, 0x5a, 0x34, 0x7d, 0x6b, 0, 0, 0, 0, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

/// What a process connects to, as the kernel sees it.
struct Wire {
    strace: Child,
    log: PathBuf,
}

impl Wire {
    fn tap(operator: &Operator, pid: i32) -> Self {
        let log = operator.home().join("wire");
        let strace = Command::new("strace")
            .args(["--follow-forks", "--quiet=all", "--trace=connect,sendto,sendmsg", "--attach", &pid.to_string()])
            .arg("--output")
            .arg(&log)
            .spawn()
            .unwrap();
        eventually("strace attached", Duration::from_secs(10), || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")).then_some(())
        });
        Self { strace, log }
    }

    /// Internet addresses and ports that were connected or sent to.
    fn targets(mut self) -> BTreeSet<String> {
        kill(self.strace.id().try_into().unwrap(), "INT");
        self.strace.wait().unwrap();
        let between = |line: &str, before: &str, after: &str| {
            Some(line.split_once(before)?.1.split_once(after)?.0.trim_matches('"').to_owned())
        };
        let log = fs::read_to_string(&self.log).unwrap();
        let lines = log.lines().filter(|line| line.contains("sa_family=AF_INET"));
        lines
            .map(|line| {
                let port = between(line, "_port=htons(", ")");
                let address = between(line, "inet_addr(", ")").or_else(|| between(line, "inet_pton(AF_INET6, ", ","));
                format!("{}:{}", address.unwrap_or_default(), port.unwrap_or_default())
            })
            .collect()
    }
}

/// Every page of the site, as its sitemaps list them, as paths.
fn pages(operator: &Operator) -> BTreeSet<String> {
    let mut found = BTreeSet::from(["/".to_owned(), "/rss/".to_owned()]);
    let index = operator.curl(CANONICAL, HOME, "/sitemap.xml", &[]).ok().text();
    for map in paths_in(&index) {
        found.extend(paths_in(&operator.curl(CANONICAL, HOME, &map, &[]).ok().text()));
        found.insert(map);
    }
    found
}

fn paths_in(sitemap: &str) -> Vec<String> {
    let prefix = format!("https://{CANONICAL}");
    sitemap
        .split("<loc>")
        .skip(1)
        .filter_map(|rest| rest.split("</loc>").next()?.strip_prefix(&prefix).map(str::to_owned))
        .collect()
}

#[test]
fn a_site_is_written_at_home_read_at_the_office_and_survives() {
    let operator = Operator::new().with_shared_images();

    // From nothing: no stack file, no state.
    let started = Instant::now();
    let first = operator.up();
    eprintln!("first up: {:?}\n{}", started.elapsed(), first.stdout());
    assert!(operator.home().join(".config/sovereign/stack.toml").exists(), "a default stack file is written");
    for expected in ["https://blog.localhost:8443", "https://blog.localhost:8444", "/ghost/", "ssh -L"] {
        assert!(first.stdout().contains(expected), "the summary names {expected}:\n{}", first.stdout());
    }
    let started = Instant::now();
    assert!(operator.up().stdout().contains("nothing has to change"));
    eprintln!("second up: {:?}", started.elapsed());
    operator.run(&["status"]).success();

    // Without network: everything needed is kept.
    operator.run(&["up", "--yes", "--offline"]).success();

    // Write at home, with an ear on everything Ghost says to the outside.
    let wire = Wire::tap(&operator, operator.pid("ghost-blog@home"));
    let staff = Staff::log_in(&operator, CANONICAL, HOME);
    let image = staff.upload("pixel.png", PIXEL);
    assert!(image.starts_with(&format!("https://{CANONICAL}/content/images/")), "{image}");
    let image_path = image.strip_prefix(&format!("https://{CANONICAL}")).unwrap().to_owned();
    let post = staff.publish("First light", "first-light", &format!("<p>Sovereign words.</p><img src=\"{image}\">"));

    // Read at both, byte for byte under the canonical name.
    eventually("the post at the office", Duration::from_secs(10), || {
        (operator.curl(CANONICAL, OFFICE, "/first-light/", &[]).status == 200).then_some(())
    });
    eventually("the post in the office's feed", Duration::from_secs(10), || {
        operator.curl(CANONICAL, OFFICE, "/rss/", &[]).text().contains("First light").then_some(())
    });
    eventually("the post on the office's home page", Duration::from_secs(10), || {
        operator.curl(CANONICAL, OFFICE, "/", &[]).text().contains("First light").then_some(())
    });
    assert_eq!(operator.curl(CANONICAL, HOME, &image_path, &[]).ok().body, PIXEL);
    assert_eq!(operator.curl(CANONICAL, OFFICE, &image_path, &[]).ok().body, PIXEL);
    for path in ["/", "/first-light/", "/rss/"] {
        eventually(&format!("{path} equal at both"), Duration::from_secs(20), || {
            let near = operator.curl(CANONICAL, HOME, path, &[]).ok();
            let far = operator.curl(CANONICAL, OFFICE, path, &[]).ok();
            (near.body == far.body).then_some(())
        });
        let near = operator.curl(CANONICAL, OFFICE, path, &[]).ok().text();
        let renamed = operator.curl(FAR, OFFICE, path, &[]).ok().text();
        assert!(!renamed.contains(CANONICAL), "{path} at the office leads back to {CANONICAL}");
        assert_eq!(renamed.replace(FAR, CANONICAL), near, "{path} is equal but for the origin");
    }

    // The admin through the other data center's edge.
    let far_staff = Staff::log_in(&operator, FAR, OFFICE);
    far_staff.call("GET", "/ghost/api/admin/users/me/", None).ok();
    operator.curl(FAR, OFFICE, "/ghost/", &[]).ok();

    // Edited: the mirror shows it within 5 s.
    let edited = staff.edit(&post, json!({ "html": "<p>Other words entirely.</p>" }));
    let shown = Instant::now();
    eventually("the edit at the office", Duration::from_secs(5), || {
        operator.curl(CANONICAL, OFFICE, "/first-light/", &[]).text().contains("Other words entirely").then_some(())
    });
    eprintln!("edit shown at the far mirror: {:?}", shown.elapsed());

    // Scheduled: published when due, with nobody looking.
    let due = Duration::from_secs(75);
    let at = iso(std::time::SystemTime::now() + due);
    let body = json!({ "posts": [{ "title": "Later", "slug": "later", "html": "<p>On time.</p>", "status": "scheduled",
                                   "published_at": at }] });
    staff.call("POST", "/ghost/api/admin/posts/?source=html", Some(&body)).is(201);
    operator.curl(CANONICAL, OFFICE, "/later/", &[]).is(404);
    let scheduled = Instant::now();

    assert_eq!(
        wire.targets(),
        BTreeSet::from([format!("127.0.0.1:{HOME}")]),
        "Ghost speaks to its edge and nobody else"
    );

    let started = Instant::now();
    renamed::pages_are_equal_but_for_the_origin(&operator, &staff, &image);
    eprintln!("themes under another name: {:?}", started.elapsed());

    // Ghost is killed: every page is still served, near and far.
    let pages = pages(&operator);
    assert!(pages.len() > 5, "{pages:?}");
    eventually("a complete mirror", Duration::from_secs(30), || {
        (operator.run(&["status"]).code() == Some(0)).then_some(())
    });
    let ghost = operator.pid("ghost-blog@home");
    kill(ghost, "STOP");
    for path in &pages {
        operator.curl(CANONICAL, OFFICE, path, &[]).ok();
        operator.curl(CANONICAL, HOME, path, &[]).ok();
    }
    kill(ghost, "KILL");
    for path in &pages {
        operator.curl(CANONICAL, OFFICE, path, &[]).ok();
        operator.curl(CANONICAL, HOME, path, &[]).ok();
    }
    operator.replaced("ghost-blog@home", ghost);

    // A setting changes under readers' eyes: nobody notices but in the title.
    let file = operator.home().join(".config/sovereign/stack.toml");
    let declared = fs::read_to_string(&file).unwrap();
    let readers = Readers::start(&operator, "blog.localhost", &[HOME, OFFICE], "/");
    fs::write(&file, with_title(&declared, "A renamed blog")).unwrap();
    operator.run(&["plan"]).exits(3);
    operator.up();
    eventually("the new title at the office", Duration::from_secs(10), || {
        operator.curl(CANONICAL, OFFICE, "/", &[]).text().contains("A renamed blog").then_some(())
    });
    readers.stop_without_failure();

    // Applications are refused what is not theirs, and call nobody.
    let ghost = operator.pid("ghost-blog@home");
    let own_user = fs::read_to_string(format!("/proc/{ghost}/status")).unwrap();
    let uid = own_user.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap().split_whitespace().next().unwrap();
    assert!(uid != "0", "Ghost runs as root");

    eventually("the scheduled post", Duration::from_secs(120).saturating_sub(scheduled.elapsed()), || {
        operator.curl(CANONICAL, OFFICE, "/later/", &[]).text().contains("On time").then_some(())
    });

    backed_up_while_people_write(&operator);
    what_cannot_be_backed_up_is_left_alone(&operator, &file);
    let started = Instant::now();
    restored::in_place_and_back(&operator);
    eprintln!("restored in place: {:?}", started.elapsed());

    assert_eq!(support::not_in_the_list_of_what_is_saved(&operator), Vec::<String>::new());

    // Keys that Ghost's notices depend on are rotated: the next edit still reaches the mirror at once.
    for secret in ["webhook/blog", "ca"] {
        operator.run(&["rotate", secret]).success();
        operator.up();
        operator.run(&["status"]).success();
        fs::remove_file(operator.authority()).unwrap();
        let staff = Staff::log_in(&operator, CANONICAL, HOME);
        let post = staff.publish("Rotated", &secret.replace('/', "-"), "<p>Before.</p>");
        let path = format!("/{}/", post["slug"].as_str().unwrap());
        eventually("a post after a rotation at the office", Duration::from_secs(10), || {
            (operator.curl(CANONICAL, OFFICE, &path, &[]).status == 200).then_some(())
        });
        staff.edit(&post, json!({ "html": "<p>After.</p>" }));
        eventually("an edit after a rotation at the office", Duration::from_secs(5), || {
            operator.curl(CANONICAL, OFFICE, &path, &[]).text().contains("After.").then_some(())
        });
    }

    // Down and up: nothing is lost.
    operator.run(&["down"]).success();
    assert_eq!(operator.processes(), BTreeSet::new());
    operator.up();
    assert!(operator.curl(CANONICAL, HOME, "/first-light/", &[]).ok().text().contains("Other words entirely"));
    let staff = Staff::log_in(&operator, CANONICAL, HOME);
    let again = staff.call("GET", &format!("/ghost/api/admin/posts/{}/", edited["id"].as_str().unwrap()), None).ok();
    assert_eq!(again.json()["posts"][0]["slug"], "first-light");
    assert_eq!(operator.curl(CANONICAL, OFFICE, &image_path, &[]).ok().body, PIXEL);

    let words = operator.run(&["seed", "show"]).success().stdout();
    operator.run(&["backup"]).success();
    nothing_left_but_snapshots(&operator, "/first-light/", "Other words entirely");
    operator.run(&["down", "--purge", "--yes"]).success();
    assert_eq!(operator.processes(), BTreeSet::new());
    let left: Vec<_> = fs::read_dir(operator.state()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["archive"], "the backups stay, and nothing else");
    recovered(&operator, &words, &image_path);
}

/// A site of which nothing is left where it is declared does not begin empty by itself, whatever is known of the archive.
fn nothing_left_but_snapshots(operator: &Operator, path: &str, words: &str) {
    operator.run(&["down"]).success();
    let folder = operator.state().join("dc/home/sites/blog");
    let aside = folder.with_file_name("aside");
    fs::rename(&folder, &aside).unwrap();
    let says = |refused: &support::Ran| {
        assert!(refused.stdout().contains("left out: site blog: nothing of it is where it is declared"), "{refused:?}");
        assert!(refused.stdout().contains("sovereign restore blog"), "{refused:?}");
    };
    let known = operator.state().join("archive/verified.json");
    let before = fs::read(&known).unwrap();
    says(&operator.run(&["plan"]).exits(1));
    says(&operator.run(&["up", "--yes"]).exits(1));
    fs::remove_file(&known).unwrap();
    says(&operator.run(&["up", "--yes", "--no-backup"]).exits(1));
    assert!(!folder.join("content/data").exists() && operator.pid("edge@home") > 0, "all else is done");
    operator.run(&["up", "--yes", "--begin-empty", "shop"]).exits(2);
    fs::write(&known, before).unwrap();
    operator.run(&["restore", "blog", "--yes"]).success();
    operator.up();
    assert!(operator.curl(CANONICAL, HOME, path, &[]).ok().text().contains(words));
    // Begun anew on purpose. The archive has what was before.
    operator.run(&["down"]).success();
    fs::remove_dir_all(&folder).unwrap();
    says(&operator.run(&["plan"]).exits(1));
    operator.run(&["up", "--yes", "--no-backup", "--begin-empty", "blog"]).success();
    operator.run(&["plan"]).success();
}

/// The machine is lost; a copy of the archive and the words are left.
fn recovered(operator: &Operator, words: &str, image_path: &str) {
    let usb = operator.home().join("usb");
    fs::rename(operator.state().join("archive/repository"), &usb).unwrap();
    fs::remove_dir_all(operator.state()).unwrap();
    fs::remove_dir_all(operator.home().join(".config")).unwrap();
    let started = Instant::now();
    let mut command = operator.command(&["recover", "--archive", usb.to_str().unwrap()]);
    let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("integrity ok"), "{said}");
    let recovered = started.elapsed();
    operator.up();
    eprintln!("recovered after {recovered:?}, up after {:?}\n{said}", started.elapsed());
    for (port, path, what) in [(HOME, "/first-light/", "Other words entirely"), (OFFICE, "/later/", "On time")] {
        assert!(operator.curl(CANONICAL, port, path, &[]).ok().text().contains(what), "{path}");
    }
    assert_eq!(operator.curl(CANONICAL, OFFICE, image_path, &[]).ok().body, PIXEL);
    let staff = Staff::log_in(operator, CANONICAL, HOME);
    let post = staff.publish("Back", "back", "<p>Before.</p>");
    staff.edit(&post, json!({ "html": "<p>After.</p>" }));
    eventually("notices of a recovered Ghost at the office", Duration::from_secs(10), || {
        operator.curl(CANONICAL, OFFICE, "/back/", &[]).text().contains("After.").then_some(())
    });
}

/// The archive is away: what works on Ghost's data waits, and all else is done; when it is back, so are the steps.
fn what_cannot_be_backed_up_is_left_alone(operator: &Operator, file: &Path) {
    let declared = fs::read_to_string(file).unwrap();
    fs::write(file, with_title(&declared, "A title that waits")).unwrap();
    let archive = operator.state().join("archive/repository");
    let away = operator.state().join("archive/away");
    fs::rename(&archive, &away).unwrap();
    let ran = operator.run(&["up", "--yes"]).exits(1);
    assert!(ran.stdout().contains("left undone: apply the settings of site blog"), "{ran:?}");
    let front = || operator.curl(CANONICAL, HOME, "/", &[]).ok().text();
    assert!(!front().contains("A title that waits"));
    fs::rename(&away, &archive).unwrap();
    let done = operator.json(&["up", "--yes"]);
    assert_eq!((&done["left_undone"], &done["backup"]["failed"]), (&json!([]), &json!([])), "{done}");
    eventually("the title that waited", Duration::from_secs(10), || {
        front().contains("A title that waits").then_some(())
    });
}

/// Posts are published and pages read while backups are made: none of it fails, and what comes back is what was there.
fn backed_up_while_people_write(operator: &Operator) {
    let staff = Staff::log_in(operator, CANONICAL, HOME);
    let readers = Readers::start(operator, "blog.localhost", &[HOME, OFFICE], "/");
    let began = Instant::now();
    let (first, slowest) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let publish = |number| {
                let asked = Instant::now();
                staff.publish("While it is backed up", &format!("backed-up-{number}"), "<p>Words.</p>");
                asked.elapsed()
            };
            (0..12).map(publish).max().unwrap_or_default()
        });
        let first = operator.json(&["backup", "blog"]);
        operator.json(&["backup", "blog"]);
        (first, writer.join().unwrap())
    });
    eprintln!("two backups while 12 posts were published: {:?}, slowest post {slowest:?}\n{first}", began.elapsed());
    readers.stop_without_failure();
    let row = |answer: &Value| answer["snapshots"][0].clone();
    assert!(row(&first)["examined"].as_str().unwrap().contains("integrity ok"), "{first}");
    assert!(row(&first)["files_proven"].as_u64().unwrap() > 0, "what was published is new: {first}");

    // At rest, nothing is copied and nothing is read.
    eventually("a backup that finds nothing changed", Duration::from_secs(60), || {
        let answer = operator.json(&["backup", "blog"]);
        (row(&answer)["unchanged"] == true && row(&answer)["bytes_read"] == 0).then_some(())
    });
    operator.run(&["archive", "check", "--read-data"]).success();
    let to = operator.home().join("restored");
    operator.run(&["restore", "blog", "--to", to.to_str().unwrap()]).success();
    let site = operator.state().join("dc/home/sites/blog");
    assert_eq!(files(&to.join("content")), files(&site.join("content")));
    let rows = rows(&to.join("database/ghost.db"));
    assert_eq!(rows, self::rows(&site.join("data/ghost.db")));
    for slug in ["first-light", "backed-up-0", "backed-up-11"] {
        assert!(rows.contains(slug), "{slug} in {rows}");
    }
    assert!(to.join("set-up.json").exists(), "Ghost's keys come back too");

    // Before an upgrade: the new program's image is not in the store yet, and the one that Ghost runs will do.
    staff.publish("Before an upgrade", "before-an-upgrade", "<p>Words.</p>");
    let mut backup = operator.command(&["--json", "backup", "blog"]);
    let output = backup.env("XDG_CACHE_HOME", operator.home().join("no-images")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(row(&answer)["examined"].as_str().unwrap().contains("integrity ok"), "{answer}");
    let newest = row(&answer)["snapshot"].as_str().unwrap().to_owned();
    let diff = operator.json(&["archive", "diff", &newest]);
    let added = serde_json::json!({ "count": 1, "titles": ["Before an upgrade"] });
    assert_eq!(
        (&diff["content"]["posts"]["added"], &diff["files"]["changed"]),
        (&added, &serde_json::json!([])),
        "{diff}"
    );
    let said = operator.run(&["archive", "diff", &newest]).success().stdout();
    assert!(said.contains("Before an upgrade") && !said.contains("database/ghost.db"), "{said}");
    eprintln!("{said}");
}

/// Every row of every table, by python's SQLite.
fn rows(database: &Path) -> String {
    const SCRIPT: &str = "import sqlite3, sys
db = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)
tables = [t for t, in db.execute(\"select name from sqlite_master where type = 'table' order by name\")]
for table in tables:
    for row in sorted(map(repr, db.execute(f'select * from \"{table}\"'))):
        print(table, row)";
    let output = Command::new("python3").args(["-c", SCRIPT]).arg(database).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn with_title(declared: &str, title: &str) -> String {
    let mut lines: Vec<String> = declared.lines().map(str::to_owned).collect();
    match lines.iter_mut().find(|line| line.trim_start().starts_with("title =")) {
        Some(line) => *line = format!("title = {title:?}"),
        None => lines.push(format!("[site.settings]\ntitle = {title:?}")),
    }
    lines.join("\n") + "\n"
}

/// RFC 3339 in UTC with milliseconds, as Ghost wants it.
fn iso(at: std::time::SystemTime) -> String {
    let output = Command::new("date")
        .args(["--utc", "+%Y-%m-%dT%H:%M:%S.000Z", "--date"])
        .arg(format!("@{}", at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
