//! A connection, against Debian's sshd.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::process::Signal;
use sovereign_hosts::{Access, Connection, Facts, Keys, Login, Run, SshError, choose, scan};
use sovereign_model::ssh::HostKey;
use sovereign_testkit::sshd::{Sshd, children, key, kill_with_children, signal_with_children};
use sovereign_testkit::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(20);

fn login(server: &Sshd) -> Login {
    Login {
        address: server.address(),
        host_key: server.host_key(),
        keys: Keys { files: vec![server.at("ours")], agent: None },
        known_hosts: server.at("known hosts"),
    }
}

async fn connect(server: &Sshd) -> Connection {
    Connection::open(login(server), Path::new("/tmp"), PATIENCE).await.unwrap()
}

/// This user, since nobody else's files can be made without rights.
fn us() -> String {
    format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_arrive_as_they_are_and_answers_come_back() {
    let server = Sshd::start("");
    let host = connect(&server).await;
    // One command after the other over one connection: no handshake each.
    let handle = tokio::runtime::Handle::current();
    let property = || {
        let strategy = vec(vec(1..=255_u8, 0..30), 0..5);
        TestRunner::new(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })
            .run(&strategy, |words| {
                let run = Run::new("print", "printf").arg("%s\\0").args(words.iter().cloned().map(OsString::from_vec));
                let answer = handle.block_on(host.succeed(&run)).unwrap();
                let mut expected: Vec<u8> = words.iter().flat_map(|word| [word.as_slice(), &[0]].concat()).collect();
                if words.is_empty() {
                    expected = vec![0];
                }
                prop_assert_eq!(answer, expected);
                Ok(())
            })
            .unwrap();
    };
    tokio::task::block_in_place(property);
    let nul = host.run(&Run::new("print", "printf").arg("a\0b")).await.unwrap_err();
    assert!(matches!(nul, SshError::Here { .. }), "{nul:?}");

    // Both streams, input and exit code, those of ssh itself included.
    let both = Run::script("fail", "cat; echo oops >&2; exit \"$1\"");
    for code in [3, 255] {
        let ended = host.run(&both.clone().arg(code.to_string()).input("in")).await.unwrap();
        assert_eq!((ended.code, ended.stdout.as_slice(), ended.said()), (code, b"in".as_slice(), "oops".to_owned()));
    }
    let failed = host.succeed(&both.clone().arg("7")).await.unwrap_err();
    assert!(matches!(&failed, SshError::Failed { code: 7, said, .. } if said == "oops"), "{failed:?}");
    let large = vec![b'x'; 3_000_000];
    let echoed = host.succeed(&Run::new("echo", "cat").input(large.clone()).answers_at_most(3_000_000)).await.unwrap();
    assert_eq!(echoed, large);
    // A command that reads nothing of its input.
    host.succeed(&Run::new("ignore", "true").input(large)).await.unwrap();
    let endless = host.run(&Run::new("babble", "yes").answers_at_most(10_000)).await.unwrap_err();
    assert!(matches!(endless, SshError::TooMuch { most: 10_000, .. }), "{endless:?}");

    // More at once than the server takes sessions.
    let many: Vec<_> = (0..16).map(|n| Run::script("wait", "sleep 0.1; echo \"$1\"").arg(n.to_string())).collect();
    let host = Arc::new(host);
    let mut answers = JoinSet::new();
    for (number, run) in many.into_iter().enumerate() {
        let host = Arc::clone(&host);
        answers.spawn(async move { (number, host.succeed(&run).await.unwrap()) });
    }
    while let Some(answer) = answers.join_next().await {
        let (number, answer) = answer.unwrap();
        assert_eq!(answer, format!("{number}\n").as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_whole_with_their_mode_or_not_at_all() {
    let server = Sshd::start("");
    let host = connect(&server).await;
    let home = server.at("home");
    let owner = us();
    let access = Access { mode: 0o640, owner: &owner };
    let path = home.join(OsString::from_vec(b"it's a \xff file".to_vec()));
    let content: Vec<u8> = (0..500_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    fs::write(server.at("content"), &content).unwrap();
    for _ in 0..2 {
        host.put_file(&server.at("content"), &path, access).await.unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), content);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(host.get_file(&path, 2_000_000).await.unwrap().as_deref(), Some(content.as_slice()));
    assert_eq!(host.get_file(&home.join("none"), 10).await.unwrap(), None);
    assert!(matches!(host.get_file(&path, 10).await, Err(SshError::TooMuch { .. })));

    host.put_bytes(&path, b"short", access).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"short");
    // What is no file stays, and nothing is left beside.
    fs::create_dir(home.join("folder")).unwrap();
    let refused = host.put_bytes(&home.join("folder"), b"x", access).await.unwrap_err();
    assert!(matches!(refused, SshError::Failed { .. }), "{refused:?}");
    assert!(home.join("folder").is_dir());
    host.put_bytes(&home.join("none/x"), b"x", access).await.unwrap_err();
    assert_eq!(fs::read_dir(&home).unwrap().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_the_host_is_reached_on_this_machine() {
    let server = Sshd::start("");
    let host = connect(&server).await;
    let path = server.at("home/there.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let local = host.forward(&path).await.unwrap();
    let folder = fs::metadata(local.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(folder & 0o777, 0o700);
    for round in 0..3_u8 {
        let (mut here, (mut there, _)) = tokio::try_join!(UnixStream::connect(&local), listener.accept()).unwrap();
        here.write_all(&[round; 100_000]).await.unwrap();
        here.shutdown().await.unwrap();
        let mut said = Vec::new();
        there.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, [round; 100_000]);
        there.write_all(b"yes").await.unwrap();
        drop(there);
        let mut answer = Vec::new();
        here.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"yes");
    }
    let wrong = host.forward(Path::new("/a:b")).await.unwrap_err();
    assert!(matches!(wrong, SshError::Here { .. }), "{wrong:?}");
    host.close().await;
    // What a killed process left is removed by the next one; what belongs to one that lives is not.
    let sockets = server.at("home/sockets");
    let of = |process: u32| sockets.join(format!("sovereign-ssh-{process}-0"));
    // The kernel gives no such number.
    let (gone, lives) = (of(u32::MAX), of(std::process::id()));
    for folder in [&gone, &lives] {
        fs::create_dir_all(folder).unwrap();
    }
    let known_hosts = server.at("known");
    Connection::open(Login { known_hosts, ..login(&server) }, &sockets, PATIENCE).await.unwrap().close().await;
    assert!(!gone.exists() && lives.exists());
    assert_eq!(fs::read_dir(&sockets).unwrap().count(), 1);
    assert!(!local.exists() && !local.parent().unwrap().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_the_host_reaches_is_a_stream() {
    let server = Sshd::start("");
    let host = connect(&server).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut ours = host.dial(address).unwrap();
    let (mut theirs, _) = listener.accept().await.unwrap();
    ours.write_all(b"question").await.unwrap();
    let mut question = [0; 8];
    theirs.read_exact(&mut question).await.unwrap();
    theirs.write_all(b"answer").await.unwrap();
    drop(theirs);
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).await.unwrap();
    assert_eq!((&question, answer.as_slice()), (b"question", b"answer".as_slice()));
    // Dropped, it ends at the other side.
    let ours = host.dial(address).unwrap();
    let (mut theirs, _) = listener.accept().await.unwrap();
    drop(ours);
    assert_eq!(theirs.read(&mut question).await.unwrap_or(0), 0);
    // Nobody listens.
    drop(listener);
    let mut answer = Vec::new();
    host.dial(address).unwrap().read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_another_key_is_told_nothing_and_both_fingerprints_are_said() {
    let mut server = Sshd::start("");
    let pinned = server.host_key();
    let scanned = scan(&server.address(), PATIENCE).await.unwrap();
    assert_eq!(scanned.as_slice(), std::slice::from_ref(&pinned));
    assert_eq!(choose(&server.address(), scanned, &pinned.fingerprint()).unwrap(), pinned);
    server.change_host_key();
    let error =
        Connection::open(Login { host_key: pinned.clone(), ..login(&server) }, Path::new("/tmp"), PATIENCE).await;
    let error = error.unwrap_err();
    let found = server.host_key().fingerprint();
    let SshError::HostKeyChanged { pinned: expected, found: shown, .. } = &error else { panic!("{error:?}") };
    assert_eq!((expected, shown.as_ref()), (&pinned.fingerprint(), Some(&found)));
    assert!(error.to_string().contains(&found.to_string()) && error.help().is_some(), "{error}");

    // A host that has only keys of another kind is another host too.
    let ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=";
    let other: HostKey = ecdsa.parse().unwrap();
    let error = Connection::open(Login { host_key: other, ..login(&server) }, Path::new("/tmp"), PATIENCE).await;
    assert!(matches!(error, Err(SshError::HostKeyChanged { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_and_what_is_not_there_is_told() {
    let server = Sshd::start("");
    key(&server.at("other"));
    let keys = Keys { files: vec![server.at("other")], agent: None };
    let error = Connection::open(Login { keys, ..login(&server) }, Path::new("/tmp"), PATIENCE).await.unwrap_err();
    assert!(matches!(error, SshError::KeyRefused { .. }), "{error:?}");
    assert!(error.help().unwrap().contains("other.pub to ~/.ssh/authorized_keys"), "{:?}", error.help());

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = format!("root@127.0.0.1:{port}").parse().unwrap();
    let error = Connection::open(Login { address: nobody, ..login(&server) }, Path::new("/tmp"), PATIENCE).await;
    let error = error.unwrap_err();
    assert!(matches!(&error, SshError::Unreachable { said, .. } if said.contains("refused")), "{error:?}");
    assert!(error.may_pass());

    // Somebody listens and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("root@{}", silent.local_addr().unwrap()).parse().unwrap();
    let waited = Duration::from_millis(300);
    let error = Connection::open(Login { address: silent, ..login(&server) }, Path::new("/tmp"), waited).await;
    assert!(matches!(error, Err(SshError::TimedOut { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hangs_is_given_up_and_heard_again() {
    let server = Sshd::start("");
    let host = connect(&server).await;
    host.succeed(&Run::new("do nothing", "true")).await.unwrap();
    children(server.pid()).into_iter().for_each(|pid| signal_with_children(pid, Signal::STOP));
    // Without an end of patience it would wait until the host is heard again, which is below.
    let error = host.run(&Run::new("do nothing", "true").within(Duration::from_millis(500))).await.unwrap_err();
    assert!(matches!(error, SshError::TimedOut { .. }), "{error:?}");
    children(server.pid()).into_iter().for_each(|pid| signal_with_children(pid, Signal::CONT));
    host.succeed(&Run::new("do nothing", "true")).await.unwrap();
    // A command that does not end is given up without harm to others.
    let slow = Run::new("sleep", "sleep").arg("60").within(Duration::from_millis(300));
    assert!(matches!(host.run(&slow).await, Err(SshError::TimedOut { .. })));
    host.succeed(&Run::new("do nothing", "true")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_is_told_at_once_and_never_made_anew_unseen() {
    let mut server = Sshd::start("");
    let host = connect(&server).await;
    let begun = server.at("begun");
    let run = Run::script("work", "echo > \"$1\"; exec sleep 60").arg(&begun);
    let cut = async {
        wait::until("the command begins", || async { begun.exists().then_some(()) }).await;
        kill_with_children(server.pid());
    };
    let (error, ()) = tokio::join!(host.run(&run), cut);
    let error = error.unwrap_err();
    assert!(matches!(error, SshError::Lost { .. }) && error.may_pass(), "{error:?}");
    server.kill();
    server.restart();
    // The host is back; this connection is not.
    let error = host.run(&Run::new("do nothing", "true")).await.unwrap_err();
    assert!(matches!(error, SshError::Lost { .. }), "{error:?}");
    connect(&server).await.succeed(&Run::new("do nothing", "true")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_is_told_as_a_host() {
    let server = Sshd::start("");
    let facts = Facts::gather(&connect(&server).await).await.unwrap();
    assert_eq!(facts.uid, Some(rustix::process::geteuid().as_raw()));
    assert_eq!(facts.architecture, std::env::consts::ARCH);
    assert_eq!(facts.clock_off, Some(0.0));
    assert_eq!(facts.ssh_port, Some(server.port()));
    let hears_us =
        |listeners: &Vec<_>| listeners.iter().any(|l: &sovereign_hosts::facts::Listener| l.port == server.port());
    assert!(facts.listeners.as_ref().is_some_and(hears_us), "{:?}", facts.listeners);
    assert!(facts.memory.is_some_and(|bytes| bytes > 0) && facts.disk_free.is_some(), "{facts:?}");
    assert!(facts.features.overlay && !facts.kernel.is_empty() && !facts.system.id.is_empty(), "{facts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_talked_with_and_ends_when_nobody_listens_any_more() {
    let server = Sshd::start("");
    let host = connect(&server).await;
    let ended = server.at("home/ended");
    // It says what it hears, and leaves a file when it has heard the end.
    let script = "echo complaint >&2; while read -r line; do echo \"heard $line\"; done; : > \"$1\"";
    let echo = Run::script("echo", script).arg(&ended);
    let (talk, mut answers, mut questions) = host.talk(&echo).await.unwrap();
    for word in ["one", "it's two"] {
        writeln!(questions, "{word}").unwrap();
        let expected = format!("heard {word}\n");
        let mut answer = vec![0; expected.len()];
        answers.read_exact(&mut answer).unwrap();
        assert_eq!(answer, expected.as_bytes());
    }
    // Another command is not kept waiting.
    host.succeed(&Run::new("do nothing", "true")).await.unwrap();
    assert!(!ended.exists());
    drop(questions);
    let mut rest = Vec::new();
    answers.read_to_end(&mut rest).unwrap();
    assert_eq!((rest.as_slice(), talk.end().as_str()), (b"".as_slice(), "complaint"));
    assert!(ended.exists());

    // Dropped while it runs: the host's side ends too.
    fs::remove_file(&ended).unwrap();
    let (talk, mut answers, mut questions) = host.talk(&echo).await.unwrap();
    writeln!(questions, "x").unwrap();
    answers.read_exact(&mut [0; "heard x\n".len()]).unwrap();
    drop(talk);
    wait::until("the command has heard the end", || async { ended.exists().then_some(()) }).await;
    drop((answers, questions));
    // A line that is cut is the end of the answers.
    let (_talk, mut answers, mut questions) = host.talk(&echo).await.unwrap();
    writeln!(questions, "x").unwrap();
    answers.read_exact(&mut [0; "heard x\n".len()]).unwrap();
    children(server.pid()).into_iter().for_each(kill_with_children);
    assert_eq!(answers.read_to_end(&mut rest).unwrap(), 0);
}
