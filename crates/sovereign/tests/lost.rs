//! What is lost on hosts comes back out of the archive. A data center with the data of the site that was written there: the
//! site comes back at the other one, whatever is killed on the way, while people go on reading what that one has kept; and
//! what was lost comes back, and is believed no more. Data that is no good. All hosts, and the management machine with them.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use sovereign_testkit::incusd::Incusd;
use support::hosts::{Lab, add, missing, timed};
use support::staff::Staff;
use support::{At, Operator, Readers, debian, eventually};

const AUTHORITY: &str = "blog.lost.test";
const PATIENCE: Duration = Duration::from_secs(60);

const LATE: &str = "/late/";

/// What is read of the page that was written last, at every place.
fn late(operator: &Operator, edges: &[At], status: u16) {
    for edge in edges {
        let seen = || (operator.curl(AUTHORITY, *edge, LATE, &[]).status == status).then_some(());
        eventually(&format!("{LATE} with {status}"), PATIENCE, seen);
    }
}

/// Out of a copy of the archive, back, and there again; and data that no database comes to life with.
fn to_and_fro(operator: &Operator, lab: &Lab, staff: &Staff<'_>, edges: &[At]) {
    operator.run(&["backup"]).success();
    staff.publish("Late", "late", "<p>After the backup.</p>");
    late(operator, edges, 200);
    let readers = Readers::start(operator, AUTHORITY, edges, "/geese/");
    let out_of_usb = ["restore", "blog", "--from-copy", "usb", "--yes", "--accept-loss", "--no-backup"];
    timed("restored out of a copy", || operator.run(&out_of_usb).success());
    late(operator, edges, 404);
    for status in [200, 404] {
        timed("undone", || operator.run(&["restore", "blog", "--undo", "--yes"]).success());
        late(operator, edges, status);
    }
    let host = lab.hosts.iter().find(|host| host.datacenter == "office").unwrap();
    lab.says(
        host,
        "cd $(ls -dv /var/lib/incus/storage-pools/sovereign/custom-snapshots/*_database-blog.office.data/* | tail -n 1) && \
         echo nothing > data/ibdata1",
    );
    let dies = timed("put back", || operator.run(&["restore", "blog", "--undo", "--yes"]).exits(1));
    assert!(dies.stderr().contains("what was live before is live again: database-blog@office"), "{dies:?}");
    late(operator, edges, 404);
    readers.stop_without_failure();
    staff.publish("Goes on", "goes-on", "<p>All the same.</p>");
    operator.run(&["restore", "blog", "--discard", "--yes"]).success();
}

/// The words and a copy of the archive are all that is left: other hosts, another management machine, which has built no
/// image and asks nobody for one.
fn all_is_lost(incusd: &Incusd, words: &str, usb: &Path) {
    let operator = Operator::new();
    let lab = Lab::up(incusd, "lost", 2);
    let output = operator.typed(&["recover", "--archive", usb.to_str().unwrap()], words);
    assert!(output.status.success(), "{output:?}");
    for host in &lab.hosts {
        // Under the old address another host answers.
        let place = format!("{}/{}", host.datacenter, host.name);
        operator.run(&["host", "remove", &place, "--forget", "--yes"]).success();
        add(&operator, &lab, host);
    }
    timed("back on empty hosts", || operator.run(&["restore", "blog", "--yes"]).success());
    timed("all of it up", || operator.run(&["up", "--yes", "--offline"]).success());
    for path in ["/geese/", "/office/", "/goes-on/"] {
        is_read(&operator, lab.edge("home"), path);
        is_read(&operator, lab.edge("office"), path);
    }
    Staff::log_in(&operator, AUTHORITY, lab.edge("home")).publish("Again", "again", "<p>Written.</p>");
    is_read(&operator, lab.edge("office"), "/again/");
    let second = operator.up_without_backup().success();
    assert!(second.stdout().contains("nothing has to change"), "{second:?}");
    operator.run(&["down", "--purge", "--yes"]).success();
}

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
    let usb = operator.home().join("usb");
    fs::create_dir(&usb).unwrap();
    let declared = format!(
        "{declared}\n[archive]\nimages = true\n[[archive.copy]]\nname = \"usb\"\nfolder = \"{}\"\n",
        usb.display()
    );
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
    // Killed on the way, it is gone on with, and nothing takes what is not there yet for the site.
    let to_it = ["restore", "blog", "--yes", "--accept-loss"];
    operator.kill_at(&to_it, "bring it beside");
    for other in [&["backup", "blog"][..], &["restore", "blog", "--undo", "--yes"]] {
        let refused = operator.run(other).exits(1);
        assert!(format!("{refused:?}").contains("its data is not there yet"), "{refused:?}");
    }
    let left_out = operator.run(&["up", "--yes", "--no-backup"]).exits(1);
    assert!(left_out.stderr().contains("site blog: its restore was cut off"), "{left_out:?}");
    operator.kill_at(&to_it, "configure the edge");
    let resumed = timed("back at the other data center", || operator.run(&to_it).success());
    assert!(resumed.stdout().contains("begun by an earlier run"), "{resumed:?}");
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
    to_and_fro(&operator, &lab, &staff, &[home, office]);
    operator.run(&["backup"]).success();
    let words = operator.run(&["seed", "show"]).success().stdout();
    let kept = operator.home().join("kept");
    fs::rename(&usb, &kept).unwrap();
    operator.run(&["down", "--purge", "--yes"]).success();
    drop(lab);
    all_is_lost(&incusd, &words, &kept);
}
