//! The terms for an answer of a service that nobody here knows: what RFC 9111 says, and nothing assumed.
//!
//! Explicit freshness first (section 4.2.1), else a tenth of the time since the last modification (section 4.2.2). What
//! has neither is kept all the same, to be confirmed before every use: it is what a mirror shows while the service is
//! away. Stricter than the RFC in three ways: nothing that sets a cookie, no part of a whole and no error of a server is
//! kept.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::cache_control::{CacheControl, seconds};
use super::fields::SURROGATE;
use super::selection::depends_on_anything;
use super::terms::{Exchange, NotStorable, Stated, Terms, WhenStale, http_date};

/// A guess at freshness is this part of the time since the last modification (RFC 9111 section 4.2.2)...
const GUESSED_PART: u32 = 10;
/// ... and at most this: a day is what browsers and other caches settle for too.
const LONGEST_GUESS: Duration = Duration::from_secs(24 * 3600);

/// Whether an answer may be kept for everybody whose request selects it, and on which terms.
///
/// The question must have been asked with [`super::forwarded_fields`]: without credentials and for the identity encoding.
///
/// # Errors
/// Why it may not.
pub fn decide_by_book(status: StatusCode, headers: &HeaderMap, exchange: Exchange) -> Result<Terms, NotStorable> {
    let mut stated = Stated::read(headers, exchange.answered_at);
    if let Some(surrogate) = surrogate_control(headers) {
        stated.lifetime = surrogate.lifetime.map(Duration::from_secs).or(stated.lifetime);
        stated.control = surrogate;
    }
    let control = &stated.control;
    if control.private || (control.no_store && !(control.must_understand && is_understood(status))) {
        return Err(NotStorable::Private);
    }
    if headers.contains_key(header::SET_COOKIE) {
        return Err(NotStorable::SetsCookie);
    }
    if depends_on_anything(headers) {
        return Err(NotStorable::Varies);
    }
    if status == StatusCode::PARTIAL_CONTENT {
        return Err(NotStorable::NotWhole);
    }
    let no_final_answer = status.is_informational() || status == StatusCode::NOT_MODIFIED;
    if no_final_answer || status.is_server_error() || (control.must_understand && !is_understood(status)) {
        return Err(NotStorable::Status(status));
    }
    let guess = || guessed(headers, exchange.answered_at).filter(|_| control.public || is_cacheable(status));
    let lifetime = match stated.lifetime.or_else(guess) {
        Some(lifetime) => lifetime,
        None if is_content(status) || (control.public && status.is_redirection()) => Duration::ZERO,
        None => return Err(NotStorable::NoFreshness),
    };
    // An age that is not one number says only that the answer is not from just now: it is confirmed before it is used.
    // (RFC 9111 section 5.1 would have it ignored, which can only make an old answer look new.)
    let doubtful = !says_at_most_one_age(headers);
    let lifetime = if control.no_cache || doubtful { Duration::ZERO } else { lifetime };
    let age = stated.age.max(apparent_age(headers, exchange.answered_at));
    let fresh_until = exchange.asked_at.checked_add(lifetime).and_then(|time| time.checked_sub(age));
    let fresh_until = fresh_until.unwrap_or(SystemTime::UNIX_EPOCH);
    let when_stale = match control.while_revalidating {
        Some(window) if !control.no_cache && !control.must_revalidate => WhenStale::RefreshUntil(fresh_until + window),
        _ => WhenStale::Confirm,
    };
    let dated = headers.get(header::DATE).and_then(|date| http_date(date.as_bytes()));
    Ok(Terms { fetched: exchange.asked_at, fresh_until, age, dated, when_stale })
}

/// Whether an answer says that a reader with cookies or a password may have it too (RFC 9111 section 3.5). Unlike there,
/// `must-revalidate` alone does not: it is said of too many pages that greet their reader by name.
pub fn is_for_everybody(headers: &HeaderMap) -> bool {
    CacheControl::parse(headers, &header::CACHE_CONTROL)
        .is_some_and(|control| (control.public || control.shared) && !control.no_cache)
}

/// `Surrogate-Control` (W3C Edge Architecture Specification 1.0): like `Cache-Control`, for gateways alone; before it when it
/// says anything to this one.
fn surrogate_control(headers: &HeaderMap) -> Option<CacheControl> {
    const NAME: HeaderName = HeaderName::from_static("surrogate-control");
    let members =
        headers.get_all(&NAME).iter().filter_map(|field| field.to_str().ok()).flat_map(|text| text.split(','));
    let ours = members.filter_map(|member| {
        let (directive, target) = member.split_once(';').unwrap_or((member, SURROGATE));
        // `max-age=10+60`: sixty more seconds stale, if the gateway likes.
        let directive = directive.split_once('+').map_or(directive, |(fresh, _)| fresh);
        (target.trim() == SURROGATE).then(|| directive.trim())
    });
    let ours = ours.collect::<Vec<_>>().join(",");
    let only = HeaderMap::from_iter([(NAME, HeaderValue::try_from(ours).ok().filter(|ours| !ours.is_empty())?)]);
    CacheControl::parse(&only, &NAME)
}

fn says_at_most_one_age(headers: &HeaderMap) -> bool {
    let mut ages = headers.get_all(header::AGE).iter();
    let first = ages.next().is_none_or(|age| seconds(age.as_bytes()).is_some());
    first && ages.next().is_none()
}

/// RFC 9111 section 4.2.3.
fn apparent_age(headers: &HeaderMap, now: SystemTime) -> Duration {
    let date = headers.get(header::DATE).and_then(|date| http_date(date.as_bytes()));
    // Dates have no fractions: less than a second is no age.
    let age = date.and_then(|date| now.duration_since(date).ok()).unwrap_or_default();
    Duration::from_secs(age.as_secs())
}

fn guessed(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let date = |name| headers.get(name).and_then(|date: &http::HeaderValue| http_date(date.as_bytes()));
    let modified = date(header::LAST_MODIFIED)?;
    let since = date(header::DATE).unwrap_or(now).duration_since(modified).ok()?;
    Some((since / GUESSED_PART).min(LONGEST_GUESS))
}

/// RFC 9110 section 15.1: what may be kept on a guess.
fn is_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414)
}

/// What a mirror shows while the service is away, without having been told for how long.
fn is_content(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308)
}

/// RFC 9111 section 5.2.2.3: the statuses whose meaning for a cache is followed here.
fn is_understood(status: StatusCode) -> bool {
    is_cacheable(status) || matches!(status.as_u16(), 302 | 303 | 307 | 400..=403 | 406..=409)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DATE: &str = "Thu, 01 Jan 1970 01:00:00 GMT";

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(3600)
    }

    fn terms(status: u16, lines: &[(&str, &str)]) -> Result<Terms, NotStorable> {
        let mut headers = HeaderMap::from_iter([(header::DATE, HeaderValue::from_static(DATE))]);
        for (name, value) in lines {
            headers.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let exchange = Exchange { asked_at: now(), answered_at: now() };
        decide_by_book(StatusCode::from_u16(status).unwrap(), &headers, exchange)
    }

    fn ttl(status: u16, lines: &[(&str, &str)]) -> Result<i64, NotStorable> {
        terms(status, lines).map(|terms| terms.ttl(now()))
    }

    #[test]
    fn freshness() {
        assert_eq!(ttl(200, &[("cache-control", "max-age=100")]), Ok(100));
        assert_eq!(ttl(200, &[("cache-control", "max-age=100, s-maxage=7"), ("age", "3")]), Ok(4));
        assert_eq!(ttl(200, &[("cache-control", "max-age=100"), ("age", "300")]), Ok(-200));
        assert_eq!(ttl(200, &[("cache-control", "max-age=100"), ("date", "Thu, 01 Jan 1970 00:59:00 GMT")]), Ok(40));
        assert_eq!(ttl(200, &[("expires", "Thu, 01 Jan 1970 01:02:00 GMT")]), Ok(120));
        assert_eq!(ttl(200, &[("expires", "0"), ("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT")]), Ok(0));
        assert_eq!(ttl(200, &[("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT")]), Ok(360));
        assert_eq!(ttl(404, &[("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT")]), Ok(360));
        assert_eq!(ttl(302, &[("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT")]), Err(NotStorable::NoFreshness));
        assert_eq!(ttl(302, &[("cache-control", "max-age=5")]), Ok(5));
        assert_eq!(ttl(200, &[]), Ok(0));
        assert_eq!(ttl(404, &[]), Err(NotStorable::NoFreshness));
        assert_eq!(ttl(200, &[("cache-control", "max-age=9, no-cache")]), Ok(0));
    }

    #[test]
    fn what_is_said_to_gateways() {
        let both = |surrogate| ttl(200, &[("cache-control", "max-age=100"), ("surrogate-control", surrogate)]);
        assert_eq!(both("max-age=5+60"), Ok(5));
        assert_eq!(both("max-age=5;sovereign, max-age=6;other"), Ok(5));
        assert_eq!(both("max-age=5;other"), Ok(100));
        assert_eq!(both("no-store"), Err(NotStorable::Private));
        assert_eq!(ttl(200, &[("cache-control", "no-store"), ("surrogate-control", "max-age=5")]), Ok(5));
    }

    #[test]
    fn an_age_in_doubt() {
        for age in ["abc", "-1", "1.0", "0, 0", "7;a=b", ""] {
            assert_eq!(ttl(200, &[("cache-control", "max-age=100"), ("age", age)]), Ok(0), "{age}");
        }
    }

    #[test]
    fn what_is_not_kept() {
        assert_eq!(ttl(200, &[("cache-control", "max-age=9, private")]), Err(NotStorable::Private));
        assert_eq!(ttl(200, &[("cache-control", "no-store, must-understand, max-age=9")]), Ok(9));
        let unknown = [("cache-control", "no-store, must-understand, max-age=9")];
        assert_eq!(ttl(599, &unknown), Err(NotStorable::Private));
        assert_eq!(ttl(200, &[("cache-control", "max-age=9"), ("set-cookie", "a=b")]), Err(NotStorable::SetsCookie));
        assert_eq!(ttl(200, &[("cache-control", "max-age=9"), ("vary", "a, *")]), Err(NotStorable::Varies));
        assert_eq!(ttl(200, &[("cache-control", "max-age=9"), ("vary", "a")]), Ok(9));
        assert_eq!(ttl(206, &[("cache-control", "max-age=9")]), Err(NotStorable::NotWhole));
        let error = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(ttl(503, &[("cache-control", "max-age=9")]), Err(NotStorable::Status(error)));
    }

    #[test]
    fn staleness() {
        let when = |control| terms(200, &[("cache-control", control)]).unwrap().when_stale;
        let until = now() + Duration::from_secs(70);
        assert_eq!(when("max-age=10"), WhenStale::Confirm);
        assert_eq!(when("max-age=10, stale-while-revalidate=60"), WhenStale::RefreshUntil(until));
        assert_eq!(when("max-age=10, stale-while-revalidate=60, must-revalidate"), WhenStale::Confirm);
    }

    proptest! {
        /// Whatever the fields say: no panic, and nothing is fresh for longer than the longest lifetime there is.
        #[test]
        fn any_fields(control in "[ -~]{0,40}", age in "[ -~]{0,12}", expires in "[ -~]{0,30}", status in 100u16..1000) {
            let lines = [("cache-control", &*control), ("age", &*age), ("expires", &*expires)];
            if let Ok(terms) = terms(status, &lines) {
                prop_assert!(terms.ttl(now()) <= 1 << 31);
            }
        }
    }
}
