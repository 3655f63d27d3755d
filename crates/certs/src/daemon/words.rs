//! What renewers say to each other, by the hands of edges: which answers to challenges name servers are to give. Says this
//! one's own, and has the name server beside it give everybody's.
//!
//! Promise: an answer is given only when it was said by a renewer that the management machine vouches for, whatever the edge
//! says. Of who died in the middle of an order nothing is given for longer than an hour, as if the name server had been told once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use sovereign_model::dns_record::is_within;
use sovereign_model::renewer_config::{NameServer, RenewerConfig};
use sovereign_model::renewer_word::Word;
use sovereign_model::{DnsName, EdgeName, StackName};
use sovereign_runtime::control::{ControlError, Request, request_async};
use sovereign_runtime::signed::{attest, is_attested, parse_trust};
use sovereign_runtime::{SigningKey, VerifyingKey};
use tokio::sync::Mutex;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::challenges::{Challenges, PublishError};

/// The edge is on this machine, and answers from memory.
const EDGE_WITHIN: Duration = Duration::from_secs(5);
/// Knot has what it was told within a second, or ten.
const NAME_SERVER_WITHIN: Duration = Duration::from_secs(15);
/// A name server forgets what it was told when it is started anew, and is told again so often.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// For so long, after something was said: an order takes minutes.
const LASTS: Duration = Duration::from_secs(3600);

type Texts = BTreeMap<DnsName, BTreeSet<String>>;

/// The words of all, as one renewer has to do with them.
#[derive(Clone)]
pub(super) struct Words(Arc<Inner>);

struct Inner {
    stack: StackName,
    by: EdgeName,
    key: SigningKey,
    public: String,
    warrant: String,
    /// The management machine's key, in hex.
    trust: String,
    domains: BTreeSet<DnsName>,
    servers: Vec<NameServer>,
    edge: PathBuf,
    name_server: PathBuf,
    /// What this one has to say.
    own: Mutex<Texts>,
    /// What the name server was told of each.
    told: Mutex<BTreeMap<EdgeName, Told>>,
}

/// The latest word of one that the name server was to be told.
#[derive(Debug, Clone, Copy)]
struct Told {
    number: u64,
    /// When that was first.
    first: Instant,
    /// When it was told last; `None` when it could not be.
    last: Option<Instant>,
}

impl Told {
    /// Whether the name server is to be told `word`, at `now`.
    fn is_due(told: Option<&Self>, word: &Word, now: Instant) -> bool {
        match told {
            Some(told) if told.number == word.number => told.last.is_none_or(|last| {
                !word.challenges.is_empty()
                    && now.duration_since(last) >= TELL_AGAIN
                    && now.duration_since(told.first) < LASTS
            }),
            Some(told) => told.number < word.number,
            None => true,
        }
    }
}

impl Words {
    pub(super) fn new(
        config: &RenewerConfig,
        key: SigningKey,
        trust: &VerifyingKey,
        edge: PathBuf,
        name_server: PathBuf,
    ) -> Self {
        Self(Arc::new(Inner {
            stack: config.stack.clone(),
            by: config.edge(),
            key,
            public: config.key.clone(),
            warrant: config.warrant.clone(),
            trust: hex(trust.as_bytes()),
            domains: config.domains.clone(),
            servers: config.name_servers.clone(),
            edge,
            name_server,
            own: Mutex::default(),
            told: Mutex::default(),
        }))
    }

    /// Has everything said and given, again and again, for ever.
    pub(super) async fn carry(&self, every: Duration) {
        loop {
            if let Err(error) = self.0.carry().await {
                debug!(%error, "the edge beside it cannot be asked for words");
            }
            sleep(every).await;
        }
    }
}

impl Inner {
    async fn carry(&self) -> Result<(), ControlError> {
        let words = self.heard().await?;
        let own = self.own.lock().await;
        // What an earlier process has said is taken back; what the edge has forgotten is said again.
        if words.get(&self.by).map_or(!own.is_empty(), |word| word.challenges != *own) {
            self.say(&own).await?;
        }
        drop(own);
        for word in words.values() {
            self.tell(word).await;
        }
        Ok(())
    }

    /// What the edge has heard of each.
    async fn heard(&self) -> Result<BTreeMap<EdgeName, Word>, ControlError> {
        let mut answer = request_async(&self.edge, &Request::new("words"), EDGE_WITHIN).await?;
        let words: Vec<Word> = serde_json::from_value(answer["words"].take())
            .map_err(|_| ControlError::NotAnAnswer { socket: self.edge.clone() })?;
        Ok(words.into_iter().map(|word| (word.by.clone(), word)).collect())
    }

    /// Says what this one has to say, as a word that is later than the one before: of an earlier process too.
    async fn say(&self, own: &Texts) -> Result<Word, ControlError> {
        let before = self.heard().await?.get(&self.by).map_or(0, |word| word.number);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut word = Word {
            by: self.by.clone(),
            key: self.public.clone(),
            warrant: self.warrant.clone(),
            number: now.max(before.saturating_add(1)),
            challenges: own.clone(),
            signature: String::new(),
        };
        word.signature = attest(&self.key, &word.statement(&self.stack));
        let said = serde_json::to_value(&word).expect("names, numbers and texts serialize to JSON");
        request_async(&self.edge, &Request::new("say").with("word", said), EDGE_WITHIN).await?;
        Ok(word)
    }

    /// Has the name server give what a word says. What it does not take it is told again; whether the world has an answer is
    /// for who asked for it to see.
    async fn tell(&self, word: &Word) {
        // One after the other: an earlier word must not come last.
        let mut all = self.told.lock().await;
        let (now, before) = (Instant::now(), all.get(&word.by).copied());
        if !Told::is_due(before.as_ref(), word, now) || !self.holds(word) {
            return;
        }
        let set: Texts = word
            .challenges
            .iter()
            .filter(|(name, _)| self.domains.iter().any(|domain| is_within(name.as_str(), domain.as_str())))
            .map(|(name, texts)| (name.clone(), texts.clone()))
            .collect();
        let asked = Request::new("challenge").with("of", word.by.to_string()).with("set", json!(set));
        let last = match request_async(&self.name_server, &asked, NAME_SERVER_WITHIN).await {
            Ok(_) => Some(now),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(by = %word.by, error, "the name server beside it does not give the answers to challenges");
                None
            }
        };
        let first = before.filter(|told| told.number == word.number).map_or(now, |told| told.first);
        all.insert(word.by.clone(), Told { number: word.number, first, last });
    }

    fn holds(&self, word: &Word) -> bool {
        word.holds(&self.stack, &self.trust, |key, statement, signature| {
            parse_trust(key).is_ok_and(|key| is_attested(&key, statement, signature))
        })
    }

    /// Changes what this one has to say, says it, and has it given here.
    async fn change(&self, change: impl FnOnce(&mut Texts)) -> Result<(), PublishError> {
        let mut own = self.own.lock().await;
        change(&mut own);
        let word = self.say(&own).await?;
        drop(own);
        self.tell(&word).await;
        Ok(())
    }
}

impl Challenges for Words {
    async fn publish(&self, name: &DnsName, values: &[String]) -> Result<(), PublishError> {
        let values: BTreeSet<String> = values.iter().cloned().collect();
        self.0.change(|own| drop(own.insert(name.clone(), values))).await
    }

    async fn withdraw(&self, name: &DnsName) -> Result<(), PublishError> {
        self.0.change(|own| drop(own.remove(name))).await
    }

    fn servers(&self, name: &DnsName) -> Vec<SocketAddr> {
        let answers =
            |server: &&NameServer| server.domains.iter().any(|domain| is_within(name.as_str(), domain.as_str()));
        self.0.servers.iter().filter(answers).map(|server| server.at).collect()
    }
}

/// Small letters and digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_told_what_is_later_and_again_what_lasts() {
        let word = |number, texts: &[&str]| Word {
            by: "home/atlas".parse().unwrap(),
            key: String::new(),
            warrant: String::new(),
            number,
            challenges: texts
                .iter()
                .map(|text| ("www.example.org".parse().unwrap(), BTreeSet::from([(*text).to_owned()])))
                .collect(),
            signature: String::new(),
        };
        let began = Instant::now();
        let told = Told { number: 7, first: began, last: Some(began) };
        let is_due = |told: &Told, word: &Word, after: Duration| Told::is_due(Some(told), word, began + after);
        let (now, soon) = (Duration::ZERO, TELL_AGAIN);
        assert!(Told::is_due(None, &word(1, &[]), began));
        assert!(!is_due(&told, &word(7, &["a"]), now) && is_due(&told, &word(7, &["a"]), soon));
        assert!(is_due(&told, &word(8, &[]), now) && !is_due(&told, &word(6, &["a"]), soon));
        assert!(!is_due(&told, &word(7, &[]), soon), "nothing need not be said again");
        assert!(!is_due(&told, &word(7, &["a"]), LASTS), "nor what was said long ago");
        assert!(is_due(&Told { last: None, ..told }, &word(7, &[]), now), "what was not taken is said at once");
    }
}
