//! A whole small daemon in a process of its own: sockets passed to it, readiness, control, drain, exit.
//!
//! The daemon is this test program, started again with [`ROLE`] set.

#![cfg(test)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sovereign_runtime::control::{self, Commands, Refusal, Request, Server};
use sovereign_runtime::lifecycle::{Drained, Lifecycle, NOTIFY_SOCKET, Readiness, accept_each};
use sovereign_runtime::sockets::{self, Handover, LISTEN_PID, SocketsError};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};

const ROLE: &str = "RUNTIME_TEST_ROLE";
const LONG: Duration = Duration::from_secs(60);

/// Starts this program again to play `role`.
fn again(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env_clear().env(ROLE, role).args(["--exact", "plays_its_role", "--nocapture", "--test-threads=1"]);
    command
}

/// Does nothing in the test run itself.
#[test]
fn plays_its_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    match role.strip_prefix("serve ") {
        Some(control) => serve(Path::new(control)),
        None => look_at_sockets(),
    }
}

struct Status(Lifecycle);

impl Commands for Status {
    async fn answer(&self, request: Request) -> Result<Value, Refusal> {
        match request.command.as_str() {
            "status" => Ok(json!({"stopping": self.0.is_stopping(), "open": self.0.open()})),
            _ => Err(request.unknown()),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(control: &Path) {
    let lifecycle = Lifecycle::new(LONG);
    let listener = tokio::net::TcpListener::from_std(sockets::take_listener("https").unwrap()).unwrap();
    let control = Server::bind(control).unwrap();
    let commands = Arc::new(Status(lifecycle.clone()));
    let controlling = tokio::spawn({
        let lifecycle = lifecycle.clone();
        async move { control.serve(commands, &lifecycle).await }
    });
    tokio::spawn({
        let lifecycle = lifecycle.clone();
        async move {
            let stopping = lifecycle.stopping();
            accept_each(&listener, stopping, |(connection, _)| drop(lifecycle.spawn(echo(connection)))).await;
        }
    });
    Readiness::from_env().ready().unwrap();
    assert_eq!(lifecycle.run().await.unwrap(), Drained::Quiet);
    controlling.await.unwrap();
}

async fn echo(connection: tokio::net::TcpStream) {
    let mut connection = tokio::io::BufReader::new(connection);
    let mut line = String::new();
    while connection.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        connection.write_all(line.as_bytes()).await.unwrap();
        line.clear();
    }
}

fn look_at_sockets() {
    assert!(sockets::names().unwrap().starts_with(&["https".to_owned(), "log".to_owned()]));
    assert!(matches!(sockets::take_unix_listener("https"), Err(SocketsError::Kind { .. })));
    assert!(matches!(sockets::take("https"), Err(SocketsError::NotPassed { left, .. }) if left == ["log"]));
    let log = sockets::take("log").unwrap();
    assert!(rustix::io::fcntl_getfd(&log).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    std::fs::File::from(log).write_all(b"seen").unwrap();
}

fn ask(control: &Path) -> Value {
    control::request(control, &Request::new("status"), LONG).unwrap()
}

fn wait_for(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Ends a daemon whose test failed half-way.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_daemon_lives_and_ends_without_cutting_anybody_off() {
    let folder = tempfile::tempdir().unwrap();
    let control: PathBuf = folder.path().join("control.sock");
    let notify = folder.path().join("notify.sock");
    let notified = UnixDatagram::bind(&notify).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();

    let mut command = again(&format!("serve {}", control.display()));
    command.env(NOTIFY_SOCKET, &notify);
    Handover::new().with("https", listener).unwrap().attach(&mut command);
    let mut daemon = Running(command.spawn().unwrap());
    // The command holds our copy of the socket; with it, connections would wait in a queue that nobody serves.
    drop(command);
    let mut message = [0; 32];
    let length = notified.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"READY=1\n");

    let mut reader = BufReader::new(TcpStream::connect(address).unwrap());
    let mut echoed = |text: &str| {
        reader.get_mut().write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, text);
    };
    echoed("before\n");
    assert_eq!(ask(&control), json!({"stopping": false, "open": 1}));

    let pid = rustix::process::Pid::from_child(&daemon.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_for(|| TcpStream::connect(address).is_err());
    assert_eq!(ask(&control), json!({"stopping": true, "open": 1}));
    echoed("while it drains\n");
    drop(reader);
    assert!(daemon.0.wait().unwrap().success());
    assert!(!control.exists());
}

#[test]
fn sockets_arrive_by_name_and_only_where_they_are_meant_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let handover = || {
        let handover = Handover::new().with("https", listener.try_clone().unwrap()).unwrap();
        handover.with("log", log.reopen().unwrap()).unwrap()
    };
    let mut command = again("look");
    handover().attach(&mut command);
    assert!(command.status().unwrap().success());
    assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "seen");

    let mut command = again("look");
    handover().attach(&mut command);
    command.env(LISTEN_PID, "1");
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("OtherProcess"), "{said}");
}
