//! Ctrl-C: asked once, the command stops cleanly; asked twice, it stops.

use std::future::Future;
use std::io;
use std::process;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::failure::{Failure, Reason};
use crate::output::Output;

/// Neither a runtime nor a signal could be had from the system.
#[derive(Debug, thiserror::Error)]
#[error("cannot get what every command needs from the system: {what}")]
pub(crate) struct SystemRefused {
    what: &'static str,
    source: io::Error,
}

impl Reason for SystemRefused {}

/// Runs a command's asynchronous work to its end, on a runtime of its own.
///
/// The first Ctrl-C (or SIGTERM) cancels the token that `work` is given; `work` then finishes the step under way and
/// returns. A second one ends the program at once, which is as safe as a power cut: the journal knows what was begun.
/// Work that fails after an interruption ends with [`Exit::Interrupted`]; work that succeeded, succeeded.
///
/// # Errors
/// What `work` failed with, or that the system gave no runtime.
pub(crate) fn run<T, W, F>(output: &Output, work: W) -> Result<T, Failure>
where
    W: FnOnce(CancellationToken) -> F,
    F: Future<Output = Result<T, Failure>>,
{
    let refused = |what| move |source| SystemRefused { what, source };
    let runtime = Runtime::new().map_err(refused("threads"))?;
    let cancel = CancellationToken::new();
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(refused("signals"))?;
        let mut terminate = signal(SignalKind::terminate()).map_err(refused("signals"))?;
        let (listener, cancelled) = (output.clone(), cancel.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if cancelled.is_cancelled() {
                    process::exit(Exit::Interrupted.code().into());
                }
                listener.say("stopping after the step under way; Ctrl-C again stops at once");
                cancelled.cancel();
            }
        });
        work(cancel.clone()).await
    });
    // Downloads and builds run on blocking threads; nobody waits for them after the answer.
    runtime.shutdown_background();
    outcome.map_err(|failure| if cancel.is_cancelled() { failure.interrupted() } else { failure })
}

/// The same for work that is not asynchronous; it looks at the token now and then.
///
/// # Errors
/// As [`run`].
pub(crate) fn blocking<T>(
    output: &Output,
    work: impl FnOnce(&CancellationToken) -> Result<T, Failure>,
) -> Result<T, Failure> {
    run(output, |stop| async move { tokio::task::block_in_place(|| work(&stop)) })
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn the_first_ctrl_c_cancels_and_decides_the_exit_code() {
        let failure = run(&Output::silent(), |cancel| async move {
            kill_process(getpid(), Signal::INT).unwrap();
            cancel.cancelled().await;
            Err::<(), _>(SystemRefused { what: "anything", source: io::Error::other("a test") }.into())
        })
        .unwrap_err();
        assert_eq!(failure.exit(), Exit::Interrupted);
    }

    #[test]
    fn undisturbed_work_keeps_its_outcome() {
        assert_eq!(run(&Output::silent(), |_| async { Ok::<_, Failure>(7) }).unwrap(), 7);
    }
}
