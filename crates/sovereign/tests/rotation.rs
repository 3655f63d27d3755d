//! Every secret is rotated under readers' eyes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fs;
use std::time::Duration;

use support::leaf::operator_with_site;
use support::{Readers, eventually};

#[test]
fn secrets_are_rotated_and_no_reader_notices() {
    let operator = operator_with_site();
    operator.up();
    let name = format!("leaf.localhost:{}", operator.home_port);
    for secret in ["link/home", "link/office", "config-signing"] {
        let readers = Readers::start(&operator, "leaf.localhost", &[operator.home_port, operator.office_port], "/");
        operator.run(&["rotate", secret]).success();
        operator.run(&["plan"]).exits(3);
        operator.up();
        readers.stop_without_failure();
        operator.run(&["plan"]).success();
        operator.run(&["status"]).success();
    }

    // Browsers that have imported the new authority beside the old one notice nothing either.
    operator.run(&["rotate", "ca"]).success();
    let before = fs::read_to_string(operator.authority()).unwrap();
    let after = operator.run(&["ca", "show"]).success().stdout();
    assert_ne!(before, after);
    fs::write(operator.authority(), before + &after).unwrap();
    let readers = Readers::start(&operator, "leaf.localhost", &[operator.home_port, operator.office_port], "/");
    operator.up();
    readers.stop_without_failure();
    operator.run(&["status"]).success();
    fs::write(operator.authority(), after).unwrap();
    for port in [operator.home_port, operator.office_port] {
        operator.curl(&name, port, "/about.html", &[]).ok();
    }

    // What is new is copied over the new links.
    operator.write("public/new.html", "<p>new</p>");
    eventually("the new page at the office", Duration::from_secs(20), || {
        (operator.curl(&name, operator.office_port, "/new.html", &[]).status == 200).then_some(())
    });
}
