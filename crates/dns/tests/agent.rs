//! An agent that watches real TLS servers, which die in every way that servers do, and come back.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(clippy::print_stderr, reason = "figures")]

mod common;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sovereign_dns::LoadError;
use sovereign_dns::agent::{self, AgentError, Options};
use sovereign_dns::provider::publish::Pace;
use sovereign_model::agent_config::{AgentConfig, Dynamic, PROTOCOL, Watched};
use sovereign_model::agent_status::{AgentStatus, Sight, Standing};
use sovereign_model::trial::{Heard, Speech, Trial};
use sovereign_runtime::SigningKey;
use sovereign_runtime::control::{Request, request_async};
use sovereign_runtime::lifecycle::{Drained, Lifecycle};
use sovereign_runtime::signed;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use common::{Authority, Manner, NAME, PATIENCE, RULES, Server, Told};

const YEAR: i64 = 365 * 24 * 3600;

/// An agent at home in this process.
struct Agent {
    folder: TempDir,
    lifecycle: Lifecycle,
    task: JoinHandle<Result<Drained, AgentError>>,
}

fn watched(datacenter: &str, address: SocketAddr) -> Watched {
    Watched {
        datacenter: datacenter.parse().unwrap(),
        at: "isp".to_owned(),
        address,
        name: Some(NAME.parse().unwrap()),
        public: false,
    }
}

fn options(
    folder: &TempDir,
    signed_by: &SigningKey,
    authority: &Authority,
    watched: Vec<Watched>,
    dynamic: Vec<Dynamic>,
) -> Options {
    let config = AgentConfig {
        stack: "shop".parse().unwrap(),
        datacenter: "home".parse().unwrap(),
        host: Some("atlas".parse().unwrap()),
        authority: authority.pem.clone(),
        watched,
        dynamic,
        publishes: None,
    };
    let path = folder.path().join("config.json");
    std::fs::write(&path, signed::seal(signed_by, PROTOCOL, 1, serde_json::to_string(&config).unwrap())).unwrap();
    let trust = SigningKey::from_bytes(&[7; 32]).verifying_key();
    Options { config: path, trust, control: folder.path().join("control.sock"), rules: RULES, pace: Pace::default() }
}

impl Agent {
    fn start(authority: &Authority, watched: Vec<Watched>) -> Self {
        Self::start_with(authority, watched, Vec::new())
    }

    fn start_with(authority: &Authority, watched: Vec<Watched>, dynamic: Vec<Dynamic>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lifecycle = Lifecycle::new(Duration::from_secs(5));
        let options = options(&folder, &SigningKey::from_bytes(&[7; 32]), authority, watched, dynamic);
        let task = tokio::spawn(agent::serve(options, lifecycle.clone()));
        Self { folder, lifecycle, task }
    }

    fn control(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    async fn status(&self) -> Option<AgentStatus> {
        let answer = request_async(&self.control(), &Request::new("status"), Duration::from_secs(5)).await.ok()?;
        Some(serde_json::from_value(answer).unwrap())
    }

    /// Waits until the agent sees everything so.
    async fn sees(&self, wanted: &[Standing]) -> AgentStatus {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            let standings =
                |status: &AgentStatus| status.watched.iter().map(|sight| sight.standing).collect::<Vec<_>>();
            if let Some(status) = status.as_ref().filter(|status| standings(status) == wanted) {
                return status.clone();
            }
            assert!(began.elapsed() < PATIENCE, "waited for {wanted:?}, and it is {status:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) {
        self.lifecycle.stop();
        assert_eq!(self.task.await.unwrap().unwrap(), Drained::Quiet);
        assert!(!self.folder.path().join("control.sock").exists());
    }
}

fn errors(status: &AgentStatus) -> Vec<&str> {
    status.watched.iter().map(|sight| sight.last_error.as_deref().unwrap_or_default()).collect()
}

#[tokio::test]
async fn an_uplink_whose_address_changes_is_watched_where_the_own_edges_know_it_to_be() {
    use Standing::{Alive, Dead};
    let authority = Authority::new("ours");
    let tls = authority.server(NAME);
    let told = Told::default();
    let tell = |all: &[&str]| *told.lock().unwrap() = all.iter().map(|&line| line.to_owned()).collect();
    let here = "127.0.0.1:0".parse().unwrap();
    let home = Server::start_telling(here, tls.clone(), Manner::Edge, told.clone()).await;
    // What others say is not believed.
    let liar = Told::new(Mutex::new(vec!["cabin 127.0.0.77".to_owned()]));
    let office = Server::start_telling(here, tls.clone(), Manner::Edge, liar).await;
    let first = Server::start(tls.clone(), Manner::Edge).await;
    let port = first.address.port();
    let dynamic = Dynamic {
        datacenter: "cabin".parse().unwrap(),
        at: "cable".to_owned(),
        port,
        name: Some(NAME.parse().unwrap()),
        public: false,
    };
    let all = vec![watched("home", home.address), watched("office", office.address)];
    let agent = Agent::start_with(&authority, all, vec![dynamic]);
    tell(&["cabin", "cabin nowhere", "CABIN 127.0.0.1", "other 127.0.0.1"]);
    agent.sees(&[Alive, Alive]).await;
    tell(&["cabin 127.0.0.1"]);
    let began = Instant::now();
    let status = agent.sees(&[Alive, Alive, Alive]).await;
    eprintln!("an address was learned after {:?}", began.elapsed());
    let cabin = &status.watched[2];
    assert_eq!((cabin.datacenter.as_str(), cabin.at.as_str(), cabin.address), ("cabin", "cable", first.address));

    // Another address, at which nobody answers yet: it is nowhere, and then there.
    tell(&["cabin 127.0.0.9"]);
    agent.sees(&[Alive, Alive]).await;
    let second = SocketAddr::new("127.0.0.9".parse().unwrap(), port);
    let second = Server::start_at(second, tls, Manner::Edge).await;
    let status = agent.sees(&[Alive, Alive, Alive]).await;
    assert_eq!(status.watched[2].address, second.address);
    // The link goes, and readers come on; then they do not.
    tell(&[]);
    agent.sees(&[Alive, Alive, Alive]).await;
    second.kill().await;
    agent.sees(&[Alive, Alive, Dead]).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_data_center_dies_and_comes_back() {
    use Standing::{Alive, Dead};
    let authority = Authority::new("ours");
    let tls = authority.server(NAME);
    let [home, office, rack] = [0; 3].map(|_| tls.clone());
    let home = Server::start(home, Manner::Edge).await;
    let office = Server::start(office, Manner::Edge).await;
    let rack = Server::start(rack, Manner::Edge).await;
    let all = [("home", home.address), ("office", office.address), ("rack", rack.address)];
    let agent = Agent::start(&authority, all.map(|(name, address)| watched(name, address)).into());

    let status = agent.sees(&[Alive; 3]).await;
    assert!(status.healthy && !status.draining && !status.fails_open);
    assert_eq!((status.datacenter.as_str(), status.host.unwrap().as_str()), ("home", "atlas"));
    let well = |sight: &Sight| sight.counted_on && sight.latency_us.is_some() && sight.last_error.is_none();
    assert!(status.watched.iter().all(well), "{:#?}", status.watched);
    let same_hour = |sight: &Sight| sight.clock_ahead_seconds.is_some_and(|ahead| ahead.abs() < 60);
    assert!(status.watched.iter().all(same_hour), "{:#?}", status.watched);

    let address = office.kill().await;
    let status = agent.sees(&[Alive, Dead, Alive]).await;
    assert_eq!(status.watched.iter().map(|sight| sight.counted_on).collect::<Vec<_>>(), [true, false, true]);
    assert!(errors(&status)[1].starts_with("no connection: "), "{:?}", errors(&status));
    assert_eq!(status.watched[1].deaths, 1);
    let died = status.watched[1].since_unix;

    let office = Server::start_at(address, tls.clone(), Manner::Edge).await;
    let status = agent.sees(&[Alive; 3]).await;
    assert!(status.watched[1].last_error.is_none() && status.watched[1].since_unix >= died);

    // All of them go, its own data center too: it does not believe what it sees.
    for server in [home, office, rack] {
        server.kill().await;
    }
    let status = agent.sees(&[Dead; 3]).await;
    assert!(status.fails_open && status.watched.iter().all(|sight| sight.counted_on));
    agent.stop().await;
}

#[tokio::test]
async fn who_is_no_edge_of_the_stack_is_dead() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let silent = Server::start(authority.server(NAME), Manner::Silent).await;
    let stranger = Server::start(other.server(NAME), Manner::Edge).await;
    let misnamed = Server::start(authority.server("shop.example"), Manner::Edge).await;
    let proxy = Server::start(authority.server(NAME), Manner::Status(502)).await;
    let absent = Server::start(authority.server(NAME), Manner::Edge).await.kill().await;
    // Asked for by its address, whatever it is called.
    let unnamed = Server::start(authority.server("shop.example"), Manner::Edge).await;
    // Of a time that is to come: the clock here is far behind, as that of a machine that has none.
    let early = Server::start(authority.server_from(NAME, 2200), Manner::Edge).await;
    let addresses = [silent.address, stranger.address, misnamed.address, proxy.address, early.address, absent];
    let mut all: Vec<_> = addresses.map(|address| watched("office", address)).into();
    all.push(Watched { name: None, ..watched("rack", unnamed.address) });
    let agent = Agent::start(&authority, all);
    let dead = [Standing::Dead; 6];
    let status = agent.sees(&[&dead[..], &[Standing::Alive]].concat()).await;
    let wrong =
        ["nothing within", "UnknownIssuer", "not valid for name", "it answers 502", "not valid yet", "no connection: "];
    for (found, wrong) in errors(&status).into_iter().zip(wrong) {
        assert!(found.contains(wrong), "{wrong}: {found}");
    }
    let clocks: Vec<_> =
        status.watched.iter().map(|sight| sight.clock_ahead_seconds.map(|ahead| ahead / YEAR)).collect();
    assert!(clocks[4].is_some_and(|years| years > 100) && clocks[5].is_none() && clocks[6] == Some(0), "{clocks:?}");
    // Nothing of its own data center is watched, so nothing makes it doubt itself.
    assert!(!status.fails_open);
    agent.stop().await;
}

#[tokio::test]
async fn what_it_is_asked_to_try_it_tries_once_and_says_what_it_heard() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let edge = Server::start(authority.server(NAME), Manner::Edge).await;
    let silent = Server::start(authority.server(NAME), Manner::Silent).await;
    let stranger = Server::start(other.server(NAME), Manner::Edge).await;
    let absent = Server::start(authority.server(NAME), Manner::Edge).await.kill().await;
    // One that greets like SSH, and one that answers plain HTTP as an edge does.
    let [greeter, plain] = [("SSH-2.0-OpenSSH_9.2\r\n", false), ("HTTP/1.1 204 No Content\r\n\r\n", true)]
        .map(|(says, waits)| stands(says, waits));
    let agent = Agent::start(&authority, Vec::new());
    let trial = |at, speaks| Trial { at, speaks, name: Some(NAME.parse().unwrap()), public: false };
    let trials = vec![
        trial(edge.address, Speech::Https),
        trial(silent.address, Speech::Https),
        trial(stranger.address, Speech::Https),
        trial(absent, Speech::Https),
        trial(greeter, Speech::Http),
        trial(plain, Speech::Http),
        trial(absent, Speech::NamesTcp),
        trial(absent, Speech::NamesUdp),
    ];
    let began = Instant::now();
    while agent.status().await.is_none() {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ask = async |trials: &[Trial]| {
        let request = Request::new("try").with("trials", serde_json::to_value(trials).unwrap());
        request_async(&agent.control(), &request, PATIENCE).await
    };
    let heard: Vec<Heard> = serde_json::from_value(ask(&trials).await.unwrap()["heard"].clone()).unwrap();
    let words: Vec<String> = heard.iter().map(ToString::to_string).collect();
    assert_eq!(heard[0], Heard::Ours, "{words:?}");
    assert!(words[1].starts_with("somebody else answers: nothing within"), "{words:?}");
    assert!(words[2].contains("UnknownIssuer"), "{words:?}");
    assert!(words[4].starts_with("somebody else answers: "), "{words:?}");
    assert_eq!(heard[5], Heard::Ours, "{words:?}");
    assert_eq!([&heard[3], &heard[6], &heard[7]], [&Heard::Refused; 3], "{words:?}");
    let many = vec![trials[0].clone(); sovereign_model::trial::MOST_TRIALS + 1];
    let refused = ask(&many).await.unwrap_err();
    assert!(format!("{refused:?}").contains("no more"), "{refused:?}");
    agent.stop().await;
}

/// Somebody who says this to whoever comes, first or when spoken to.
fn stands(says: &'static str, waits: bool) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            let mut some = [0; 512];
            if waits && std::io::Read::read(&mut stream, &mut some).is_err() {
                continue;
            }
            let _ = std::io::Write::write_all(&mut stream, says.as_bytes());
        }
    });
    address
}

#[tokio::test]
async fn a_successor_takes_over_and_what_it_replaces_stops() {
    let authority = Authority::new("ours");
    let office = Server::start(authority.server(NAME), Manner::Edge).await;
    let first = Agent::start(&authority, vec![watched("office", office.address)]);
    first.sees(&[Standing::Alive]).await;
    let folder = first.folder.path();
    let successor = Lifecycle::new(Duration::from_secs(5));
    let with = Options {
        config: folder.join("config.json"),
        trust: SigningKey::from_bytes(&[7; 32]).verifying_key(),
        control: folder.join("control.sock"),
        rules: RULES,
        pace: Pace::default(),
    };
    let second = tokio::spawn(agent::serve(with, successor.clone()));
    first.lifecycle.stop();
    let began = Instant::now();
    while first.status().await.is_none_or(|status| status.draining) {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.task.await.unwrap().unwrap();
    successor.stop();
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_the_operator_did_not_sign_is_refused_with_a_way_out() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("ours"));
    let foreign = options(&folder, &SigningKey::from_bytes(&[8; 32]), &authority, Vec::new(), Vec::new());
    let refused = agent::serve(foreign.clone(), Lifecycle::new(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(refused, AgentError::Config(LoadError::Signed { .. })) && refused.help().is_some(), "{refused}");
    let text = std::fs::read(&foreign.config).unwrap();
    for damaged in [&text[..text.len() / 2], b"", b"{}"] {
        std::fs::write(&foreign.config, damaged).unwrap();
        let refused = agent::serve(foreign.clone(), Lifecycle::new(Duration::ZERO)).await.unwrap_err();
        assert!(refused.help().is_some(), "{refused}");
    }
    std::fs::remove_file(&foreign.config).unwrap();
    let refused = agent::serve(foreign, Lifecycle::new(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(refused, AgentError::Config(LoadError::Read { .. })), "{refused}");
    let mut authority = authority;
    authority.pem = authority.pem.replace("MII", "!!!");
    let unusable = options(&folder, &SigningKey::from_bytes(&[7; 32]), &authority, Vec::new(), Vec::new());
    let refused = agent::serve(unusable, Lifecycle::new(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(refused, AgentError::Trust(_)), "{refused}");
}
