//! The terms an answer is kept on: decided when it arrives, compared with the clock when it is asked for.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::cache_control::{CacheControl, seconds};
use crate::route::Target;

/// How long a page that its site calls "valid for now" (`max-age=0`) is taken as fresh. Webhooks mark pages stale the
/// moment they change; this bound covers a lost one. Shorter asks the source more often, longer hides a lost webhook.
const UNTIL_INVALIDATED: Duration = Duration::from_secs(60);

/// The longest freshness of content whose address carries no version: it can change under its address, whatever
/// `max-age` says (Ghost gives a year to images and redirects), and a conditional request an hour is cheap.
const LONGEST_UNVERSIONED: Duration = Duration::from_secs(3600);

/// When the question was sent and the answer's head arrived (RFC 9111 section 4.2.3).
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    /// The question.
    pub asked_at: SystemTime,
    /// The answer.
    pub answered_at: SystemTime,
}

/// On which terms an answer is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Terms {
    /// When the source last gave or confirmed it.
    pub fetched: SystemTime,
    /// Until when it is used without a question.
    pub fresh_until: SystemTime,
    /// How old it was when it arrived.
    pub age: Duration,
    /// When the source says that it made it; passed on as `Date`. `None`: every answer is dated anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dated: Option<SystemTime>,
    /// What to do after that.
    pub when_stale: WhenStale,
}

/// What to do with a stale answer while the source can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenStale {
    /// Serve it and refresh it behind the reader's back.
    Refresh,
    /// Ask first: the site said `no-cache` or `must-revalidate`.
    Confirm,
    /// [`Refresh`](Self::Refresh) until then, [`Confirm`](Self::Confirm) after (RFC 5861 section 3).
    RefreshUntil(SystemTime),
}

/// Why an answer is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotStorable {
    /// Not a status that is kept.
    #[error("answers with status {0} are not kept")]
    Status(StatusCode),
    /// `no-store` or `private`.
    #[error("the answer is marked private or no-store")]
    Private,
    /// It sets a cookie, so it was made for one reader.
    #[error("the answer sets a cookie")]
    SetsCookie,
    /// It depends on a field of the request that the key does not hold.
    #[error("the answer varies by something other than its encoding")]
    Varies,
    /// It is encoded although identity was asked for, or a part of a whole.
    #[error("the answer is encoded or partial")]
    NotWhole,
    /// A redirect or an error without explicit freshness.
    #[error("the answer does not say how long it holds")]
    NoFreshness,
}

/// Whether an answer may be kept for everybody, and on which terms.
///
/// The question must have been asked with [`super::request_fields`]: without credentials, for the identity encoding,
/// and for exactly `target`.
pub fn decide(
    target: &Target,
    status: StatusCode,
    headers: &HeaderMap,
    exchange: Exchange,
) -> Result<Terms, NotStorable> {
    let stated = Stated::read(headers, exchange.answered_at);
    if stated.control.no_store || stated.control.private {
        return Err(NotStorable::Private);
    }
    if headers.contains_key(header::SET_COOKIE) {
        return Err(NotStorable::SetsCookie);
    }
    if varies(headers) {
        return Err(NotStorable::Varies);
    }
    if encoded(headers) || headers.contains_key(header::CONTENT_RANGE) {
        return Err(NotStorable::NotWhole);
    }
    let lifetime = match status {
        StatusCode::OK => stated.lifetime,
        StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT | StatusCode::NOT_FOUND | StatusCode::GONE => {
            Some(stated.lifetime.filter(|time| !time.is_zero()).ok_or(NotStorable::NoFreshness)?)
        }
        other => return Err(NotStorable::Status(other)),
    };
    let strict = stated.control.no_cache || stated.control.must_revalidate;
    let lifetime = match lifetime {
        _ if stated.control.no_cache => Duration::ZERO,
        Some(time) if !time.is_zero() => {
            let left = time.saturating_sub(stated.age);
            if target.is_versioned() { left } else { left.min(LONGEST_UNVERSIONED) }
        }
        _ if strict => Duration::ZERO,
        _ => UNTIL_INVALIDATED,
    };
    Ok(Terms {
        fetched: exchange.asked_at,
        fresh_until: exchange.answered_at + lifetime,
        age: stated.age,
        dated: None,
        when_stale: if strict { WhenStale::Confirm } else { WhenStale::Refresh },
    })
}

/// What the answer says about its own life.
pub(super) struct Stated {
    pub(super) control: CacheControl,
    /// `None` when it says nothing.
    pub(super) lifetime: Option<Duration>,
    pub(super) age: Duration,
}

impl Stated {
    pub(super) fn read(headers: &HeaderMap, now: SystemTime) -> Self {
        // RFC 9213: the targeted field, when present, replaces the general one.
        const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
        let control = CacheControl::parse(headers, &CDN_CACHE_CONTROL)
            .or_else(|| CacheControl::parse(headers, &header::CACHE_CONTROL));
        let lifetime = match &control {
            Some(CacheControl { lifetime: Some(lifetime), .. }) => Some(Duration::from_secs(*lifetime)),
            _ => expires(headers, now),
        };
        let age = headers.get(header::AGE).and_then(|age| seconds(age.as_bytes())).unwrap_or(0);
        Self { control: control.unwrap_or_default(), lifetime, age: Duration::from_secs(age) }
    }
}

/// RFC 9111 section 5.3: an `Expires` that is not a date is in the past.
fn expires(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let expires = headers.get(header::EXPIRES)?;
    let date = headers.get(header::DATE).and_then(|date| http_date(date.as_bytes())).unwrap_or(now);
    let expires = http_date(expires.as_bytes());
    Some(expires.and_then(|expires| expires.duration_since(date).ok()).unwrap_or(Duration::ZERO))
}

/// A date of RFC 9110 section 5.6.7.
pub(super) fn http_date(text: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()
}

fn varies(headers: &HeaderMap) -> bool {
    headers.get_all(header::VARY).iter().any(|field| {
        field.as_bytes().split(|byte| *byte == b',').any(|name| {
            let name = name.trim_ascii();
            !name.is_empty() && !name.eq_ignore_ascii_case(b"accept-encoding")
        })
    })
}

fn encoded(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|field| !field.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// How a kept answer may be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// As it is.
    Fresh,
    /// As it is, and the source is asked behind the reader's back.
    ServeAndRefresh,
    /// After the source was asked; if that fails, as it is.
    Confirm,
    /// As it is, marked stale: the source is away.
    ServeStale,
}

/// How an answer kept on `terms` may be used at `now`. `marked_stale`: something changed at the site since. Whether the
/// source can be asked is only looked at when it matters.
pub fn judge(terms: &Terms, marked_stale: bool, now: SystemTime, source_reachable: impl FnOnce() -> bool) -> Use {
    // A clock that ran backwards proves nothing about freshness.
    if !marked_stale && now < terms.fresh_until && now >= terms.fetched {
        return Use::Fresh;
    }
    match (source_reachable(), terms.when_stale) {
        (false, _) => Use::ServeStale,
        (true, WhenStale::Refresh) => Use::ServeAndRefresh,
        (true, WhenStale::RefreshUntil(until)) if now < until => Use::ServeAndRefresh,
        (true, WhenStale::Confirm | WhenStale::RefreshUntil(_)) => Use::Confirm,
    }
}

impl Terms {
    /// Seconds of freshness left at `now`; negative when stale.
    pub fn ttl(&self, now: SystemTime) -> i64 {
        let whole = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        match self.fresh_until.duration_since(now) {
            Ok(left) => whole(left),
            Err(over) => -whole(over.duration()),
        }
    }

    /// How old the answer is at `now`, for the `Age` field.
    pub fn age(&self, now: SystemTime) -> Duration {
        self.age.saturating_add(now.duration_since(self.fetched).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        NOW + Duration::from_secs(1_000_000 + seconds)
    }

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn terms(target: &str, status: u16, lines: &[(&str, &str)]) -> Result<Terms, NotStorable> {
        let exchange = Exchange { asked_at: at(0), answered_at: at(0) };
        decide(&Target::parse(target).unwrap(), StatusCode::from_u16(status).unwrap(), &fields(lines), exchange)
    }

    fn ttl(target: &str, status: u16, lines: &[(&str, &str)]) -> Result<i64, NotStorable> {
        terms(target, status, lines).map(|terms| terms.ttl(at(0)))
    }

    #[test]
    fn what_ghost_sends() {
        let page = [("cache-control", "public, max-age=0"), ("vary", "Accept-Encoding")];
        assert_eq!(ttl("/", 200, &page), Ok(60));
        assert_eq!(ttl("/robots.txt", 200, &[("cache-control", "public, max-age=3600")]), Ok(3600));
        assert_eq!(ttl("/a.css", 200, &[("cache-control", "public, max-age=31536000")]), Ok(3600));
        assert_eq!(ttl("/a.css?v=1", 200, &[("cache-control", "public, max-age=31536000")]), Ok(31_536_000));
        assert_eq!(ttl("/x", 301, &[("cache-control", "public, max-age=31536000")]), Ok(3600));
        let private = [("cache-control", "no-cache, private, no-store, must-revalidate, max-age=0")];
        assert_eq!(ttl("/", 200, &private), Err(NotStorable::Private));
        let cleared = [("cache-control", "public, max-age=0"), ("set-cookie", "ghost-members-ssr=; path=/")];
        assert_eq!(ttl("/", 200, &cleared), Err(NotStorable::SetsCookie));
        assert_eq!(ttl("/", 302, &[("location", "/private/?r=%2F")]), Err(NotStorable::Status(StatusCode::FOUND)));
        assert_eq!(ttl("/x", 404, &[]), Err(NotStorable::NoFreshness));
        assert_eq!(ttl("/", 200, &[("vary", "Accept-Encoding, Origin")]), Err(NotStorable::Varies));
    }

    #[test]
    fn what_others_send() {
        assert_eq!(ttl("/", 200, &[]), Ok(60));
        assert_eq!(ttl("/", 200, &[("vary", "*")]), Err(NotStorable::Varies));
        assert_eq!(ttl("/", 200, &[("content-encoding", "gzip")]), Err(NotStorable::NotWhole));
        assert_eq!(ttl("/", 206, &[("content-range", "bytes 0-1/2")]), Err(NotStorable::NotWhole));
        assert_eq!(ttl("/", 200, &[("cache-control", "max-age=100"), ("age", "40")]), Ok(60));
        assert_eq!(ttl("/", 200, &[("cache-control", "max-age=9"), ("cdn-cache-control", "max-age=5")]), Ok(5));
        let dates = [("date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("expires", "Thu, 01 Jan 1970 00:02:00 GMT")];
        assert_eq!(ttl("/", 200, &dates), Ok(120));
        let strict = terms("/", 200, &[("cache-control", "no-cache")]).unwrap();
        assert_eq!((strict.ttl(at(0)), strict.when_stale), (0, WhenStale::Confirm));
        let strict = terms("/", 200, &[("cache-control", "max-age=7, must-revalidate")]).unwrap();
        assert_eq!((strict.ttl(at(0)), strict.when_stale), (7, WhenStale::Confirm));
    }

    #[test]
    fn use_is_a_comparison_of_times() {
        let terms = terms("/", 200, &[]).unwrap();
        assert_eq!(judge(&terms, false, at(59), || true), Use::Fresh);
        assert_eq!(judge(&terms, true, at(59), || true), Use::ServeAndRefresh);
        assert_eq!(judge(&terms, false, at(60), || true), Use::ServeAndRefresh);
        assert_eq!(judge(&terms, false, at(400 * 86_400), || false), Use::ServeStale);
        assert_eq!(judge(&terms, false, NOW, || true), Use::ServeAndRefresh);
        let strict = Terms { when_stale: WhenStale::Confirm, ..terms };
        assert_eq!(judge(&strict, false, at(60), || true), Use::Confirm);
        assert_eq!(judge(&strict, false, at(60), || false), Use::ServeStale);
        assert_eq!((terms.ttl(at(70)), terms.age(at(70))), (-10, Duration::from_secs(70)));
    }

    #[test]
    fn a_clock_that_jumps_makes_nothing_fresh_and_takes_nothing_away() {
        const YEAR: u64 = 365 * 86_400;
        let kept = |at: SystemTime| {
            let exchange = Exchange { asked_at: at, answered_at: at };
            decide(&Target::parse("/").unwrap(), StatusCode::OK, &HeaderMap::new(), exchange).unwrap()
        };
        let (before, now, after) = (at(0), at(YEAR), at(2 * YEAR));
        for jumped in [before, after] {
            let terms = kept(now);
            assert_eq!(judge(&terms, false, jumped, || true), Use::ServeAndRefresh);
            assert_eq!(judge(&terms, false, jumped, || false), Use::ServeStale);
            // What is confirmed by the clock as it is now holds by it.
            assert_eq!(judge(&kept(jumped), false, jumped + Duration::from_secs(59), || true), Use::Fresh);
        }
        assert_eq!(kept(now).age(before), Duration::ZERO, "nothing is younger than new");
    }

    proptest! {
        /// Whatever else an answer says, one that is marked as one reader's is not kept.
        #[test]
        fn marked_answers_are_never_kept(
            before in "([a-z-]{1,9}(=[0-9]{1,3})?, ?){0,3}",
            mark in "private|Private|PRIVATE|no-store|No-Store|NO-STORE",
            after in "(, ?[a-z-]{1,9}){0,3}",
            status in 200u16..600,
        ) {
            let control = format!("{before}{mark}{after}");
            prop_assert_eq!(terms("/", status, &[("cache-control", &control)]), Err(NotStorable::Private));
        }
    }
}
