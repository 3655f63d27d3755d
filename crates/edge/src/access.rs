//! The access log: one line per request of a reader, written when the answer is over.
//!
//! ```text
//!  request ─┬─ answered at once, whole ─────────────────────────────┐
//!           └─▶ Pending ──answered──┬─ whole ───────────▶ at once ──┤
//!                   │               └─ stream ─▶ Watched ─▶ its end ─┼─▶ line, gathered ─▶ writer ─▶ file
//!                   └─ the reader left before there was an answer ───┘
//! ```
//!
//! Promise: no reader waits for the disk: a line is a fraction of a microsecond, and a disk that is full, slow or stuck
//! costs nobody anything: then entries are dropped, and how many is told. Entries are in the file after a second at
//! most, and at the end of a drain, those of answers that it has cut off too. What may be a secret, and where exactly a
//! reader is, does not get into the file: [`privacy`] has the rule. Left out: what peers ask over links (they log their
//! own readers), connections that never became a request.

mod file;
mod gathered;
mod line;
mod privacy;
mod record;
mod writer;

use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use sovereign_model::access_entry::Cut;
use sovereign_model::edge_rules::AccessLog;
use sovereign_model::edge_status::AccessLogStatus;
use tokio::sync::oneshot;
use tracing::warn;

use crate::body::{Body, BodyError};
use crate::counters::Count;
use crate::generation::Generation;
use crate::moment::Moment;
use crate::policy::Outcome;
use gathered::Gathered;
use line::Noted;
use record::{Kept, Sent, Story, has_no_body};

/// How long the end of a process waits for the disk.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The log of a process.
pub(crate) struct Access(Arc<Queue>);

/// What requests under way and the writer share with it.
#[derive(Debug, Default)]
struct Queue {
    lines: Gathered,
    /// The file.
    path: Mutex<Option<PathBuf>>,
    /// Who waits until all before is written.
    flushes: Mutex<Vec<oneshot::Sender<()>>>,
    closed: AtomicBool,
    tally: Arc<Tally>,
}

/// A reader's request as it came.
pub(crate) struct Came<'a, B> {
    /// What was served then.
    pub(crate) generation: &'a Arc<Generation>,
    pub(crate) request: &'a Request<B>,
    pub(crate) reader: IpAddr,
    pub(crate) at: Moment,
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
    fn state(&self) -> MutexGuard<'_, State> {
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

impl Queue {
    fn add(&self, request: &Noted<'_>) {
        if self.lines.add(|lines, clock| line::push(lines, clock, request)).is_err() {
            self.tally.dropped.one();
        }
    }

    fn path(&self) -> Option<PathBuf> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn flushes(&self) -> MutexGuard<'_, Vec<oneshot::Sender<()>>> {
        self.flushes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_flushes(&self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut self.flushes())
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl Access {
    /// A log whose writer waits for its first entry.
    pub(crate) fn start() -> Self {
        let queue = Arc::<Queue>::default();
        let written = queue.clone();
        let spawned = std::thread::Builder::new().name("access-log".into()).spawn(move || writer::run(&written));
        match spawned {
            Ok(writer) => queue.lines.take_with(writer.thread().clone()),
            Err(error) => {
                warn!(%error, "the access log has no thread to write it: its entries are dropped");
                queue.tally.failed(error.to_string());
            }
        }
        Self(queue)
    }

    /// From now on entries go where `generation` says.
    pub(crate) fn follow(&self, generation: &Generation) {
        if let Some(path) = &generation.config.access_log {
            *self.0.path.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.clone());
        }
    }

    /// Notes a request that will be answered, if its generation wants that.
    pub(crate) fn begin<B>(&self, came: &Came<'_, B>) -> Option<Pending> {
        is_wanted(came.generation).then(|| Pending {
            generation: came.generation.clone(),
            reader: came.reader,
            sent: Kept::of(Sent::of(came.request)),
            story: Story::of(came.request, came.at),
            queue: self.0.clone(),
        })
    }

    /// Notes a request and the answer that it has got already.
    pub(crate) fn answered_at_once<B>(
        &self,
        came: &Came<'_, B>,
        outcome: Option<Outcome>,
        response: Response<Body>,
    ) -> Response<Body> {
        if matches!(response.body(), Body::Stream(_)) {
            return answered(self.begin(came), outcome, response);
        }
        let Came { generation, request, reader, at } = *came;
        if is_wanted(generation) {
            let (sent, mut story) = (Sent::of(request), Story::of(request, at));
            note_answer(&mut story, sent.method, outcome, &response);
            story.took = at.monotonic.elapsed();
            self.0.add(&Noted { generation, reader, sent, story });
        }
        response
    }

    /// How it is written; `None` when `generation` wants none.
    pub(crate) fn status(&self, generation: &Generation) -> Option<AccessLogStatus> {
        is_wanted(generation).then(|| self.0.tally.status())
    }

    /// Waits until the entries so far are written, but not long.
    pub(crate) async fn flush(&self) {
        if !self.0.lines.is_written() {
            return;
        }
        let (flushed, done) = oneshot::channel();
        self.0.flushes().push(flushed);
        self.0.lines.hurry();
        if tokio::time::timeout(LAST_WORDS, done).await.is_err() {
            warn!("the disk does not take the last entries of the access log in time");
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.lines.hurry();
    }
}

fn is_wanted(generation: &Generation) -> bool {
    generation.config.rules.access_log != AccessLog::Off && generation.config.access_log.is_some()
}

/// A request under way. Its entry is written when this is dropped, with what is known by then.
pub(crate) struct Pending {
    generation: Arc<Generation>,
    reader: IpAddr,
    sent: Kept,
    story: Story,
    queue: Arc<Queue>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.story.took = self.story.began.monotonic.elapsed();
        let Self { generation, reader, sent, story, queue } = self;
        queue.add(&Noted { generation, reader: *reader, sent: sent.sent(), story: *story });
    }
}

/// Notes the answer that `pending` has got: now, or when all of it is sent.
pub(crate) fn answered(pending: Option<Pending>, outcome: Option<Outcome>, response: Response<Body>) -> Response<Body> {
    let Some(mut pending) = pending else { return response };
    if note_answer(&mut pending.story, pending.sent.sent().method, outcome, &response) {
        return response;
    }
    response.map(|body| {
        let left = body.size_hint().exact();
        Body::stream(Watched { body, pending, left })
    })
}

/// Notes what is known of an answer before it is sent; whether that is all.
fn note_answer(story: &mut Story, method: &[u8], outcome: Option<Outcome>, response: &Response<Body>) -> bool {
    story.status = Some(response.status());
    story.outcome = outcome;
    let nothing_follows = has_no_body(method, response.status());
    match response.body() {
        Body::Stream(body) if !nothing_follows && !body.is_end_stream() => return false,
        Body::Whole(Some(bytes)) if !nothing_follows => story.bytes = bytes.len() as u64,
        _ => {}
    }
    story.cut = None;
    true
}

/// A body that is counted on its way, and noted when it is over.
struct Watched {
    body: Body,
    pending: Pending,
    /// What is still to come, where that was said.
    left: Option<u64>,
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
                let story = &mut self.pending.story;
                story.bytes += length;
                story.cut = story.cut.filter(|_| !over);
            }
            Poll::Ready(Some(Err(_))) => self.pending.story.cut = Some(Cut::Edge),
            Poll::Ready(None) => {
                let cut = &mut self.pending.story.cut;
                *cut = cut.filter(|cut| *cut == Cut::Edge);
            }
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

    use http::HeaderValue;
    use http_body_util::BodyExt as _;
    use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
    use sovereign_model::access_entry::AccessEntry;
    use sovereign_model::edge_config::{CertificateFiles, EdgeConfig, PROTOCOL};
    use sovereign_runtime::{SigningKey, signed};
    use tokio::sync::mpsc;

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
            host: None,
            certificate: CertificateFiles { chain: folder.join("chain"), key: folder.join("key") },
            public_certificates: None,
            public_authorities: None,
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

    fn came<'a>(generation: &'a Arc<Generation>, request: &'a Request<()>) -> Came<'a, ()> {
        Came { generation, request, reader: READER, at: Moment::now() }
    }

    /// The entry of a request that is answered with `body`, of which `taken` frames are taken.
    async fn entry(body: Body, taken: usize) -> AccessEntry {
        let folder = tempfile::tempdir().unwrap();
        let (access, generation) = (Access::start(), generation(folder.path()));
        access.follow(&generation);
        let response = Response::new(body);
        let mut response = access.answered_at_once(&came(&generation, &request()), None, response);
        for _ in 0..taken {
            let _ = response.body_mut().frame().await;
        }
        drop(response);
        access.flush().await;
        read(&std::fs::read_to_string(folder.path().join("access.jsonl")).unwrap())
    }

    /// A line says everything, and nothing else, that its reader knows.
    fn read(line: &str) -> AccessEntry {
        let entry: AccessEntry = serde_json::from_str(line).unwrap();
        let whole: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_value(&entry).unwrap(), whole);
        entry
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
        let how = |entry: AccessEntry| (entry.bytes, entry.cut);
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
    async fn a_request_without_an_answer_is_noted_too() {
        let folder = tempfile::tempdir().unwrap();
        let (access, generation) = (Access::start(), generation(folder.path()));
        access.follow(&generation);
        let mut request = request();
        request.headers_mut().insert("user-agent", HeaderValue::from_static(r#"a "quoted\" one"#));
        drop(access.begin(&came(&generation, &request)));
        access.flush().await;
        let entry = read(&std::fs::read_to_string(folder.path().join("access.jsonl")).unwrap());
        assert_eq!(entry.agent.as_deref(), Some(r#"a "quoted\" one"#));
        assert_eq!((entry.status, entry.cut), (None, Some(Cut::Reader)));
        assert_eq!((&*entry.target, &*entry.reader), ("/a-page-about-something/?page=2", "203.0.113.0/24"));
        assert_eq!(entry.referrer.as_deref(), Some("https://blog.example"));
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "the figure is worth seeing")]
    fn no_entry_of_many_threads_is_lost() {
        const THREADS: u32 = 6;
        const ROUND: u32 = 2000;
        let folder = tempfile::tempdir().unwrap();
        let (access, generation) = (Access::start(), generation(folder.path()));
        access.follow(&generation);
        let answer = || {
            let request = request();
            let began = Instant::now();
            for _ in 0..ROUND {
                let response = Response::new(Body::from("a page"));
                std::hint::black_box(access.answered_at_once(&came(&generation, &request), None, response));
            }
            began.elapsed() / ROUND
        };
        let taken = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(answer)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).min()
        });
        println!("{:?} per request", taken.unwrap_or_default());
        tokio::runtime::Runtime::new().unwrap().block_on(access.flush());
        let written = std::fs::read_to_string(folder.path().join("access.jsonl")).unwrap();
        for line in written.lines() {
            read(line);
        }
        let status = access.status(&generation).unwrap();
        assert_eq!((status.written, status.dropped), (u64::from(THREADS * ROUND), 0));
        assert_eq!(written.lines().count(), (THREADS * ROUND) as usize);
    }

    #[tokio::test]
    async fn what_the_disk_refuses_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (access, generation) = (Access::start(), generation(folder.path()));
        access.follow(&generation);
        std::fs::create_dir(folder.path().join("access.jsonl")).unwrap();
        drop(access.begin(&came(&generation, &request())));
        access.flush().await;
        let status = access.status(&generation).unwrap();
        assert_eq!((status.written, status.dropped), (0, 1));
        assert!(status.problem.is_some());
        std::fs::remove_dir(folder.path().join("access.jsonl")).unwrap();
        drop(access.begin(&came(&generation, &request())));
        access.flush().await;
        let status = access.status(&generation).unwrap();
        assert_eq!((status.written, status.dropped, status.problem), (1, 1, None));
    }
}
