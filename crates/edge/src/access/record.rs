//! What is noted of a request: what was sent, as it was sent, and what became of it.

use std::time::Duration;

use http::header::{HOST, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Version};
use sovereign_model::access_entry::Cut;

use crate::moment::Moment;
use crate::policy::Outcome;

/// Parts of a request, each at most as long as it is noted: a method is a word, a host is 253 bytes and a port; what is
/// longer than a path that people link to says nothing more; browsers' names for themselves take 150; the origin stands
/// first in a `Referer`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent<'a> {
    pub(super) method: &'a [u8],
    pub(super) host: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) agent: &'a [u8],
    pub(super) referrer: &'a [u8],
}

impl<'a> Sent<'a> {
    pub(super) fn of<B>(request: &'a Request<B>) -> Self {
        let uri = request.uri();
        let host = uri.authority().map(|authority| authority.as_str().as_bytes());
        let target = uri.path_and_query().map_or(&[][..], |target| target.as_str().as_bytes());
        Self {
            method: up_to(16, request.method().as_str().as_bytes()),
            host: up_to(260, host.unwrap_or_else(|| field(request.headers(), HOST))),
            target: up_to(1024, target),
            agent: up_to(256, field(request.headers(), USER_AGENT)),
            referrer: up_to(320, field(request.headers(), REFERER)),
        }
    }
}

fn up_to(most: usize, bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}

fn field(fields: &HeaderMap, name: HeaderName) -> &[u8] {
    fields.get(name).map_or(&[], |value| value.as_bytes())
}

/// A copy of what was sent. Copied rather than held on to: what a request's head lies in is much larger.
pub(super) struct Kept {
    bytes: Vec<u8>,
    ends: [usize; 5],
}

impl Kept {
    pub(super) fn of(sent: Sent<'_>) -> Self {
        let parts = [sent.method, sent.host, sent.target, sent.agent, sent.referrer];
        let mut end = 0;
        let ends = parts.map(|part| {
            end += part.len();
            end
        });
        Self { bytes: parts.concat(), ends }
    }

    pub(super) fn sent(&self) -> Sent<'_> {
        let [method, host, target, agent, referrer] = self.ends;
        Sent {
            method: &self.bytes[..method],
            host: &self.bytes[method..host],
            target: &self.bytes[host..target],
            agent: &self.bytes[target..agent],
            referrer: &self.bytes[agent..referrer],
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Story {
    pub(super) began: Moment,
    pub(super) version: Version,
    pub(super) status: Option<StatusCode>,
    pub(super) outcome: Option<Outcome>,
    pub(super) bytes: u64,
    pub(super) took: Duration,
    pub(super) cut: Option<Cut>,
}

impl Story {
    /// What is known before there is an answer.
    pub(super) fn of<B>(request: &Request<B>, began: Moment) -> Self {
        Self {
            began,
            version: request.version(),
            status: None,
            outcome: None,
            bytes: 0,
            took: Duration::ZERO,
            // Until it is known better.
            cut: Some(Cut::Reader),
        }
    }
}

/// Whether an answer of this status to a request with this method has no body, whatever there is (RFC 9112 section 6.3).
pub(super) fn has_no_body(method: &[u8], status: StatusCode) -> bool {
    method == Method::HEAD.as_str().as_bytes()
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}
