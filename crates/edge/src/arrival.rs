//! The body of an answer on its way into the store, and past it when there is no room.
//!
//! | the body | there is room | there is none |
//! |---|---|---|
//! | of known length | written as it comes | passed through from its first byte |
//! | of unknown length | the same, batch by batch | what is written so far and then the rest go to whoever asked |
//!
//! Promise: no body takes more of the disk than it was given room for, and a reader who asks gets all of it whether or
//! not it is kept. A disk that fails while a body is written counts as one without room.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Response, response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tracing::{debug, warn};

use crate::body::{Body, FileBody};
use crate::coming::{Coming, Pace};
use crate::edge::Edge;
use crate::fetch::{Fetched, Listeners, NotKept, Unkept};
use crate::store::{Content, Entry, Head, Store, StoreError, Ticket, Writer};
use crate::upstream::UpstreamError;

/// A body that says nothing for this long has broken off.
const CHUNK_WITHIN: Duration = Duration::from_secs(30);
/// What is collected in memory before it is written.
const BATCH: usize = 256 << 10;

/// Writes the body of `response` into the store: in one go when it is short, in batches when it is not.
pub(crate) async fn keep(
    edge: &Arc<Edge>,
    ticket: Ticket,
    head: Head,
    response: Response<Body>,
    listeners: Listeners<'_>,
) -> Result<Fetched, UpstreamError> {
    let (status, fields) = (head.status, head.fields.clone());
    let announced = response.body().size_hint().exact();
    let long = announced.is_some_and(|length| length > BATCH as u64) || edge.store.is_left_out(&head.key);
    let mut begun = Begun::Not(Box::new(Announced { store: edge.store.clone(), ticket, head, length: announced }));
    if long {
        match blocking(|| begun.begin()).await? {
            Ok(writer) => begun = Begun::Writing(writer),
            // Before any of it is read.
            Err(error) => {
                return Ok(Unkept::because(not_kept(&error), status, Some(response)));
            }
        }
    }
    let (parts, mut body) = response.into_parts();
    let mut pace: Option<Pace> = None;
    let mut written = 0;
    let writer = loop {
        let (bytes, last) = next_batch(&mut body).await?;
        let (chunk, commit) = (bytes.clone(), last && pace.is_none());
        match blocking(move || begun.step(&chunk, commit)).await? {
            Step::Kept(entry) => return Ok(Fetched::Kept { entry, status }),
            Step::Refused { error, before } => {
                let rest = Rest { bytes, body: (!last).then_some(body) };
                return pass_on(not_kept(&error), parts, before, pace, rest, listeners).await;
            }
            Step::Written(writer) if last => break writer,
            Step::Written(writer) => {
                written += bytes.len() as u64;
                match (&pace, listeners) {
                    (Some(pace), _) => pace.reach(written),
                    (None, None) => {}
                    (None, Some(listeners)) => {
                        let coming = Coming::begin(&writer, status, fields.clone(), announced);
                        if let Some((coming, begun)) = coming.map_err(UpstreamError::Store)? {
                            listeners.send_replace(Some(Fetched::Coming(Arc::new(coming))));
                            pace = Some(begun);
                        }
                    }
                }
                begun = Begun::Writing(writer);
            }
        }
    };
    // Readers have it all, whether or not it can be kept.
    if let Some(pace) = pace {
        pace.finish(writer.length());
    }
    match blocking(move || writer.commit()).await? {
        Ok(entry) => Ok(Fetched::Kept { entry, status }),
        Err(error) => Ok(Unkept::because(not_kept(&error), status, None)),
    }
}

/// How far the writing of a body is.
enum Begun {
    Not(Box<Announced>),
    Writing(Box<Writer>),
}

/// A body of which only the head has come.
struct Announced {
    store: Arc<Store>,
    ticket: Ticket,
    head: Head,
    length: Option<u64>,
}

enum Step {
    Written(Box<Writer>),
    Kept(Arc<Entry>),
    /// There is no room for this batch; `before` came before it.
    Refused {
        error: StoreError,
        before: Option<Before>,
    },
}

/// What was written before there was no more room; its file takes up room until this is dropped.
struct Before {
    content: Content,
    writer: Option<Box<Writer>>,
}

impl Begun {
    fn begin(self) -> Result<Box<Writer>, StoreError> {
        match self {
            Self::Not(announced) => {
                let Announced { store, ticket, head, length } = *announced;
                let room = store.reserve(&head, length)?;
                Ok(Box::new(store.begin(ticket, head).within(room)))
            }
            Self::Writing(writer) => Ok(writer),
        }
    }

    /// Writes the next batch. Blocks.
    fn step(self, batch: &[u8], commit: bool) -> Step {
        let mut writer = match self.begin() {
            Ok(writer) => writer,
            Err(error) => return Step::Refused { error, before: None },
        };
        let before = match commit.then(|| writer.so_far()).transpose() {
            Ok(before) => before.map(|content| Before { content, writer: None }),
            Err(error) => return Step::Refused { error, before: None },
        };
        if let Err(error) = writer.write(batch) {
            let before = writer.so_far().ok().map(|content| Before { content, writer: Some(writer) });
            return Step::Refused { error, before };
        }
        if !commit {
            return Step::Written(writer);
        }
        match writer.commit() {
            Ok(entry) => Step::Kept(entry),
            Err(error) => Step::Refused { error, before },
        }
    }
}

/// What comes after what was written.
struct Rest {
    bytes: Bytes,
    /// `None` at its end.
    body: Option<Body>,
}

/// There is no room for the rest: whoever wants the body gets it past the store.
async fn pass_on(
    why: NotKept,
    parts: response::Parts,
    before: Option<Before>,
    pace: Option<Pace>,
    rest: Rest,
    listeners: Listeners<'_>,
) -> Result<Fetched, UpstreamError> {
    let status = parts.status;
    let Some(pace) = pace else {
        let after = Body::whole(rest.bytes).then(rest.body.unwrap_or_else(Body::empty));
        let body = match before {
            Some(Before { content, writer }) => stored(content).then(after).holding(writer),
            None => after,
        };
        return Ok(Unkept::because(why, status, Some(Response::from_parts(parts, body))));
    };
    // From here on nobody joins: whoever comes asks for itself, and the keeper need not wait.
    let mut spill = pace.spill();
    let given = Unkept::because(why, status, None);
    if let Some(listeners) = listeners {
        listeners.send_replace(Some(given.clone()));
    }
    let mut wanted = spill.give(rest.bytes).await;
    if let Some(mut body) = rest.body {
        while wanted && let Some(chunk) = next_chunk(&mut body).await? {
            wanted = spill.give(chunk).await;
        }
    }
    spill.finish();
    Ok(given)
}

fn stored(content: Content) -> Body {
    match content {
        Content::Memory(bytes) => Body::whole(bytes),
        Content::File(file) => {
            let all = 0..file.length();
            Body::stream(FileBody::new(file, all))
        }
    }
}

/// That there is no room is what `status` is for; anything else is news.
fn not_kept(error: &StoreError) -> NotKept {
    if matches!(error, StoreError::NoRoom { .. }) {
        debug!(%error, "a page is served but not kept");
        NotKept::NoRoom
    } else {
        let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        warn!(%error, source, "a page is served but not kept");
        NotKept::Disk
    }
}

/// As much of the body as is written at once, and whether that was all.
async fn next_batch(body: &mut Body) -> Result<(Bytes, bool), UpstreamError> {
    let mut batch = BytesMut::new();
    while batch.len() < BATCH {
        match next_chunk(body).await? {
            Some(chunk) => batch.extend_from_slice(&chunk),
            None => return Ok((batch.freeze(), true)),
        }
    }
    Ok((batch.freeze(), false))
}

async fn next_chunk(body: &mut Body) -> Result<Option<Bytes>, UpstreamError> {
    loop {
        let frame = tokio::time::timeout(CHUNK_WITHIN, body.frame()).await.map_err(|_| UpstreamError::Timeout)?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(UpstreamError::Body(error)),
            // Trailers are dropped: nothing kept has any.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Work that waits for the disk.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, UpstreamError> {
    // An error: the runtime is shutting down.
    tokio::task::spawn_blocking(work).await.map_err(|_| UpstreamError::Timeout)
}
