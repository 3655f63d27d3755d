//! What an operator sees of a deployed edge: its figures, and what is read.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{Operator, eventually, free_ports, kill, leaf};

/// The answer to a question for figures, its head included.
fn figures(port: u16, more: &[&str]) -> String {
    let asked = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--include"])
        .args(more)
        .arg(format!("http://127.0.0.1:{port}/metrics"))
        .output()
        .unwrap();
    assert!(asked.status.success(), "{asked:?}");
    String::from_utf8(asked.stdout).unwrap()
}

fn requests(operator: &Operator, args: &[&str]) -> Vec<Value> {
    let answer = operator.json(&[&["logs", "--access"], args].concat());
    answer["requests"].as_array().unwrap_or_else(|| panic!("{answer}")).clone()
}

#[test]
fn what_is_read_is_counted_and_written_down_and_shown() {
    let operator = leaf::operator_with_site();
    operator.up();
    // A port for figures comes to an edge that runs.
    let [port] = free_ports();
    let stack = leaf::stack(&operator).replacen(
        "engine = \"embedded\"",
        &format!("engine = \"embedded\"\nmetrics = {port}"),
        1,
    );
    operator.write("stack.toml", &stack);
    operator.up();
    assert!(figures(port, &[]).contains("sovereign_edge_info{stack=\"leaf\",datacenter=\"home\""));
    assert!(figures(port, &["--header", "Host: evil.example"]).starts_with("HTTP/1.1 403 "));

    let office = format!("other.localhost:{}", operator.office_port);
    let from = ["--referer", "https://news.example/item?id=7"];
    operator.curl(&office, operator.office_port, "/about.html?token=s3cret&page=2", &from).ok();
    let read = eventually("it is written down", Duration::from_secs(10), || {
        requests(&operator, &["leaf", "--at", "office"]).into_iter().find(|read| read["target"] != "/")
    });
    assert_eq!(read["target"], "/about.html?token=*&page=2");
    assert_eq!((&read["reader"], &read["referrer"]), (&"127.0.0.0/24".into(), &"https://news.example".into()));
    assert!(
        requests(&operator, &["--at", "home"]).iter().all(|read| read["target"] == "/"),
        "the mirror's reader is its own"
    );
    let shown = operator.run(&["logs", "--access", "--lines", "1"]).success().stdout();
    assert!(shown.lines().count() == 1 && shown.contains("GET other.localhost"), "{shown}");

    // Killed, it comes back, and a question waits for it.
    kill(operator.pid("edge@home"), "KILL");
    assert!(figures(port, &[]).starts_with("HTTP/1.1 200 "));

    operator.write("stack.toml", &stack.replace("[[site]]", "[edge]\naccess-log = \"off\"\n\n[[site]]"));
    operator.up();
    let refused = operator.run(&["logs", "--access"]);
    assert!(refused.stderr().contains("no access log is written"), "{refused:?}");
}
