//! The threads that serve connections.
//!
//! Each has a runtime of its own and serves its connections from their first byte to their last. So the way of a request
//! touches nothing that another core waits for: no queue of tasks is shared, nobody is woken to look whether there is
//! something to steal. What outlives a connection (keepers, links, listening) runs beside, on the runtime of the process.
//!
//! Left out: moving a connection. A thread with much to do keeps what it has; new connections go to the one that has the
//! fewest.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use sovereign_runtime::lifecycle::Lifecycle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A second one for the others while a page is rewritten on the first; beyond the most, the network is the limit.
const FEWEST: usize = 2;
const MOST: usize = 8;
/// Threads beside each that wait for the disk, and how long they stay without work.
const MOST_BLOCKING: usize = 8;
const KEEP_BLOCKING: Duration = Duration::from_secs(2);

/// Threads that serve connections, until this is dropped.
pub(crate) struct Threads(Vec<Thread>);

struct Thread {
    runtime: Handle,
    open: Arc<AtomicUsize>,
    /// Dropped, it ends the thread.
    _life: oneshot::Sender<()>,
}

impl Threads {
    /// As many as this machine has use for.
    pub(crate) fn start() -> io::Result<Self> {
        let count = available_parallelism().map_or(FEWEST, |cores| cores.get().clamp(FEWEST, MOST));
        (0..count).map(|_| Thread::start()).collect::<io::Result<_>>().map(Self)
    }

    /// Runs what `serving` makes on the thread that runs it, as a task that the drain of `lifecycle` waits for.
    pub(crate) fn spawn<F>(&self, lifecycle: &Lifecycle, serving: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(thread) = self.0.iter().min_by_key(|thread| thread.open.load(Ordering::Relaxed)) else { return };
        thread.open.fetch_add(1, Ordering::Relaxed);
        let open = Open(thread.open.clone());
        lifecycle.spawn_on(&thread.runtime, async move {
            serving().await;
            drop(open);
        });
    }
}

impl Thread {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(MOST_BLOCKING)
            .thread_keep_alive(KEEP_BLOCKING)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (life, end) = oneshot::channel::<()>();
        std::thread::Builder::new().name("serving".into()).spawn(move || {
            // An error: the other half is gone, which is what is waited for.
            let _ = runtime.block_on(end);
            // What is still open is cut off, and a read from the disk not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, open: Arc::default(), _life: life })
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
    use std::thread::current;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn connections_are_spread_and_the_drain_waits_for_them() {
        let (threads, lifecycle) = (Threads::start().unwrap(), Lifecycle::new(Duration::from_secs(20)));
        let (said, mut heard) = mpsc::channel(8);
        let mut open = Vec::new();
        for _ in 0..2 {
            let (said, (close, closed)) = (said.clone(), oneshot::channel::<()>());
            open.push(close);
            threads.spawn(&lifecycle, move || async move {
                said.send(current().id()).await.unwrap();
                let _ = closed.await;
            });
        }
        assert_ne!(heard.recv().await.unwrap(), heard.recv().await.unwrap());
        // The one whose connection has ended gets the next.
        drop(open.remove(0));
        while lifecycle.open() > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(threads.0.iter().filter(|thread| thread.open.load(Ordering::Relaxed) == 1).count(), 1);
        lifecycle.stop();
        let drained = tokio::spawn({
            let lifecycle = lifecycle.clone();
            async move { lifecycle.run().await.unwrap() }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!drained.is_finished());
        open.clear();
        assert_eq!(drained.await.unwrap(), sovereign_runtime::lifecycle::Drained::Quiet);
    }
}
