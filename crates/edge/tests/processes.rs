//! The edge as a process of its own, as its supervisor starts it: socket passed on, signals, memory.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::process::{Child, Command};
use std::time::Duration;

use common::{Lab, NAME, Origin, Place, eventually};
use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sovereign_edge::{Options, SOCKET};
use sovereign_model::edge_config::Source;
use sovereign_runtime::control::{Request, request_async};
use sovereign_runtime::signed::parse_trust;
use sovereign_runtime::sockets::Handover;

/// Not a test: what the processes of these tests run, started by name.
#[test]
#[ignore = "is the edge process of the other tests"]
fn edge_process() {
    let [config, trust, control] = ["CONFIG", "TRUST", "CONTROL"].map(|name| std::env::var(name).unwrap());
    let options = Options { config: config.into(), trust: parse_trust(&trust).unwrap(), control: control.into() };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(2))
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(sovereign_edge::run(options)).unwrap();
}

fn spawn(lab: &Lab, place: &Place) -> Child {
    let options = lab.options(place);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "edge_process", "--test-threads=1"]).env_clear();
    command.env("CONFIG", &options.config).env("CONTROL", &options.control);
    command.env("TRUST", hex::encode(options.trust.as_bytes()));
    let listener = place.listener.try_clone().unwrap();
    Handover::new().with(SOCKET, listener).unwrap().attach(&mut command);
    command.spawn().unwrap()
}

async fn status_of(place: &Place, process: &Child) -> Value {
    eventually("the process answers", async || {
        let status = request_async(&place.control(), &Request::new("status"), Duration::from_secs(5)).await.ok()?;
        (status["process"] == process.id() && status["sites"][0]["complete"] == true).then_some(status)
    })
    .await
}

fn terminate(process: &Child) {
    kill_process(Pid::from_child(process), Signal::TERM).unwrap();
}

/// A line of proc_pid_status(5), in KiB.
fn memory_kib(process: &Child, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figure is worth seeing")]
async fn processes_relieve_each_other_and_end_when_told() {
    let lab = Lab::new();
    let origin = Origin::start(lab.folder.path());
    origin.fill();
    let home = lab.place("home");
    let site = lab.site(&home, Source::Unix(origin.socket.clone()));
    origin.set_canonical(&site.canonical.to_string());
    lab.seal(&home, 1, &lab.config(&home, Vec::new(), site));
    let host = format!("{NAME}:{}", home.port());

    let mut old = spawn(&lab, &home);
    status_of(&home, &old).await;
    let (resident, own) = (memory_kib(&old, "VmRSS"), memory_kib(&old, "RssAnon"));
    println!("memory of an idle edge: {resident} KiB resident, {own} KiB of it its own");
    assert!(resident < 40 * 1024, "{resident} KiB");

    let mut sender = lab.client.http1(home.address()).await;
    let mut new = spawn(&lab, &home);
    eventually("the new one has the control socket", async || {
        let status = request_async(&home.control(), &Request::new("status"), Duration::from_secs(5)).await.ok()?;
        (status["process"] == new.id()).then_some(())
    })
    .await;
    terminate(&old);
    // The connection that was open before is served once more, and told to close.
    let asked = common::client::request(http::Method::GET, &host, "/first/", &[], Default::default());
    let answer = common::client::collected(sender.send_request(asked).await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    status_of(&home, &new).await;
    assert!(old.wait().unwrap().success());
    assert_eq!(lab.client.get(home.address(), &host, "/first/").await.status, StatusCode::OK);
    terminate(&new);
    assert!(new.wait().unwrap().success());
    assert!(!home.control().exists(), "nothing is left behind");
}
