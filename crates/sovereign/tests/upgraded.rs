//! Ghost of one version takes the place of another on a host: two real releases, whose databases differ, in a real Incus, on
//! a real MariaDB. First one whose migration fails half-way, then one that does not, both while people read.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; a skipped one says so")]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sovereign_testkit::incusd::Incusd;
use support::hosts::{Host, Lab, add, missing};
use support::staff::Staff;
use support::{At, Operator, Readers, debian, eventually};

const AUTHORITY: &str = "blog.upgraded.test";

/// Two releases, of which the newer one has a table more: its migration makes [`TABLE`], and refers to members from it.
const OLDER: &str = "6.64.0";
const NEWER: &str = "6.65.0";
const TABLE: &str = "members_metafield_change_events";

/// A table of the operator's own that has taken the name of the reference: names of these are unique in a database. So
/// the migration makes its table and ends there, and MariaDB takes no part of it back.
const COLLISION: &str = "CREATE TABLE own_notes (id INT PRIMARY KEY, member_id VARCHAR(24), \
     CONSTRAINT members_metafield_change_events_member_id_foreign FOREIGN KEY (member_id) REFERENCES members (id))";

const PATHS: [&str; 6] = ["/", "/first/", "/second/", "/about/", "/rss/", "/sitemap-posts.xml"];

struct World<'w> {
    operator: &'w Operator,
    lab: &'w Lab,
    edge: At,
}

impl World<'_> {
    fn host(&self) -> &Host {
        &self.lab.hosts[0]
    }

    /// What the site's database says.
    #[track_caller]
    fn database(&self, statement: &str) -> String {
        let find = "incus list --project sovereign --format csv --columns n status=running | grep ^database-";
        let ask = format!("incus exec --project sovereign $({find}) -- mariadb --batch --skip-column-names ghost");
        self.lab.says(self.host(), &format!("{ask} -e \"{statement}\" < /dev/null"))
    }

    /// Everything a failed migration could have left, and what is in the tables that people's work is in.
    fn contents(&self) -> Vec<String> {
        let tables = self.database("SHOW TABLES");
        let schema = self.database(
            "SELECT table_name, column_name, column_type FROM information_schema.columns \
             WHERE table_schema = 'ghost' ORDER BY table_name, ordinal_position",
        );
        vec![tables, schema, self.database("SELECT name, version FROM migrations ORDER BY id"), self.written()]
    }

    /// What people wrote.
    fn written(&self) -> String {
        self.database(
            "SELECT id, slug, html, updated_at FROM posts ORDER BY id; SELECT id, email FROM members ORDER BY id",
        )
    }

    fn version(&self) -> Option<String> {
        let answer = self.operator.curl(AUTHORITY, self.edge, "/ghost/api/admin/site/", &[]);
        (answer.status == 200).then(|| answer.json()["site"]["version"].as_str().unwrap().to_owned())
    }

    /// Pages as readers get them, without what each start of a Ghost makes anew.
    fn pages(&self) -> [String; PATHS.len()] {
        PATHS.map(|path| same(&self.operator.curl(AUTHORITY, self.edge, path, &[]).ok().text()))
    }

    /// They are what they were, which the newer Ghost is asked for when its edge has heard of it.
    #[track_caller]
    fn has_pages(&self, before: &[String; PATHS.len()]) {
        for (path, before) in PATHS.iter().zip(before) {
            let now = || Some(same(&self.operator.curl(AUTHORITY, self.edge, path, &[]).ok().text()));
            eventually(&format!("{path} as it was"), Duration::from_secs(30), || now().filter(|now| now == before));
        }
    }

    fn lock(&self, version: &str) -> Value {
        self.operator.json(&["images", "lock", "ghost", "--version", version])
    }
}

fn same(page: &str) -> String {
    let page = match (page.find("<lastBuildDate>"), page.find("</lastBuildDate>")) {
        (Some(from), Some(to)) => format!("{}{}", &page[..from], &page[to..]),
        _ => page.to_owned(),
    };
    // Ghost names itself, and its files by a hash of the version.
    let page = page.replace(&short(OLDER), "VERSION").replace(&short(NEWER), "VERSION");
    let mut parts = page.split("?v=");
    let first = parts.next().unwrap_or_default().to_owned();
    let is_hash = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    parts.fold(first, |text, part| text + part.trim_start_matches(is_hash))
}

/// As Ghost tells its version to everybody.
fn short(version: &str) -> String {
    version.rsplit_once('.').unwrap().0.to_owned()
}

#[test]
#[ignore = "minutes long: `cargo xtask prove hosts`"]
fn ghost_is_upgraded_or_goes_back_with_its_data_and_no_reader_notices() {
    if let Some(why) = missing() {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
        return eprintln!("SKIPPED: {why}, nothing was tested");
    }
    let began = Instant::now();
    let note = |what: &str| eprintln!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
    let (operator, cache) = debian::operator();
    let incusd = Incusd::start();
    let lab = Lab::up(&incusd, "upgraded", 1);
    operator.write("stack.toml", &fs::read_to_string(lab.folder.join("stack.toml")).unwrap());
    for role in ["site", "database"] {
        debian::lock(&operator, &cache, role);
    }
    add(&operator, &lab, &lab.hosts[0]);
    let world = World { operator: &operator, lab: &lab, edge: lab.edge("home") };
    note("a host that is ready");

    let locked = world.lock(OLDER);
    assert_eq!((&locked["version"], &locked["written"]), (&json!(OLDER), &json!(true)));
    operator.up_without_backup().success();
    assert_eq!(world.version().unwrap(), short(OLDER));
    let staff = Staff::log_in(&operator, AUTHORITY, world.edge);
    staff.publish("First", "first", "<p>Early this year, <a href='/second/'>and later</a>.</p>");
    staff.publish("Second", "second", "<p>Late.</p>");
    let member = json!({ "members": [{ "name": "Ann", "email": "ann@example.org" }] });
    staff.call("POST", "/ghost/api/admin/members/", Some(&member)).is(201);
    for path in PATHS {
        eventually(path, Duration::from_secs(30), || {
            (operator.curl(AUTHORITY, world.edge, path, &[]).status == 200).then_some(())
        });
    }
    note("a Ghost with something to lose");

    // The newer one's migration fails when half of it is done.
    world.database(COLLISION);
    let (before, pages) = (world.contents(), world.pages());
    world.lock(NEWER);
    let readers = Readers::start(&operator, AUTHORITY, &[world.edge], "/first/");
    let failed = operator.run(&["up", "--yes", "--no-backup"]);
    readers.stop_without_failure();
    let failed = failed.exits(1);
    assert!(failed.stderr().contains("ghost-blog@home does not become well"), "{failed:?}");
    assert!(failed.stderr().contains(TABLE), "the reason is told in Ghost's words: {failed:?}");
    note("a newer one failed and went back");
    eventually("the older one serves", Duration::from_secs(30), || world.version().filter(|it| *it == short(OLDER)));
    assert_eq!(world.contents(), before, "the data is what it was");
    world.has_pages(&pages);
    staff.publish("Third", "third", "<p>Written after a failure.</p>");
    let pending = operator.run(&["plan"]).exits(3);
    assert!(pending.stdout().contains("replace ghost-blog@home"), "{pending:?}");

    // What was in its way is taken out of it.
    world.database("DROP TABLE own_notes");
    let (written, pages) = (world.written(), world.pages());
    let readers = Readers::start(&operator, AUTHORITY, &[world.edge], "/first/");
    let upgraded = operator.run(&["up", "--yes", "--no-backup"]);
    readers.stop_without_failure();
    upgraded.success();
    note("upgraded");
    assert_eq!(world.version().unwrap(), short(NEWER));
    assert!(world.database("SHOW TABLES").lines().any(|table| table == TABLE), "it was a migration");
    assert_eq!(world.written(), written);
    world.has_pages(&pages);
    operator.curl(AUTHORITY, world.edge, "/third/", &[]).ok();
    staff.publish("Fourth", "fourth", "<p>Written with the newer one.</p>");
    eventually("a page of the newer one", Duration::from_secs(30), || {
        (operator.curl(AUTHORITY, world.edge, "/fourth/", &[]).status == 200).then_some(())
    });
    let again = operator.up_without_backup().success();
    assert!(again.stdout().contains("nothing has to change"), "{again:?}");
    let kept = lab.says(
        world.host(),
        "incus storage volume snapshot list --project sovereign sovereign database-blog.home.data --format csv",
    );
    assert_eq!(kept.lines().count(), 1, "what it was before is kept: {kept}");

    // The older one knows nothing of what the newer one wrote.
    world.lock(OLDER);
    for args in [&["plan"][..], &["up", "--yes", "--no-backup"]] {
        let refused = operator.run(args).exits(1);
        let told = format!("{}{}", refused.stdout(), refused.stderr());
        assert!(told.contains(&format!("is of version {NEWER}, and {OLDER} is older")), "{refused:?}");
        assert!(told.contains(&format!("sovereign images lock ghost --version {NEWER}")), "{refused:?}");
    }
    // Neither when nothing runs that would say so.
    operator.run(&["down", "--yes"]).success();
    let refused = operator.run(&["up", "--yes", "--no-backup"]).exits(1);
    assert!(refused.stderr().contains(&format!("is of version {NEWER}, and {OLDER} is older")), "{refused:?}");
    world.lock(NEWER);
    operator.up_without_backup().success();
    operator.curl(AUTHORITY, world.edge, "/fourth/", &[]).ok();
    assert_eq!(world.version().unwrap(), short(NEWER));
    note("an older one was refused");
}
