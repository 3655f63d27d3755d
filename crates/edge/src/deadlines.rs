//! Deadlines that nearly always are met, for the HTTP implementation: it sets one for the head of each request.
//!
//! A timer of the runtime is entered into its list of timers, and taken out of it again. Here a connection has one for
//! all its deadlines, and it is left to run: when it ends before the deadline that holds by then, it is set again. A busy
//! connection so pays for a timer once in the time that a head may take, instead of with every request.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

type Running = Pin<Box<tokio::time::Sleep>>;

/// The deadlines of one connection, of which one is waited for at a time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deadlines(Arc<Mutex<Option<Running>>>);

impl Timer for Deadlines {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Deadline { at: deadline.into(), timer: self.0.clone() })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

struct Deadline {
    at: tokio::time::Instant,
    timer: Arc<Mutex<Option<Running>>>,
}

impl Sleep for Deadline {}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut running = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        let timer = running.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(self.at)));
        if timer.deadline() > self.at {
            timer.as_mut().reset(self.at);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= self.at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn look(deadline: &mut Pin<Box<dyn Sleep>>) -> bool {
        poll_fn(|cx| Poll::Ready(deadline.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    async fn each_deadline_holds_whatever_was_before_it() {
        let deadlines = Deadlines::default();
        let began = tokio::time::Instant::now();
        for _ in 0..10 {
            let mut met = deadlines.sleep(3 * SECOND);
            assert!(!look(&mut met).await);
            tokio::time::sleep(SECOND).await;
            assert!(!look(&mut met).await);
        }
        // The timer of an earlier one is running, or has run out.
        deadlines.sleep(3 * SECOND).await;
        assert_eq!(began.elapsed().as_secs(), 13);
        deadlines.sleep(2 * SECOND).await;
        assert_eq!(began.elapsed().as_secs(), 15);
        let mut far = deadlines.sleep(1000 * SECOND);
        assert!(!look(&mut far).await);
        drop(far);
        // A nearer one than the one before.
        deadlines.sleep(SECOND).await;
        assert_eq!(began.elapsed().as_secs(), 16);
    }
}
