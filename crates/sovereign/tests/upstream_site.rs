//! A service that the operator already runs, behind the edges: mirrored, and served on when it is gone.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{Operator, Readers, eventually};

/// Python's own file server: it says when files were modified, and nothing about caching.
struct Service {
    child: Child,
    port: u16,
}

impl Service {
    fn start(operator: &Operator) -> Self {
        let mut child = Command::new("python3")
            .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"])
            .arg(operator.home().join("public"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut words = line.split_whitespace().skip_while(|word| *word != "port");
        let port = words.nth(1).and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {line:?}"));
        Self { child, port }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stack(operator: &Operator, service: &Service) -> String {
    format!(
        r#"version = 1

[stack]
name = "shop"

[[datacenter]]
name = "home"

[[datacenter.uplink]]
name = "loopback"
address = "127.0.0.1"
port = {}

[[datacenter]]
name = "office"

[[datacenter.uplink]]
name = "loopback"
address = "127.0.0.1"
port = {}

[[site]]
name = "shop"
app = "upstream"
address = "127.0.0.1:{}"
mirror = {{ never = ["/private/"] }}
canonical = "shop.localhost"
primary = "home"
mirrors = ["office"]
"#,
        operator.home_port, operator.office_port, service.port
    )
}

#[test]
fn a_service_is_mirrored_and_outlived() {
    let operator = Operator::new();
    operator.write("public/index.html", "<a href=\"/about.html\">about</a> <a href=\"/private/me.html\">me</a>");
    operator.write("public/about.html", "<img src=\"/leaf.svg\">");
    operator.write("public/leaf.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>");
    operator.write("public/private/me.html", "only me");
    let service = Service::start(&operator);
    operator.write("stack.toml", &stack(&operator, &service));
    operator.up();
    let (home, office) = (operator.home_port, operator.office_port);
    let name = format!("shop.localhost:{home}");

    eventually("the mirror has every page that links lead to", Duration::from_secs(20), || {
        let status = operator.json(&["status"]);
        let copies = status.pointer("/sites/0/copies")?.as_array()?.clone();
        let whole = copies.iter().all(|copy| copy["complete"] == true && copy["pages_kept"].as_u64() >= Some(3));
        whole.then_some(())
    });
    assert_eq!(operator.curl(&name, office, "/private/me.html", &[]).ok().text(), "only me");
    assert_eq!(operator.curl(&name, office, "/missing.html", &[]).is(404).header("age"), None);
    // A reader with a cookie is passed through: nothing says that everybody gets the same.
    let own = operator.curl(&name, office, "/about.html", &["--header", "Cookie: session=1"]).ok();
    assert!(own.header("cache-status").unwrap().contains("fwd=bypass"), "{}", own.head);

    worked_on(&operator, &name);

    drop(service);
    for path in ["/", "/about.html", "/leaf.svg"] {
        for port in [office, home] {
            let kept = operator.curl(&name, port, path, &[]).ok();
            assert!(kept.header("age").is_some(), "{path}: {}", kept.head);
        }
    }
    let near = operator.curl(&name, home, "/", &[]).ok();
    assert!(near.header("cache-status").unwrap().contains("; hit"), "{}", near.head);
    // What is never kept cannot be served, and says so.
    operator.curl(&name, office, "/private/me.html", &[]).is(503);
}

/// While somebody works on the service it is asked for nothing, and kept pages are read.
fn worked_on(operator: &Operator, name: &str) {
    let both = [operator.home_port, operator.office_port];
    let html = ["--header", "Accept: text/html"];
    let refused = operator.run(&["dc", "maintenance", "on", "office"]).exits(2);
    assert!(refused.stderr().contains("no site that has an application is written at office"), "{refused:?}");
    let refused = operator.run(&["dc", "drain", "office"]).exits(2);
    assert!(refused.stderr().contains("no name server of its own"), "{refused:?}");
    let readers = Readers::start(operator, "shop.localhost", &both, "/about.html");
    let begun = operator.json(&["dc", "maintenance", "on", "home"]);
    assert_eq!(
        (&begun["changed"], &begun["told"]),
        (&true.into(), &serde_json::json!(["home", "office"])),
        "{begun:#}"
    );
    for port in both {
        let told = operator.curl(name, port, "/private/me.html", &html).is(503);
        assert!(told.text().contains("<h1>This site is being worked on</h1>"), "{}", told.text());
        assert!(told.header("retry-after").is_some(), "{}", told.head);
        operator.curl(name, port, "/", &html).ok();
    }
    let status = operator.run(&["status"]);
    assert!(status.stdout().contains("home: its applications are being worked on since"), "{status:?}");
    assert!(status.stdout().contains("the application is being worked on"), "{status:?}");
    let plan = operator.run(&["plan"]).success();
    assert!(plan.stdout().contains("as decided: applications of home are being worked on"), "{plan:?}");
    assert!(operator.up().stdout().contains("nothing has to change"));
    let list = operator.run(&["dc", "list"]).success();
    assert!(list.stdout().contains("worked on since"), "{list:?}");
    let again = operator.json(&["dc", "maintenance", "on"]);
    assert_eq!(again["changed"], true, "office too: {again:#}");
    let ended = operator.json(&["dc", "maintenance", "off"]);
    assert_eq!((&ended["changed"], &ended["maintenance"]), (&true.into(), &false.into()), "{ended:#}");
    for port in both {
        assert_eq!(operator.curl(name, port, "/private/me.html", &html).ok().text(), "only me");
    }
    readers.stop_without_failure();
    assert!(!operator.run(&["plan"]).success().stdout().contains("as decided"));
}
