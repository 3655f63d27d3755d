//! The lease of a run on its hosts: one that answers, and one that does not.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sovereign_engine::incus::lease::{Lease, LeaseError, held};
use sovereign_engine::incus::{IncusEngineError, Reach};
use sovereign_hosts::lease::{Holder, RENEWED_EVERY};
use sovereign_hosts::{Keys, Login, Run};
use sovereign_model::EdgeName;
use sovereign_model::layout::StateFolder;
use sovereign_testkit::sshd::Sshd;
use sovereign_testkit::wait;

fn holder(name: &str) -> Holder {
    Holder::new(format!("run-{name}"), format!("machine-{name}"), format!("{name}@desk"), "up".to_owned(), 7)
}

fn edge(name: &str) -> EdgeName {
    name.parse().unwrap()
}

/// A way to the server, and to one that is not there, as one management machine has it.
fn reach(server: &Sshd, name: &str) -> Arc<Reach> {
    let login = |address| Login {
        address,
        host_key: server.host_key(),
        keys: Keys { files: vec![server.at("ours")], agent: None },
        known_hosts: server.at(name),
    };
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gone = format!("root@127.0.0.1:{free}").parse().unwrap();
    let hosts = [(edge("home/atlas"), login(server.address())), (edge("office/titan"), login(gone))];
    Arc::new(Reach::new(hosts, "/tmp".into(), StateFolder::new(server.at("state"))))
}

fn lease(reach: &Arc<Reach>, folder: &Path, name: &str, every: Duration) -> Lease {
    Lease::new(reach, folder, holder(name), every).unwrap()
}

/// Works on the host.
async fn works(reach: &Reach) -> bool {
    let link = reach.link(&edge("home/atlas")).await.unwrap();
    link.connection.succeed(&Run::new("do something", "true")).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_one_runs_and_whoever_loses_it_is_told_and_does_nothing_more() {
    let (server, none) = (Sshd::start(""), BTreeSet::new());
    let folder = server.at("lease");
    let (to_anna, to_ben) = (reach(&server, "anna"), reach(&server, "ben"));
    // Not so often that whoever takes it comes too late each time.
    let anna = lease(&to_anna, &folder, "anna", Duration::from_millis(500));
    anna.take(&none).unwrap();
    assert!(works(&to_anna).await);
    // What does not answer is left out, and stays so.
    let Err(IncusEngineError::LeftOut { why, .. }) = to_anna.link(&edge("office/titan")).await else {
        panic!("it answers")
    };
    assert!(why.contains("cannot reach"), "{why}");

    let ben = lease(&to_ben, &folder, "ben", RENEWED_EVERY);
    let refused = ben.take(&none).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("`sovereign up` of anna@desk, process 7, on home/atlas for "), "{said}");
    let LeaseError::Held { by } = refused else { panic!("{refused}") };
    assert_eq!(by.keys().collect::<Vec<_>>(), [&edge("home/atlas")]);
    // From another run than the one that has it, nothing is taken.
    assert!(ben.take(&["run-carla".to_owned()].into()).is_err());
    // It is renewed: its number counts up, and it is held by the same run.
    let files = || std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let before = files();
    wait::until("the renewal", async || (files() != before).then_some(())).await;

    ben.take(&["run-anna".to_owned()].into()).unwrap();
    let seen = held(&to_ben, &folder).await;
    assert_eq!(seen.get(&edge("home/atlas")).map(|held| held.holder.run.as_str()), Some("run-ben"));
    let lost = anna.lost().await;
    assert!(matches!(&lost, LeaseError::Lost { by: Some(by), .. } if by.holder.run == "run-ben"), "{lost}");
    assert!(!works(&to_anna).await, "nothing is sent any more");
    assert!(works(&to_ben).await);
    // The end of a run that has lost it takes it from nobody.
    drop(anna);
    let seen = held(&to_ben, &folder).await;
    assert_eq!(seen[&edge("home/atlas")].holder.run, "run-ben");
    drop(ben);
    assert!(held(&to_ben, &folder).await.is_empty(), "given back at the end");

    // A stack without hosts needs none.
    let nowhere = Arc::new(Reach::new([], "/tmp".into(), StateFolder::new(server.at("state"))));
    lease(&nowhere, &folder, "anna", RENEWED_EVERY).take(&none).unwrap();
}
