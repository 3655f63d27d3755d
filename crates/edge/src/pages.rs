//! The few answers the edge gives by itself: short texts for people, JSON where a program asked.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Response, StatusCode, header};

use crate::body::Body;
use crate::policy::{CACHE_STATUS, CacheStatus};
use crate::route::{Refusal, Target};

/// A reader who met an absent primary is asked to wait this long: what a restart of Ghost takes, with room.
const RETRY: Duration = Duration::from_secs(15);

/// A refusal of the router.
pub(crate) fn refused(refusal: Refusal) -> Response<Body> {
    let mut response = text(refusal.status, refusal.reason);
    if let Some(methods) = refusal.allow {
        // RFC 9110 section 15.5.6.
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    }
    response
}

/// This edge answers.
pub(crate) fn health() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// One sentence as plain text, never cached.
pub(crate) fn text(status: StatusCode, sentence: &str) -> Response<Body> {
    build(status, "text/plain; charset=utf-8", format!("{sentence}\n"))
}

/// While an application is being worked on: nobody knows for how long, and whoever asks again costs nothing but this page.
const MAINTENANCE_RETRY: Duration = Duration::from_secs(120);

/// Why a source cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    /// It does not answer.
    Away,
    /// The operator says so.
    Maintained,
}

/// What cannot be had while the primary is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lacking {
    /// A page everybody gets, of which there is no copy.
    Page,
    /// Anything of a site that its owner has closed: nothing of it is kept.
    Private,
    /// What is made for one reader: signing in, the admin interface.
    Own,
    /// A write that has not left this edge.
    Write,
    /// A write whose answer broke off.
    WriteInDoubt,
    /// A write, to a primary that is none any more.
    WriteElsewhere,
}

impl Lacking {
    fn title(self, absence: Absence) -> &'static str {
        match self {
            Self::Page | Self::Private | Self::Own if absence == Absence::Maintained => "This site is being worked on",
            // Nobody was asked for it.
            Self::WriteInDoubt if absence == Absence::Maintained => "Nothing was saved",
            Self::Page => "This page is not here right now",
            Self::Private | Self::Own => "Cannot do this right now",
            Self::Write | Self::WriteElsewhere => "Nothing was saved",
            Self::WriteInDoubt => "Perhaps not saved",
        }
    }

    fn says(self, absence: Absence) -> &'static str {
        match absence {
            Absence::Away => self.says_away(),
            Absence::Maintained => self.says_maintained(),
        }
    }

    fn says_maintained(self) -> &'static str {
        match self {
            Self::Page => {
                "The place where this site is written is being worked on, and there is no copy of this page here. All pages, \
                 feeds and pictures that there are copies of can still be read; signing in, writing and commenting work again \
                 when that is done."
            }
            Self::Private => {
                "The place where this site is written is being worked on. The site is private, so there are no copies of it; \
                 it can be read again when that is done."
            }
            Self::Own => {
                "The place where this site is written is being worked on. Pages, feeds and pictures can still be read here; \
                 signing in, writing and commenting work again when that is done."
            }
            Self::Write | Self::WriteInDoubt | Self::WriteElsewhere => {
                "The place where this site is written is being worked on, so nothing was saved. Please keep what you wrote \
                 and send it again in a while. Pages, feeds and pictures can still be read here."
            }
        }
    }

    fn says_away(self) -> &'static str {
        match self {
            Self::Page => {
                "The place where this site is written cannot be reached at the moment, and there is no copy of this page \
                 here. All pages, feeds and pictures that there are copies of can still be read; signing in, writing and \
                 commenting work again as soon as that place is back."
            }
            Self::Private => {
                "The place where this site is written cannot be reached at the moment. The site is private, so there are \
                 no copies of it; it can be read again as soon as that place is back."
            }
            Self::Own => {
                "The place where this site is written cannot be reached at the moment. Pages, feeds and pictures can still \
                 be read here; signing in, writing and commenting work again as soon as that place is back."
            }
            Self::Write => {
                "The place where this site is written cannot be reached at the moment, so nothing was saved. Please keep \
                 what you wrote and send it again in a while. Pages, feeds and pictures can still be read here."
            }
            Self::WriteInDoubt => {
                "The connection to the place where this site is written broke off before it answered. Please look whether \
                 it was saved before you send it again. Pages, feeds and pictures can still be read here."
            }
            Self::WriteElsewhere => {
                "This site is written at another place now, so nothing was saved here. Please keep what you wrote and send \
                 it again in a while, when this address leads there. Pages, feeds and pictures can still be read here."
            }
        }
    }
}

/// When to come back to a site that is away.
pub(crate) fn retry_after() -> HeaderValue {
    HeaderValue::from(RETRY.as_secs())
}

/// The primary cannot be asked, and no kept page can stand in.
pub(crate) fn source_away(absence: Absence, asked: &HeaderMap, lacking: Lacking) -> Response<Body> {
    let (title, says) = (lacking.title(absence), lacking.says(absence));
    let mut response = failure(asked, StatusCode::SERVICE_UNAVAILABLE, title, says);
    let retry = match absence {
        Absence::Away => retry_after(),
        Absence::Maintained => HeaderValue::from(MAINTENANCE_RETRY.as_secs()),
    };
    response.headers_mut().insert(RETRY_AFTER, retry);
    response
}

/// Too many attempts at a password.
pub(crate) fn slow_down(asked: &HeaderMap, wait: Duration) -> Response<Body> {
    const TITLE: &str = "Too many attempts";
    const SAYS: &str = "There were too many attempts from this address. Please wait a moment.";
    let mut response = failure(asked, StatusCode::TOO_MANY_REQUESTS, TITLE, SAYS);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    response
}

/// One address asks more often than it may.
pub(crate) fn too_many_requests(wait: Duration) -> Response<Body> {
    let mut response = text(StatusCode::TOO_MANY_REQUESTS, "There are too many requests from this address.");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    response
}

/// A body that is longer than the operator allows.
pub(crate) fn too_long() -> Response<Body> {
    text(StatusCode::PAYLOAD_TOO_LARGE, "This is more than may be sent here at once.")
}

/// One address has too much under way.
pub(crate) fn too_many_at_once() -> Response<Body> {
    let mut response = text(StatusCode::TOO_MANY_REQUESTS, "There are too many requests of this address under way.");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The stack sends no mail: what would need it says so at once, instead of a success that never arrives.
pub(crate) fn needs_mail(asked: &HeaderMap, method: &Method, target: &Target) -> Option<Response<Body>> {
    /// Ghost's endpoints whose only effect is a mail. Sign-up and sign-in of members; a forgotten password of staff.
    const MAIL: [&str; 3] = [
        "/members/api/send-magic-link/",
        "/ghost/api/admin/authentication/password_reset/",
        "/ghost/api/admin/authentication/reset_password/",
    ];
    const TITLE: &str = "This site sends no e-mail";
    const SAYS: &str = "This site sends no e-mail, so this cannot work. Follow the site by its RSS feed; staff get \
                        one-time links from the operator (`sovereign site staff`).";
    let target = &*without_version(target);
    let hit = *method == Method::POST && MAIL.iter().any(|path| is_exactly(target, path));
    hit.then(|| failure(asked, StatusCode::UNPROCESSABLE_ENTITY, TITLE, SAYS))
}

/// Whether a request is an attempt at a password (staff's, or a private site's), or at becoming the owner.
pub(crate) fn is_attempt(method: &Method, target: &Target) -> bool {
    const ATTEMPTS: [&str; 3] = ["/ghost/api/admin/session/", "/ghost/api/admin/authentication/", "/private/"];
    let target = without_version(target);
    matches!(*method, Method::POST | Method::PUT) && ATTEMPTS.iter().any(|prefix| target.is_under(prefix))
}

/// The target as Ghost reads it: it drops the version that its API once had in the path.
fn without_version(target: &Target) -> Cow<'_, Target> {
    const API: &str = "/ghost/api/";
    const VERSIONS: [&str; 4] = ["v2", "v3", "v4", "canary"];
    let versioned = target.is_under(API).then(|| target.as_str().get(API.len()..)?.split_once('/')).flatten();
    let rest = versioned.filter(|(first, _)| VERSIONS.iter().any(|version| version.eq_ignore_ascii_case(first)));
    rest.and_then(|(_, rest)| Target::parse(&format!("{API}{rest}")).ok()).map_or(Cow::Borrowed(target), Cow::Owned)
}

fn is_exactly(target: &Target, path: &str) -> bool {
    target.path().trim_end_matches('/').eq_ignore_ascii_case(path.trim_end_matches('/'))
}

/// HTML for browsers' pages, Ghost's form of errors for its scripts.
fn failure(asked: &HeaderMap, status: StatusCode, title: &str, says: &str) -> Response<Body> {
    let accepts = asked.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if !accepts.contains("text/html") {
        let errors = serde_json::json!({"errors": [{"message": title, "context": says, "type": "SovereignEdge"}]});
        return build(status, "application/json", errors.to_string());
    }
    let html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>body{{font:1.1em/1.5 system-ui,sans-serif;max-width:34em;margin:15vh auto;\
         padding:0 1em}}</style><h1>{title}</h1><p>{says}</p><p><a href=\"/\">To the front page</a></p></html>\n"
    );
    build(status, "text/html; charset=utf-8", html)
}

fn build(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    own(response)
}

/// Marks an answer as one that neither the store nor a source had a part in.
pub(crate) fn own(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_STATUS, CacheStatus::Own.value());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_in_every_spelling() {
        let attempt = |method, path: &str| is_attempt(&method, &Target::parse(path).unwrap());
        for path in [
            "/ghost/api/admin/session",
            "/GHOST/API/Admin/Session/?x",
            "/ghost/api/v4/admin/session/",
            "/ghost/api/Canary/admin/session/verify/",
            "/ghost/api/admin/authentication/setup/",
            "/private/?r=%2F",
        ] {
            assert!(attempt(Method::POST, path), "{path}");
        }
        assert!(!attempt(Method::GET, "/ghost/api/admin/session/"));
        assert!(!attempt(Method::POST, "/ghost/api/admin/posts/"));
        let mail = |path: &str| needs_mail(&HeaderMap::new(), &Method::POST, &Target::parse(path).unwrap()).is_some();
        assert!(mail("/ghost/api/v3/admin/authentication/password_reset") && mail("/members/api/send-magic-link/"));
    }
}
