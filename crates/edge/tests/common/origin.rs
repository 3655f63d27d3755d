//! An application that answers like Ghost: its header fields, its pages, its sessions.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::body::{Body, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
pub struct Page {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Bytes,
    /// A body that does not say how long it is, and whose chunks wait for permits.
    pub chunks: Option<Arc<Semaphore>>,
}

/// The length of such a chunk.
pub const CHUNK: usize = 64 << 10;

impl Page {
    pub fn html(body: &str) -> Self {
        Self::of("text/html; charset=utf-8", "public, max-age=0", body.as_bytes().to_vec())
    }

    pub fn of(kind: &str, cache: &str, body: impl Into<Bytes>) -> Self {
        let fields = [("content-type", kind), ("cache-control", cache), ("vary", "Accept-Encoding")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { status: 200, fields, body: body.into(), chunks: None }
    }

    /// Without a length, chunk by chunk as `permits` allow.
    pub fn in_chunks(self, permits: &Arc<Semaphore>) -> Self {
        Self { chunks: Some(permits.clone()), ..self }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What is answered: whole, or as it comes.
pub enum Said {
    Whole(Full<Bytes>),
    Chunks(mpsc::Receiver<Bytes>),
}

impl Said {
    fn chunks(mut body: Bytes, permits: Arc<Semaphore>) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while !body.is_empty() {
                permits.acquire().await.unwrap().forget();
                if sender.send(body.split_to(CHUNK.min(body.len()))).await.is_err() {
                    return;
                }
            }
        });
        Self::Chunks(receiver)
    }
}

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole).poll_frame(cx),
            Self::Chunks(chunks) => chunks.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk)))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Chunks(_) => SizeHint::default(),
        }
    }
}

/// A question as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub target: String,
    pub fields: HeaderMap,
    pub body: usize,
}

pub struct Shared {
    canonical: Mutex<String>,
    pages: Mutex<BTreeMap<String, Page>>,
    asked: Mutex<Vec<Asked>>,
    any_query: AtomicBool,
    /// How long a page takes; one at a time, as on one thread.
    rendering: tokio::sync::Mutex<Duration>,
    worked: Mutex<Duration>,
    most_at_once: AtomicUsize,
    at_once: AtomicUsize,
    /// Answers wait for a permit.
    pub gate: Semaphore,
}

pub struct Origin {
    pub socket: PathBuf,
    pub shared: Arc<Shared>,
    running: Mutex<Option<CancellationToken>>,
}

/// Permits that never run out.
const OPEN: usize = 1 << 20;

impl Origin {
    pub fn start(folder: &Path) -> Self {
        let shared = Arc::new(Shared {
            canonical: Mutex::default(),
            pages: Mutex::default(),
            asked: Mutex::default(),
            any_query: AtomicBool::new(false),
            rendering: tokio::sync::Mutex::default(),
            worked: Mutex::default(),
            most_at_once: AtomicUsize::new(0),
            at_once: AtomicUsize::new(0),
            gate: Semaphore::new(OPEN),
        });
        let origin = Self { socket: folder.join("app.sock"), shared, running: Mutex::default() };
        origin.run();
        origin
    }

    pub fn run(&self) {
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).unwrap();
        let token = CancellationToken::new();
        *self.running.lock().unwrap() = Some(token.clone());
        let shared = self.shared.clone();
        tokio::spawn(async move {
            while let Some(Ok((stream, _))) = token.run_until_cancelled(listener.accept()).await {
                let (shared, token) = (shared.clone(), token.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(shared.clone(), request));
                    let connection =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
                    let _ = token.run_until_cancelled(connection).await;
                });
            }
        });
    }

    /// Killed: connections break off, nobody listens.
    pub fn kill(&self) {
        self.running.lock().unwrap().take().unwrap().cancel();
        std::fs::remove_file(&self.socket).unwrap();
    }

    /// From now on answers are held back.
    pub fn hold(&self) {
        self.shared.gate.forget_permits(OPEN);
    }

    pub fn release(&self) {
        self.shared.gate.add_permits(OPEN);
    }

    pub fn set_canonical(&self, origin: &str) {
        *self.shared.canonical.lock().unwrap() = origin.to_owned();
    }

    /// `{origin}` in a body stands for the canonical origin.
    pub fn put(&self, path: &str, page: Page) {
        self.shared.pages.lock().unwrap().insert(path.to_owned(), page);
    }

    /// From now on a page is found under any query too, as Ghost's are.
    pub fn answer_any_query(&self) {
        self.shared.any_query.store(true, Ordering::Relaxed);
    }

    /// From now on a page takes this long to render, one at a time.
    pub async fn render_in(&self, time: Duration) {
        *self.shared.rendering.lock().await = time;
    }

    /// For how long pages were rendered since the last call, and how many were asked for at a time at most.
    pub fn take_worked(&self) -> (Duration, usize) {
        let worked = std::mem::take(&mut *self.shared.worked.lock().unwrap());
        (worked, self.shared.most_at_once.swap(0, Ordering::Relaxed))
    }

    /// What was asked for since the first `before` questions, and how often.
    pub fn asked_since(&self, before: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for asked in self.shared.asked.lock().unwrap().iter().skip(before) {
            *counts.entry(asked.target.clone()).or_default() += 1;
        }
        counts
    }

    pub fn remove(&self, path: &str) {
        self.shared.pages.lock().unwrap().remove(path);
    }

    /// A small blog: a front page with two posts, a feed, a style sheet and a picture.
    pub fn fill(&self) {
        let front = r#"<html><head><link rel="stylesheet" href="/assets/screen.css?v=1"></head>
            <body><a href="{origin}/first/">First</a> <a href="/second/">Second</a></body></html>"#;
        self.put("/", Page::html(front));
        self.put("/first/", Page::html(r#"<p>first, at {origin}/first/</p><img src="{origin}/content/images/a.png">"#));
        self.put("/second/", Page::html("<p>second</p>"));
        let feed = "<rss><channel><item><link>{origin}/first/</link></item></channel></rss>";
        self.put("/rss/", Page::of("application/rss+xml; charset=utf-8", "public, max-age=0", feed));
        self.put("/robots.txt", Page::of("text/plain", "public, max-age=3600", "User-agent: *"));
        self.put("/assets/screen.css?v=1", Page::of("text/css", "public, max-age=31536000", "p{color:red}"));
        self.put("/content/images/a.png", Page::of("image/png", "public, max-age=31536000", vec![7u8; 300_000]));
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// How often `target` was asked for.
    pub fn count(&self, target: &str) -> usize {
        self.asked().iter().filter(|asked| asked.target == target).count()
    }

    pub fn last(&self, target: &str) -> Asked {
        self.asked().into_iter().rfind(|asked| asked.target == target).expect("it was asked for")
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Said>, hyper::Error> {
    if request.headers().contains_key("upgrade") {
        return Ok(echo(request));
    }
    let (parts, mut body) = request.into_parts();
    let target = parts.uri.to_string();
    let mut length = 0;
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = frame?.into_data().unwrap_or_default();
        length += data.len();
        if text.len() < 10_000 {
            text.extend_from_slice(&data);
        }
    }
    let asked =
        Asked { method: parts.method.clone(), target: target.clone(), fields: parts.headers.clone(), body: length };
    shared.asked.lock().unwrap().push(asked);
    let _permit = shared.gate.acquire().await.unwrap();
    render(&shared).await;
    let canonical = shared.canonical.lock().unwrap().clone();
    let private = [("cache-control", "no-cache, private, no-store")];
    if parts.method == Method::POST && target == "/ghost/api/admin/session/" {
        // Ghost compares the origin with its own URL.
        let own = parts.headers.get("origin").is_some_and(|origin| origin == canonical.as_str());
        let (status, cookie) =
            if own { (201, "ghost-admin-api-session=s3cret; Path=/ghost; Secure") } else { (400, "") };
        return Ok(respond(status, &[private[0], ("set-cookie", cookie)], "Created"));
    }
    if target == "/ghost/api/admin/changed/" {
        return Ok(respond(200, &[private[0], ("x-cache-invalidate", "/*")], "{}"));
    }
    if target.starts_with("/ghost/") {
        let said = format!("{} bytes, own url {canonical}/, got {}", length, String::from_utf8_lossy(&text));
        return Ok(respond(200, &[private[0], ("content-type", "application/json")], &said));
    }
    let path = target.split('?').next().unwrap_or_default();
    let spelled = shared.pages.lock().unwrap().get(&target).cloned();
    let found = spelled.or_else(|| {
        let any = shared.any_query.load(Ordering::Relaxed);
        any.then(|| shared.pages.lock().unwrap().get(path).cloned()).flatten()
    });
    let Some(page) = found else {
        return Ok(respond(404, &[("cache-control", "no-cache, no-store")], "not found"));
    };
    let body = match std::str::from_utf8(&page.body) {
        Ok(text) => Bytes::from(text.replace("{origin}", &canonical)),
        Err(_) => page.body.clone(),
    };
    let tag = format!("W/\"{}\"", sovereign_model::Digest::of(&body).short());
    let mut fields: Vec<(&str, &str)> = page.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    if page.status == 200 {
        fields.push(("etag", &tag));
    }
    if parts.headers.get("if-none-match").is_some_and(|known| known == tag.as_str()) {
        return Ok(respond_bytes(304, &fields, Bytes::new()));
    }
    let mut response = respond_bytes(page.status, &fields, body.clone());
    if let Some(permits) = page.chunks {
        *response.body_mut() = Said::chunks(body, permits);
    }
    Ok(response)
}

async fn render(shared: &Shared) {
    let at_once = shared.at_once.fetch_add(1, Ordering::Relaxed) + 1;
    shared.most_at_once.fetch_max(at_once, Ordering::Relaxed);
    let time = shared.rendering.lock().await;
    let began = Instant::now();
    if !time.is_zero() {
        // Not a condition to wait for: this is the work itself.
        tokio::time::sleep(*time).await;
    }
    *shared.worked.lock().unwrap() += began.elapsed();
    shared.at_once.fetch_sub(1, Ordering::Relaxed);
}

/// Switches protocols and echoes.
fn echo(mut request: Request<Incoming>) -> Response<Said> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgrade.await.unwrap());
        let (mut read, mut write) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    respond(101, &[("connection", "upgrade"), ("upgrade", "websocket")], "")
}

fn respond(status: u16, fields: &[(&str, &str)], body: &str) -> Response<Said> {
    respond_bytes(status, fields, body.to_owned().into())
}

fn respond_bytes(status: u16, fields: &[(&str, &str)], body: Bytes) -> Response<Said> {
    let mut response = Response::new(Said::Whole(Full::new(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        let name: http::HeaderName = name.parse().unwrap();
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}
