//! What certificate authorities ask to see in DNS before they sign (RFC 8555 section 8.4): which names may have it, and for
//! how long. Pure: time comes in.
//!
//! Promise: only names within the domains that are answered for, only what such an authority asks for, and never for
//! longer than [`LASTS`]. Who asks for certificates sets its own and nobody else's: two may be at it at the same time. Kept
//! in memory alone: whoever asked for a certificate asks again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Deserialize;
use sovereign_model::DnsName;
use sovereign_model::dns_record::is_within;
use sovereign_model::names::Names;

use crate::zone::challenge_owner;

/// So long a challenge is published, unless it is taken back: an order of a certificate takes minutes.
pub const LASTS: Duration = Duration::from_secs(3600);
/// So many names at once: a certificate carries a hundred.
const MOST_NAMES: usize = 200;
/// So many texts for each name: two orders of a name and its wildcard, of a few who ask at once.
const MOST_TEXTS: usize = 16;
/// So many may ask for certificates at the same time: a host each, of more than any stack has.
const MOST_ASKERS: usize = 64;
/// A data center and a host.
const LONGEST_ASKER: usize = 130;
/// The longest text that is one string of a TXT record (RFC 1035 section 3.3.14).
const LONGEST_TEXT: usize = 255;
/// The longest name (RFC 1035 section 2.3.4), as text without the dot at the end.
const LONGEST_NAME: usize = 253;

/// Texts by the name that a certificate is to have.
pub type Texts = BTreeMap<DnsName, BTreeSet<String>>;

/// Something that is not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoChallenge {
    /// Not a name.
    #[error("`{0}` is not a host name")]
    Name(String),
    /// In none of the domains that are answered for.
    #[error("`{0}` is in no domain that is answered for here")]
    Foreign(DnsName),
    /// With what goes before it, it is too long.
    #[error("`{0}` is too long for a challenge")]
    Long(DnsName),
    /// Nothing that an authority asks for.
    #[error(
        "what is to be published for `{0}` is not a challenge: letters, digits, `-` and `_`, at most {LONGEST_TEXT}"
    )]
    Text(DnsName),
    /// Too many.
    #[error("`{0}` has more than {MOST_TEXTS} challenges")]
    Texts(DnsName),
    /// Too many.
    #[error("more than {MOST_NAMES} names at once")]
    Names,
    /// Too many.
    #[error("more than {MOST_ASKERS} ask for certificates at once")]
    Askers,
    /// No name of anybody.
    #[error("`{0}` is no name of who asks: small letters, digits, `-` and `/`, at most {LONGEST_ASKER}")]
    Asker(String),
}

/// Who asks for certificates, as it calls itself; who does not say is one too.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Asker(String);

impl TryFrom<String> for Asker {
    type Error = NoChallenge;

    fn try_from(name: String) -> Result<Self, NoChallenge> {
        let is_one = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'/');
        let is_name = name.len() <= LONGEST_ASKER && name.bytes().all(is_one);
        if is_name { Ok(Self(name)) } else { Err(NoChallenge::Asker(name)) }
    }
}

/// Reads what is to be published.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(names: &Names, asked: BTreeMap<String, Vec<String>>) -> Result<Texts, Vec<NoChallenge>> {
    let mut wrong = Vec::new();
    let mut texts = Texts::new();
    if asked.len() > MOST_NAMES {
        return Err(vec![NoChallenge::Names]);
    }
    for (name, values) in asked {
        let Ok(name) = name.parse::<DnsName>() else {
            wrong.push(NoChallenge::Name(name));
            continue;
        };
        if !names.domains.iter().any(|domain| is_within(name.as_str(), domain.name.as_str())) {
            wrong.push(NoChallenge::Foreign(name));
            continue;
        }
        if challenge_owner(&name).len() > LONGEST_NAME {
            wrong.push(NoChallenge::Long(name));
            continue;
        }
        if !values.iter().all(|text| is_text(text)) {
            wrong.push(NoChallenge::Text(name.clone()));
        }
        let values: BTreeSet<String> = values.into_iter().collect();
        if values.len() > MOST_TEXTS {
            wrong.push(NoChallenge::Texts(name.clone()));
        }
        if !values.is_empty() {
            texts.insert(name, values);
        }
    }
    if wrong.is_empty() { Ok(texts) } else { Err(wrong) }
}

/// A digest in base64url (RFC 8555 section 8.4), or anything of the same letters.
fn is_text(text: &str) -> bool {
    (1..=LONGEST_TEXT).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// What is published: of each who asks its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenges(BTreeMap<Asker, (Texts, Instant)>);

impl Challenges {
    /// These of `asker`, from `now` on, in place of those that it had.
    ///
    /// # Errors
    /// When too many ask. What was published stays.
    pub fn set(&mut self, asker: Asker, texts: Texts, now: Instant) -> Result<(), NoChallenge> {
        self.0.retain(|_, (_, until)| now < *until);
        if texts.is_empty() {
            self.0.remove(&asker);
        } else if self.0.len() < MOST_ASKERS || self.0.contains_key(&asker) {
            self.0.insert(asker, (texts, now + LASTS));
        } else {
            return Err(NoChallenge::Askers);
        }
        Ok(())
    }

    /// Those of `asker` that are still to be seen.
    pub fn of(&self, asker: &Asker, now: Instant) -> Texts {
        self.0.get(asker).filter(|(_, until)| now < *until).map(|(texts, _)| texts.clone()).unwrap_or_default()
    }

    /// All that are still to be seen.
    pub fn at(&self, now: Instant) -> Texts {
        let mut all = Texts::new();
        for (texts, _) in self.0.values().filter(|(_, until)| now < *until) {
            for (name, texts) in texts {
                all.entry(name.clone()).or_default().extend(texts.iter().cloned());
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sovereign_model::names::Domain;
    use sovereign_model::stack::Mail;

    use super::*;

    fn names() -> Names {
        let domain = Domain {
            name: "example.org".parse().unwrap(),
            secondaries: Vec::new(),
            mail: Mail::None,
            records: Vec::new(),
        };
        Names { places: Vec::new(), domains: vec![domain], secondaries: Vec::new(), sites: Vec::new(), issuers: None }
    }

    fn asked(all: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let of = |(name, texts): &(&str, &[&str])| {
            ((*name).to_owned(), texts.iter().map(|text| (*text).to_owned()).collect())
        };
        all.iter().map(of).collect()
    }

    #[test]
    fn names_within_the_own_domains_are_published_for_an_hour() {
        let read = parse(&names(), asked(&[("www.example.org", &["b", "a", "b"]), ("example.org", &[])])).unwrap();
        assert_eq!(read.keys().map(DnsName::as_str).collect::<Vec<_>>(), ["www.example.org"]);
        let now = Instant::now();
        let mut set = Challenges::default();
        assert!(set.at(now).is_empty());
        set.set(Asker::default(), read.clone(), now).unwrap();
        assert_eq!((set.at(now), set.at(now + LASTS).len()), (read, 0));
    }

    #[test]
    fn two_who_ask_at_the_same_time_are_in_nobodys_way_and_too_many_are_told_so() {
        let texts = |text: &str| parse(&names(), asked(&[("www.example.org", &[text])])).unwrap();
        let (now, mut set) = (Instant::now(), Challenges::default());
        let [one, two] = ["home/atlas", "office/boreas"].map(|name| Asker::try_from(name.to_owned()).unwrap());
        set.set(one.clone(), texts("a"), now).unwrap();
        set.set(two.clone(), texts("b"), now + LASTS / 2).unwrap();
        let shown = |set: &Challenges, at| set.at(at).into_values().flatten().collect::<Vec<_>>();
        assert_eq!(shown(&set, now), ["a", "b"]);
        assert_eq!(shown(&set, now + LASTS), ["b"], "each for its own hour");
        set.set(two.clone(), Texts::new(), now).unwrap();
        assert_eq!((shown(&set, now), set.of(&two, now)), (vec!["a".to_owned()], Texts::new()));
        assert_eq!(set.of(&one, now), texts("a"));

        let many: Vec<Asker> = (1..MOST_ASKERS).map(|host| Asker::try_from(format!("home/{host}")).unwrap()).collect();
        for asker in many {
            set.set(asker, texts("c"), now).unwrap();
        }
        assert_eq!(set.set(two.clone(), texts("b"), now), Err(NoChallenge::Askers));
        set.set(one, texts("d"), now).unwrap();
        set.set(two, texts("b"), now + LASTS).unwrap();
        for name in ["Home", "a b", "\u{e9}", &"a".repeat(LONGEST_ASKER + 1)] {
            assert!(matches!(Asker::try_from(name.to_owned()), Err(NoChallenge::Asker(_))), "{name}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let many: Vec<String> = (0..=MOST_TEXTS).map(|number| number.to_string()).collect();
        let mut all = asked(&[
            ("example.net", &["a"]),
            ("notexample.org", &["a"]),
            ("A b", &["a"]),
            ("quote.example.org", &["a\"b"]),
            ("empty.example.org", &[""]),
        ]);
        let labels = ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(55)].join(".");
        all.insert(format!("{labels}.example.org"), vec!["a".to_owned()]);
        all.insert("many.example.org".to_owned(), many);
        assert_eq!(parse(&names(), all).unwrap_err().len(), 7);
        let more = (0..=MOST_NAMES).map(|number| (format!("a{number}.example.org"), Vec::new())).collect();
        assert_eq!(parse(&names(), more), Err(vec![NoChallenge::Names]));
    }

    proptest! {
        #[test]
        fn what_is_published_can_be_written_into_a_zone(name in "[a-z.\" ]{0,12}(\\.example\\.org)?", text in "\\PC{0,6}|[a-zA-Z0-9_-]{1,43}") {
            if let Ok(read) = parse(&names(), BTreeMap::from([(name, vec![text])])) {
                for (name, texts) in read {
                    prop_assert!(is_within(name.as_str(), "example.org"));
                    prop_assert!(texts.iter().all(|text| !text.contains(['"', '\\', '\n', ' '])));
                }
            }
        }
    }
}
