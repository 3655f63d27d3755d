//! The control socket with real sockets: what it answers, and what it does not let itself be talked into.

#![cfg(test)]

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sovereign_runtime::control::{
    Commands, ControlError, MOST_CONNECTIONS, MOST_LINE, Refusal, Request, Server, request, request_async,
};
use sovereign_runtime::lifecycle::{Drained, Lifecycle};
use sovereign_runtime::socket::{self, SocketError};

const LONG: Duration = Duration::from_secs(60);

/// Echoes, refuses, is slow or says too much, as it is told.
struct Parrot;

impl Commands for Parrot {
    async fn answer(&self, request: Request) -> Result<Value, Refusal> {
        match request.command.as_str() {
            "status" => Ok(json!({"healthy": true})),
            "echo" => Ok(Value::Object(request.fields)),
            "refuse" => Err(Refusal::new("not today").help("come back tomorrow")),
            "sleep" => std::future::pending().await,
            "shout" => Ok("a".repeat(request.field("bytes")?).into()),
            _ => Err(request.unknown()),
        }
    }
}

/// A served control socket at a path that is longer than the kernel takes.
struct Daemon {
    lifecycle: Lifecycle,
    serving: tokio::task::JoinHandle<()>,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("control.sock");
        let lifecycle = Lifecycle::new(LONG);
        let server = Server::bind(&path).unwrap();
        let serving = serve(server, &lifecycle);
        Self { lifecycle, serving, path, _folder: folder }
    }

    async fn ask(&self, request: Request) -> Result<Value, ControlError> {
        request_async(&self.path, &request, LONG).await
    }

    /// What the daemon answers to raw bytes until it hangs up.
    async fn answer_to(&self, bytes: Vec<u8>) -> String {
        let mut stream = socket::connect(&self.path).unwrap();
        let talking = move || {
            // The daemon may hang up before it has read everything.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8(answer).unwrap()
        };
        tokio::task::spawn_blocking(talking).await.unwrap()
    }
}

fn serve(server: Server, lifecycle: &Lifecycle) -> tokio::task::JoinHandle<()> {
    let lifecycle = lifecycle.clone();
    tokio::spawn(async move { server.serve(Arc::new(Parrot), &lifecycle).await })
}

async fn blocking(path: &Path, asked: Request, timeout: Duration) -> Result<Value, ControlError> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || request(&path, &asked, timeout)).await.unwrap()
}

#[tokio::test]
async fn questions_are_answered_to_both_kinds_of_client() {
    let daemon = Daemon::start();
    let status = Request::new("status");
    assert_eq!(daemon.ask(status.clone()).await.unwrap(), json!({"healthy": true}));
    assert_eq!(blocking(&daemon.path, status, LONG).await.unwrap(), json!({"healthy": true}));

    let text = "ü\n\"".repeat(50_000);
    let echo = Request::new("echo").with("text", text.clone());
    assert_eq!(daemon.ask(echo.clone()).await.unwrap(), json!({"text": text}));
    assert_eq!(blocking(&daemon.path, echo, LONG).await.unwrap(), json!({"text": text}));
}

#[tokio::test]
async fn a_no_comes_with_help() {
    let daemon = Daemon::start();
    let error = daemon.ask(Request::new("refuse")).await.unwrap_err();
    assert_eq!(error.help().as_deref(), Some("come back tomorrow"));
    assert!(matches!(error, ControlError::Refused(refusal) if refusal.message == "not today"));
    let error = blocking(&daemon.path, Request::new("dance"), LONG).await.unwrap_err();
    assert!(matches!(error, ControlError::Refused(refusal) if refusal.message == r#"there is no command "dance""#));
}

#[tokio::test]
async fn one_connection_carries_several_requests_and_garbage_between_them() {
    let daemon = Daemon::start();
    let lines = "{\"protocol\":1,\"command\":\"status\"}\nnonsense\n\n{\"protocol\":9,\"command\":\"status\"}\n";
    insta::assert_snapshot!(daemon.answer_to(lines.into()).await);
}

#[tokio::test]
async fn an_endless_line_is_not_read_to_its_end() {
    let daemon = Daemon::start();
    let answer = daemon.answer_to(vec![b'a'; MOST_LINE + 2]).await;
    // A hang-up with unread bytes may swallow the refusal; what must not happen is an answer to the line.
    assert!(answer.is_empty() || answer.contains("a line has at most"), "{answer}");
    daemon.ask(Request::new("status")).await.unwrap();

    let long = Request::new("echo").with("text", "a".repeat(MOST_LINE));
    assert!(matches!(daemon.ask(long).await, Err(ControlError::TooLong { .. })));
    let error = daemon.ask(Request::new("shout").with("bytes", MOST_LINE)).await.unwrap_err();
    assert!(matches!(error, ControlError::Refused(refusal) if refusal.message.contains("longer than a line")));
}

#[tokio::test]
async fn a_client_does_not_wait_for_ever() {
    let daemon = Daemon::start();
    let short = Duration::from_millis(30);
    let error = request_async(&daemon.path, &Request::new("sleep"), short).await.unwrap_err();
    assert!(matches!(error, ControlError::Timeout { .. }), "{error:?}");
    let error = blocking(&daemon.path, Request::new("sleep"), short).await.unwrap_err();
    assert!(matches!(error, ControlError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_trickles_in_does_not_stretch_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slow.sock");
    let listener = socket::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(b"a").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let error = blocking(&path, Request::new("status"), Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, ControlError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn too_many_connections_are_turned_away_and_the_rest_goes_on() {
    let daemon = Daemon::start();
    let mut held: Vec<UnixStream> = (0..MOST_CONNECTIONS).map(|_| socket::connect(&daemon.path).unwrap()).collect();
    // The last of them is in the daemon's hands once the next one is turned away.
    let error = daemon.ask(Request::new("status")).await.unwrap_err();
    assert!(matches!(error, ControlError::Broken { .. }), "{error:?}");
    held.pop();
    while daemon.ask(Request::new("status")).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_daemon_answers_while_it_drains_and_then_leaves_nothing() {
    let daemon = Daemon::start();
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    daemon.lifecycle.spawn(finished);
    daemon.lifecycle.stop();
    let running = tokio::spawn({
        let lifecycle = daemon.lifecycle.clone();
        async move { lifecycle.run().await.unwrap() }
    });
    daemon.ask(Request::new("status")).await.unwrap();
    finish.send(()).unwrap();
    assert_eq!(running.await.unwrap(), Drained::Quiet);
    daemon.serving.await.unwrap();
    assert!(!daemon.path.exists());
    let error = request_async(&daemon.path, &Request::new("status"), LONG).await.unwrap_err();
    assert!(error.nobody_listens(), "{error:?}");
}

#[tokio::test]
async fn a_successor_takes_the_socket_over_and_keeps_it() {
    let old = Daemon::start();
    assert!(matches!(Server::bind(&old.path), Err(SocketError::InUse { .. })));
    let lifecycle = Lifecycle::new(LONG);
    let _new = serve(Server::take_over(&old.path).unwrap(), &lifecycle);
    old.lifecycle.stop();
    old.lifecycle.run().await.unwrap();
    old.serving.await.unwrap();
    assert_eq!(request_async(&old.path, &Request::new("status"), LONG).await.unwrap(), json!({"healthy": true}));
}

/// Who may not is somebody who is in neither group; who may, another user that is in the socket's.
#[tokio::test]
async fn a_shared_socket_answers_its_group_and_nobody_else() {
    const ASK: &str = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                       s.sendall(b'{\"protocol\":1,\"command\":\"status\"}\\n'); print(s.recv(100).decode())";
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let root = rustix::process::geteuid().is_root();
    for shared in [false, true] {
        let at = PathBuf::from(format!("/tmp/sovereign-shared-{}.sock", std::process::id()));
        let server = Server::bind(&at).unwrap();
        let server = if shared { server.shared_with_group().unwrap() } else { server };
        let lifecycle = Lifecycle::new(LONG);
        let serving = serve(server, &lifecycle);
        assert_eq!(mode(&at), if shared { 0o660 } else { 0o600 });
        std::fs::remove_file(&at).unwrap();
        let wanted = || mode(&at) == if shared { 0o660 } else { 0o600 };
        while !at.exists() || !wanted() {
            tokio::task::yield_now().await;
        }
        for (group, answered) in [(0, shared), (65_534, false)].into_iter().filter(|_| root) {
            let mut command = tokio::process::Command::new("python3");
            command.args(["-c", ASK]).arg(&at).uid(65_534).gid(group);
            let said = String::from_utf8(command.output().await.unwrap().stdout).unwrap();
            assert_eq!(said.contains("healthy"), answered, "{said}");
        }
        lifecycle.stop();
        lifecycle.run().await.unwrap();
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn a_name_that_was_removed_comes_back() {
    let daemon = Daemon::start();
    std::fs::remove_file(&daemon.path).unwrap();
    let answer = loop {
        match daemon.ask(Request::new("status")).await {
            Err(error) if error.nobody_listens() => tokio::task::yield_now().await,
            answer => break answer.unwrap(),
        }
    };
    assert_eq!(answer, json!({"healthy": true}));
    daemon.lifecycle.stop();
    daemon.lifecycle.run().await.unwrap();
    daemon.serving.await.unwrap();
    assert!(!daemon.path.exists(), "the new name is removed at the end too");
}
