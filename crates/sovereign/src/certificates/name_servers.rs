//! Brings answers to challenges to the stack's name servers, each over its control socket.
//!
//! Promise: a name server that is away, or silent on purpose, stops no order. Of those that can be told, each has all that
//! is published, or the order does not go on: an authority asks whichever it likes. Who could not be told is remembered,
//! to be said.
//!
//! A name server takes everything at once, in place of what it had, so one map is kept of all that is published. It takes
//! nothing when one of the names is foreign to it; so it is told of names of those domains only that it answers for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use sovereign_certs::challenges::{Challenges, PublishError};
use sovereign_engine::incus::Reach;
use sovereign_model::dns_record::is_within;
use sovereign_model::layout::StateFolder;
use sovereign_model::name_server_status::NameServerStatus;
use sovereign_model::names::NAMES_PORT;
use sovereign_model::stack::{Domain, EngineKind};
use sovereign_model::{DnsName, EdgeName, Stack};
use sovereign_runtime::control::{ControlError, Refusal, Request, request_async};

use crate::gather::{Away, ask};

/// Knot has what it was told within a second; a name server that takes longer counts as away.
const PATIENCE: Duration = Duration::from_secs(8);

/// Where the name servers are that authorities ask: on hosts, and on this machine where one was started for a data center of its own.
pub(super) fn declared(stack: &Stack, state: &StateFolder) -> Vec<EdgeName> {
    let here = stack.datacenters.values().filter(|home| home.engine == EngineKind::Embedded);
    let here = here.map(|home| EdgeName::here(&home.name));
    let here = here.filter(|edge| state.name_server(&edge.datacenter).control().exists());
    stack.public_name_servers().chain(here).collect()
}

/// Whether a name is in one of these domains.
fn holds(domains: &BTreeSet<DnsName>, name: &DnsName) -> bool {
    domains.iter().any(|domain| is_within(name.as_str(), domain.as_str()))
}

/// Where a name server takes questions, with the domains that it answers for; `None` where it did not say.
type Asked = (SocketAddr, Option<BTreeSet<DnsName>>);

/// The secondaries.
fn copies(stack: &Stack) -> impl Iterator<Item = Asked> {
    stack.secondaries.iter().flat_map(|secondary| {
        let has = |domain: &&Domain| domain.secondaries.contains(&secondary.name);
        let domains: BTreeSet<DnsName> = stack.domains.values().filter(has).map(|domain| domain.name.clone()).collect();
        let places = secondary.addresses.iter().map(|address| SocketAddr::new(*address, NAMES_PORT));
        places.map(move |place| (place, Some(domains.clone())))
    })
}

type Published = BTreeMap<DnsName, Vec<String>>;

/// A name server that can be told.
#[derive(Debug)]
struct Told {
    at: EdgeName,
    control: PathBuf,
    domains: BTreeSet<DnsName>,
}

impl Told {
    fn answers_for(&self, name: &DnsName) -> bool {
        holds(&self.domains, name)
    }
}

/// Those that were found.
#[derive(Debug, Default)]
struct Found {
    told: Vec<Told>,
    asked: Vec<Asked>,
}

/// The name servers of a stack. Nobody is asked before [`NameServers::find`].
#[derive(Debug, Clone, Default)]
pub(super) struct NameServers(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    found: OnceLock<Found>,
    published: tokio::sync::Mutex<Published>,
    untold: Mutex<BTreeMap<EdgeName, String>>,
}

/// Why an answer is not published.
#[derive(Debug, thiserror::Error)]
enum NotPublished {
    #[error("no name server that answers for it can be told{}", .0)]
    Nobody(String),
    #[error("the name server of {at} does not take it")]
    Refused { at: EdgeName, source: Refusal },
}

impl NameServers {
    /// Asks who there is.
    pub(super) async fn find(&self, stack: &Stack, state: &StateFolder, reach: &Reach) {
        let answers = join_all(declared(stack, state).into_iter().map(async |at| {
            let control = match &at.host {
                None => Ok(state.name_server(&at.datacenter).control()),
                Some(_) => {
                    reach.link(&at).await.map(|link| link.name_server.clone()).map_err(|error| Away::from(error).why)
                }
            };
            let status = match &control {
                Ok(control) => ask::<NameServerStatus>(control).await,
                Err(why) => Err(why.clone()),
            };
            (at, control.unwrap_or_default(), status)
        }));
        // Authorities ask who has a copy too, and that hears of a change a moment later.
        let mut found = Found { told: Vec::new(), asked: copies(stack).collect() };
        for (at, control, status) in answers.await {
            let asked = || stack.datacenters[&at.datacenter].asked(&at);
            match status {
                Ok(status) => {
                    let domains: BTreeSet<DnsName> = status.zones.into_iter().map(|zone| zone.domain).collect();
                    let listen = if status.listen.is_empty() { asked() } else { status.listen };
                    found.asked.extend(listen.into_iter().map(|place| (place, Some(domains.clone()))));
                    match status.silent {
                        Some(why) => self.is_untold(&at, format!("it is silent: {why}")),
                        None => found.told.push(Told { at, control, domains }),
                    }
                }
                // It may answer the world all the same; then it must not be passed over.
                Err(why) => {
                    found.asked.extend(asked().into_iter().map(|place| (place, None)));
                    self.is_untold(&at, why);
                }
            }
        }
        let _ = self.0.found.set(found); // found once
    }

    /// Those that could not be told, and why.
    pub(super) fn untold(&self) -> BTreeMap<EdgeName, String> {
        self.0.untold.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_untold(&self, at: &EdgeName, why: String) {
        self.0.untold.lock().unwrap_or_else(PoisonError::into_inner).insert(at.clone(), why);
    }

    fn found(&self) -> &Found {
        self.0.found.get_or_init(Found::default)
    }

    /// Tells all of them what is published; who has it. One that was away once is not waited for again: others wait for
    /// their turn.
    async fn tell(&self, published: &Published) -> Result<Vec<&Told>, NotPublished> {
        let untold = self.untold();
        let there = self.found().told.iter().filter(|server| !untold.contains_key(&server.at));
        let asked = join_all(there.map(async |server| {
            let set: Published = published
                .iter()
                .filter(|(name, _)| server.answers_for(name))
                .map(|(name, values)| (name.clone(), values.clone()))
                .collect();
            let asking = Request::new("challenge").with("set", json!(set));
            (server, request_async(&server.control, &asking, PATIENCE).await)
        }));
        let mut has = Vec::new();
        let mut refused = None;
        for (server, answer) in asked.await {
            match answer {
                Ok(_) => has.push(server),
                Err(ControlError::Refused(source)) => match ask::<NameServerStatus>(&server.control).await {
                    // It has fallen silent since it was found.
                    Ok(NameServerStatus { silent: Some(why), .. }) => {
                        self.is_untold(&server.at, format!("it is silent: {why}"));
                    }
                    _ => refused = refused.or(Some(NotPublished::Refused { at: server.at.clone(), source })),
                },
                Err(error) => self.is_untold(&server.at, error.to_string()),
            }
        }
        refused.map_or(Ok(has), Err)
    }
}

impl Challenges for NameServers {
    async fn publish(&self, name: &DnsName, values: &[String]) -> Result<(), PublishError> {
        let mut published = self.0.published.lock().await;
        published.insert(name.clone(), values.to_vec());
        let told = match self.tell(&published).await {
            Ok(has) if has.iter().any(|server| server.answers_for(name)) => return Ok(()),
            Ok(_) => {
                let untold = self.untold();
                let untold: Vec<String> = untold.iter().map(|(at, why)| format!("{at}: {why}")).collect();
                let untold = if untold.is_empty() { String::new() } else { format!(" ({})", untold.join("; ")) };
                NotPublished::Nobody(untold)
            }
            Err(refused) => refused,
        };
        // What one does not take must be in no other name's way.
        published.remove(name);
        Err(told.into())
    }

    async fn withdraw(&self, name: &DnsName) -> Result<(), PublishError> {
        let mut published = self.0.published.lock().await;
        if published.remove(name).is_some() {
            self.tell(&published).await?;
        }
        Ok(())
    }

    fn servers(&self, name: &DnsName) -> Vec<SocketAddr> {
        let answers = |domains: &Option<BTreeSet<DnsName>>| domains.as_ref().is_none_or(|domains| holds(domains, name));
        self.found().asked.iter().filter(|(_, domains)| answers(domains)).map(|(place, _)| *place).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;
    use sovereign_model::name_server_status::ZoneStatus;
    use sovereign_model::{Digest, file};
    use sovereign_runtime::control::{Commands, Server};
    use sovereign_runtime::lifecycle::Lifecycle;

    use super::*;

    /// A name server, as far as its control socket goes. It takes names of its domains.
    #[derive(Debug)]
    struct Fake {
        status: NameServerStatus,
        has: Mutex<Value>,
        silent: Mutex<Option<String>>,
    }

    struct Control(Arc<Fake>);

    impl Commands for Control {
        async fn answer(&self, request: Request) -> Result<Value, Refusal> {
            let Fake { status, has, silent } = &*self.0;
            let silent = silent.lock().unwrap().clone();
            match request.command.as_str() {
                "status" => Ok(serde_json::to_value(NameServerStatus { silent, ..status.clone() }).unwrap()),
                _ if silent.is_some() => Err(Refusal::new("this name server is silent")),
                _ => {
                    let set: BTreeMap<DnsName, Vec<String>> = request.field("set")?;
                    let within =
                        |name: &DnsName| status.zones.iter().any(|zone| is_within(name.as_str(), zone.domain.as_str()));
                    if set.keys().any(|name| !within(name) || name.as_str().starts_with("bad.")) {
                        return Err(Refusal::new("not that"));
                    }
                    *has.lock().unwrap() = json!(set);
                    Ok(json!({}))
                }
            }
        }
    }

    fn start(state: &StateFolder, at: &str, domains: &[&str], silent: Option<&str>) -> (Arc<Fake>, Lifecycle) {
        let zones = domains.iter().map(|domain| ZoneStatus {
            domain: domain.parse().unwrap(),
            serial: Some(1),
            signed_unix: None,
        });
        let status = NameServerStatus {
            healthy: true,
            draining: false,
            version: String::new(),
            process: 7,
            knot: Some(8),
            stack: "s".parse().unwrap(),
            datacenter: at.parse().unwrap(),
            host: None,
            config_digest: Digest::of(at),
            silent: None,
            seen_unix: None,
            agent_error: None,
            fails_open: false,
            away: Vec::new(),
            geography: None,
            geography_error: None,
            listen: vec![format!("127.0.0.1:{}", 5300 + at.len()).parse().unwrap()],
            zones: zones.collect(),
            challenges: Vec::new(),
            last_error: None,
        };
        let silent = Mutex::new(silent.map(str::to_owned));
        let fake = Arc::new(Fake { status, has: Mutex::new(Value::Null), silent });
        let control = state.name_server(&at.parse().unwrap()).control();
        std::fs::create_dir_all(control.parent().unwrap()).unwrap();
        let (server, lifecycle) = (Server::take_over(&control).unwrap(), Lifecycle::new(Duration::ZERO));
        let (serving, living) = (fake.clone(), lifecycle.clone());
        tokio::spawn(async move { server.serve(Arc::new(Control(serving)), &living).await });
        (fake, lifecycle)
    }

    fn stack() -> Stack {
        let place = |name: &str, port: u16| {
            format!(
                "[[datacenter]]\nname = \"{name}\"\n[[datacenter.uplink]]\nname = \"u\"\naddress = \"192.0.2.1\"\nlisten = {port}\n"
            )
        };
        let text = format!(
            "version = 1\n[stack]\nname = \"s\"\n{}{}{}[[domain]]\nname = \"example.org\"\nregistrar = \"r\"\n\
             [[domain]]\nname = \"example.net\"\nregistrar = \"r\"\nsecondaries = []\n\
             [[secondary]]\nname = \"friend\"\naddresses = [\"203.0.113.53\"]\n",
            place("home", 8443),
            place("cabin", 8444),
            place("office", 8445),
        );
        file::parse("stack.toml", &text, Path::new("/")).unwrap()
    }

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn all_that_can_be_told_have_all_of_it_and_the_rest_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(folder.path().to_owned());
        let (home, _home) = start(&state, "home", &["example.org", "example.net"], None);
        // One that is behind: it does not know the second domain yet.
        let (cabin, _cabin) = start(&state, "cabin", &["example.org"], None);
        let (office, _office) = start(&state, "office", &["example.org"], Some("on purpose"));
        let reach = Reach::new([], folder.path().to_owned(), state.clone());
        let servers = NameServers::default();
        servers.find(&stack(), &state, &reach).await;
        let has = |fake: &Fake| fake.has.lock().unwrap().clone();

        servers.publish(&name("www.example.org"), &["a".to_owned()]).await.unwrap();
        servers.publish(&name("www.example.net"), &["b".to_owned()]).await.unwrap();
        assert_eq!(has(&home), json!({"www.example.net": ["b"], "www.example.org": ["a"]}));
        assert_eq!(has(&cabin), json!({"www.example.org": ["a"]}));
        assert_eq!((has(&office), servers.untold().len()), (Value::Null, 1));
        assert_eq!(servers.servers(&name("www.example.net")).len(), 1);
        let asked = servers.servers(&name("www.example.org"));
        assert_eq!(
            (asked.len(), asked.contains(&"203.0.113.53:53".parse().unwrap())),
            (4, true),
            "a copy is asked too"
        );

        // What is refused is in no other name's way.
        let refused = servers.publish(&name("bad.example.net"), &["c".to_owned()]).await.unwrap_err();
        assert_eq!(refused.to_string(), "the name server of home does not take it");
        servers.publish(&name("a.example.org"), &["d".to_owned()]).await.unwrap();
        servers.withdraw(&name("www.example.org")).await.unwrap();
        assert_eq!(has(&home), json!({"www.example.net": ["b"], "a.example.org": ["d"]}));
        assert_eq!(has(&cabin), json!({"a.example.org": ["d"]}));

        // The only one that answers for a domain falls silent: nobody has it. The other domain has one left.
        *home.silent.lock().unwrap() = Some("nothing lives".to_owned());
        let nobody = servers.publish(&name("b.example.net"), &["e".to_owned()]).await.unwrap_err().to_string();
        assert!(
            nobody.starts_with("no name server") && nobody.contains("home: it is silent: nothing lives"),
            "{nobody}"
        );
        servers.publish(&name("b.example.org"), &["f".to_owned()]).await.unwrap();
        assert_eq!(has(&cabin), json!({"a.example.org": ["d"], "b.example.org": ["f"]}));
    }

    #[tokio::test]
    async fn without_a_name_server_nothing_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(folder.path().to_owned());
        let reach = Reach::new([], folder.path().to_owned(), state.clone());
        let servers = NameServers::default();
        servers.find(&stack(), &state, &reach).await;
        let error = servers.publish(&name("www.example.org"), &["a".to_owned()]).await.unwrap_err();
        assert_eq!(error.to_string(), "no name server that answers for it can be told");
        assert_eq!(servers.servers(&name("www.example.org")).len(), 1, "the copy");
    }
}
