//! Waiting for a condition instead of sleeping.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long a condition may take before a test gives up: long, because machines are slow and a test that passes does
/// not wait.
pub const LONG: Duration = Duration::from_secs(30);

/// Looks again and again until `look` gives a value.
///
/// # Panics
/// When it does not within [`LONG`]: `what` did not happen.
pub async fn until<T, F: Future<Output = Option<T>>>(what: impl Display, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within {LONG:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
