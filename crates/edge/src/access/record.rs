//! What is noted of a request, on its way: a few copied bytes and numbers, so that it costs the reader nothing.
//!
//! Bytes are copied and bounded rather than held on to: what a request's head lies in is much larger, and entries wait
//! for the disk.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{HOST, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Version};
use sovereign_model::access_entry::Cut;

use crate::generation::Generation;
use crate::policy::Outcome;

/// A part of what was sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Method,
    Host,
    Target,
    Agent,
    Referrer,
}

/// As many as there are parts.
const PARTS: usize = 5;

/// The longest each is noted with. A method is a word, a host is 253 bytes and a port; what is longer than a path that
/// people link to says nothing more; browsers' names for themselves take 150; the origin stands first in a `Referer`.
const MOST: [usize; PARTS] = [16, 260, 1024, 256, 320];

/// A request and its answer.
pub(super) struct Record {
    /// The generation it began with: its names, and what is written of readers.
    pub(super) generation: Arc<Generation>,
    pub(super) reader: IpAddr,
    pub(super) at: SystemTime,
    pub(super) began: Instant,
    pub(super) version: Version,
    pub(super) status: Option<StatusCode>,
    pub(super) outcome: Option<Outcome>,
    pub(super) bytes: u64,
    pub(super) took: Duration,
    pub(super) cut: Option<Cut>,
    parts: Vec<u8>,
    ends: [u16; PARTS],
}

impl Record {
    /// What is known of `request` before it is answered.
    pub(super) fn of<B>(generation: Arc<Generation>, request: &Request<B>, reader: IpAddr) -> Self {
        let uri = request.uri();
        let host = uri.authority().map(|authority| authority.as_str().as_bytes());
        let sent: [&[u8]; PARTS] = [
            request.method().as_str().as_bytes(),
            host.unwrap_or_else(|| field(request.headers(), HOST)),
            uri.path_and_query().map_or(&[][..], |target| target.as_str().as_bytes()),
            field(request.headers(), USER_AGENT),
            field(request.headers(), REFERER),
        ];
        let kept = std::array::from_fn::<_, PARTS, _>(|part| &sent[part][..sent[part].len().min(MOST[part])]);
        let mut parts = Vec::with_capacity(kept.iter().map(|part| part.len()).sum());
        let ends = kept.map(|part| {
            parts.extend_from_slice(part);
            parts.len() as u16
        });
        Self {
            generation,
            reader,
            at: SystemTime::now(),
            began: Instant::now(),
            version: request.version(),
            status: None,
            outcome: None,
            bytes: 0,
            took: Duration::ZERO,
            // Until it is known better.
            cut: Some(Cut::Reader),
            parts,
            ends,
        }
    }

    pub(super) fn part(&self, part: Part) -> &[u8] {
        let end = |part: usize| usize::from(self.ends[part]);
        let start = (part as usize).checked_sub(1).map_or(0, end);
        &self.parts[start..end(part as usize)]
    }

    /// Whether an answer of this status to this request has no body, whatever there is (RFC 9112 section 6.3).
    pub(super) fn has_no_body(&self, status: StatusCode) -> bool {
        self.part(Part::Method) == Method::HEAD.as_str().as_bytes()
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }
}

fn field(fields: &HeaderMap, name: HeaderName) -> &[u8] {
    fields.get(name).map_or(&[], |value| value.as_bytes())
}
