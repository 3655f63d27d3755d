//! The lease on a host: its script in a real shell, with many who want it at once, and over Debian's sshd.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sovereign_hosts::lease::claim::Outcome;
use sovereign_hosts::lease::{self, Holder, Renewed, Seen, Taken, Tenure};
use sovereign_hosts::{Connection, Keys, Login, Run, SshError};
use sovereign_testkit::sshd::Sshd;

const SCRIPT: &str = include_str!("../src/lease/lease.sh");

fn holder(run: &str, machine: &str) -> Holder {
    Holder::new(run.to_owned(), machine.to_owned(), "anna@laptop".to_owned(), "up".to_owned(), 7)
}

fn swap(folder: &Path, number: u64) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "sovereign"]).arg(folder).args(["swap", &number.to_string(), "90"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn say(child: &mut Child, text: &str) {
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
}

fn hear(child: Child) -> (Outcome, Seen) {
    let output = child.wait_with_output().unwrap();
    Seen::parse(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

/// The files that lie there.
fn files(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn of_all_who_swap_at_once_one_wins_and_the_others_see_it() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("a stack");
    for number in 0..12 {
        // All have seen the same, and wait for the last word of what they want to lay there.
        let mut all: Vec<Child> = (0..8).map(|_| swap(&folder, number)).collect();
        for (who, child) in all.iter_mut().enumerate() {
            let text = serde_json::to_string(&holder(&format!("run-{number}-{who}"), &who.to_string())).unwrap();
            say(child, &format!("{text}\n"));
        }
        let heard: Vec<_> = all.into_iter().map(hear).collect();
        let won: Vec<usize> = (0..8).filter(|who| heard[*who].0 == Outcome::Won).collect();
        assert_eq!(won.len(), 1, "{heard:?}");
        for (outcome, seen) in heard {
            assert_ne!(outcome, Outcome::Seen);
            assert_eq!(seen.number, number + 1);
            assert_eq!(seen.held().unwrap().holder.run, format!("run-{number}-{}", won[0]));
        }
        assert_eq!(files(&folder), [format!("lease.{}", number + 1)].into(), "nothing piles up");
    }
    // Somebody who has seen what was long ago, and whose number is not there any more.
    let mut late = swap(&folder, 3);
    say(&mut late, "free\n");
    let (outcome, seen) = hear(late);
    assert_eq!((outcome, seen.number), (Outcome::Lost, 12));
    assert!(seen.held().is_some());
}

#[test]
fn a_swap_that_is_killed_leaves_what_was_there_and_nonsense_beside_it_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("stack");
    let mut first = swap(&folder, 0);
    say(&mut first, &format!("{}\n", serde_json::to_string(&holder("run-1", "m-1")).unwrap()));
    assert_eq!(hear(first).0, Outcome::Won);
    // It waits for its input, its file half-written.
    let mut killed = swap(&folder, 1);
    while files(&folder).len() < 2 {
        std::thread::yield_now();
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    for name in ["lease.", "lease.x", "lease.09", "lease.99999999999999999999", "lease.7.new", "other"] {
        fs::write(folder.join(name), "nonsense").unwrap();
    }
    let mut next = swap(&folder, 1);
    say(&mut next, "free\n");
    let (outcome, seen) = hear(next);
    assert_eq!((outcome, seen.number, seen.held()), (Outcome::Won, 2, None));

    // No room, or no right to write: it is not held, and that is said.
    fs::write(root.path().join("file"), "").unwrap();
    let mut refused = swap(&root.path().join("file/below"), 0);
    let _ = refused.stdin.take();
    assert!(!refused.wait_with_output().unwrap().status.success());
}

async fn connect(server: &Sshd) -> Connection {
    let login = Login {
        address: server.address(),
        host_key: server.host_key(),
        keys: Keys { files: vec![server.at("ours")], agent: None },
        known_hosts: server.at("known hosts"),
    };
    Connection::open(login, Path::new("/tmp"), Duration::from_secs(20)).await.unwrap()
}

async fn take(host: &Connection, folder: &Path, us: &Holder) -> Taken {
    let seen = lease::look(host, folder).await.unwrap();
    lease::take(host, folder, us, seen, |_| false).await.unwrap()
}

fn ours(taken: Taken) -> Tenure {
    match taken {
        Taken::Ours(tenure) => tenure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_goes_from_hand_to_hand_over_ssh() {
    let server = Sshd::start("");
    let (host, folder) = (connect(&server).await, server.at("run/lease/shop"));
    let (anna, ben) = (holder("run-a", "laptop"), holder("run-b", "desk"));
    let held = ours(take(&host, &folder, &anna).await);
    assert!(held.is_certain(lease::here()));
    let Taken::Theirs(holding) = take(&host, &folder, &ben).await else { panic!("two have it") };
    assert_eq!((holding.holder.run.as_str(), holding.holder.who.as_str()), ("run-a", "anna@laptop"));

    let Renewed::Ours(held) = lease::renew(&host, &folder, &held).await.unwrap() else { panic!("it was ours") };
    assert!(matches!(take(&host, &folder, &ben).await, Taken::Theirs(_)));
    // An answer that was lost on its way: the host is one number ahead.
    let Renewed::Ours(unheard) = lease::renew(&host, &folder, &held).await.unwrap() else { panic!("it was ours") };
    let Renewed::Ours(again) = lease::renew(&host, &folder, &held).await.unwrap() else { panic!("it is ours") };
    assert_eq!((again.number, again.until), (unheard.number, held.until), "nothing is certain that was not heard");

    lease::release(&host, &folder, &held).await.unwrap();
    let held = ours(take(&host, &folder, &ben).await);
    // The same machine's next run does not wait for what a killed one left.
    let held_again = ours(take(&host, &folder, &holder("run-c", "desk")).await);
    let lost = lease::renew(&host, &folder, &held).await.unwrap();
    assert!(matches!(lost, Renewed::Lost(Some(holding)) if holding.holder.run == "run-c"));
    // Taken by force from the run that was named, and from no other.
    let seen = lease::look(&host, &folder).await.unwrap();
    let forced = |from: &'static str| {
        let (host, folder, anna, seen) = (&host, &folder, &anna, seen.clone());
        async move { lease::take(host, folder, anna, seen, |holder| holder.run == from).await.unwrap() }
    };
    assert!(matches!(forced("run-b").await, Taken::Theirs(_)));
    ours(forced("run-c").await);
    lease::release(&host, &folder, &held_again).await.unwrap();
    assert_eq!(lease::look(&host, &folder).await.unwrap().held().unwrap().holder.run, "run-a");

    lease::remove(&host, &folder).await.unwrap();
    assert!(!server.at("run").exists());
    assert_eq!(lease::look(&host, &folder).await.unwrap().number, 0);
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certain_lease_nothing_is_sent_but_what_renews_it() {
    let server = Sshd::start("");
    let (host, folder) = (connect(&server).await, server.at("lease"));
    let held = ours(take(&host, &folder, &holder("run-a", "laptop")).await);
    let say = Run::new("say it", "echo").arg("it");
    host.work_until(held.until);
    host.succeed(&say).await.unwrap();
    host.work_until(lease::here());
    let refused = host.succeed(&say).await.unwrap_err();
    assert!(matches!(&refused, SshError::Lost { said, .. } if said.contains("lease")), "{refused:?}");
    let Renewed::Ours(held) = lease::renew(&host, &folder, &held).await.unwrap() else {
        panic!("nobody else wants it")
    };
    host.work_until(held.until);
    host.succeed(&say).await.unwrap();

    // All turns are taken by what takes long, and it is renewed all the same.
    let fifo = server.at("fifo");
    host.succeed(&Run::new("make a pipe", "mkfifo").arg(&fifo)).await.unwrap();
    let wait = Run::new("wait", "cat").arg(&fifo);
    let waiting = async { futures_of(8, || host.run(&wait)).await };
    let renewing = async {
        let renewed = lease::renew(&host, &folder, &held).await;
        drop(fs::OpenOptions::new().write(true).open(&fifo).unwrap());
        renewed
    };
    let (_, renewed) = tokio::join!(waiting, renewing);
    assert!(matches!(renewed.unwrap(), Renewed::Ours(_)));

    host.cut().await;
    assert!(matches!(host.succeed(&say).await.unwrap_err(), SshError::Lost { .. }));
    assert!(lease::look(&host, &folder).await.is_err());
}

/// So many of the same at once; the first of them that ends, ends them.
async fn futures_of<F: Future>(count: usize, make: impl Fn() -> F) {
    let mut all: Vec<_> = (0..count).map(|_| Box::pin(make())).collect();
    std::future::poll_fn(|context| {
        let mut is_over = false;
        for future in &mut all {
            is_over |= !is_over && future.as_mut().poll(context).is_ready();
        }
        if is_over { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
