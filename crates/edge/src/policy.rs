//! What HTTP allows and asks of a cache in front of its own origin, decided without I/O.
//!
//! Promise: whether and how long an answer may be kept is decided once, when it arrives ([`decide`]); using it later
//! is a comparison of times ([`judge`]). Answers are built from the kept fields by pure functions: conditional
//! requests, ranges, `Age` and `Cache-Status`. Nothing made for one reader is ever storable.
//!
//! The edge speaks for the site (it is the origin's own gateway, not a stranger's cache), and a mirror's promise
//! goes further than a cache's: **while the source is away, every kept page is served, however old**. RFC 9111
//! section 4.2.4 allows it to a disconnected cache but for a few directives; the owner of the site overrides those.
//!
//! Left out: multiple ranges (answered whole, as RFC 9110 section 14.2 allows), `If-Match` preconditions on kept pages
//! (a read does not lose updates), and the reader's own `Cache-Control` (a reload must not reach the primary).

mod answer;
mod book;
mod cache_control;
mod cache_status;
mod conditional;
mod fields;
mod range;
mod selection;
mod terms;
mod via;

pub use answer::{Reply, Span, Subject, respond, whole};
pub use book::{decide_by_book, is_for_everybody};
pub use cache_status::{CACHE_STATUS, CacheStatus, Outcome, Why};
pub use fields::{
    forward_request, forwarded_fields, merge_not_modified, request_fields, storable_fields, strip_hop_by_hop,
};
pub use selection::Selection;
pub use terms::{Exchange, NotStorable, Terms, Use, WhenStale, decide, judge};
pub use via::Via;
