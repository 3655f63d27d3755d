//! Debian's Knot and Debian's pebble on loopback, and what stands between pebble and whoever asks it.

pub(crate) mod front;
mod pebble;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use sovereign_certs::challenges::{Challenges, PublishError};
use sovereign_certs::turn::Turn;
use sovereign_certs::{Access, Options, Outcome, Pass, Renewer, ask};
use sovereign_dns::knot::driver::{Driver, Key, Options as KnotOptions};
use sovereign_dns::knot::files::Setup;
use sovereign_dns::zone::World;
use sovereign_keys::{Purpose, RootSeed, WorkingKeys};
use sovereign_model::authority::Authority;
use sovereign_model::dns_record::is_within;
use sovereign_model::names::Names;
use sovereign_model::{DnsName, DnsRecord};
use tempfile::TempDir;

pub(crate) use self::pebble::{Pebble, Trust, free_port};

/// What certificates wait for name servers and authorities.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

const STACK: &str = r#"
version = 1
[stack]
name = "s"
[[datacenter]]
name = "vienna"
[[datacenter.uplink]]
name = "fibre"
address = "192.0.2.1"
[[domain]]
name = "example.org"
registrar = "r"
[[domain]]
name = "example.net"
registrar = "r"
"#;

/// A name server that answers for `example.org` and `example.net`, until it is dropped.
pub(crate) struct Knot {
    _folder: TempDir,
    pub(crate) listen: SocketAddr,
    names: Names,
    driver: Driver,
    /// The number of the answers that it has.
    brought: u64,
}

impl Knot {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stack = sovereign_model::parse("stack.toml", STACK, Path::new("/")).unwrap();
        let purposes: Vec<Purpose> = stack.domains.keys().cloned().map(Purpose::Zone).collect();
        let working = WorkingKeys::imagined(&stack.name, &purposes, &RootSeed::generate());
        let mut keys = BTreeMap::new();
        for domain in stack.domains.keys() {
            let key = working.zone_key(domain).unwrap();
            let file = folder.path().join(format!("{domain}.pem"));
            std::fs::write(&file, key.private_pem().expose()).unwrap();
            keys.insert(domain.clone(), vec![Key { tag: key.tag(), file }]);
        }
        let home = folder.path().join("knot");
        let driver = Driver::new(KnotOptions { folder: home, keys, program: vec!["knotd".to_owned()] });
        let mut knot = Self { _folder: folder, listen: free_port(), names: Names::of(&stack), driver, brought: 0 };
        knot.bring().await.unwrap();
        knot
    }

    async fn bring(&mut self) -> Result<(), PublishError> {
        let setup = Setup {
            names: &self.names,
            world: &World::default(),
            listen: &[self.listen],
            datacenter: &"vienna".parse().unwrap(),
            lan: None,
            transfer_keys: &BTreeMap::new(),
            geography: None,
        };
        self.driver.bring(&setup, Instant::now()).await?;
        Ok(())
    }

    /// Brings all answers to challenges that there are to be.
    async fn answer(&mut self, answers: &Answers) -> Result<(), PublishError> {
        if self.brought >= answers.number {
            return Ok(());
        }
        for domain in &mut self.names.domains {
            domain.records.clear();
            for (name, values) in
                answers.values.iter().filter(|(name, _)| is_within(name.as_str(), domain.name.as_str()))
            {
                for value in values {
                    let mut record = DnsRecord::new(name, 1, "TXT", format!("\"{value}\""));
                    record.owner = ask::owner(name);
                    domain.records.push(record);
                }
            }
        }
        self.bring().await?;
        self.brought = answers.number;
        Ok(())
    }
}

/// What is to be answered, and the number of this state of it.
#[derive(Clone, Default)]
struct Answers {
    number: u64,
    values: BTreeMap<DnsName, Vec<String>>,
}

/// The stack's name servers, as certificates know them. What comes while they load is loaded at once afterwards.
#[derive(Clone)]
pub(crate) struct Servers {
    answers: Arc<Mutex<Answers>>,
    pub(crate) knot: Arc<tokio::sync::Mutex<Knot>>,
    /// Who is asked whether the answer is there.
    pub(crate) asked: Arc<Mutex<Vec<SocketAddr>>>,
    /// Published instead of what should be.
    pub(crate) wrong: Arc<Mutex<Option<String>>>,
}

impl Servers {
    pub(crate) async fn start() -> Self {
        let knot = Knot::start().await;
        let asked = Arc::new(Mutex::new(vec![knot.listen]));
        Self { answers: Arc::default(), knot: Arc::new(tokio::sync::Mutex::new(knot)), asked, wrong: Arc::default() }
    }
}

impl Servers {
    async fn set(&self, name: &DnsName, values: Option<Vec<String>>) -> Result<(), PublishError> {
        let mine = {
            let mut answers = self.answers.lock().unwrap();
            answers.number += 1;
            match values {
                Some(values) => answers.values.insert(name.clone(), values),
                None => answers.values.remove(name),
            };
            answers.number
        };
        let mut knot = self.knot.lock().await;
        if knot.brought >= mine {
            return Ok(());
        }
        let answers = self.answers.lock().unwrap().clone();
        knot.answer(&answers).await
    }
}

impl Challenges for Servers {
    async fn publish(&self, name: &DnsName, values: &[String]) -> Result<(), PublishError> {
        let wrong = self.wrong.lock().unwrap().clone();
        let values = wrong.map_or_else(|| values.to_vec(), |wrong| vec![wrong]);
        let answered = |domain: &str| is_within(name.as_str(), domain);
        if !["example.org", "example.net"].into_iter().any(answered) {
            return Err("nobody answers for its domain".into());
        }
        self.set(name, Some(values)).await
    }

    async fn withdraw(&self, name: &DnsName) -> Result<(), PublishError> {
        self.set(name, None).await
    }

    fn servers(&self, _name: &DnsName) -> Vec<SocketAddr> {
        self.asked.lock().unwrap().clone()
    }
}

/// An authority that listens there.
pub(crate) fn access(name: &str, place: SocketAddr, roots: &[&str]) -> Access {
    Access::new(authority(name, place), Some(&roots.join("\n"))).unwrap()
}

/// One that is asked for certificates of a kind.
pub(crate) fn with_profile(name: &str, place: SocketAddr, roots: &[&str], profile: &str) -> Access {
    let authority = Authority { profile: Some(profile.to_owned()), ..authority(name, place) };
    Access::new(authority, Some(&roots.join("\n"))).unwrap()
}

fn authority(name: &str, place: SocketAddr) -> Authority {
    Authority {
        name: name.parse().unwrap(),
        directory: format!("https://127.0.0.1:{}/dir", place.port()).parse().unwrap(),
        roots: None,
        profile: None,
        caa: None,
    }
}

/// A clock that can be moved on.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(crate) fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_secs(), Ordering::Relaxed);
    }

    fn port(&self) -> Arc<dyn Fn() -> SystemTime + Send + Sync> {
        let ahead = self.0.clone();
        Arc::new(move || SystemTime::now() + Duration::from_secs(ahead.load(Ordering::Relaxed)))
    }
}

pub(crate) fn renewer(folder: &Path, authorities: Vec<Access>, servers: &Servers, clock: &Clock) -> Renewer<Servers> {
    let options = Options { folder: folder.join("certs"), authorities, patience: PATIENCE, turn: Turn::FIRST };
    Renewer::new(options, servers.clone(), clock.port()).unwrap()
}

pub(crate) fn named(names: &[&str]) -> BTreeMap<DnsName, DnsName> {
    let domain = |name: &str| {
        name.split_once('.').filter(|(_, rest)| rest.contains('.')).map_or(name, |(_, rest)| rest).to_owned()
    };
    names.iter().map(|name| (name.parse().unwrap(), domain(name).parse().unwrap())).collect()
}

/// Who issued for a name.
pub(crate) fn issued(pass: &Pass, name: &str) -> String {
    match &pass.outcomes[&name.parse().unwrap()] {
        Outcome::Issued { authority, .. } => authority.to_string(),
        other => panic!("{name}: {other:?}"),
    }
}

/// Why there is none for a name, and what can be done about it.
pub(crate) fn failed(pass: &Pass, name: &str) -> Vec<(String, Option<String>)> {
    match &pass.outcomes[&name.parse().unwrap()] {
        Outcome::Waits { failures, .. } => failures
            .iter()
            .map(|failure| {
                let mut text = failure.to_string();
                let mut source = std::error::Error::source(failure);
                while let Some(cause) = source {
                    text = format!("{text}: {cause}");
                    source = cause.source();
                }
                (text, failure.help())
            })
            .collect(),
        other => panic!("{name}: {other:?}"),
    }
}

/// Where the certificate of a name lies.
pub(crate) fn served(renewer: &Renewer<Servers>, name: &str) -> (PathBuf, PathBuf) {
    let name = name.parse().unwrap();
    let state = renewer.store().state(&name).unwrap();
    let served = renewer.store().served(&name, &state.held.expect("there is one"));
    (served.chain, served.key)
}

/// What OpenSSL says.
pub(crate) fn openssl(args: &[&str]) -> String {
    let said = Command::new("openssl").args(args).output().unwrap();
    String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr)
}
