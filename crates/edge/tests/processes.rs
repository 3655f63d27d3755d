//! The edge as a process of its own, as its supervisor starts it: socket passed on, signals, memory.

mod common;

use common::process::{Process, play, status};
use common::{Lab, NAME, Origin, eventually};
use http::StatusCode;
use rustix::process::Signal;
use sovereign_model::edge_config::Source;

/// Not a test: what the processes of these tests run, started by name.
#[test]
#[ignore = "is the edge process of the other tests"]
fn edge_process() {
    play();
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

    let old = Process::spawn(&lab, &home);
    old.complete(&home).await;
    let (resident, own) = (old.memory_kib("VmRSS"), old.memory_kib("RssAnon"));
    println!("memory of an idle edge: {resident} KiB resident, {own} KiB of it its own");
    assert!(resident < 40 * 1024, "{resident} KiB");

    let mut sender = lab.client.http1(home.address()).await;
    let new = Process::spawn(&lab, &home);
    eventually("the new one has the control socket", async || {
        (status(&home).await?["process"] == new.0.id()).then_some(())
    })
    .await;
    old.signal(Signal::TERM);
    // The connection that was open before is served once more, and told to close.
    let asked = common::client::request(http::Method::GET, &host, "/first/", &[], Default::default());
    let answer = common::client::collected(sender.send_request(asked).await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    new.complete(&home).await;
    old.stop();
    assert_eq!(lab.client.get(home.address(), &host, "/first/").await.status, StatusCode::OK);
    new.stop();
    assert!(!home.control().exists(), "nothing is left behind");
}
