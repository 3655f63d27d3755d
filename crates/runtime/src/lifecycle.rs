//! How a daemon lives and ends.
//!
//! ```text
//!   serving ──SIGTERM, SIGINT, stop()──▶ draining ──all tasks done──▶ drained (Quiet)
//!      │                                    └──grace over, or a second signal──▶ drained (GaveUp: how many tasks)
//!      ├ accepts connections                ├ takes no new connection; those it has, it serves to their end
//!      └ answers control                    └ still answers control
//! ```
//!
//! A daemon makes one [`Lifecycle`], starts every connection through [`Lifecycle::spawn`], accepts with [`accept_each`]
//! until [`Lifecycle::stopping`], and ends with [`Lifecycle::run`]. Connections watch `stopping` too, to say goodbye at
//! the next good moment (`Connection: close`, GOAWAY).
//!
//! Promise: `run` returns at the latest one grace period after the stop, and says how much it cut off. What is left out:
//! ending the process, which is `main`'s.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

mod readiness;

pub use readiness::{NOTIFY_SOCKET, Readiness};

/// The life of one daemon. Clones are the same life.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    stopping: CancellationToken,
    drained: CancellationToken,
    tasks: TaskTracker,
    grace: Duration,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every task came to its own end.
    Quiet,
    /// The grace period ended first, or a second signal came.
    GaveUp {
        /// Tasks that were still at work.
        open: usize,
    },
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quiet => f.write_str("all connections came to their end"),
            Self::GaveUp { open } => write!(f, "{open} connections are cut off"),
        }
    }
}

impl Lifecycle {
    /// A daemon that, once told to stop, waits `grace` for its tasks.
    pub fn new(grace: Duration) -> Self {
        Self { stopping: CancellationToken::new(), drained: CancellationToken::new(), tasks: TaskTracker::new(), grace }
    }

    /// Cancelled when no new work is to be taken.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Cancelled when the drain is over, one way or the other.
    pub fn drained(&self) -> CancellationToken {
        self.drained.clone()
    }

    /// Whether the daemon has been told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Tasks at work.
    pub fn open(&self) -> usize {
        self.tasks.len()
    }

    /// Starts work that the drain waits for: a connection, a running refresh. Not for endless loops, which would hold
    /// the drain up for its whole grace period; those are spawned beside and watch [`stopping`](Self::stopping).
    pub fn spawn<F>(&self, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(work)
    }

    /// The same, on another runtime than the one that is at work.
    pub fn spawn_on<F>(&self, runtime: &tokio::runtime::Handle, work: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn_on(work, runtime)
    }

    /// Tells the daemon to stop, like SIGTERM does.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Lives: until SIGTERM, SIGINT or [`stop`](Self::stop), then drains. Call once, on the daemon's main task. Fails
    /// only when signals cannot be received at all; then nothing was begun.
    pub async fn run(&self) -> io::Result<Drained> {
        let mut signals = Signals::new()?;
        tokio::select! {
            () = self.stopping.cancelled() => info!("told to stop"),
            name = signals.next() => info!(signal = name, "told to stop"),
        }
        self.stopping.cancel();
        self.tasks.close();
        let grace = self.grace;
        info!(open = self.open(), ?grace, "draining");
        let drained = tokio::select! {
            waited = timeout(grace, self.tasks.wait()) => match waited {
                Ok(()) => Drained::Quiet,
                Err(_) => Drained::GaveUp { open: self.open() },
            },
            _ = signals.next() => Drained::GaveUp { open: self.open() },
        };
        match drained {
            Drained::Quiet => info!("drained"),
            Drained::GaveUp { open } => warn!(open, ?grace, "not drained in time: what is still open is cut off"),
        }
        self.drained.cancel();
        Ok(drained)
    }
}

/// The signals that end a daemon.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Something that connections come in on.
pub trait Listener {
    /// A connection as it comes in, with what is known of the peer.
    type Connection;

    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Listener for TcpListener {
    type Connection = (TcpStream, SocketAddr);

    async fn next(&self) -> io::Result<Self::Connection> {
        self.accept().await
    }
}

impl Listener for UnixListener {
    type Connection = UnixStream;

    async fn next(&self) -> io::Result<Self::Connection> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// The first pause after a failed accept, doubled up to [`LONGEST_PAUSE`]: without one, a full descriptor table would
/// make the loop spin.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Gives each connection to `take`, which must not block (it spawns), until `stop`.
///
/// A connection that died in the queue is passed over. When the machine has no descriptors or memory left, the loop
/// waits a little longer each time, says so once, and goes on by itself when there are some again.
pub async fn accept_each<L: Listener>(listener: &L, stop: CancellationToken, mut take: impl FnMut(L::Connection)) {
    let mut pause = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.next() => accepted,
        };
        match accepted {
            Ok(connection) => {
                if pause.take().is_some() {
                    info!("connections are accepted again");
                }
                take(connection);
            }
            Err(error) if died_in_the_queue(&error) => {}
            Err(error) => {
                let length = match pause {
                    Some(last) => LONGEST_PAUSE.min(last * 2),
                    None => {
                        warn!(%error, "connections cannot be accepted for now");
                        FIRST_PAUSE
                    }
                };
                pause = Some(length);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(length) => {}
                }
            }
        }
    }
}

/// Errors of the one connection, which accept(2) reports in place of it.
fn died_in_the_queue(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::Interrupted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_stop_ends_accepting_and_waits_for_connections() {
        let lifecycle = Lifecycle::new(LONG);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn({
            let lifecycle = lifecycle.clone();
            async move {
                accept_each(&listener, lifecycle.stopping(), |(connection, _)| {
                    lifecycle.spawn(async move {
                        let mut byte = [0];
                        let _ = tokio::io::AsyncReadExt::read(&mut { connection }, &mut byte).await;
                    });
                })
                .await;
            }
        });
        let client = TcpStream::connect(address).await.unwrap();
        while lifecycle.open() == 0 {
            tokio::task::yield_now().await;
        }
        let running = tokio::spawn({
            let lifecycle = lifecycle.clone();
            async move { lifecycle.run().await.unwrap() }
        });
        lifecycle.stop();
        accepting.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
        assert!(!running.is_finished(), "the open connection is waited for");
        drop(client);
        assert_eq!(running.await.unwrap(), Drained::Quiet);
        assert!(lifecycle.drained().is_cancelled());
    }

    #[tokio::test]
    async fn after_the_grace_period_it_gives_up_and_says_how_many() {
        let lifecycle = Lifecycle::new(Duration::from_millis(20));
        for _ in 0..3 {
            lifecycle.spawn(std::future::pending::<()>());
        }
        lifecycle.stop();
        assert_eq!(lifecycle.run().await.unwrap(), Drained::GaveUp { open: 3 });
    }

    #[tokio::test]
    async fn sigterm_stops_and_a_second_one_gives_up() {
        let lifecycle = Lifecycle::new(LONG);
        lifecycle.spawn(std::future::pending::<()>());
        // Installed before any signal is sent: the default action would end the test.
        let _installed = Signals::new().unwrap();
        let running = tokio::spawn({
            let lifecycle = lifecycle.clone();
            async move { lifecycle.run().await.unwrap() }
        });
        tokio::task::yield_now().await;
        let this = rustix::process::getpid();
        rustix::process::kill_process(this, rustix::process::Signal::TERM).unwrap();
        lifecycle.stopping().cancelled().await;
        rustix::process::kill_process(this, rustix::process::Signal::INT).unwrap();
        assert_eq!(running.await.unwrap(), Drained::GaveUp { open: 1 });
    }

    /// Fails as a full descriptor table does, then gives one connection, then nothing.
    struct Exhausted {
        failures: AtomicUsize,
        connection: Mutex<Option<&'static str>>,
    }

    impl Listener for Exhausted {
        type Connection = &'static str;

        async fn next(&self) -> io::Result<&'static str> {
            if self.failures.fetch_add(1, Ordering::Relaxed) < 3 {
                return Err(rustix::io::Errno::MFILE.into());
            }
            let connection = self.connection.lock().unwrap().take();
            match connection {
                Some(connection) => Ok(connection),
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn accepting_goes_on_after_descriptors_ran_out() {
        let listener = Exhausted { failures: AtomicUsize::new(0), connection: Mutex::new(Some("reader")) };
        let stop = CancellationToken::new();
        let mut taken = Vec::new();
        accept_each(&listener, stop.clone(), |connection| {
            taken.push(connection);
            stop.cancel();
        })
        .await;
        assert_eq!(taken, ["reader"]);
    }
}
