//! A stack on hosts of its own, from bare hosts to nothing again: a real Ghost on a real MariaDB in a real Incus, reached
//! over SSH, in the smallest lab of two data centers, with name servers of its own. Read, and asked for names, while everything is
//! replaced, and while one of them has no power.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

// Also the one of the certificates' own tests.
#[path = "../../certs/tests/world/pebble.rs"]
mod pebble;
// Also the one of the name system's own tests.
#[path = "../../dns/tests/provider/knot.rs"]
mod knot;
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use pebble::{Pebble, Trust};
use serde_json::json;
use sovereign_testkit::harness::{self, Test};
use sovereign_testkit::incusd::Incusd;
use support::hosts::{Host, Lab, add, another, missing, run_with, timed, up_with};
use support::staff::Staff;
use support::{At, Operator, Readers, debian, eventually, leaf_on_hosts, names};

const TESTS: &[Test<Incusd>] = &[("a_stack_lives_on_hosts_of_its_own", story)];

/// What readers ask for.
const AUTHORITY: &str = "blog.deployed.test";
/// And of the site that is a folder of files.
const LEAF: &str = "leaf.deployed.test";
/// The same, in a domain whose DNS is at a provider.
const PROVIDED: &str = "leaf.example.net";

/// Within which a data center whose power is cut must have left the answers.
const OUT_OF_ANSWERS: Duration = Duration::from_secs(10);

/// A first start of everything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    harness::main(TESTS, missing().as_deref(), Incusd::start)
}

/// Waits until the agent of the other data center sees the primary so; what `status` says then.
fn seen_from_office(operator: &Operator, standing: &str) -> serde_json::Value {
    eventually(&format!("home is seen {standing}"), PATIENCE, || {
        let status = operator.json(&["status"]);
        let home = &status["datacenters"][0]["seen_by"][0];
        (home["standing"] == standing && home["by"] == "office/office-1").then_some(status)
    })
}

/// The site is in the archive as it is on its host, nothing is sent that did not change, and Debian's restic restores the
/// same as we do.
fn back_up(operator: &Operator) {
    let blog = || {
        let done = operator.json(&["backup"]);
        let rows = done["snapshots"].as_array().unwrap_or_else(|| panic!("{done:#}")).clone();
        rows.into_iter().find(|row| row["of"] == "blog").unwrap_or_else(|| panic!("{done:#}"))
    };
    assert!(blog()["examined"].as_str().unwrap().contains("the dump is complete"));
    // Ghost writes into its database now and then.
    eventually("nothing is read when nothing changed", PATIENCE, || (blog()["bytes_read"] == 0).then_some(()));
    let [ours, theirs, password] = ["ours", "theirs", "password"].map(|name| operator.home().join(name));
    operator.run(&["restore", "blog", "--to", ours.to_str().unwrap()]).success();
    let dump = fs::read_to_string(ours.join("database/ghost.sql")).unwrap();
    assert!(dump.contains("Early this year."));
    for there in ["set-up.json", "content/images", "content/public"] {
        assert!(ours.join(there).exists(), "{there}");
    }
    fs::write(&password, operator.run(&["archive", "key", "--yes"]).success().stdout()).unwrap();
    let mut restic = Command::new("restic");
    restic.args(["--no-cache", "restore", "latest", "--path", "/sites/blog", "--target"]).arg(&theirs);
    restic.arg("--repo").arg(operator.state().join("archive/repository")).arg("--password-file").arg(&password);
    assert!(restic.output().unwrap().status.success());
    let same = Command::new("diff").args(["-r", "--no-dereference"]).args([&ours, &theirs.join("sites/blog")]).output();
    let same = same.unwrap();
    assert!(same.status.success(), "{same:?}");
    let table = operator.home().join("table");
    operator.run(&["restore", "blog", "--to", table.to_str().unwrap(), "--table", "posts"]).success();
    let table = fs::read_to_string(table.join("posts.sql")).unwrap();
    assert!(table.contains("Early this year.") && !table.contains("CREATE TABLE `members`"));
}

/// What there is of a site's data on its host that is not live.
fn left_beside(lab: &Lab, host: &Host) -> String {
    lab.says(
        host,
        "incus list --project sovereign -f csv -c n | grep ^beside- || true; \
         incus storage volume list sovereign --project sovereign -f csv -c n | grep -e beside- -e replaced- || true",
    )
}

/// Older data takes the place of the live data and gives it back, whatever is killed, while people read.
fn restore_in_place(operator: &Operator, lab: &Lab, staff: &Staff<'_>, edges: &[At]) {
    let host = &lab.hosts[0];
    let read = |path: &str, status: u16| {
        for edge in edges {
            let seen = || (operator.curl(AUTHORITY, *edge, path, &[]).status == status).then_some(());
            eventually(&format!("{path} with {status}"), PATIENCE, seen);
        }
    };
    let snapshot = operator.json(&["backup"])["snapshots"][0]["snapshot"].as_str().unwrap().to_owned();
    staff.publish("Written later", "later", "<p>After the snapshot.</p>");
    read("/later/", 200);
    let readers = Readers::start(operator, AUTHORITY, edges, "/geese/");
    let to_it = ["restore", "blog", "--snapshot", &snapshot, "--yes", "--no-backup"];
    let refused = operator.run(&to_it).exits(1);
    assert!(refused.stderr().contains("would be gone"), "{refused:?}");

    // A dump that no database takes: nothing is touched.
    let sql = |sql: &str| {
        let find = "incus list --project sovereign -f csv -c n | grep ^database-blog | head -n 1";
        lab.says(host, &format!("incus exec --project sovereign $({find}) -- mariadb ghost -e '{sql}'"));
    };
    sql("CREATE TABLE odd (n INT CHECK (n > 0)); SET check_constraint_checks = 0; INSERT INTO odd VALUES (-1)");
    operator.run(&["backup"]).success();
    let refused = timed("a dump that does not load", || {
        operator.run(&["restore", "blog", "--yes", "--no-backup", "--accept-loss"]).exits(1)
    });
    assert!(refused.stderr().contains("loading the database failed"), "{refused:?}");
    assert_eq!(left_beside(lab, host), "");
    sql("DROP TABLE odd");
    read("/later/", 200);

    timed("restore, killed while data is put in", || {
        operator.kill_at(&[&to_it[..], &["--accept-loss"]].concat(), "data of blog: put in");
    });
    let resumed = timed("restore, resumed", || operator.run(&["restore", "blog", "--yes"]).success());
    assert!(resumed.stdout().contains("begun by an earlier run"), "{resumed:?}");
    read("/later/", 404);
    assert_eq!(left_beside(lab, host).lines().count(), 2, "both volumes are kept as they were");
    timed("undo", || operator.run(&["restore", "blog", "--undo", "--yes"]).success());
    read("/later/", 200);
    readers.stop_without_failure();

    operator.run(&["backup"]).success();
    let diff = operator.json(&["archive", "diff", &snapshot, "newest"]);
    assert_eq!(diff["content"]["posts"]["added"]["titles"], json!(["Written later"]), "{diff:#}");
    timed("drill, killed", || operator.kill_at(&["drill", "restore"], "start a Ghost"));
    assert!(left_beside(lab, host).contains("beside-database-blog"), "there is something to clear away");
    timed("up after it", || operator.up_without_backup().success());
    let left = left_beside(lab, host);
    assert!(!left.contains("beside-"), "{left}");
    let drill = timed("drill restore", || operator.json(&["drill", "restore"]));
    let row = &drill["sites"][0];
    assert_eq!(row["compared"]["feed_same"], true, "{drill:#}");
    assert!(row["compared"]["same"].as_u64().unwrap() > 5 && row["rto_seconds"].as_f64().unwrap() > 0.0, "{drill:#}");
    for other in ["different", "only_restored", "only_live", "broken"] {
        assert_eq!(row["compared"][other], json!([]), "{drill:#}");
    }
    let left = left_beside(lab, host);
    assert!(!left.contains("beside-"), "{left}");
    operator.run(&["restore", "blog", "--discard", "--yes"]).success();
    assert_eq!(left_beside(lab, host), "");
}

/// A data center is taken out of answers and put back while people read and resolvers ask; then its application is left
/// alone. Every way in is open before.
fn decided(operator: &Operator, lab: &Lab, edges: &[At]) {
    let checked = operator.json(&["dc", "check"]);
    let ways = checked["ways"].as_array().unwrap_or_else(|| panic!("{checked:#}"));
    assert!(ways.len() >= 6 && ways.iter().all(|way| way["verdict"] == "open"), "{checked:#}");

    let readers = Readers::start(operator, AUTHORITY, edges, "/geese/");
    let resolvers = names::Resolvers::start(lab, AUTHORITY);
    let drained = timed("dc drain", || operator.json(&["dc", "drain", "home"]));
    assert_eq!(drained["told"], json!(["home/home-1", "office/office-1"]), "{drained:#}");
    for host in &lab.hosts {
        names::without(lab, host, &lab.hosts[0], AUTHORITY);
    }
    let refused = operator.run(&["dc", "drain", "office"]).exits(1);
    assert!(refused.stderr().contains("would be led to nobody"), "{refused:?}");
    let status = operator.json(&["status"]);
    assert!(status["warnings"].to_string().contains("taken out of answers on purpose"), "{status:#}");
    assert_eq!(status["name_servers"][1]["left_out"][0]["why"], "drained", "{status:#}");
    let plan = operator.run(&["plan"]).success();
    assert!(plan.stdout().contains("as decided: home is taken out of answers"), "{plan:?}");
    let undrained = operator.json(&["dc", "undrain", "home"]);
    assert_eq!((&undrained["changed"], &undrained["untold"]), (&json!(true), &json!({})), "{undrained:#}");
    for host in &lab.hosts {
        names::back(lab, host, AUTHORITY);
    }
    resolvers.stop_without_failure();

    let begun = operator.json(&["dc", "maintenance", "on", "home"]);
    assert_eq!(begun["told"], json!(["home/home-1", "office/office-1"]), "{begun:#}");
    let html = ["--header", "Accept: text/html"];
    for edge in edges {
        let told = operator.curl(AUTHORITY, *edge, "/ghost/", &html).is(503);
        assert!(told.text().contains("<h1>This site is being worked on</h1>"), "{}", told.text());
        // What has no application is served as ever.
        operator.curl(LEAF, *edge, "/about.html", &[]).ok();
    }
    operator.run(&["dc", "maintenance", "off"]).success();
    for edge in edges {
        operator.curl(AUTHORITY, *edge, "/ghost/api/admin/site/", &[]).ok();
    }
    readers.stop_without_failure();
}

/// The host with the applications, alone in its data center, is taken out on purpose: pages are read at both, it is named and
/// no trouble, it stays out when it boots, and comes back.
fn out_and_back(operator: &Operator, lab: &Lab) {
    let (home, office) = (lab.edge("home"), lab.edge("office"));
    let readers = Readers::start(operator, AUTHORITY, &[home, office], "/geese/");
    let out = operator.run(&["host", "evacuate", "home/home-1", "--yes"]).success();
    assert!(out.stderr().contains("nobody can write; kept pages are read at office/office-1"), "{out:?}");
    readers.stop_without_failure();
    for edge in [home, office] {
        operator.curl(LEAF, edge, "/about.html", &[]).ok();
    }
    let plan = operator.json(&["plan"]);
    assert!(plan["evacuated"]["home/home-1"].as_str().unwrap().contains("on purpose"), "{plan}");
    let backup = operator.run(&["backup"]).exits(3);
    assert!(backup.stdout().contains("blog: left out: it does not run"), "{backup:?}");
    assert!(backup.stdout().contains("sovereign host restore home/home-1"), "{backup:?}");
    let status = operator.json(&["status"]);
    let told = status["problems"].to_string();
    assert!(!told.contains("home-1") && !told.contains("blog at"), "{told}");
    assert!(status["warnings"].to_string().contains("home/home-1 is evacuated on purpose"), "{status}");
    let stopped = "incus list --project sovereign -f csv -c s | sort -u";
    assert_eq!(lab.says(&lab.hosts[0], stopped).trim(), "STOPPED");
    operator.run(&["host", "restore", "home/home-1"]).success();
    let written =
        || Some(operator.curl(AUTHORITY, home, "/ghost/api/admin/site/", &[])).filter(|page| page.status == 200);
    eventually("it is written again", PATIENCE, written);
}

/// What a name server is made of is missed on a host that was made ready by a program that did not need it.
fn packages_are_missed(operator: &Operator, lab: &Lab) {
    let (host, status) = (&lab.hosts[1], "/var/lib/dpkg/status");
    let unpacked = "s/^Status: install ok installed/Status: install ok unpacked/";
    lab.says(host, &format!("cp {status} /root/status; sed -i '/^Package: knot$/,/^$/{unpacked}' {status}"));
    let refused = operator.run(&["plan"]).exits(1);
    assert!(refused.stdout().contains("office/office-1 lacks what a name server is made of: knot"), "{refused:?}");
    assert!(refused.stdout().contains("sovereign host add root@ADDRESS --datacenter office"), "{refused:?}");
    lab.says(host, &format!("mv /root/status {status}"));
    let enabled = lab
        .says(host, "systemctl is-enabled knot.service tor.service tor@default.service || true; pgrep -l tor || true");
    assert_eq!(enabled.split_whitespace().collect::<Vec<_>>(), ["masked"; 3]);
}

/// What was changed on a host is planned and put right, and readers go on reading.
fn drift_is_mended(operator: &Operator, lab: &Lab) {
    let host = &lab.hosts[0];
    let unit = "$(basename $(readlink /etc/systemd/system/sovereign-*.edge-home-1.home.service))";
    lab.says(
        host,
        &format!(
            "cd /etc/systemd/system; sed -i s/NoNewPrivileges=yes/NoNewPrivileges=no/ {unit}; \
             systemctl stop --job-mode=ignore-dependencies sovereign-*.edge-home-1.home.http.socket; \
             rm /etc/sovereign/instances.nft; cd /var/lib/sovereign/*/dc/home; rm name-server/key-*.pem renewer/key-*.pem"
        ),
    );
    let plan = operator.run(&["plan"]).exits(3);
    for what in [
        "put right what was changed on home/home-1",
        ".service was changed",
        "http.socket is inactive",
        "/etc/sovereign/instances.nft is gone",
        ".pem is gone",
        "the packet filter that is in effect is another",
    ] {
        assert!(plan.stdout().contains(what), "{what}: {plan:?}");
    }
    timed("drift mended", || operator.up_without_backup().success());
    operator.run(&["audit", "home/home-1"]).success();
    operator.run(&["plan"]).success();
}

/// Certificates of an authority that is declared now, proven by the name servers on hosts and shown by the edges there; the
/// agents, which look at them, count nobody for dead.
fn certified(operator: &Operator, lab: &Lab) -> Pebble {
    let trust = Trust::new();
    let authority = Pebble::start(&trust, format!("{}:53", lab.hosts[1].address).parse().unwrap());
    let root = authority.root();
    let alone = operator.write("root.pem", &root);
    operator.write("roots.pem", &format!("{}{root}", trust.root));
    let own = fs::read_to_string(operator.authority()).unwrap();
    operator.write("ca.pem", &format!("{own}{root}"));
    let declared = fs::read_to_string(operator.home().join("stack.toml")).unwrap();
    let directory = format!("https://127.0.0.1:{}/dir", authority.place.port());
    let more = format!("\n[[authority]]\nname = \"ca\"\ndirectory = \"{directory}\"\nroots = \"roots.pem\"\n");
    operator.write("stack.toml", &(declared + &more));
    let up = operator.run(&["up", "--yes", "--no-backup"]).success();
    for name in [AUTHORITY, LEAF] {
        assert!(up.stdout().contains(&format!("{name}: issued by ca")), "{up:?}\n{}", authority.log());
        for edge in ["home", "office"] {
            let more = ["--cacert", alone.to_str().unwrap()];
            operator.curl(name, lab.edge(edge), "/", &more).ok();
        }
    }
    seen_from_office(operator, "alive");
    let status = operator.json(&["status"]);
    let certificates = status["certificates"].as_array().unwrap();
    assert!(certificates.len() >= 2, "{status:#}");
    for certificate in certificates {
        let is_shown = certificate["not_shown_by"].as_array().is_some_and(Vec::is_empty);
        assert!(certificate["certificate"]["authority"] == "ca" && is_shown, "{status:#}");
    }
    let nothing = operator.up_without_backup();
    assert!(nothing.stdout().contains("nothing has to change"), "{nothing:?}");
    authority
}

/// Both hosts renew by themselves what their edges show: then it limits nothing.
fn renewed_there(operator: &Operator) {
    let status = eventually("certificates limit nothing", PATIENCE, || {
        let status = operator.json(&["status"]);
        let because = status["unattended_until"]["because"].as_str().unwrap().to_owned();
        (!because.contains("from ca")).then_some(status)
    });
    for (datacenter, renewer) in ["renewer-home-1@home", "renewer-office-1@office"].iter().enumerate() {
        let units = status["datacenters"][datacenter]["units"].as_array().unwrap();
        assert!(units.iter().any(|unit| unit["name"] == *renewer && unit["state"] == "healthy"), "{status:#}");
    }
}

/// A domain whose DNS stays at a provider from now on, which is on this machine: told by `up`, and by the agents on hosts.
fn provided(operator: &Operator, lab: &Lab, program: &Path) -> knot::Knot {
    let route = Command::new("ip").args(["-json", "route", "get", &lab.hosts[0].address]).output().unwrap();
    let route: serde_json::Value = serde_json::from_slice(&route.stdout).unwrap();
    let here = route[0]["prefsrc"].as_str().unwrap_or_else(|| panic!("{route:#}"));
    let provider = knot::Knot::start(here.parse().unwrap(), "hmac-sha256");
    let declared = fs::read_to_string(operator.home().join("stack.toml")).unwrap();
    let canonical = format!("canonical = \"{LEAF}\"\n");
    let more = format!(
        "\n[[domain]]\nname = \"example.net\"\nregistrar = \"nobody\"\nprovider = \"there\"\n\
         [[provider]]\nname = \"there\"\nkind = \"rfc2136\"\nserver = \"{}\"\nkey = \"stack.example.net\"\n",
        provider.at
    );
    let named = declared.replace(&canonical, &format!("{canonical}names = [\"{PROVIDED}\"]\n"));
    operator.write("stack.toml", &(named + &more));
    operator.write("given", knot::SECRET);
    let (code, said) = run_with(program, operator, &["dns", "login", "there", "--secret-file", "given"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = timed("up with a provider", || up_with(program, operator));
    // Addresses agents may have told it before.
    assert!(code == Some(0) && said.contains("there (rfc2136): example.net MX  + 0 ."), "{said}");
    for host in &lab.hosts {
        let secret = lab.says(host, "stat -c '%a %U' /var/lib/sovereign/*/dc/*/agent/provider-there-*.secret");
        assert_eq!(secret, "600 sovereign-agent\n");
    }
    leads(&provider, &lab.hosts.iter().map(|host| &*host.address).collect::<Vec<_>>());
    provider
}

/// Waits until the provider leads readers there.
fn leads(provider: &knot::Knot, wanted: &[&str]) {
    eventually(&format!("the provider leads to {wanted:?}"), PATIENCE, || {
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        (provider.kdig(&["+short", PROVIDED, "A"]) == wanted).then_some(())
    });
}

#[expect(clippy::print_stderr, reason = "figures are shown")]
fn story(incusd: &Incusd) {
    let (operator, cache) = debian::operator();
    let lab = timed("two bare hosts", || Lab::up(incusd, "deployed", 2));
    let declared = fs::read_to_string(lab.folder.join("stack.toml")).unwrap();
    operator.write("stack.toml", &(declared + &leaf_on_hosts::declare(&operator, LEAF) + &names::declare()));
    for role in ["site", "database"] {
        timed(role, || debian::lock(&operator, &cache, role));
    }
    let before: Vec<String> = lab.hosts.iter().map(|host| lab.inventory(host)).collect();

    // A host that nobody made ready is named before anything is done.
    let refused = operator.run(&["up", "--yes", "--no-backup"]).exits(1);
    assert!(refused.stderr().contains("was not made ready"), "{refused:?}");
    for host in &lab.hosts {
        timed(&host.name, || add(&operator, &lab, host));
    }
    packages_are_missed(&operator, &lab);
    let first = timed("first up", || operator.run(&["up", "--yes"]).success());
    assert!(first.stdout().contains("the dump is complete"), "{first:?}");
    assert!(first.stdout().contains("office/office-1"), "{first:?}");
    let (home, office) = (lab.edge("home"), lab.edge("office"));
    for edge in [home, office] {
        operator.curl(AUTHORITY, edge, "/", &[]).ok();
        operator.curl(AUTHORITY, edge, "/rss/", &[]).ok();
    }

    // Written through the edge that is farther away, read at both.
    let staff = Staff::log_in(&operator, AUTHORITY, office);
    staff.publish("Geese go south", "geese", "<p>Early this year.</p>");
    for edge in [home, office] {
        let read = || Some(operator.curl(AUTHORITY, edge, "/geese/", &[])).filter(|page| page.status == 200);
        assert!(eventually("the new page", PATIENCE, read).text().contains("Early this year."));
    }

    timed("names answered", || names::answer(&operator, &lab, &[AUTHORITY, LEAF]));

    timed("backed up and restored", || back_up(&operator));
    let second = timed("second up", || operator.up_without_backup().success());
    assert!(second.stdout().contains("nothing has to change"), "{second:?}");

    let _authority = timed("certificates of a public authority", || certified(&operator, &lab));
    timed("a folder of files", || leaf_on_hosts::lives(&operator, &lab, LEAF));
    timed("a service of the host's own", || leaf_on_hosts::service(&operator, &lab, "tool.deployed.test"));

    timed("renewed by hosts", || renewed_there(&operator));

    timed("decisions of data centers", || decided(&operator, &lab, &[home, office]));

    timed("restored in place, and rehearsed", || restore_in_place(&operator, &lab, &staff, &[home, office]));

    timed("audit", || operator.run(&["audit"]).success());
    let home_1 = &lab.hosts[0];
    lab.says(home_1, "nft insert rule inet sovereign input tcp dport 4444 accept");
    let drift = operator.run(&["audit", "home/home-1"]).exits(3);
    assert!(drift.stdout().contains("tcp dport 4444 accept"), "{drift:?}");
    drift_is_mended(&operator, &lab);

    // Everything is replaced while people read: the database, Ghost beside its predecessor, both edges.
    let readers = Readers::start(&operator, AUTHORITY, &[home, office], "/geese/");
    let resolvers = names::Resolvers::start(&lab, AUTHORITY);
    operator.run(&["rotate", "database/blog"]).success();
    let program = another(&operator);
    let (code, replaced) = timed("everything replaced", || up_with(&program, &operator));
    assert_eq!(code, Some(0), "{replaced}");
    let beside =
        ["agent-home-1@home", "agent-office-1@office", "name-server-home-1@home", "name-server-office-1@office"];
    let renewers = ["renewer-home-1@home", "renewer-office-1@office"];
    for unit in ["database-blog@home", "ghost-blog@home", "edge-home-1@home", "edge-office-1@office"]
        .iter()
        .chain(&beside)
        .chain(&renewers)
    {
        assert!(replaced.contains(&format!("replace {unit}")), "{replaced}");
    }
    readers.stop_without_failure();
    resolvers.stop_without_failure();
    staff.publish("Written after it", "after", "<p>Still here.</p>");
    timed("a host taken out and brought back", || out_and_back(&operator, &lab));

    let provider = provided(&operator, &lab, &program);
    // The primary data center has no power: everything is read at the other, and a write is refused in words.
    seen_from_office(&operator, "alive");
    let watch = names::Watch::begin(&lab, &lab.hosts[1], &lab.hosts[0], AUTHORITY);
    let cut = Instant::now();
    lab.run(&["kill", "home"]);
    for path in ["/", "/rss/", "/geese/", "/about/"] {
        operator.curl(AUTHORITY, office, path, &[]).ok();
    }
    for path in ["/", "/about.html", "/style.css"] {
        operator.curl(LEAF, office, path, &[]).ok();
    }
    let write =
        staff.call("POST", "/ghost/api/admin/posts/?source=html", Some(&json!({ "posts": [{ "title": "No" }] })));
    assert_eq!(write.status, 503, "{}", write.text());
    assert!(write.header("retry-after").is_some(), "{}", write.head);
    let missed = operator.run(&["backup"]).exits(1);
    assert!(missed.stdout().contains("blog: not backed up: host home/home-1"), "{missed:?}");
    let (code, partly) = timed("up without one host", || up_with(&program, &operator));
    assert_eq!(code, Some(3), "{partly}");
    assert!(partly.contains("left out: home/home-1"), "{partly}");

    leads(&provider, &[&lab.hosts[1].address]);
    let status = timed("seen dead from the other", || seen_from_office(&operator, "dead"));
    let took = watch.took(cut);
    eprintln!("out of the answers of the other name server: {:.1} s", took.as_secs_f64());
    assert!(took <= OUT_OF_ANSWERS, "{took:?}");
    assert_eq!(status["name_servers"][0]["left_out"][0]["datacenter"], "home", "{status:#}");
    let told = status["problems"].as_array().unwrap().iter().find(|problem| problem["subject"] == "home").unwrap();
    assert!(told["message"].as_str().unwrap().contains("office/office-1 sees it dead"), "{status:#}");
    // It is taken out as well: who answers is told, and who does not is named.
    let (code, drained) = run_with(&program, &operator, &["dc", "drain", "home"]);
    assert!(code == Some(3) && drained.contains("not told: the name server of home/home-1"), "{drained}");
    assert!(drained.contains("not named any more by office/office-1"), "{drained}");

    // It comes back, and nobody has to do anything.
    lab.run(&["heal"]);
    timed("all of it back by itself", || {
        eventually("the primary serves", PATIENCE, || {
            let answer = operator.curl(AUTHORITY, home, "/ghost/api/admin/site/", &[]);
            (answer.status == 200).then_some(())
        });
    });
    timed("seen alive from the other", || seen_from_office(&operator, "alive"));
    let (code, undrained) = run_with(&program, &operator, &["dc", "undrain", "home"]);
    assert_eq!(code, Some(0), "{undrained}");
    timed("the provider leads to both again", || leads(&provider, &[&lab.hosts[0].address, &lab.hosts[1].address]));
    timed("names answered by both again", || lab.hosts.iter().for_each(|host| names::back(&lab, host, AUTHORITY)));
    staff.publish("Geese come back", "back", "<p>Late.</p>");
    for edge in [home, office] {
        let read = || Some(operator.curl(AUTHORITY, edge, "/back/", &[])).filter(|page| page.status == 200);
        eventually("a page written afterwards", PATIENCE, read);
    }
    let (code, third) = up_with(&program, &operator);
    assert!(code == Some(0) && third.contains("nothing has to change"), "{third}");

    timed("down --purge", || operator.run(&["down", "--purge", "--with-archive", "--yes"]).success());
    assert!(!operator.state().exists());
    names::silent(&lab);
    for (host, before) in lab.hosts.iter().zip(before) {
        assert_eq!(lab.inventory(host), before, "{} is as it was", host.name);
    }
}
