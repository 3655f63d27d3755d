//! A registry for tests: real HTTP on loopback, as unreliable as a test wants.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use sha2::{Digest as _, Sha512};

use crate::lock::{Integrity, Package, Part};
use crate::{Environment, Platform};

/// What a client asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) range: Option<usize>,
    pub(crate) authorization: Option<String>,
}

/// What the server does about it.
pub(crate) enum Answer {
    /// The file, honouring ranges; the connection breaks after so many bytes.
    File { bytes: Vec<u8>, cut: Option<usize> },
    /// The whole file whatever was asked.
    Whole(Vec<u8>),
    /// Only a status.
    Status(u16),
}

impl Answer {
    pub(crate) fn file(bytes: &[u8]) -> Self {
        Self::File { bytes: bytes.to_vec(), cut: None }
    }

    fn write(self, mut stream: &TcpStream, range: Option<usize>) -> std::io::Result<()> {
        let (status, from, bytes, cut) = match self {
            Self::File { bytes, cut } => (200, range, bytes, cut),
            Self::Whole(bytes) => (200, None, bytes, None),
            Self::Status(status) => (status, None, Vec::new(), None),
        };
        let total = bytes.len();
        let (status, extra, rest) = match from {
            Some(from) if from < total => {
                (206, format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1), &bytes[from..])
            }
            Some(_) => (416, String::new(), &[][..]),
            None => (status, String::new(), &bytes[..]),
        };
        let length = rest.len();
        write!(stream, "HTTP/1.1 {status} Said\r\n{extra}Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
        stream.write_all(&rest[..cut.unwrap_or(length).min(length)])
    }
}

/// The server; it ends when it is dropped.
pub(crate) struct TestRegistry {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TestRegistry {
    /// Answers the n-th request, counted from zero, with what `answer` says.
    pub(crate) fn start(mut answer: impl FnMut(usize, &Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (asked, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let stream = stream.unwrap();
                let request = read_request(&stream);
                let number = {
                    let mut asked = asked.lock().unwrap();
                    asked.push(request.clone());
                    asked.len() - 1
                };
                // The client may be gone already; that is its business.
                let _ = answer(number, &request).write(&stream, request.range);
            }
        });
        Self { address, requests, stop, thread: Some(thread) }
    }

    /// An environment that names this registry, and nothing else but where programs are.
    pub(crate) fn environment(&self) -> Environment {
        let path = std::env::var("PATH").unwrap_or_default();
        let address = format!("http://{}/npm", self.address);
        [("PATH", path), ("NPM_CONFIG_REGISTRY", address)].into_iter().collect()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn read_request(stream: &TcpStream) -> Request {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let mut request = Request { path: first.split(' ').nth(1).unwrap_or_default().to_owned(), ..Request::default() };
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap_or_default();
        if name.eq_ignore_ascii_case("range") {
            request.range = value.strip_prefix("bytes=").and_then(|v| v.strip_suffix('-')).and_then(|v| v.parse().ok());
        } else if name.eq_ignore_ascii_case("authorization") {
            request.authorization = Some(value.to_owned());
        }
    }
    request
}

/// A lock's entry for an archive.
pub(crate) fn package(name: &str, archive: &[u8]) -> Package {
    Package {
        part: Part::Application,
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        platform: Some(Platform::here()),
        integrity: Integrity::of(Sha512::new().chain_update(archive)),
        bytes: archive.len() as u64,
    }
}
