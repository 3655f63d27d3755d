//! The access log: one line per request of a reader, written when the answer is over.
//!
//! ```text
//!  request ──▶ begin ──▶ Pending ──answered──┬─ whole ───────────▶ at once ──┐
//!                          │                 └─ stream ─▶ Watched ─▶ its end ─┼─▶ queue ─▶ writer ─▶ file
//!                          └─ the reader left before there was an answer ─────┘
//! ```
//!
//! Promise: writing things down costs a reader nothing that can be measured, and a disk that is full, slow or stuck
//! costs nobody anything: then entries are dropped, and how many is told. Entries are in the file after a second at
//! most, and at the end of a drain. What may be a secret, and where exactly a reader is, does not get into the file:
//! [`privacy`] has the rule. Left out: what peers ask over links (they log their own readers), connections that never
//! became a request, the entries of answers that the end of a drain has cut off.

mod file;
mod line;
mod privacy;
mod record;
mod writer;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use sovereign_model::access_entry::Cut;
use sovereign_model::edge_rules::AccessLog;
use sovereign_model::edge_status::AccessLogStatus;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::body::{Body, BodyError};
use crate::counters::Count;
use crate::generation::Generation;
use crate::policy::Outcome;
use record::Record;
use writer::Message;

/// Entries that wait for the disk: 4 MB as browsers ask, 16 MB at the worst, and many times what is answered between two
/// looks of the writer.
const MOST_WAITING: usize = 8192;
/// How long the end of a process waits for the disk.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The log of a process.
pub(crate) struct Access(Arc<Queue>);

/// What requests under way share with it.
struct Queue {
    entries: mpsc::Sender<Message>,
    tally: Arc<Tally>,
}

/// What became of entries.
#[derive(Debug, Default)]
struct Tally {
    written: Count,
    dropped: Count,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many had been dropped when the disk last took something.
    dropped: u64,
    error: Option<String>,
}

impl Tally {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk took something, after so many were dropped.
    fn wrote(&self, dropped: u64) {
        *self.state() = State { dropped, error: None };
    }

    fn failed(&self, error: String) {
        self.state().error = Some(error);
    }

    fn status(&self) -> AccessLogStatus {
        let state = self.state();
        let dropped = self.dropped.now();
        let slow = || (dropped > state.dropped).then(|| "the disk is too slow".to_owned());
        AccessLogStatus { written: self.written.now(), dropped, problem: state.error.clone().or_else(slow) }
    }
}

impl Access {
    /// A log whose writer waits for its first entry.
    pub(crate) fn start() -> Self {
        let (entries, receiver) = mpsc::channel(MOST_WAITING);
        let tally = Arc::<Tally>::default();
        let counted = tally.clone();
        let spawned =
            std::thread::Builder::new().name("access-log".into()).spawn(move || writer::run(receiver, &counted));
        if let Err(error) = spawned {
            warn!(%error, "the access log has no thread to write it: its entries are dropped");
            tally.failed(error.to_string());
        }
        Self(Arc::new(Queue { entries, tally }))
    }

    /// Notes a request, if `generation` wants that.
    pub(crate) fn begin<B>(
        &self,
        generation: &Arc<Generation>,
        request: &Request<B>,
        reader: IpAddr,
    ) -> Option<Pending> {
        if !is_wanted(generation) {
            return None;
        }
        let record = Some(Record::of(generation.clone(), request, reader));
        Some(Pending { record, queue: self.0.clone() })
    }

    /// How it is written; `None` when `generation` wants none.
    pub(crate) fn status(&self, generation: &Generation) -> Option<AccessLogStatus> {
        is_wanted(generation).then(|| self.0.tally.status())
    }

    /// Waits until the entries so far are written, but not long.
    pub(crate) async fn flush(&self) {
        let (flushed, done) = oneshot::channel();
        let flush = async {
            if self.0.entries.send(Message::Flush(flushed)).await.is_ok() {
                let _ = done.await;
            }
        };
        if tokio::time::timeout(LAST_WORDS, flush).await.is_err() {
            warn!("the disk does not take the last entries of the access log in time");
        }
    }
}

fn is_wanted(generation: &Generation) -> bool {
    generation.config.rules.access_log != AccessLog::Off && generation.config.access_log.is_some()
}

/// A request under way. Its entry is written when this is dropped, with what is known by then.
pub(crate) struct Pending {
    record: Option<Record>,
    queue: Arc<Queue>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        record.took = record.began.elapsed();
        if self.queue.entries.try_send(Message::Entry(record)).is_err() {
            self.queue.tally.dropped.one();
        }
    }
}

/// Notes the answer that `pending` has got: now, or when all of it is sent.
pub(crate) fn answered(pending: Option<Pending>, response: Response<Body>) -> Response<Body> {
    let Some(mut pending) = pending else { return response };
    let Some(record) = &mut pending.record else { return response };
    record.status = Some(response.status());
    record.outcome = Outcome::of(response.headers());
    let nothing_follows = record.has_no_body(response.status());
    match response.body() {
        Body::Stream(body) if !nothing_follows && !body.is_end_stream() => {
            let left = body.size_hint().exact();
            response.map(|body| Body::stream(Watched { body, pending, left }))
        }
        body => {
            record.cut = None;
            if let Body::Whole(Some(bytes)) = body
                && !nothing_follows
            {
                record.bytes = bytes.len() as u64;
            }
            response
        }
    }
}

/// A body that is counted on its way, and noted when it is over.
struct Watched {
    body: Body,
    pending: Pending,
    /// What is still to come, where that was said.
    left: Option<u64>,
}

impl Watched {
    fn note(&mut self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.pending.record {
            change(record);
        }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.left = self.left.map(|left| left.saturating_sub(length));
                let over = self.left == Some(0) || self.body.is_end_stream();
                self.note(|record| {
                    record.bytes += length;
                    record.cut = record.cut.filter(|_| !over);
                });
            }
            Poll::Ready(Some(Err(_))) => self.note(|record| record.cut = Some(Cut::Edge)),
            Poll::Ready(None) => self.note(|record| record.cut = record.cut.filter(|cut| *cut == Cut::Edge)),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use http_body_util::BodyExt as _;
    use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
    use sovereign_model::access_entry::AccessEntry;
    use sovereign_model::edge_config::{CertificateFiles, EdgeConfig, PROTOCOL};
    use sovereign_runtime::{SigningKey, signed};

    use super::*;
    use crate::body::ChannelBody;

    /// A generation without sites that writes to `folder`.
    fn generation(folder: &Path) -> Arc<Generation> {
        let (key, link) = (KeyPair::generate().unwrap(), KeyPair::generate_for(&PKCS_ED25519).unwrap());
        let leaf = CertificateParams::new(["blog.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let files = [("chain", leaf.pem()), ("key", key.serialize_pem()), ("link", link.serialize_pem())];
        files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
        let config = EdgeConfig {
            stack: "lab".parse().unwrap(),
            datacenter: "home".parse().unwrap(),
            certificate: CertificateFiles { chain: folder.join("chain"), key: folder.join("key") },
            store: folder.join("store"),
            link_key: folder.join("link"),
            peers: Vec::new(),
            sites: Vec::new(),
            rules: Default::default(),
            access_log: Some(folder.join("access.jsonl")),
            proxy: None,
            https_port: 443,
        };
        let operator = SigningKey::from_bytes(&[7; 32]);
        let sealed = signed::seal(&operator, PROTOCOL, 1, serde_json::to_string(&config).unwrap());
        std::fs::write(folder.join("config"), sealed).unwrap();
        let tickets = crate::tls::ticket_maker().unwrap();
        Arc::new(Generation::load(&folder.join("config"), &operator.verifying_key(), None, tickets).unwrap())
    }

    fn request() -> Request<()> {
        let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        let request = Request::get("/a-page-about-something/?page=2").header("host", "blog.example");
        request.header("user-agent", agent).header("referer", "https://blog.example/").body(()).unwrap()
    }

    const READER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

    /// The entry of a request that is answered with `body`, of which `taken` frames are taken.
    async fn entry(body: Body, taken: usize) -> AccessEntry<'static> {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::start();
        let pending = access.begin(&generation(folder.path()), &request(), READER);
        let mut response = answered(pending, Response::new(body));
        for _ in 0..taken {
            let _ = response.body_mut().frame().await;
        }
        drop(response);
        access.flush().await;
        let line = std::fs::read_to_string(folder.path().join("access.jsonl")).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn stream(chunks: Vec<Result<&'static str, std::io::Error>>) -> Body {
        let (sender, receiver) = mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            sender.try_send(chunk.map(|text| Bytes::from_static(text.as_bytes())).map_err(BodyError::from)).unwrap();
        }
        Body::stream(ChannelBody(receiver))
    }

    #[tokio::test]
    async fn an_entry_says_how_an_answer_ended() {
        let how = |entry: AccessEntry<'_>| (entry.bytes, entry.cut);
        let reset = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(how(entry(Body::from("whole"), 0).await), (5, None));
        assert_eq!(how(entry(Body::empty(), 0).await), (0, None));
        assert_eq!(how(entry(stream(vec![Ok("two"), Ok("parts")]), 3).await), (8, None));
        assert_eq!(how(entry(stream(vec![Ok("two"), Ok("parts")]), 1).await), (3, Some(Cut::Reader)));
        assert_eq!(how(entry(stream(vec![Ok("two"), Err(reset())]), 2).await), (3, Some(Cut::Edge)));
        // Where the length is known, its last byte is the end, whether anybody asks for more or not.
        assert_eq!(how(entry(Body::own(Bytes::from_static(b"known")), 1).await), (5, None));
    }

    #[tokio::test]
    #[expect(clippy::print_stdout, reason = "the figure is worth seeing")]
    async fn noting_a_request_costs_its_reader_next_to_nothing() {
        const ROUND: u32 = 1000;
        let folder = tempfile::tempdir().unwrap();
        let (access, generation) = (Access::start(), generation(folder.path()));
        let request = request();
        let mut best = Duration::MAX;
        for _ in 0..20 {
            let began = Instant::now();
            for _ in 0..ROUND {
                let pending = access.begin(&generation, &request, READER);
                std::hint::black_box(answered(pending, Response::new(Body::empty())));
            }
            best = best.min(began.elapsed() / ROUND);
            access.flush().await;
        }
        println!("{best:?} per request");
        // Ten times what an optimised build takes: nothing is formatted, written or waited for on the way.
        assert!(best < Duration::from_micros(10), "{best:?}");
        let status = access.status(&generation).unwrap();
        assert_eq!((status.written, status.dropped), (u64::from(20 * ROUND), 0));
    }
}
