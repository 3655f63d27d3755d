//! Readers at a constant rate, in the ways readers come: HTTP/1.1 on kept connections, HTTP/1.1 on new ones, HTTP/2.
//!
//! Strict on purpose, stricter than browsers: a request that was sent on a kept HTTP/1.1 connection and not answered
//! is a failure, although a browser would quietly ask again. The one repetition is HTTP/2's own: a request above the
//! last stream that GOAWAY names was not looked at (RFC 9113, 6.8) and is asked again, which is counted beside.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;

use super::support::Operator;

/// Requests of one reader per second.
const RATE: u32 = 10;
/// Readers of each way at one data center; two data centers and 200 requests a second together.
const WAYS: [(Way, usize); 3] = [(Way::Kept, 4), (Way::New, 3), (Way::Multiplexed, 3)];
/// A reader who waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Kept,
    New,
    Multiplexed,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "HTTP/1.1 kept",
            Self::New => "HTTP/1.1 new",
            Self::Multiplexed => "HTTP/2",
        })
    }
}

/// What readers of one way met.
#[derive(Debug, Default)]
pub(crate) struct Account {
    asked: u64,
    connections: u64,
    asked_again: u64,
    /// Failures by what they were, with when the first came.
    failed: BTreeMap<String, (u64, Duration)>,
    times: Vec<Duration>,
}

impl Account {
    fn add(&mut self, other: Self) {
        self.asked += other.asked;
        self.connections += other.connections;
        self.asked_again += other.asked_again;
        self.times.extend(other.times);
        for (what, (count, first)) in other.failed {
            let entry = self.failed.entry(what).or_insert((0, first));
            *entry = (entry.0 + count, entry.1.min(first));
        }
    }

    fn failures(&self) -> u64 {
        self.failed.values().map(|(count, _)| count).sum()
    }
}

/// A load under way.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<Way, Account>>,
    began: Instant,
}

/// A load that ended.
pub(crate) struct Borne {
    accounts: BTreeMap<Way, Account>,
    lasted: Duration,
}

impl Load {
    /// 200 requests a second for `path` of `host`, half of them at each of the two ports.
    pub(crate) fn start(operator: &Operator, host: &str, ports: [u16; 2], path: &str) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(operator.authority()).unwrap()).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (host, path) = (host.to_owned(), path.to_owned());
        let began = Instant::now();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                runtime.unwrap().block_on(async {
                    let mut readers = tokio::task::JoinSet::new();
                    for port in ports {
                        for (way, count) in WAYS {
                            for _ in 0..count {
                                let reader = Reader::new(way, &roots, &host, port, &path, began);
                                readers.spawn(reader.read_on(stop.clone()));
                            }
                        }
                    }
                    let mut accounts = BTreeMap::<Way, Account>::new();
                    while let Some(ended) = readers.join_next().await {
                        let (way, account) = ended.unwrap();
                        accounts.entry(way).or_default().add(account);
                    }
                    accounts
                })
            }
        });
        Self { stop, thread, began }
    }

    /// Goes on until so long after the start, then ends.
    pub(crate) fn until(self, end: Duration) -> Borne {
        std::thread::sleep(end.saturating_sub(self.began.elapsed()));
        self.stop.store(true, Ordering::Relaxed);
        let accounts = self.thread.join().unwrap();
        Borne { accounts, lasted: self.began.elapsed() }
    }
}

impl Borne {
    /// Every request was answered with a 200 and a whole body, and the load was what it was meant to be.
    #[track_caller]
    pub(crate) fn without_failure(&self) {
        let (asked, failed) = self.totals();
        assert_eq!(failed, 0, "of {asked} requests failed:\n{self}");
        let meant = 200.0 * self.lasted.as_secs_f64();
        assert!(asked as f64 > meant * 0.9, "{asked} requests instead of {meant:.0}");
    }

    /// The longest that a reader waited, in medians of readers who come the same way.
    pub(crate) fn slowest(&self) -> f64 {
        let of = |account: &Account| {
            let mut times = account.times.clone();
            times.sort_unstable();
            let middle = times.get(times.len() / 2).copied().unwrap_or_default();
            times.last().copied().unwrap_or_default().as_secs_f64() / middle.as_secs_f64()
        };
        self.accounts.values().map(of).fold(0.0, f64::max)
    }

    fn totals(&self) -> (u64, u64) {
        self.accounts.values().fold((0, 0), |(asked, failed), one| (asked + one.asked, failed + one.failures()))
    }
}

/// The table for people.
impl fmt::Display for Borne {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| readers | requests | failed | connections | asked again after GOAWAY | p50 | p99 | longest |")?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|---:|---:|")?;
        for (way, account) in &self.accounts {
            let Account { asked, connections, asked_again, .. } = account;
            let mut times = account.times.clone();
            times.sort_unstable();
            let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1)).copied();
            let [p50, p99, max] = [at(50), at(99), times.last().copied()].map(Option::unwrap_or_default);
            let failed = account.failures();
            write!(f, "| {way} | {asked} | {failed} | {connections} | {asked_again} ")?;
            writeln!(f, "| {p50:.1?} | {p99:.1?} | {max:.1?} |")?;
        }
        let (asked, failed) = self.totals();
        let rate = asked as f64 / self.lasted.as_secs_f64();
        writeln!(f, "\n{failed} of {asked} requests failed in {:.1?} ({rate:.0} requests/s)", self.lasted)?;
        for (way, account) in &self.accounts {
            for (what, (count, first)) in &account.failed {
                writeln!(f, "  {way}: {count} times, first after {first:.1?}: {what}")?;
            }
        }
        Ok(())
    }
}

enum Line {
    One(http1::SendRequest<Empty<Bytes>>),
    Two(http2::SendRequest<Empty<Bytes>>),
}

struct Reader {
    way: Way,
    tls: TlsConnector,
    name: ServerName<'static>,
    address: SocketAddr,
    /// What is asked for, as each version has it: a path, or a whole URL.
    target: String,
    authority: String,
    began: Instant,
    line: Option<Line>,
    account: Account,
}

impl Reader {
    fn new(way: Way, roots: &rustls::RootCertStore, host: &str, port: u16, path: &str, began: Instant) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.unwrap().with_root_certificates(roots.clone()).with_no_client_auth();
        let alpn: &[u8] = if way == Way::Multiplexed { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![alpn.to_vec()];
        let authority = format!("{host}:{port}");
        Self {
            way,
            tls: TlsConnector::from(Arc::new(config)),
            name: ServerName::try_from(host.to_owned()).unwrap(),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            target: if way == Way::Multiplexed { format!("https://{authority}{path}") } else { path.to_owned() },
            authority,
            began,
            line: None,
            account: Account::default(),
        }
    }

    async fn read_on(mut self, stop: Arc<AtomicBool>) -> (Way, Account) {
        let mut ticks = interval(Duration::from_secs(1) / RATE);
        // Whoever is late asks faster afterwards: a stall must not lower the load.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while !stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            self.account.asked += 1;
            let began = Instant::now();
            let answered = timeout(PATIENCE, self.ask()).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            if self.way == Way::New {
                self.line = None;
            }
            match answered {
                Ok(()) => self.account.times.push(began.elapsed()),
                Err(what) => {
                    self.line = None;
                    let at = self.began.elapsed();
                    self.account.failed.entry(what).or_insert((0, at)).0 += 1;
                }
            }
        }
        (self.way, self.account)
    }

    async fn ask(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            let question = Request::get(&self.target).header("host", &self.authority).body(Empty::new()).unwrap();
            let response = match self.line().await? {
                Line::One(line) => line.send_request(question).await.map_err(|error| told(&error)),
                Line::Two(line) => match line.send_request(question).await {
                    Err(error) if was_not_looked_at(&error) => {
                        self.line = None;
                        self.account.asked_again += 1;
                        continue;
                    }
                    answered => answered.map_err(|error| told(&error)),
                },
            };
            return whole(response?).await;
        }
        Err("three connections in a row said GOAWAY".to_owned())
    }

    /// A connection a request may be sent on: the kept one unless it is known to be closed, else a new one.
    async fn line(&mut self) -> Result<&mut Line, String> {
        let usable = match &mut self.line {
            Some(Line::One(line)) => line.ready().await.is_ok(),
            Some(Line::Two(line)) => line.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            self.line = Some(self.connect().await?);
        }
        self.line.as_mut().ok_or_else(|| "no connection".to_owned())
    }

    async fn connect(&mut self) -> Result<Line, String> {
        let socket = TcpStream::connect(self.address).await.map_err(|error| format!("connect: {error}"))?;
        let stream = self.tls.connect(self.name.clone(), socket).await.map_err(|error| format!("TLS: {error}"))?;
        self.account.connections += 1;
        let stream = TokioIo::new(stream);
        if self.way == Way::Multiplexed {
            let (line, connection) =
                http2::handshake(TokioExecutor::new(), stream).await.map_err(|error| told(&error))?;
            tokio::spawn(connection);
            Ok(Line::Two(line))
        } else {
            let (line, connection) = http1::handshake(stream).await.map_err(|error| told(&error))?;
            tokio::spawn(connection);
            Ok(Line::One(line))
        }
    }
}

async fn whole(response: Response<Incoming>) -> Result<(), String> {
    let status = response.status();
    response.into_body().collect().await.map_err(|error| format!("body: {}", told(&error)))?;
    if status == 200 { Ok(()) } else { Err(format!("status {status}")) }
}

/// GOAWAY without an error came, and this request's stream was above the last one it names.
fn was_not_looked_at(error: &hyper::Error) -> bool {
    use std::error::Error as _;
    let text = error.source().map(ToString::to_string).unwrap_or_default();
    error.is_canceled() || text.contains("refused stream") || text.contains("not a result of an error")
}

fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
