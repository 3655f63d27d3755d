//! Why there is no certificate: what an authority says, put in our words, with what to do about it.

use std::fmt;
use std::time::Duration;

use instant_acme::{Error as AcmeError, Problem};
use sovereign_model::{AuthorityName, DnsName};

use crate::ask::NotThere;
use crate::check::{Misfit, RootsError};
use crate::choice::{Failed, Trouble};
use crate::http::{Answered, HttpError};
use crate::store::StoreError;

/// Problems of ACME have types that begin so (RFC 8555 section 6.7).
const TYPE: &str = "urn:ietf:params:acme:error:";
/// What an authority says is shown up to here.
const MOST_SAID: usize = 400;

/// What an authority said, made fit for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The type of the problem, without what all of them begin with; empty when it gave none.
    pub kind: String,
    /// What it said.
    pub text: String,
}

impl Said {
    /// What a problem says; of several that it consists of, the first.
    pub(crate) fn of(problem: &Problem) -> Self {
        let inner = problem.subproblems.first();
        let kind = inner.and_then(|inner| inner.r#type.as_deref()).or(problem.r#type.as_deref()).unwrap_or_default();
        let text = inner.and_then(|inner| inner.detail.as_deref()).or(problem.detail.as_deref()).unwrap_or_default();
        let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(MOST_SAID).collect::<String>();
        Self { kind: clean(kind.strip_prefix(TYPE).unwrap_or(kind)), text: clean(text) }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.text.as_str(), self.kind.as_str()) {
            ("", "") => f.write_str("it does not say why"),
            ("", kind) => f.write_str(kind),
            (text, "") => f.write_str(text),
            (text, kind) => write!(f, "{text} ({kind})"),
        }
    }
}

impl std::error::Error for Said {}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no way to the authority.
    #[error("authority {authority} cannot be reached")]
    Unreachable {
        /// Which.
        authority: AuthorityName,
        /// Why.
        source: HttpError,
    },
    /// It answers, and not as an authority should.
    #[error("authority {authority} is not well{}", status.map(|status| format!(": it answers {status}")).unwrap_or_default())]
    Unwell {
        /// Which.
        authority: AuthorityName,
        /// The status of its answer.
        status: Option<u16>,
        /// How long it said to wait.
        retry_after: Option<Duration>,
        /// What came of it.
        source: Box<AcmeError>,
    },
    /// It is asked too often.
    #[error("authority {authority} issues no more at present")]
    Limited {
        /// Which.
        authority: AuthorityName,
        /// How long it said to wait.
        retry_after: Option<Duration>,
        /// What it said.
        source: Said,
    },
    /// It takes no account of this stack.
    #[error("authority {authority} does not take this stack as its customer")]
    Account {
        /// Which.
        authority: AuthorityName,
        /// What it said.
        source: Said,
    },
    /// It refuses the name.
    #[error("authority {authority} refuses a certificate for {name}")]
    Refused {
        /// Which.
        authority: AuthorityName,
        /// For what.
        name: DnsName,
        /// How long it said to wait.
        retry_after: Option<Duration>,
        /// What it said.
        source: Said,
    },
    /// It does not prove names by DNS.
    #[error("authority {authority} does not prove {name} by DNS")]
    NoDns {
        /// Which.
        authority: AuthorityName,
        /// For what.
        name: DnsName,
    },
    /// It did not find the answer to its challenge.
    #[error("authority {authority} did not find the answer to its challenge for {name}")]
    Challenge {
        /// Which.
        authority: AuthorityName,
        /// For what.
        name: DnsName,
        /// What it said.
        source: Said,
    },
    /// It takes too long.
    #[error("authority {authority} has not decided about {name} in time")]
    Slow {
        /// Which.
        authority: AuthorityName,
        /// For what.
        name: DnsName,
    },
    /// What it issued does not fit.
    #[error("what authority {authority} issued for {name} is not used")]
    Misfit {
        /// Which.
        authority: AuthorityName,
        /// For what.
        name: DnsName,
        /// Why.
        source: Misfit,
    },
    /// What it is believed by cannot be used.
    #[error("what authority {authority} is believed by cannot be used")]
    Roots {
        /// Which.
        authority: AuthorityName,
        /// Why.
        source: RootsError,
    },
    /// The answer to the challenge could not be brought to the name servers.
    #[error("the answer to the challenge for {name} cannot be published")]
    Publish {
        /// For what.
        name: DnsName,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The name servers do not have it.
    #[error("the answer to the challenge for {name} is not at the name servers")]
    NotThere {
        /// For what.
        name: DnsName,
        /// What is.
        source: NotThere,
    },
    /// A key could not be made or read.
    #[error("a key for {name} cannot be made")]
    Key {
        /// For what.
        name: DnsName,
        /// Why.
        source: rcgen::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failure {
    /// Whom it concerns; `None` when it says nothing about any authority and is no reason to wait.
    pub(crate) fn trouble(&self) -> Trouble {
        match self {
            Self::Unreachable { .. } | Self::Unwell { .. } => Trouble::Away,
            Self::Account { .. } | Self::Misfit { .. } | Self::Roots { .. } => Trouble::Useless,
            Self::Limited { .. } => Trouble::Limited,
            Self::Refused { .. } | Self::NoDns { .. } | Self::Challenge { .. } | Self::Slow { .. } => Trouble::Refused,
            Self::Publish { .. } | Self::NotThere { .. } | Self::Key { .. } | Self::Store(_) => Trouble::Ours,
        }
    }

    /// What of it is remembered.
    pub(crate) fn failed(&self) -> Failed {
        let retry_after = match self {
            Self::Unwell { retry_after, .. }
            | Self::Limited { retry_after, .. }
            | Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        };
        let mut why = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            why.push_str(": ");
            why.push_str(&cause.to_string());
            source = cause.source();
        }
        Failed {
            trouble: self.trouble(),
            retry_after,
            why: why.chars().filter(|c| !c.is_control()).take(600).collect(),
        }
    }

    /// What the operator can do about it.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { source: HttpError::Tls(..), .. } => {
                "when it has a certificate of its own making, name its root in a file: `roots` of [[authority]]".into()
            }
            Self::Unreachable { .. } | Self::Unwell { .. } | Self::Slow { .. } => {
                "it is tried again by itself; a second [[authority]] issues meanwhile".into()
            }
            Self::Limited { .. } => "it is asked again when it said to; a second [[authority]] issues meanwhile".into(),
            Self::Account { source, .. } if source.kind == "invalidProfile" => {
                "`profile` of [[authority]] must be one of its own; leave it out for its usual one".into()
            }
            Self::Account { source, .. } if source.kind == "externalAccountRequired" => {
                "authorities that want an account made elsewhere first cannot be used: choose another".into()
            }
            Self::Account { .. } => "choose another [[authority]]".into(),
            Self::Refused { source, name, .. } | Self::Challenge { source, name, .. } => match source.kind.as_str() {
                "caa" => format!("`kdig {name} CAA` and the same of what is above it say who may issue for it"),
                "dns" | "unauthorized" | "incorrectResponse" => format!(
                    "`kdig +trace _acme-challenge.{name} TXT` shows the way that it took: the registry must lead to the \
                     stack's own name servers (`sovereign dns` says which those are)"
                ),
                "rejectedIdentifier" => format!("it does not issue for {name} at all: choose another [[authority]]"),
                _ => return None,
            },
            Self::NoDns { .. } => "choose an authority that knows the challenge dns-01".into(),
            Self::Misfit { source, .. } => return source.help(),
            Self::Roots { source, .. } => return source.help(),
            Self::NotThere { source: NotThere::Other { .. }, .. } | Self::Publish { .. } => {
                "every name server must be told; `sovereign status` says which is not well".into()
            }
            Self::NotThere { .. } => "no name server of the domain is up, or can be asked from here".into(),
            Self::Key { .. } => return None,
            Self::Store(error) => return error.help(),
        })
    }
}

/// What an error of the library means, before it is known what was wanted.
pub(crate) enum Meaning {
    /// There is no way there.
    Unreachable(HttpError),
    /// Not as an authority should answer.
    Unwell(Option<u16>, Box<AcmeError>),
    /// It says no.
    Problem(Said),
    /// It takes too long.
    Slow,
    /// What was to be replaced was replaced already, or it knows nothing of replacing.
    NotReplaced,
    /// It has refused several nonces of its own in a row.
    Nonce,
    /// It does not know the account.
    NoAccount,
    /// It does not know what was asked for.
    NotFound,
    /// It takes no account of us.
    Account(Said),
    /// It is asked too often.
    Limited(Said),
}

pub(crate) fn meaning(error: AcmeError, answered: Option<Answered>) -> Meaning {
    let status = answered.map(|answered| answered.status.as_u16());
    match error {
        AcmeError::Api(problem) => {
            let said = Said::of(&problem);
            let outer = problem.r#type.as_deref().and_then(|kind| kind.strip_prefix(TYPE)).unwrap_or_default();
            match (outer, status) {
                ("rateLimited", _) | (_, Some(429)) => Meaning::Limited(said),
                ("badNonce", _) => Meaning::Nonce,
                ("accountDoesNotExist", _) => Meaning::NoAccount,
                ("alreadyReplaced", _) | (_, Some(409)) => Meaning::NotReplaced,
                (
                    "externalAccountRequired"
                    | "userActionRequired"
                    | "badPublicKey"
                    | "badSignatureAlgorithm"
                    | "invalidProfile"
                    | "unsupportedContact"
                    | "invalidContact",
                    _,
                ) => Meaning::Account(said),
                (_, Some(404)) => Meaning::NotFound,
                ("serverInternal", _) | (_, Some(500..)) => Meaning::Unwell(status, Box::new(AcmeError::Api(problem))),
                _ => Meaning::Problem(said),
            }
        }
        AcmeError::Other(inner) => match inner.downcast::<HttpError>() {
            Ok(error) => Meaning::Unreachable(*error),
            // The library has words for it only.
            Err(inner) if inner.to_string().starts_with("replaces field mismatch") => Meaning::NotReplaced,
            Err(inner) => Meaning::Unwell(status, Box::new(AcmeError::Other(inner))),
        },
        AcmeError::Timeout(_) => Meaning::Slow,
        other => match status {
            Some(404) => Meaning::NotFound,
            status => Meaning::Unwell(status.filter(|status| *status >= 400), Box::new(other)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> AcmeError {
        AcmeError::Api(serde_json::from_str(text).unwrap())
    }

    fn answered(status: u16) -> Option<Answered> {
        Some(Answered { status: http::StatusCode::from_u16(status).unwrap(), retry_after: None })
    }

    #[test]
    fn what_an_authority_says_is_shown_without_what_a_terminal_would_act_on() {
        let text = r#"{"type": "urn:ietf:params:acme:error:compound", "detail": "both", "subproblems":
            [{"type": "urn:ietf:params:acme:error:caa", "detail": "\u001b[31mCAA\u0007 forbids it"}]}"#;
        let Meaning::Problem(said) = meaning(problem(text), answered(403)) else { panic!() };
        assert_eq!(said.to_string(), "[31mCAA forbids it (caa)");
        let long = format!(r#"{{"detail": "{}"}}"#, "x".repeat(10_000));
        let Meaning::Problem(said) = meaning(problem(&long), answered(400)) else { panic!() };
        assert_eq!(said.text.len(), MOST_SAID);
        let Meaning::Problem(said) = meaning(problem("{}"), answered(400)) else { panic!() };
        assert_eq!(said.to_string(), "it does not say why");
    }

    #[test]
    fn what_to_do_next_follows_from_what_it_is() {
        let of = |kind: &str, status| meaning(problem(&format!(r#"{{"type": "{TYPE}{kind}"}}"#)), answered(status));
        assert!(matches!(of("rateLimited", 429), Meaning::Limited(_)));
        assert!(matches!(of("other", 429), Meaning::Limited(_)));
        assert!(matches!(of("serverInternal", 500), Meaning::Unwell(Some(500), _)));
        assert!(matches!(of("malformed", 503), Meaning::Unwell(Some(503), _)));
        assert!(matches!(of("accountDoesNotExist", 400), Meaning::NoAccount));
        assert!(matches!(of("alreadyReplaced", 409), Meaning::NotReplaced));
        assert!(matches!(of("malformed", 404), Meaning::NotFound));
        assert!(matches!(of("externalAccountRequired", 400), Meaning::Account(_)));
        assert!(matches!(of("rejectedIdentifier", 403), Meaning::Problem(_)));
        let page = AcmeError::Json(serde_json::from_str::<u8>("<html>").unwrap_err());
        assert!(matches!(meaning(page, answered(502)), Meaning::Unwell(Some(502), _)));
        let page = AcmeError::Json(serde_json::from_str::<u8>("<html>").unwrap_err());
        assert!(matches!(meaning(page, answered(200)), Meaning::Unwell(None, _)));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let (authority, name): (AuthorityName, DnsName) = ("ca".parse().unwrap(), "www.example.org".parse().unwrap());
        for kind in ["caa", "dns", "unauthorized", "rejectedIdentifier"] {
            let source = Said { kind: kind.into(), text: "no".into() };
            let failure = Failure::Challenge { authority: authority.clone(), name: name.clone(), source };
            assert!(failure.help().is_some(), "{kind}");
            let why = failure.failed().why;
            assert_eq!(
                why,
                format!("authority ca did not find the answer to its challenge for www.example.org: no ({kind})")
            );
        }
    }
}
