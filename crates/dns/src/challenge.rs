//! What certificate authorities ask to see in DNS before they sign (RFC 8555 section 8.4): which names may have it, and for
//! how long. Pure: time comes in.
//!
//! Promise: only names within the domains that are answered for, only what such an authority asks for, and never for
//! longer than [`LASTS`]. Kept in memory alone: whoever asked for a certificate asks again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

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

/// What is published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenges {
    texts: Texts,
    until: Option<Instant>,
}

impl Challenges {
    /// These, from `now` on.
    pub fn new(texts: Texts, now: Instant) -> Self {
        Self { texts, until: Some(now + LASTS) }
    }

    /// Those that are still to be seen.
    pub fn at(&self, now: Instant) -> &Texts {
        static NONE: Texts = Texts::new();
        if self.until.is_some_and(|until| now < until) { &self.texts } else { &NONE }
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
        let set = Challenges::new(read.clone(), now);
        assert_eq!((set.at(now), set.at(now + LASTS).len()), (&read, 0));
        assert!(Challenges::default().at(now).is_empty());
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
