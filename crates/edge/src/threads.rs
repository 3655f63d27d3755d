//! The threads that serve readers' connections.
//!
//! Each has a runtime of its own and serves its connections from the first byte to the last: it encrypts, takes requests
//! apart, and answers what can be answered at once. What takes its time is worked out beside, on the runtime of the
//! process: nothing that waits or computes for long keeps the connections of a thread from theirs, and it goes on when a
//! connection ends.
//!
//! So the usual way of a request shares no queue of tasks with other cores, and nobody is woken to look whether there is
//! something to steal. Left out: moving a connection. New ones go to the thread that has the fewest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::available_parallelism;
use std::time::Duration;

use sovereign_runtime::lifecycle::Lifecycle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A second one for the others while a page is encrypted on the first.
const FEWEST: usize = 2;
/// Beyond it the network is the limit.
pub(crate) const MOST: usize = 8;
/// Threads beside each that read what is sent from files, and how long they stay without work.
const MOST_READING: usize = 4;
const KEEP_READING: Duration = Duration::from_secs(2);
/// How long the end of a thread waits for the disk.
const LAST_READS: Duration = Duration::from_secs(1);

/// Threads that serve connections.
pub(crate) struct Threads(Vec<Thread>);

struct Thread {
    runtime: Handle,
    /// Connections.
    open: Arc<AtomicUsize>,
    /// Dropped, it ends the thread.
    life: oneshot::Sender<()>,
    /// Told when it has ended.
    ended: oneshot::Receiver<()>,
}

impl Threads {
    /// As many as this machine has use for.
    pub(crate) fn start() -> io::Result<Self> {
        let count = available_parallelism().map_or(FEWEST, |cores| cores.get().clamp(FEWEST, MOST));
        (0..count).map(Thread::start).collect::<io::Result<_>>().map(Self)
    }

    /// Serves a connection, as a task that the drain of `lifecycle` waits for.
    pub(crate) fn spawn(&self, lifecycle: &Lifecycle, serving: impl Future<Output = ()> + Send + 'static) {
        let thread = self.0.iter().min_by_key(|thread| thread.open.load(Ordering::Relaxed));
        let thread = thread.expect("there are two at least");
        thread.open.fetch_add(1, Ordering::Relaxed);
        let open = Open(thread.open.clone());
        lifecycle.spawn_on(&thread.runtime, async move {
            serving.await;
            drop(open);
        });
    }

    /// Ends them. Connections that are still open are cut off.
    pub(crate) async fn end(self) {
        let (lives, ends): (Vec<_>, Vec<_>) = self.0.into_iter().map(|thread| (thread.life, thread.ended)).unzip();
        drop(lives);
        for ended in ends {
            // An error: it is gone already.
            let _ = ended.await;
        }
    }
}

impl Thread {
    fn start(number: usize) -> io::Result<Self> {
        let (made, runtime) = mpsc::sync_channel(1);
        let (life, end) = oneshot::channel::<()>();
        let (tell, ended) = oneshot::channel();
        // The runtime is made by its thread: where none can be started there is no runtime to get rid of.
        std::thread::Builder::new().name(format!("serving-{number}")).spawn(move || {
            let built = Builder::new_current_thread()
                .max_blocking_threads(MOST_READING)
                .thread_keep_alive(KEEP_READING)
                .enable_all()
                .build();
            let runtime = match built {
                Ok(runtime) => runtime,
                Err(error) => return drop(made.send(Err(error))),
            };
            let _ = made.send(Ok(runtime.handle().clone()));
            // An error: the other half is gone, which is what is waited for.
            let _ = runtime.block_on(end);
            runtime.shutdown_timeout(LAST_READS);
            let _ = tell.send(());
        })?;
        let runtime = runtime.recv().map_err(io::Error::other)??;
        Ok(Self { runtime, open: Arc::default(), life, ended })
    }
}

/// A connection counts for as long as this is there.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{ThreadId, current};

    use super::*;

    /// Serves a connection that ends when the first is dropped; the second says where it is served.
    async fn connection(threads: &Threads, lifecycle: &Lifecycle) -> (oneshot::Sender<()>, ThreadId) {
        let (close, closed) = oneshot::channel::<()>();
        let (say, said) = oneshot::channel();
        threads.spawn(lifecycle, async move {
            say.send(current().id()).unwrap();
            let _ = closed.await;
        });
        (close, said.await.unwrap())
    }

    #[tokio::test]
    async fn a_connection_goes_to_the_thread_that_has_the_fewest() {
        let lifecycle = Lifecycle::new(Duration::from_secs(20));
        let threads = Threads((0..2).map(|number| Thread::start(number).unwrap()).collect());
        let (first, on) = connection(&threads, &lifecycle).await;
        let (_second, beside) = connection(&threads, &lifecycle).await;
        assert_ne!(on, beside);
        drop(first);
        while lifecycle.open() > 1 {
            tokio::task::yield_now().await;
        }
        let (_third, again) = connection(&threads, &lifecycle).await;
        assert_eq!(again, on);
    }

    #[tokio::test]
    async fn what_is_open_at_the_end_is_cut_off() {
        let (threads, lifecycle) = (Threads::start().unwrap(), Lifecycle::new(Duration::from_secs(20)));
        let (close, _) = connection(&threads, &lifecycle).await;
        threads.end().await;
        assert!(close.is_closed());
        assert_eq!(lifecycle.open(), 0);
    }
}
