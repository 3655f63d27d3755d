//! A data center is lost with the data of the site that was written there: the site comes back at the other one out of the
//! archive, while people go on reading what that one has kept; and what was lost comes back, and is believed no more.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fs;
use std::time::Duration;

use serde_json::json;
use sovereign_testkit::incusd::Incusd;
use support::hosts::{Lab, add, missing, timed};
use support::staff::Staff;
use support::{At, Operator, Readers, debian, eventually};

const AUTHORITY: &str = "blog.lost.test";
const PATIENCE: Duration = Duration::from_secs(60);

fn is_read(operator: &Operator, edge: At, path: &str) {
    let read = || (operator.curl(AUTHORITY, edge, path, &[]).status == 200).then_some(());
    eventually(path, PATIENCE, read);
}

#[test]
#[ignore = "minutes long: `cargo xtask prove hosts`"]
fn a_site_comes_back_where_it_was_a_mirror() {
    assert_eq!(missing(), None);
    let incusd = Incusd::start();
    let (operator, cache) = debian::operator();
    let lab = Lab::up(&incusd, "lost", 2);
    let declared = fs::read_to_string(lab.folder.join("stack.toml")).unwrap();
    let declared = declared.replace("admin = \"lan\"", "admin = \"public\"");
    operator.write("stack.toml", &declared);
    for role in ["site", "database"] {
        debian::lock(&operator, &cache, role);
    }
    for host in &lab.hosts {
        add(&operator, &lab, host);
    }
    operator.run(&["up", "--yes", "--no-backup"]).success();
    let (home, office) = (lab.edge("home"), lab.edge("office"));
    let staff = Staff::log_in(&operator, AUTHORITY, home);
    staff.publish("Geese", "geese", "<p>Before.</p>");
    is_read(&operator, office, "/geese/");
    operator.run(&["backup"]).success();

    // While the old place answers nobody takes the site away from it.
    let other = declared.replace("primary = \"home\"", "primary = \"office\"");
    operator.write("stack.toml", &other.replace("mirrors = [\"office\"]", "mirrors = [\"home\"]"));
    let refused = operator.run(&["restore", "blog", "--yes", "--accept-loss"]).exits(1);
    assert!(refused.stderr().contains("is at home/home-1, which answers"), "{refused:?}");
    lab.run(&["kill", "home"]);
    let refused = operator.run(&["restore", "blog", "--yes"]).exits(1);
    assert!(refused.stderr().contains("would be lost"), "{refused:?}");

    let readers = Readers::start(&operator, AUTHORITY, &[office], "/geese/");
    timed("back at the other data center", || {
        operator.run(&["restore", "blog", "--yes", "--accept-loss"]).success();
    });
    readers.stop_without_failure();
    let staff = Staff::log_in(&operator, AUTHORITY, office);
    staff.publish("Geese at the office", "office", "<p>After.</p>");
    is_read(&operator, office, "/office/");
    operator.run(&["up", "--yes", "--no-backup"]).exits(3);

    // It comes back, and all it has is what it had. Nobody can write there: every edge knows better.
    lab.run(&["heal"]);
    let post = json!({ "posts": [{ "title": "No" }] });
    let old = staff.through(home);
    eventually("home hears of it", PATIENCE, || {
        let refused = old.call("POST", "/ghost/api/admin/posts/?source=html", Some(&post));
        refused.text().contains("written at another place now").then_some(())
    });
    timed("home is a mirror", || operator.up_without_backup().success());
    for path in ["/geese/", "/office/"] {
        is_read(&operator, home, path);
    }
    let second = operator.up_without_backup().success();
    assert!(second.stdout().contains("nothing has to change"), "{second:?}");
    operator.run(&["down", "--purge", "--yes"]).success();
}
