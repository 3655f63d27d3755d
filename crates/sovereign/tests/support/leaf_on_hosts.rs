//! The smallest site on hosts: written at `home`, mirrored at `office`, and its files are in a folder of the operator's.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use super::hosts::Lab;
use super::{At, Operator, Readers, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// Where its files are on its host.
const THERE: &str = "/var/lib/sovereign/*/dc/home/edge/files/leaf";

/// Its part of a stack file. Its files are written too.
pub(crate) fn declare(operator: &Operator, authority: &str) -> String {
    operator.write("public/index.html", "<!doctype html><a href=\"/about.html\">about</a>");
    operator.write("public/about.html", "<!doctype html><p>One</p>");
    operator.write("public/style.css", "body { color: green }");
    operator.write("public/.git/config", "nobody's business");
    format!(
        "\n[[site]]\nname = \"leaf\"\napp = \"static\"\nfolder = \"public\"\ncanonical = \"{authority}\"\n\
         primary = \"home\"\nmirrors = [\"office\"]\n"
    )
}

/// What the last run that did anything wrote down.
fn journal(operator: &Operator) -> String {
    let runs = fs::read_dir(operator.state().join("journal")).unwrap().map(|run| run.unwrap().path());
    fs::read_to_string(runs.filter(|run| run.extension().is_some_and(|end| end == "jsonl")).max().unwrap()).unwrap()
}

/// The site after the first `up`: what it says changes while people read, whatever is killed or removed.
pub(crate) fn lives(operator: &Operator, lab: &Lab, authority: &str) {
    let edges @ [home, office] = [lab.edge("home"), lab.edge("office")];
    let host = &lab.hosts[0];
    let says = |edge: At, path: &str| operator.curl(authority, edge, path, &[]);
    let is_read = |path: &str, text: &str| {
        for edge in edges {
            let read = || {
                let page = says(edge, path);
                (page.status == 200 && page.text().contains(text)).then_some(())
            };
            eventually(&format!("{path} says {text}"), PATIENCE, read);
        }
    };
    for path in ["/", "/about.html", "/style.css"] {
        assert_eq!(says(home, path).ok().body, says(office, path).ok().body, "{path}");
    }
    for path in ["/missing.html", "/.git/config", "/.list"] {
        says(home, path).is(404);
    }
    let others = format!("find {THERE} ! -user root -o -perm /o=rwx -o -perm /g=w -o -name .git");
    assert_eq!(lab.says(host, &others), "", "readable by the edge, and by nobody else");

    // One file is another one, of the same length: one step, and one file goes over the line.
    let readers = Readers::start(operator, authority, &edges, "/");
    operator.write("public/about.html", "<!doctype html><p>Two</p>");
    let plan = operator.json(&["plan"]);
    let steps = plan["steps"].as_array().unwrap_or_else(|| panic!("{plan}"));
    assert!(steps.len() == 1 && steps[0].to_string().contains("home/home-1"), "{plan:#}");
    operator.up_without_backup().success();
    assert!(journal(operator).contains("sent 1 of 3 files of leaf, 1 kB"), "{}", journal(operator));
    is_read("/about.html", "Two");
    assert!(operator.up_without_backup().stdout().contains("nothing has to change"));

    // Killed while files are on their way, nothing of them is served; the next run does it.
    operator.write("public/about.html", "<!doctype html><p>Three</p>");
    let large = fs::File::create(operator.home().join("public/large.bin")).unwrap();
    large.set_len(200 << 20).unwrap();
    let mut up = operator.command(&["up", "--yes", "--no-backup"]);
    let mut up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    lab.says(host, &format!("timeout 60 sh -c 'until test -s {THERE}/.*.new/large.bin; do sleep 0.01; done'"));
    up.kill().unwrap();
    up.wait().unwrap();
    says(home, "/large.bin").is(404);
    is_read("/about.html", "Two");
    let left = lab.says(
        host,
        &format!(
            "timeout 60 sh -c 'while ls -d {THERE}/.*.new; do sleep 0.1; done' > /dev/null 2>&1; ls {THERE} | wc -l"
        ),
    );
    assert_eq!(left.trim(), "2", "what was served before, and what is");
    large.set_len(1 << 20).unwrap();
    operator.up_without_backup().success();
    is_read("/about.html", "Three");
    assert_eq!(says(office, "/large.bin").ok().body.len(), 1 << 20);

    // Back to what it was: nothing is sent. Gone from the host it comes again.
    fs::remove_file(operator.home().join("public/large.bin")).unwrap();
    operator.write("public/about.html", "<!doctype html><p>Two</p>");
    operator.up_without_backup().success();
    assert!(!journal(operator).contains("sent "), "{}", journal(operator));
    is_read("/about.html", "Two");
    assert_eq!(lab.says(host, &format!("ls {THERE} | wc -l")).trim(), "2", "the oldest is gone");
    lab.says(host, &format!("echo changed | tee -a {THERE}/*/style.css"));
    let told = operator.run(&["audit", "home/home-1"]).exits(3);
    assert!(told.stdout().contains("are not as they were sent"), "{told:?}");
    lab.says(host, &format!("rm -r {THERE}"));
    operator.run(&["plan"]).exits(3);
    operator.up_without_backup().success();
    readers.stop_without_failure();
    is_read("/about.html", "Two");
    assert!(operator.up_without_backup().stdout().contains("nothing has to change"));
}

/// A service of the host's own.
const SERVICE: &str = "systemd-run --quiet --unit=tool perl -MIO::Socket::INET -e '\
    my $s = IO::Socket::INET->new(LocalAddr => q(127.0.0.1:3000), Listen => 9, ReuseAddr => 1) or die; \
    while (my $c = $s->accept) { \
        while (<$c>) { last if /^\\s*$/ } \
        print $c qq(HTTP/1.1 200 OK\\r\\ncontent-type: text/html\\r\\ncontent-length: 7\\r\\nconnection: close\\r\\n\\r\\n<p>Tool); \
        close $c; \
    }'";

/// A service that runs on a host already is put behind the edges of both, and taken away again.
pub(crate) fn service(operator: &Operator, lab: &Lab, authority: &str) {
    let declared = fs::read_to_string(operator.home().join("stack.toml")).unwrap();
    let more = format!(
        "\n[[site]]\nname = \"tool\"\napp = \"upstream\"\naddress = \"127.0.0.1:3000\"\ncanonical = \"{authority}\"\n\
         primary = \"home\"\nmirrors = [\"office\"]\n"
    );
    lab.says(&lab.hosts[0], SERVICE);
    operator.write("stack.toml", &(declared.clone() + &more));
    operator.up_without_backup().success();
    for edge in [lab.edge("home"), lab.edge("office")] {
        let page = operator.curl(authority, edge, "/", &[]).ok();
        assert_eq!(page.text(), "<p>Tool");
    }
    operator.write("stack.toml", &declared);
    operator.up_without_backup().success();
    lab.says(&lab.hosts[0], "systemctl stop tool");
}
