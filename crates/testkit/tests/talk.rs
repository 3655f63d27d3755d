//! This program in a process that only reads: it sees what it is shown, and nothing of the stack or the world.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; a skipped one says so")]

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

fn talk(state: &Path, own: &Path, what: &[String]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testbed"));
    let output = command.arg("talk").args([state, own]).args(what).env("A_SECRET", "word").output().unwrap();
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complaints}");
    said.lines().map(str::to_owned).collect()
}

/// Whether this user may have namespaces here.
fn may_be_alone() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let namespaces: &[&str] = if is_root { &["--mount", "--net"] } else { &["--user", "--mount", "--net"] };
    Command::new("unshare").args(namespaces).arg("true").status().is_ok_and(|status| status.success())
}

#[test]
fn it_reads_what_it_is_shown_and_does_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (state, own) = (folder.path().join("state"), folder.path().join("own"));
    for part in ["seed", "keys", "run"] {
        fs::create_dir_all(state.join(part)).unwrap();
    }
    fs::create_dir_all(own.join("deep")).unwrap();
    for (file, text) in [("seed/root.json", "24 words"), ("keys/ca.json", "a key"), ("state.json", "{}")] {
        fs::write(state.join(file), text).unwrap();
    }
    fs::write(own.join("deep/page"), "a page").unwrap();
    let control = state.join("run/supervisor.sock");
    let _unix = UnixListener::bind(&control).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_nonblocking(true).unwrap();

    let mut tried: Vec<String> = ["seed/root.json", "keys/ca.json", "state.json"]
        .iter()
        .map(|file| format!("read {}", state.join(file).display()))
        .collect();
    let home = std::env::current_dir().unwrap().join("Cargo.toml");
    assert!(home.is_file());
    let (page, new) = (own.join("deep/page"), own.join("new"));
    tried.extend([
        format!("read {}", home.display()),
        "read /etc/shadow".to_owned(),
        format!("read /proc/{}/environ", std::process::id()),
        format!("write {}", page.display()),
        format!("write {}", new.display()),
        format!("write {}", state.join("new").display()),
        format!("connect {}", tcp.local_addr().unwrap()),
        format!("connect {}", control.display()),
        "see A_SECRET".to_owned(),
        "see HOME".to_owned(),
        format!("send {}", udp.local_addr().unwrap()),
        format!("read {}", page.display()),
    ]);
    if !may_be_alone() {
        eprintln!("SKIPPED in part: without a root folder and a network of its own it reaches sockets and datagrams");
        tried.retain(|what| !what.starts_with("connect /") && !what.starts_with("send"));
    }
    let said = talk(&state, &own, &tried);
    assert_eq!(said.len(), tried.len(), "{said:#?}");
    let (last, others) = said.split_last().unwrap();
    assert!(last.ends_with("yes: a page"), "{last}");
    let could: Vec<_> = others.iter().filter(|line| !line.contains(": no: ")).collect();
    assert!(could.is_empty(), "{could:#?}");
    assert_eq!(udp.recv(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(fs::read_to_string(&page).unwrap(), "a page");
}

#[test]
fn what_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_testbed"));
    let output = command.arg("talk").args([folder.path().join("state"), folder.path().join("gone")]).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaints.contains("gone"), "{complaints}");
}
