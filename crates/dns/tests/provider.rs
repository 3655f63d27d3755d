//! A provider that takes dynamic updates: Debian's Knot, told what a domain is to have, and who lives. `kdig` judges.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(clippy::print_stderr, reason = "figures")]

mod common;
#[path = "provider/knot.rs"]
mod knot;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use sovereign_dns::agent::{self, Options};
use sovereign_dns::provider::publish::Pace;
use sovereign_dns::provider::tell::{ByCrate, TellError, Teller as _, look};
use sovereign_dns::provider::{Told, told};
use sovereign_dns::zone::World;
use sovereign_model::agent_config::{AgentConfig, PROTOCOL, Watched};
use sovereign_model::agent_status::AgentStatus;
use sovereign_model::layout::AgentFolder;
use sovereign_model::names::{Domain, Names};
use sovereign_model::provider::{Provider, Publishes, Way};
use sovereign_model::{Digest, DnsName, EdgeName, ProviderName, Stack};
use sovereign_runtime::SigningKey;
use sovereign_runtime::control::{Request, request_async};
use sovereign_runtime::lifecycle::{Drained, Lifecycle};
use sovereign_runtime::signed;

use common::{Authority, Manner, NAME, PATIENCE, RULES, Server};
use knot::{Knot, SECRET};

/// As shipped, many times as fast.
const PACE: Pace = Pace {
    second: Duration::from_millis(50),
    step: Duration::from_millis(500),
    look: Duration::from_secs(5),
    kept: Duration::from_secs(20),
};

const HOME: &str = "127.0.0.1";
const OFFICE: &str = "127.0.0.2";

fn stack(server: SocketAddr, algorithm: &str) -> Stack {
    let text = format!(
        r#"
version = 1
[stack]
name = "shop"
[[datacenter]]
name = "home"
[[datacenter.uplink]]
name = "isp"
address = "{HOME}"
[[datacenter]]
name = "office"
[[datacenter.uplink]]
name = "isp"
address = "{OFFICE}"
listen = 8443
[[domain]]
name = "example.net"
registrar = "r"
provider = "there"
records = ["@ TXT \"a \\\"quoted\\\" text\"", "shop CNAME shops.example.org.", "@ CAA 0 issue \"ca.example\""]
[[provider]]
name = "there"
kind = "rfc2136"
server = "{server}"
key = "stack.example.net"
algorithm = "{algorithm}"
[[site]]
name = "blog"
app = "ghost"
canonical = "example.net"
names = ["www.example.net"]
primary = "home"
mirrors = ["office"]
"#
    );
    sovereign_model::parse("stack.toml", &text, Path::new("/")).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// Waits until it answers so.
async fn answers(knot: &Knot, name: &str, kind: &str, wanted: &[&str]) {
    let began = Instant::now();
    loop {
        let lines = knot.kdig(&["+short", name, kind]);
        if lines == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "waited for {wanted:?}, and it is {lines:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn domain() -> DnsName {
    "example.net".parse().unwrap()
}

fn told_of(stack: &Stack) -> Told {
    let domain = Domain::from(stack.domains.values().next().unwrap());
    told(&Names::of(stack), &domain, &World::default(), false)
}

#[tokio::test]
async fn what_is_wanted_comes_there_and_what_an_operator_keeps_stays() {
    for algorithm in ["hmac-sha256", "hmac-sha384", "hmac-sha512"] {
        let knot = Knot::start(Ipv4Addr::LOCALHOST.into(), algorithm);
        let stack = stack(knot.at, algorithm);
        let teller = ByCrate::new(&stack.providers[0], &format!("{SECRET}\n")).unwrap();
        let told = told_of(&stack);
        assert!(told.left.is_empty(), "{:?}", told.left);
        let changes = look(&teller, &domain(), &told).await.unwrap();
        assert!(changes.len() > 5, "{changes:#?}");
        for change in &changes {
            teller.change(&domain(), change).await.unwrap();
        }
        assert_eq!(look(&teller, &domain(), &told).await.unwrap(), [], "once is enough");
        for name in ["example.net", "www.example.net"] {
            assert_eq!(knot.kdig(&["+short", name, "A"]), [HOME, OFFICE]);
            assert_eq!(knot.kdig(&["+short", name, "AAAA"]), [""; 0]);
        }
        let short = |name: &str, kind: &str| knot.kdig(&["+short", name, kind]);
        let texts = ["\"a \\\"quoted\\\" text\"", "\"theirs\"", "\"v=spf1 -all\""];
        assert_eq!(short("example.net", "TXT"), texts);
        assert_eq!(
            short("example.net", "MX"),
            ["0 .", "10 mail.example.net."],
            "theirs stays, and is theirs to remove"
        );
        assert_eq!(short("keep.example.net", "TXT"), ["\"mine\""]);
        assert_eq!(short("shop.example.net", "CNAME"), ["shops.example.org."]);
        assert_eq!(short("example.net", "CAA"), ["0 issue \"ca.example\""]);
        let www = knot.kdig(&["+noall", "+answer", "www.example.net", "A"]);
        assert!(www.iter().all(|line| line.split_whitespace().nth(1) == Some("30")), "{www:?}");
    }
}

#[tokio::test]
async fn what_is_in_the_way_is_said() {
    let knot = Knot::start(Ipv4Addr::LOCALHOST.into(), "hmac-sha256");
    let stack = stack(knot.at, "hmac-sha256");
    let provider = &stack.providers[0];
    let told = told_of(&stack);
    // Anybody may ask, and not anybody may change.
    let other = ByCrate::new(provider, "b3RoZXIgc2VjcmV0LCBvZiBubyBzdGFjaydzLCBhdCBhbGw=").unwrap();
    let changes = look(&other, &domain(), &told).await.unwrap();
    let refused = other.change(&domain(), &changes[0]).await.unwrap_err();
    assert!(matches!(refused, TellError::Unproven), "{refused:?}");
    assert!(refused.help(provider).unwrap().contains("sovereign dns login there"));
    for secret in ["", "not base 64!", "with space"] {
        assert!(matches!(ByCrate::new(provider, secret), Err(TellError::Secret)), "{secret:?}");
    }
    // Nobody listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut away = provider.clone();
    if let Way::Rfc2136 { server, .. } = &mut away.way {
        *server = nobody;
    }
    let away = ByCrate::new(&away, SECRET).unwrap();
    assert!(matches!(look(&away, &domain(), &told).await, Err(TellError::Refused(_))));
    // A name of a site that is another name for something.
    let teller = ByCrate::new(provider, SECRET).unwrap();
    let set = told.sets.iter().find(|set| set.kind == "CNAME").unwrap();
    let change = sovereign_dns::provider::change(set, &BTreeSet::new()).unwrap();
    let www = sovereign_dns::provider::Change { owner: "www.example.net".to_owned(), ..change };
    teller.change(&domain(), &www).await.unwrap();
    let alias = look(&teller, &domain(), &told).await.unwrap_err();
    assert_eq!(
        alias.to_string(),
        "www.example.net is another name for shops.example.org. there, and a site's name has addresses"
    );
}

/// The agent of home, which watches itself and office.
#[tokio::test]
async fn an_agent_takes_a_dead_data_center_out_and_puts_it_back() {
    let knot = Knot::start(Ipv4Addr::LOCALHOST.into(), "hmac-sha256");
    let stack = stack(knot.at, "hmac-sha256");
    let authority = Authority::new("ours");
    let tls = authority.server(NAME);
    let home = Server::start(tls.clone(), Manner::Edge).await;
    let office = Server::start_at(format!("{OFFICE}:0").parse().unwrap(), tls.clone(), Manner::Edge).await;
    let folder = tempfile::tempdir().unwrap();
    let name: ProviderName = "there".parse().unwrap();
    let digest = Digest::of(SECRET);
    let secrets = BTreeMap::from([(name.clone(), digest)]);
    let mut publishes = Publishes::of(&stack, &secrets, &BTreeSet::new()).unwrap();
    // This stack has no hosts, and its agents are these.
    let own: EdgeName = "home/atlas".parse().unwrap();
    publishes.order = vec![own.clone(), "office/b".parse().unwrap()];
    std::fs::write(AgentFolder::new(folder.path()).provider_secret(&name, &digest), SECRET).unwrap();
    let watched = |datacenter: &str, address: SocketAddr| Watched {
        datacenter: datacenter.parse().unwrap(),
        at: "isp".to_owned(),
        address,
        name: Some(NAME.parse().unwrap()),
        public: false,
    };
    let config = AgentConfig {
        stack: stack.name.clone(),
        datacenter: own.datacenter.clone(),
        host: own.host.clone(),
        authority: authority.pem.clone(),
        watched: vec![watched("home", home.address), watched("office", office.address)],
        dynamic: Vec::new(),
        publishes: Some(publishes),
    };
    let (path, key) = (folder.path().join("config.json"), SigningKey::from_bytes(&[7; 32]));
    std::fs::write(&path, signed::seal(&key, PROTOCOL, 1, serde_json::to_string(&config).unwrap())).unwrap();
    let control = folder.path().join("control.sock");
    let options =
        Options { config: path, trust: key.verifying_key(), control: control.clone(), rules: RULES, pace: PACE };
    let lifecycle = Lifecycle::new(Duration::from_secs(5));
    let agent = tokio::spawn(agent::serve(options, lifecycle.clone()));

    // It begins with what the stack wants, and takes the old web server out.
    answers(&knot, "www.example.net", "A", &[HOME, OFFICE]).await;
    answers(&knot, "example.net", "A", &[HOME, OFFICE]).await;
    let began = Instant::now();
    let address = office.kill().await;
    for name in ["example.net", "www.example.net"] {
        answers(&knot, name, "A", &[HOME]).await;
    }
    let took = began.elapsed();
    eprintln!("from its death to no answer that names it, all of it sped up: {took:?}");
    let status = request_async(&control, &Request::new("status"), Duration::from_secs(5)).await.unwrap();
    let status: AgentStatus = serde_json::from_value(status).unwrap();
    assert_eq!(status.providers, BTreeMap::from([(name.clone(), None)]));
    let other = knot.kdig(&["+short", "keep.example.net", "TXT"]);
    assert_eq!(other, ["\"mine\""]);
    let _office = Server::start_at(address, tls, Manner::Edge).await;
    answers(&knot, "www.example.net", "A", &[HOME, OFFICE]).await;
    lifecycle.stop();
    assert_eq!(agent.await.unwrap().unwrap(), Drained::Quiet);
}

#[test]
fn a_provider_is_said_with_its_way() {
    let provider = Provider { name: "x".parse().unwrap(), way: Way::Desec };
    assert_eq!((provider.to_string().as_str(), provider.way.port()), ("x (desec)", 443));
}
