//! `Cache-Status` (RFC 9211): one line on every answer that says where it came from.

use std::fmt;
use std::io::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The field's name.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The longest line, with the longest numbers.
const LONGEST: usize = 128;

/// What this edge did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// Answered from the store; the ttl in seconds, negative when stale (and refreshed behind).
    Hit {
        /// Freshness left.
        ttl: i64,
    },
    /// Answered from the store although it was stale, because the source is away.
    SourceAway {
        /// Freshness left; negative.
        ttl: i64,
        /// What the source answered, if it did.
        status: Option<StatusCode>,
    },
    /// The source was asked.
    Forwarded {
        /// Why.
        why: Why,
        /// What it answered.
        status: Option<StatusCode>,
        /// Whether the answer was kept.
        stored: bool,
        /// Whether one question served several readers.
        collapsed: bool,
    },
    /// Neither store nor source had a part in it: a refusal, a redirect, a sentence of the edge's own.
    Own,
}

/// Why the source was asked (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The request is not for the store.
    Bypass,
    /// Nor is its method.
    Method,
    /// The store has no such page.
    UriMiss,
    /// The store's page is stale.
    Stale,
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sovereign")?;
        match self {
            Self::Hit { ttl } => write!(f, "; hit; ttl={ttl}"),
            Self::SourceAway { ttl, status } => {
                write!(f, "; hit; ttl={ttl}; detail=source-away")?;
                status.map_or(Ok(()), |status| write!(f, "; fwd-status={}", status.as_u16()))
            }
            Self::Forwarded { why, status, stored, collapsed } => {
                f.write_str("; fwd=")?;
                f.write_str(match why {
                    Why::Bypass => "bypass",
                    Why::Method => "method",
                    Why::UriMiss => "uri-miss",
                    Why::Stale => "stale",
                })?;
                if let Some(status) = status {
                    write!(f, "; fwd-status={}", status.as_u16())?;
                }
                f.write_str(if *stored { "; stored" } else { "" })?;
                f.write_str(if *collapsed { "; collapsed" } else { "" })
            }
            Self::Own => f.write_str("; detail=own"),
        }
    }
}

impl CacheStatus {
    /// The field's value.
    ///
    /// # Panics
    /// Never: the text is visible ASCII.
    pub fn value(&self) -> HeaderValue {
        // On the stack: a string that becomes a value is given back its spare room, and so allocated twice.
        let mut text = [0; LONGEST];
        let mut rest = &mut text[..];
        write!(rest, "{self}").expect("no line is longer");
        let length = LONGEST - rest.len();
        HeaderValue::from_bytes(&text[..length]).expect("the text is visible ASCII")
    }
}

/// What was done with a request, as the answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered from the store, fresh.
    Hit,
    /// Answered from the store, stale.
    Stale,
    /// Answered from the store because the source is away.
    SourceAway,
    /// The source was asked for a page of the store.
    Miss,
    /// Passed through.
    Passed,
}

impl Outcome {
    /// What the fields of an answer say; `None` for an answer of the edge's own.
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        fields.get(CACHE_STATUS).and_then(Self::said)
    }

    /// Reads what [`CacheStatus::value`] has written; `None` for the edge's own answers, and when it is somebody else's.
    pub fn said(value: &HeaderValue) -> Option<Self> {
        let said = value.as_bytes().strip_prefix(b"sovereign; ")?;
        if let Some(ttl) = said.strip_prefix(b"hit; ttl=") {
            return Some(match ttl {
                ttl if ttl.windows(11).any(|part| part == b"source-away") => Self::SourceAway,
                [b'-', ..] => Self::Stale,
                _ => Self::Hit,
            });
        }
        let why = said.strip_prefix(b"fwd=")?;
        let passed = why.starts_with(b"bypass") || why.starts_with(b"method");
        Some(if passed { Self::Passed } else { Self::Miss })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let forwarded = |why, status, stored, collapsed| CacheStatus::Forwarded { why, status, stored, collapsed };
        let lines = [
            CacheStatus::Hit { ttl: 42 },
            CacheStatus::Hit { ttl: -3 },
            CacheStatus::SourceAway { ttl: -30, status: None },
            CacheStatus::SourceAway { ttl: -30, status: Some(StatusCode::BAD_GATEWAY) },
            forwarded(Why::UriMiss, Some(StatusCode::OK), true, true),
            forwarded(Why::Stale, Some(StatusCode::NOT_MODIFIED), true, false),
            forwarded(Why::Bypass, None, false, false),
            forwarded(Why::Method, Some(StatusCode::CREATED), false, false),
            CacheStatus::Own,
        ];
        insta::assert_snapshot!(lines.map(|line| line.value().to_str().unwrap().to_owned()).join("\n"), @r"
        sovereign; hit; ttl=42
        sovereign; hit; ttl=-3
        sovereign; hit; ttl=-30; detail=source-away
        sovereign; hit; ttl=-30; detail=source-away; fwd-status=502
        sovereign; fwd=uri-miss; fwd-status=200; stored; collapsed
        sovereign; fwd=stale; fwd-status=304; stored
        sovereign; fwd=bypass
        sovereign; fwd=method; fwd-status=201
        sovereign; detail=own
        ");
        assert_eq!(Outcome::said(&CacheStatus::Own.value()), None);
    }
}
