//! A site moves from this machine to a host, its database and its address with it: a real Ghost with SQLite, then a real
//! Ghost on a real MariaDB in a real Incus. It is killed twice on the way, and fails once.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; a skipped one says so")]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use sovereign_testkit::incusd::Incusd;
use support::hosts::{Host, Lab, add, missing};
use support::staff::Staff;
use support::{At, Operator, debian, eventually, files};

const NEW: &str = "blog.new.test";

/// One pixel.
const PNG: &[u8] = b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90\x77\x53\xde\x00\x00\x00\x0c\x49\x44\x41\x54\x78\x9c\x63\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\xc9\xfe\x92\xef\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";

/// The site on this machine.
fn here(operator: &Operator) -> String {
    format!(
        r#"version = 1

[stack]
name = "moved"

[[datacenter]]
name = "home"
engine = "embedded"

[[datacenter.uplink]]
name = "loopback"
address = "127.0.0.1"
port = {}

[[site]]
name = "blog"
app = "ghost"
canonical = "blog.old.test"
primary = "home"

[site.settings]
title = "Geese & others"
"#,
        operator.home_port
    )
}

/// The same site on a host, under another name.
fn there(Host { name, address, .. }: &Host) -> String {
    format!(
        r#"version = 1

[stack]
name = "moved"

[[datacenter]]
name = "home"
engine = "incus"

[[datacenter.uplink]]
name = "lab"
address = "{address}"
port = 443

[[datacenter.host]]
name = "{name}"
address = "{address}"

[[site]]
name = "blog"
app = "ghost"
canonical = "{NEW}"
primary = "home"
admin = "public"

[site.settings]
title = "Geese & others"
"#
    )
}

const MOVE: [&str; 5] = ["site", "move", "blog", "--yes", "--no-backup"];

/// What a page says, whichever Ghost gives it: without its address, and what each start makes anew.
fn same(page: &str, address: &str) -> String {
    let page = page.replace(address, "ADDRESS");
    let page = match (page.find("<lastBuildDate>"), page.find("</lastBuildDate>")) {
        (Some(from), Some(to)) => format!("{}{}", &page[..from], &page[to..]),
        _ => page,
    };
    let mut parts = page.split("?v=");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start_matches(|c: char| c.is_ascii_hexdigit()))
}

#[test]
#[ignore = "minutes long: `cargo xtask prove hosts`"]
fn a_site_moves_to_a_host_whatever_is_killed_and_keeps_what_it_was() {
    if let Some(why) = missing() {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
        return eprintln!("SKIPPED: {why}, nothing was tested");
    }
    let began = Instant::now();
    let note = |what: &str| eprintln!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
    let (operator, cache) = debian::operator();
    let old = format!("blog.old.test:{}", operator.home_port);
    let old_edge = At::from(operator.home_port);

    operator.write("stack.toml", &here(&operator));
    operator.up_without_backup();
    let staff = Staff::log_in(&operator, &old, old_edge);
    let picture = staff.upload("goose.png", PNG);
    let picture = picture.strip_prefix(&format!("https://{old}")).unwrap().to_owned();
    let html =
        format!("<p>\u{1f986} o'\"\\ <a href='https://{old}/second/'>second</a></p><img src='https://{old}{picture}'>");
    staff.publish("First", "first", &html);
    staff.publish("Second", "second", "<p>Also here.</p>");
    operator.run(&["site", "staff", "invite", "blog", "ann@example.org"]).success();
    note("a site with something to lose");

    let incusd = Incusd::start();
    let lab = Lab::up(&incusd, "moved", 1);
    let host = &lab.hosts[0];
    operator.write("stack.toml", &there(host));
    for role in ["site", "database"] {
        debian::lock(&operator, &cache, role);
    }
    let early = operator.run(&MOVE).exits(1);
    assert!(early.stderr().contains("was not made ready"), "{early:?}");
    add(&operator, &lab, host);
    let refused = operator.run(&["up", "--yes", "--no-backup"]).exits(1);
    assert!(
        refused.stdout().contains("sovereign site move blog") || refused.stderr().contains("sovereign site move blog"),
        "{refused:?}"
    );
    note("a host that is ready");

    // Killed while the old Ghost serves: it goes on.
    operator.kill_at(&MOVE, "copy what people uploaded");
    operator.curl(&old, old_edge, "/ghost/api/admin/site/", &[]).ok();
    staff.publish("Third", "third", "<p>Written meanwhile.</p>");
    let second = staff.upload("gander.png", PNG);
    let second = second.strip_prefix(&format!("https://{old}")).unwrap().to_owned();
    note("killed while it copied");

    // Nobody reaches the new place: everything is as it was.
    let unreachable = "nft 'add table inet wall; add chain inet wall in { type filter hook input priority -300; }; \
         add rule inet wall in tcp dport 443 reject with tcp reset'";
    lab.says(host, unreachable);
    let failed = operator.run(&MOVE).exits(1);
    assert!(failed.stderr().contains("site blog has not moved"), "{failed:?}");
    lab.says(host, "nft delete table inet wall");
    staff.publish("Fourth", "fourth", "<p>Written after a failure.</p>");
    note("failed, and served as before");

    // Killed while nobody can write: kept pages are served, and the data is as it was left.
    let paths = ["/", "/first/", "/second/", "/third/", "/fourth/", "/about/", "/rss/", "/sitemap-posts.xml"];
    let pages = paths.map(|path| same(&operator.curl(&old, old_edge, path, &[]).ok().text(), &old));
    operator.kill_at(&MOVE, "take the database over");
    operator.curl(&old, old_edge, "/first/", &[]).ok();
    eventually("a write is refused in words", Duration::from_secs(20), || {
        let body = json!({ "posts": [{ "title": "No" }] });
        let write = staff.call("POST", "/ghost/api/admin/posts/?source=html", Some(&body));
        (write.status == 503).then_some(())
    });
    let site = operator.state().join("dc/home/sites/blog");
    let data = || [files(&site.join("data")), files(&site.join("content"))];
    let before = data();
    note("killed while it took over");

    let moved = operator.run(&MOVE[..4]);
    eprintln!("{}\n{}", moved.stderr(), moved.stdout());
    let moved = moved.success();
    assert!(moved.stdout().contains("site blog has moved from home to home/"), "{moved:?}");
    note("moved");
    let new_edge = lab.edge("home");
    for (path, page) in paths.iter().zip(pages) {
        assert_eq!(same(&operator.curl(NEW, new_edge, path, &[]).ok().text(), NEW), page, "{path}");
    }
    for picture in [picture, second] {
        assert_eq!(operator.curl(NEW, new_edge, &picture, &[]).ok().body, PNG, "{picture}");
    }
    assert!(moved.stdout().contains("owner@blog.old.test, as before"), "{moved:?}");
    assert_eq!(data(), before, "the old data was not touched");
    operator.curl(&old, old_edge, "/", &[]).is(0);

    // It is a site as any other on hosts.
    let next = operator.up_without_backup();
    assert!(next.stdout().contains("nothing has to change"), "{next:?}");
    let again = operator.run(&MOVE).success();
    assert!(again.stdout().contains("already"), "{again:?}");
    let owner = fs::read_dir(operator.state().join("dc/home/set-up")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(owner.collect::<Vec<_>>(), ["blog.moved.json"]);
    let page = || Some(operator.curl(NEW, new_edge, "/fifth/", &[])).filter(|page| page.status == 200);
    publish_there(&operator, new_edge);
    eventually("a page written at the new place", Duration::from_secs(30), page);
    note("written at the new place");

    // The way back: what was written since is not there.
    operator.run(&["down", "--yes"]).success();
    operator.write("stack.toml", &here(&operator));
    operator.up_without_backup();
    operator.curl(&old, old_edge, "/fourth/", &[]).ok();
    operator.curl(&old, old_edge, "/fifth/", &[]).is(404);
    operator.run(&["down", "--yes"]).success();
    note("back where it was");
}

/// Owner and invitations came along, with the name and password of before.
fn publish_there(operator: &Operator, edge: At) {
    let credentials = operator.json(&["site", "credentials", "blog"]);
    let jar = operator.home().join("jar-new").display().to_string();
    let origin = format!("Origin: https://{NEW}");
    let fixed =
        ["--cookie", &jar, "--cookie-jar", &jar, "--header", &origin, "--header", "Content-Type: application/json"];
    let send = |path: &str, body: String| {
        operator.curl(NEW, edge, path, &[&fixed[..], &["--request", "POST", "--data-raw", &body]].concat())
    };
    assert_eq!(credentials["email"], "owner@blog.old.test", "{credentials}");
    let login = json!({ "username": "owner@blog.old.test", "password": credentials["password"] });
    send("/ghost/api/admin/session/", login.to_string()).is(201);
    let invited = operator.curl(NEW, edge, "/ghost/api/admin/invites/", &fixed).ok().json();
    assert_eq!(invited["invites"][0]["email"], "ann@example.org", "{invited}");
    let post =
        json!({ "posts": [{ "title": "Fifth", "slug": "fifth", "html": "<p>New.</p>", "status": "published" }] });
    send("/ghost/api/admin/posts/?source=html", post.to_string()).is(201);
}
