//! A name server beside an agent, with Debian's Knot on loopback, asked by others' tools: `kdig`, `delv`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(clippy::print_stderr, reason = "figures")]

mod common;
#[path = "name_server/copy.rs"]
mod copy;
#[path = "name_server/cost.rs"]
mod cost;
#[path = "name_server/stage.rs"]
mod stage;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sovereign_dns::ask::{Asker, TransferError};
use sovereign_dns::knot::{DriverError, What};
use sovereign_dns::name_server::{self, NameServerError};
use sovereign_dns::provider::publish::Pace;
use sovereign_dns::{LoadError, agent};
use sovereign_model::DnsRecord;
use sovereign_model::agent_config::{self, AgentConfig, Watched};
use sovereign_model::agent_status::Standing;
use sovereign_model::layout::NameServerFolder;
use sovereign_model::name_server_config::PROTOCOL;
use sovereign_model::name_server_status::{Away, WhyAway};
use sovereign_model::names::{Place, Uplink};
use sovereign_model::stack::UplinkAddress;
use sovereign_runtime::SigningKey;
use sovereign_runtime::control::{ControlError, Request, request_async};
use sovereign_runtime::lifecycle::Lifecycle;
use sovereign_runtime::signed;

use common::{Authority, Manner, NAME, PATIENCE, RULES, Server};
use stage::{AUSTRIA, BOTH, DENVER, OPERATOR, STATES, Stage, StandIn, VIENNA, WWW, answers, ask, free_port, question};

#[tokio::test]
async fn what_a_real_agent_sees_die_leaves_the_answers_and_a_broken_data_center_is_silent() {
    let stage = Stage::new();
    let authority = Authority::new("ours");
    let tls = authority.server(NAME);
    let home = Server::start(tls.clone(), Manner::Edge).await;
    let away = Server::start_at(SocketAddr::new(DENVER.parse().unwrap(), 0), tls.clone(), Manner::Edge).await;
    let watched = |datacenter: &str, address| Watched {
        datacenter: datacenter.parse().unwrap(),
        at: "isp".to_owned(),
        address,
        name: Some(NAME.parse().unwrap()),
        public: false,
    };
    let config = AgentConfig {
        stack: "shop".parse().unwrap(),
        datacenter: "vienna".parse().unwrap(),
        host: Some("atlas".parse().unwrap()),
        authority: authority.pem.clone(),
        watched: vec![watched("vienna", home.address), watched("denver", away.address)],
        dynamic: Vec::new(),
        publishes: None,
    };
    let file = stage.folder.path().join("agent.json");
    let text = serde_json::to_string(&config).unwrap();
    fs::write(&file, signed::seal(&SigningKey::from_bytes(&OPERATOR), agent_config::PROTOCOL, 1, text)).unwrap();
    let (trust, control) = (stage.options.trust, stage.options.agent.clone().unwrap());
    let agent_lives = Lifecycle::new(Duration::from_secs(5));
    let agent = agent::Options { config: file, trust, control, rules: RULES, pace: Pace::default() };
    let agent = tokio::spawn(agent::serve(agent, agent_lives.clone()));

    let daemon = stage.start();
    stage.answers(None, WWW, "A", BOTH).await;
    let status = daemon.is("the agent is heard", |status| status.seen_unix.is_some()).await;
    assert!(status.healthy && status.away.is_empty() && status.agent_error.is_none(), "{status:#?}");
    stage.answers(Some(STATES), WWW, "A", &[DENVER]).await;

    let address = away.kill().await;
    let died = stage.answers(None, WWW, "A", &[VIENNA]).await;
    stage.answers(Some(STATES), WWW, "A", &[VIENNA]).await;
    let status = daemon.is("it is away", |status| !status.away.is_empty()).await;
    let denver: IpAddr = DENVER.parse().unwrap();
    let dead = Away { datacenter: "denver".parse().unwrap(), address: denver, why: WhyAway::Dead };
    assert_eq!(status.away, [dead]);
    let away = Server::start_at(address, tls.clone(), Manner::Edge).await;
    let back = stage.answers(None, WWW, "A", BOTH).await;
    eprintln!("a death was answered after {died:?}, a return after {back:?}");
    assert!(died < Duration::from_secs(4) && back < Duration::from_secs(4));

    // Its own data center is broken, and the other one is not.
    let address = home.kill().await;
    let status = daemon.is("it is silent", |status| status.silent.is_some()).await;
    daemon.is("Knot is gone", |status| status.knot.is_none()).await;
    assert!(status.healthy && stage.is_refused(), "{status:#?}");
    assert!(daemon.tell(challenge(json!({WWW: ["a"]}))).await.unwrap_err().help().is_some());
    // Both are: it rather doubts what it sees.
    let other = away.kill().await;
    stage.answers(None, WWW, "A", BOTH).await;
    assert!(daemon.is("it speaks", |status| status.silent.is_none()).await.fails_open);
    let _away = Server::start_at(other, tls.clone(), Manner::Edge).await;
    daemon.is("it is silent again", |status| status.silent.is_some() && status.knot.is_none()).await;
    let _home = Server::start_at(address, tls, Manner::Edge).await;
    stage.answers(None, WWW, "A", BOTH).await;
    assert!(stage.validated(WWW).contains("; fully validated"));

    // The agent goes: what it saw last holds.
    agent_lives.stop();
    agent.await.unwrap().unwrap();
    let status = daemon.is("the agent is missed", |status| status.agent_error.is_some()).await;
    assert!(status.healthy && status.seen_unix.is_some());
    daemon.stop().await;
}

#[tokio::test]
async fn a_friend_has_a_copy_of_what_is_counted_on_and_nobody_gets_the_zone_without_the_key() {
    let mut stage = Stage::new();
    let place = free_port();
    let key = copy::declare(&mut stage, place);
    let agent = StandIn::start(&stage, Standing::Alive, Standing::Alive);
    let daemon = stage.start();
    daemon.is("it is ready", |status| status.healthy).await;
    // Denver is a primary too, and nobody is there.
    let friend = copy::Friend::start(&stage, place, key.secret.expose());
    answers(place, None, WWW, "A", BOTH).await;
    answers(place, Some(STATES), WWW, "A", BOTH).await;
    assert!(stage.validated_at(place, WWW).contains("; fully validated"));
    let servers = ["ns-denver.example.org.", "ns-friend.example.org.", "ns-vienna.example.org."];
    for server in [place, stage.listen] {
        assert_eq!(ask(server, None, "example.org", "NS").await, servers);
        assert_eq!(ask(server, None, "ns-friend.example.org", "A").await, [place.ip().to_string()]);
    }

    // It is told: it would look by itself after an hour.
    agent.sees(Standing::Alive, Standing::Dead);
    let died = answers(place, None, WWW, "A", &[VIENNA]).await;
    assert!(stage.validated_at(place, WWW).contains("; fully validated"));
    agent.sees(Standing::Alive, Standing::Alive);
    let back = answers(place, None, WWW, "A", BOTH).await;
    let began = Instant::now();
    daemon.tell(challenge(json!({WWW: ["one"]}))).await.unwrap();
    answers(place, None, &format!("_acme-challenge.{WWW}"), "TXT", &["\"one\""]).await;
    eprintln!("the copy had a death after {died:?}, a return after {back:?}, a challenge after {:?}", began.elapsed());
    assert!(died < Duration::from_secs(10) && back < Duration::from_secs(10));
    let serial = |server| async move { ask(server, None, "example.org", "SOA").await };
    assert_eq!(serial(place).await, serial(stage.listen).await);

    // With the key of somebody else, and with none, nobody gets the zone, nor does an update get in.
    let domain = "example.org".parse().unwrap();
    let refused = Asker::default().transfer(stage.listen, &domain).await.unwrap_err();
    assert!(matches!(refused, TransferError::Refused { .. }), "{refused}");
    let with = |secret: &str| transferred(stage.listen, &format!("hmac-sha256:friend.shop:{secret}"));
    let whole = with(key.secret.expose());
    assert!(whole.contains("ns-friend.example.org") && whole.contains("RRSIG"), "{whole}");
    let other = with("c29tZWJvZHkgZWxzZSdzIGtleSwgMzIgYnl0ZXMgbG9uZw==");
    assert!(!other.contains("ns-friend") && other.contains("BADSIG"), "{other}");
    let stranger = copy::Friend::start(&stage, free_port(), "c29tZWJvZHkgZWxzZSdzIGtleSwgMzIgYnl0ZXMgbG9uZw==");
    assert!(friend.refreshes() && !stranger.refreshes());

    // Without anybody to copy from it answers on.
    daemon.stop().await;
    assert!(stage.is_refused());
    assert_eq!(ask(place, None, WWW, "A").await, BOTH);
    assert!(stage.validated_at(place, WWW).contains("; fully validated"));
}

#[tokio::test]
async fn secondaries_are_told_once_more_when_the_one_before_has_ended() {
    let mut stage = Stage::new();
    let place = free_port();
    copy::declare(&mut stage, place);
    let _agent = StandIn::start(&stage, Standing::Alive, Standing::Alive);
    let told = tokio::net::TcpListener::bind(place).await.unwrap();
    let daemon = stage.start();
    let notice = async || {
        let (mut stream, _) = tokio::time::timeout(PATIENCE, told.accept()).await.unwrap().unwrap();
        // After its length a message begins with its number, and what is wanted: 4 is a notice (RFC 1996).
        let mut head = [0; 5];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut head).await.unwrap();
        assert_eq!(head[4] >> 3 & 15, 4);
        Instant::now()
    };
    let first = notice().await;
    let between = notice().await - first;
    eprintln!("secondaries were told again after {between:?}");
    // Knot itself would try again after ten minutes.
    assert!(between > Duration::from_secs(10), "{between:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn an_address_that_changes_is_answered_where_the_agent_finds_it_and_never_for_a_name_server() {
    let mut stage = Stage::new();
    stage.config.names.places.push(Place {
        name: "cabin".parse().unwrap(),
        location: None,
        jurisdiction: None,
        uplinks: vec![Uplink { name: "cable".to_owned(), address: UplinkAddress::Dynamic }],
    });
    stage.config.names.sites[0].datacenters.push("cabin".parse().unwrap());
    let agent = StandIn::start(&stage, Standing::Alive, Standing::Alive);
    let daemon = stage.start();
    daemon.is("it is ready", |status| status.healthy).await;
    stage.answers(None, WWW, "A", BOTH).await;
    let found = |addresses: &[&str], standing| {
        let mut status = agent.0.lock().unwrap();
        status.watched.truncate(2);
        for address in addresses {
            let mut sight = status.watched[1].clone();
            (sight.datacenter, sight.at) = ("cabin".parse().unwrap(), "cable".to_owned());
            (sight.address, sight.standing) = (SocketAddr::new(address.parse().unwrap(), 443), standing);
            status.watched.push(sight);
        }
    };
    found(&["127.0.0.8"], Standing::Alive);
    let learned = stage.answers(None, WWW, "A", &[VIENNA, DENVER, "127.0.0.8"]).await;
    found(&["127.0.0.9"], Standing::Alive);
    let changed = stage.answers(None, WWW, "A", &[VIENNA, DENVER, "127.0.0.9"]).await;
    eprintln!("an address was answered after {learned:?}, another one after {changed:?}");
    assert!(learned < Duration::from_secs(10) && changed < Duration::from_secs(10));
    assert_eq!(stage.ask(None, "example.org", "NS").await, ["ns-denver.example.org.", "ns-vienna.example.org."]);
    assert_eq!(stage.ask(None, "ns-cabin.example.org", "A").await, [""; 0]);
    // An agent that was just replaced does not know it yet.
    let before = daemon.is("the agent is heard", |status| status.seen_unix.is_some()).await.seen_unix;
    found(&[], Standing::Alive);
    daemon.is("it is heard again", |status| status.seen_unix > before.map(|before| before + 1)).await;
    assert_eq!(stage.ask(None, WWW, "A").await, [VIENNA, DENVER, "127.0.0.9"]);
    found(&["127.0.0.9"], Standing::Dead);
    stage.answers(None, WWW, "A", BOTH).await;
    daemon.stop().await;
}

/// What `kdig` gets of the whole zone.
fn transferred(server: SocketAddr, key: &str) -> String {
    let at = format!("@{}", server.ip());
    let port = server.port().to_string();
    let got = Command::new("kdig").args([&*at, "-p", &*port, "-y", key, "example.org", "AXFR"]).output().unwrap();
    String::from_utf8_lossy(&got.stdout).into_owned() + &String::from_utf8_lossy(&got.stderr)
}

fn challenge(set: Value) -> Request {
    Request::new("challenge").with("set", set)
}

#[tokio::test]
async fn a_challenge_is_answered_for_as_long_as_it_is_set() {
    let stage = Stage::new();
    let _agent = StandIn::start(&stage, Standing::Alive, Standing::Alive);
    let daemon = stage.start();
    daemon.is("it is ready", |status| status.healthy).await;
    let name = format!("_acme-challenge.{WWW}");
    let began = Instant::now();
    daemon.tell(challenge(json!({WWW: ["one", "two"], "example.org": ["three"]}))).await.unwrap();
    eprintln!("published after {:?}", began.elapsed());
    // Nobody waits: it was there when it was said to be.
    assert_eq!(stage.ask(None, &name, "TXT").await, ["\"one\"", "\"two\""]);
    assert_eq!(stage.ask(None, "_acme-challenge.example.org", "TXT").await, ["\"three\""]);
    assert_eq!(daemon.is("it is told", |status| status.challenges.len() == 2).await.zones.len(), 1);

    let refused = daemon.tell(challenge(json!({"www.example.net": ["a"], WWW: ["a b"]}))).await.unwrap_err();
    let ControlError::Refused(refusal) = refused else { panic!("{refused}") };
    assert!(refusal.message.contains("www.example.net") && refusal.message.contains("not a challenge"), "{refusal}");
    assert!(daemon.tell(Request::new("challenge").with("set", "all")).await.is_err());
    assert_eq!(stage.ask(None, &name, "TXT").await, ["\"one\"", "\"two\""], "what is refused changes nothing");

    daemon.tell(challenge(json!({WWW: ["four"]}))).await.unwrap();
    assert_eq!(stage.ask(None, &name, "TXT").await, ["\"four\""]);
    assert_eq!(stage.ask(None, "_acme-challenge.example.org", "TXT").await, [""; 0]);
    // Somebody else asks too: each has its own.
    let other = |set: Value| challenge(set).with("of", "denver/atlas");
    daemon.tell(other(json!({WWW: ["five"]}))).await.unwrap();
    assert_eq!(stage.ask(None, &name, "TXT").await, ["\"five\"", "\"four\""]);
    daemon.tell(challenge(json!({}))).await.unwrap();
    assert_eq!(stage.ask(None, &name, "TXT").await, ["\"five\""]);
    assert!(daemon.tell(challenge(json!({})).with("of", "Nobody!")).await.is_err());
    // Who renews beside it says who asks, and can ask nothing else.
    let renewal = stage.options.renewal.clone().unwrap();
    let tell = async |request: Request| request_async(&renewal, &request, Duration::from_secs(20)).await;
    tell(other(json!({WWW: ["six"]}))).await.unwrap();
    assert_eq!(stage.ask(None, &name, "TXT").await, ["\"six\""]);
    assert!(tell(challenge(json!({}))).await.is_err() && tell(Request::new("status")).await.is_err());
    daemon.tell(other(json!({}))).await.unwrap();
    assert_eq!(stage.ask(None, &name, "TXT").await, [""; 0]);
    assert!(stage.validated(WWW).contains("; fully validated"));
    daemon.stop().await;
}

#[tokio::test]
async fn a_challenge_that_does_not_go_with_the_zone_is_taken_back() {
    let mut stage = Stage::new();
    // The operator leads this name elsewhere: it cannot have texts of its own.
    let mut alias = DnsRecord::new(&WWW.parse().unwrap(), 300, "CNAME", "elsewhere.example.");
    alias.owner = format!("_acme-challenge.{WWW}");
    stage.config.names.domains[0].records.push(alias);
    let _agent = StandIn::start(&stage, Standing::Alive, Standing::Alive);
    let daemon = stage.start();
    daemon.is("it is ready", |status| status.healthy).await;
    let refused = daemon.tell(challenge(json!({WWW: ["a"], "example.org": ["b"]}))).await.unwrap_err();
    assert!(refused.help().is_some(), "{refused}");
    let status = daemon.is("it is well again", |status| status.healthy).await;
    assert!(status.challenges.is_empty());
    assert_eq!(stage.ask(None, WWW, "A").await, BOTH);
    daemon.stop().await;
}

#[tokio::test]
async fn knot_is_started_again_when_it_dies_and_ends_with_the_name_server() {
    let mut stage = Stage::new();
    stage.config.drained.insert("denver".parse().unwrap());
    // Debian's package is not installed.
    fs::remove_file(&stage.options.geography[1]).unwrap();
    let agent = StandIn::start(&stage, Standing::Alive, Standing::Alive);
    let daemon = stage.start();
    let status = daemon.is("it is ready", |status| status.healthy).await;
    assert_eq!(status.away.iter().map(|away| away.why).collect::<Vec<_>>(), [WhyAway::Drained]);
    let why = status.geography_error.unwrap();
    assert!(status.geography.is_none() && why.contains("geoip6") && why.contains("tor-geoipdb"), "{why}");
    stage.answers(None, WWW, "A", &[VIENNA]).await;

    let first = status.knot.unwrap();
    assert!(Command::new("kill").args(["-9", &first.to_string()]).status().unwrap().success());
    let took = stage.answers(None, WWW, "A", &[VIENNA]).await;
    eprintln!("Knot was killed, and answered again after {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let second = daemon.is("there is another", |status| status.knot.is_some_and(|knot| knot != first)).await;
    assert!(second.healthy && second.zones.iter().all(|zone| zone.serial.is_some() && zone.signed_unix.is_some()));

    // An agent that was started anew knows nothing yet: who was dead is not answered again for that.
    agent.sees(Standing::Alive, Standing::Dead);
    daemon.is("it is dead", |status| status.away.iter().any(|away| away.why == WhyAway::Dead)).await;
    agent.sees(Standing::Unknown, Standing::Unknown);
    agent.0.lock().unwrap().stack = "other".parse().unwrap();
    let status = daemon.is("it is a stranger's", |status| status.agent_error.is_some()).await;
    assert!(status.away.iter().any(|away| away.why == WhyAway::Dead));

    let knot = stage.folder.path().join("knot");
    assert!(fs::read_dir(&knot).unwrap().count() > 0);
    daemon.stop().await;
    assert!(stage.is_refused() && !stage.options.control.exists());
    assert_eq!(fs::read_dir(&knot).unwrap().count(), 0);
}

#[tokio::test]
async fn a_knot_that_hangs_is_ended_and_started_again() {
    let stage = Stage::new();
    let _agent = StandIn::start(&stage, Standing::Alive, Standing::Alive);
    let daemon = stage.start();
    let hangs = daemon.is("it is ready", |status| status.healthy).await.knot.unwrap();
    assert!(Command::new("kill").args(["-STOP", &hangs.to_string()]).status().unwrap().success());
    let began = Instant::now();
    daemon.is("there is another", |status| status.knot.is_some_and(|knot| knot != hangs)).await;
    stage.answers(None, WWW, "A", BOTH).await;
    eprintln!("Knot hung, and another answered after {:?}", began.elapsed());
    daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_be_served_is_not_begun_with() {
    let mut stage = Stage::new();
    let refused = async |stage: &Stage| {
        let refused = name_server::serve(stage.options.clone(), Lifecycle::new(Duration::ZERO)).await.unwrap_err();
        assert!(refused.help().is_some(), "{refused}");
        assert!(!stage.options.control.exists() && stage.is_refused());
        refused
    };
    stage.sign(&[8; 32]);
    let foreign = refused(&stage).await;
    assert!(matches!(foreign, NameServerError::Config(LoadError::Signed { .. })), "{foreign}");
    let text = fs::read(&stage.options.config).unwrap();
    for damaged in [&text[..text.len() / 2], b"", b"{}"] {
        fs::write(&stage.options.config, damaged).unwrap();
        refused(&stage).await;
    }
    let unknown =
        serde_json::to_string(&stage.config).unwrap().replace("\"drained\"", "\"drain\"").replacen('{', "{\"x\":1,", 1);
    let sealed = signed::seal(&SigningKey::from_bytes(&OPERATOR), PROTOCOL, 1, unknown);
    fs::write(&stage.options.config, sealed).unwrap();
    assert!(matches!(refused(&stage).await, NameServerError::Config(LoadError::Payload { .. })));
    fs::remove_file(&stage.options.config).unwrap();
    assert!(matches!(refused(&stage).await, NameServerError::Config(LoadError::Read { .. })));
    // A key that is not there; then another one than the registry knows is in its place.
    let good = stage.config.clone();
    let (domain, tag) = good.keys.iter().next().unwrap();
    let other = tag.wrapping_add(1);
    stage.config.keys.insert(domain.clone(), other);
    stage.sign(&OPERATOR);
    assert!(matches!(refused(&stage).await, NameServerError::Knot(DriverError::Refused { what: What::Key(_), .. })));
    let folder = NameServerFolder::new(stage.folder.path());
    fs::copy(folder.key(domain, *tag), folder.key(domain, other)).unwrap();
    assert!(matches!(refused(&stage).await, NameServerError::Knot(DriverError::OtherKey { .. })));
    stage.config = good;
    // There is no Knot.
    stage.sign(&OPERATOR);
    stage.options.knot = vec!["/nonexistent/knotd".to_owned()];
    assert!(matches!(refused(&stage).await, NameServerError::Knot(_)));
    stage.options.knot = vec!["false".to_owned()];
    let ended = refused(&stage).await;
    assert!(ended.to_string().contains("it ended with exit status: 1"), "{ended}");
}

/// What came of questions.
#[derive(Default)]
struct Asked {
    asked: u32,
    lost: u32,
    /// Until the answer that took longest was there.
    longest: Duration,
}

impl Asked {
    fn count(&mut self, began: Instant, is_answered: bool) {
        self.asked += 1;
        match is_answered {
            true => self.longest = self.longest.max(began.elapsed()),
            false => self.lost += 1,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Asks from a new socket each time, at most a thousand times a second, until it is told to stop.
fn ask_by_udp(place: SocketAddr, stop: &AtomicBool) -> Asked {
    let mut all = Asked::default();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.connect(place).unwrap();
        let mut answer = [0; 512];
        let sent = socket.send(&question(all.asked as u16));
        let is_well = sent.and_then(|_| socket.recv(&mut answer)).is_ok_and(|size| size > 40 && answer[3] & 15 == 0);
        all.count(began, is_well);
    }
    all
}

/// The same over connections.
fn ask_by_tcp(place: SocketAddr, stop: &AtomicBool) -> Asked {
    let mut all = Asked::default();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let ask = || {
            let mut stream = TcpStream::connect(place)?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            let question = question(all.asked as u16);
            stream.write_all(&[&(question.len() as u16).to_be_bytes()[..], &question].concat())?;
            stream.read_exact(&mut [0; 40])
        };
        let is_well = ask().is_ok();
        all.count(began, is_well);
    }
    all
}

#[tokio::test]
async fn one_takes_over_from_another_while_both_answer() {
    const TIMES: u32 = 3;
    let stage = Stage::new();
    let _agent = StandIn::start(&stage, Standing::Alive, Standing::Alive);
    let mut before = stage.start();
    let first = before.is("it is ready", |status| status.healthy).await;
    let stop = Arc::new(AtomicBool::new(false));
    let asking = [ask_by_udp, ask_by_udp, ask_by_tcp].map(|ask| {
        let (stop, place) = (stop.clone(), stage.listen);
        std::thread::spawn(move || ask(place, &stop))
    });
    let mut knot = first.knot;
    for _ in 0..TIMES {
        let next = stage.start();
        // The control socket is the new one's as soon as it answers.
        let status = next.is("it took over", |status| status.knot.is_some() && status.knot != knot).await;
        assert!(status.healthy && !status.draining);
        knot = status.knot;
        assert_eq!(fs::read_dir(stage.folder.path().join("knot")).unwrap().count(), 4, "two folders, two locks");
        before.stop().await;
        before = next;
        stage.answers(Some(AUSTRIA), WWW, "A", &[VIENNA]).await;
    }
    stop.store(true, Ordering::Relaxed);
    let all = asking.map(|asking| asking.join().unwrap());
    for (by, Asked { asked, lost, longest }) in ["UDP", "UDP", "TCP"].into_iter().zip(all) {
        eprintln!("{TIMES} replacements, by {by}: {lost} of {asked} were lost, the longest answer took {longest:?}");
        // What waits in the sockets of a Knot that stops goes with it, and of whoever asks one question is under way; by TCP
        // the sockets close one after the other.
        assert!(asked > 50 && lost <= 2 * TIMES, "{lost} of {asked} by {by}");
    }
    assert!(Path::new(&stage.options.control).exists());
    before.stop().await;
}
