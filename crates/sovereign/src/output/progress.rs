//! How far long work has come, on stderr: moving bars on a terminal, plain lines elsewhere.
//!
//! Work is told as *stages* that may overlap and be fed from several threads. Plain lines are few: one when a stage
//! begins, one when it ends, and one every five seconds in between. Every finished stage leaves its time for the
//! summary. A stage that is dropped without [`Stage::finish`] did not succeed, and is shown so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;

use super::{Output, figures};

/// Between two plain lines of one stage: often enough to see that it lives, rare enough to read the log afterwards.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// How a bar begins: something is under way. What is being done right now comes last, cut where the terminal ends.
const TEMPLATE: &str = "  {spinner} {prefix} {time} {wide_msg}";

/// Between two frames of a spinner.
const SPIN: Duration = Duration::from_millis(120);

/// The account of one command's stages. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Progress(Arc<Account>);

#[derive(Debug)]
struct Account {
    output: Output,
    finished: Mutex<Vec<StageTime>>,
}

/// How long a finished stage took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StageTime {
    /// Its name.
    pub(crate) stage: String,
    /// From begin to end.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub(crate) time: Duration,
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    // Milliseconds are as exact as anyone reads.
    serializer.serialize_f64(time.as_millis() as f64 / 1000.0)
}

impl Progress {
    pub(super) fn new(output: Output) -> Self {
        Self(Arc::new(Account { output, finished: Mutex::default() }))
    }

    /// Begins a stage. `name` says what is done: `download the ghost image`.
    pub(crate) fn stage(&self, name: impl Into<String>) -> Stage {
        Stage::begin(Arc::clone(&self.0), name.into())
    }

    /// The finished stages, in the order in which they ended.
    pub(crate) fn times(&self) -> Vec<StageTime> {
        self.0.finished.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A piece of work under way. Shared by reference between threads.
#[derive(Debug)]
pub(crate) struct Stage {
    account: Arc<Account>,
    name: String,
    began: Instant,
    /// What is counted, and how much there is in all; 0 while unknown.
    measure: Mutex<(Measure, u64)>,
    position: AtomicU64,
    bar: ProgressBar,
    /// When the last plain line was written, in milliseconds since the beginning.
    spoke: AtomicU64,
    finished: bool,
}

/// What a stage counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// Nothing: it is under way or over.
    Nothing,
    /// Bytes, shown with a rate.
    Bytes,
    /// Things, called so.
    Things(&'static str),
}

impl Stage {
    fn begin(account: Arc<Account>, name: String) -> Self {
        let bar = if account.output.moving {
            let bar = account.output.bars.add(ProgressBar::no_length());
            bar.set_style(style(TEMPLATE));
            bar.set_prefix(name.clone());
            bar.enable_steady_tick(SPIN);
            bar
        } else {
            account.output.say(format!("{name} ..."));
            ProgressBar::hidden()
        };
        Self {
            account,
            name,
            began: Instant::now(),
            measure: Mutex::new((Measure::Nothing, 0)),
            position: AtomicU64::new(0),
            bar,
            spoke: AtomicU64::new(0),
            finished: false,
        }
    }

    /// From now on bytes are counted; `total` is 0 when unknown. May be called again with a better total.
    pub(crate) fn expect_bytes(&self, total: u64) {
        self.expect(Measure::Bytes, total, || {
            if total == 0 {
                "  {spinner} {prefix} {decimal_bytes}, {decimal_bytes_per_sec} {wide_msg}".to_owned()
            } else {
                "  {spinner} {prefix} [{bar:16}] {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec} {wide_msg}"
                    .to_owned()
            }
        });
    }

    /// From now on things are counted, `pages` say; `total` is 0 when unknown. May be called again with a better total.
    pub(crate) fn expect_things(&self, things: &'static str, total: u64) {
        self.expect(Measure::Things(things), total, || {
            if total == 0 {
                format!("  {{spinner}} {{prefix}} {{pos}} {things} {{wide_msg}}")
            } else {
                format!("  {{spinner}} {{prefix}} [{{bar:16}}] {{pos}} of {{len}} {things} {{wide_msg}}")
            }
        });
    }

    fn expect(&self, measure: Measure, total: u64, template: impl FnOnce() -> String) {
        let mut expected = self.measure.lock().unwrap_or_else(PoisonError::into_inner);
        if *expected == (measure, total) {
            return;
        }
        *expected = (measure, total);
        self.bar.set_style(style(&template()));
        if total > 0 {
            self.bar.set_length(total);
        }
    }

    /// So much is done in all.
    pub(crate) fn reach(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
        self.bar.set_position(position);
        self.speak_if_due();
    }

    /// What is being done right now: a file, a page. Seen on a terminal only.
    pub(crate) fn note(&self, now: impl Into<String>) {
        if self.account.output.moving {
            self.bar.set_message(now.into());
        }
        self.speak_if_due();
    }

    /// The work is done. Returns how long it took.
    pub(crate) fn finish(mut self) -> Duration {
        self.finished = true;
        let reading = self.reading();
        let mut times = self.account.finished.lock().unwrap_or_else(PoisonError::into_inner);
        times.push(StageTime { stage: self.name.clone(), time: reading.elapsed });
        drop(times);
        let good = self.account.output.stderr.good;
        self.close(format!("{good}done{good:#}  {}", reading.done(&self.name)));
        reading.elapsed
    }

    fn close(&self, line: String) {
        self.bar.finish_and_clear();
        self.account.output.bars.remove(&self.bar);
        self.account.output.say(line);
    }

    fn speak_if_due(&self) {
        if self.account.output.moving {
            return;
        }
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Whoever moves the mark speaks: several threads, one line.
        let spoken = self.spoke.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            (u128::from(now.saturating_sub(last)) >= PLAIN_INTERVAL.as_millis()).then_some(now)
        });
        if spoken.is_ok() {
            self.account.output.say(self.reading().under_way(&self.name));
        }
    }

    fn reading(&self) -> Reading {
        let (measure, total) = *self.measure.lock().unwrap_or_else(PoisonError::into_inner);
        Reading { measure, position: self.position.load(Ordering::Relaxed), total, elapsed: self.began.elapsed() }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.finished {
            let warning = self.account.output.stderr.warning;
            let elapsed = figures::duration(self.began.elapsed());
            self.close(format!("{warning}stopped{warning:#}  {} after {elapsed}", self.name));
        }
    }
}

/// A stage at one moment. Pure: what its lines say.
#[derive(Debug, Clone, Copy)]
struct Reading {
    measure: Measure,
    position: u64,
    total: u64,
    elapsed: Duration,
}

impl Reading {
    fn under_way(&self, name: &str) -> String {
        match self.amount() {
            Some(amount) if self.total > 0 => match self.measure {
                Measure::Things(things) => format!("{name}: {} of {} {things}", self.position, self.total),
                Measure::Nothing | Measure::Bytes => format!("{name}: {amount} of {}", self.counted(self.total)),
            },
            Some(amount) => format!("{name}: {amount}"),
            None => format!("{name}: {} so far", figures::duration(self.elapsed)),
        }
    }

    fn done(&self, name: &str) -> String {
        let elapsed = figures::duration(self.elapsed);
        match self.amount() {
            Some(amount) => format!("{name} ({amount} in {elapsed}{})", self.rate()),
            None => format!("{name} ({elapsed})"),
        }
    }

    fn amount(&self) -> Option<String> {
        (self.measure != Measure::Nothing).then(|| self.counted(self.position))
    }

    fn counted(&self, number: u64) -> String {
        match self.measure {
            Measure::Nothing => String::new(),
            Measure::Bytes => figures::bytes(number),
            Measure::Things(things) => format!("{number} {things}"),
        }
    }

    fn rate(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        // A rate over less than a tenth of a second says more about the clock than about the network.
        match self.measure {
            Measure::Bytes if seconds >= 0.1 => {
                format!(", {}/s", figures::bytes((self.position as f64 / seconds) as u64))
            }
            _ => String::new(),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("templates are constants, checked by a test")
        .with_key("time", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            // A bar that cannot be written is not seen.
            let _ = text.write_str(&figures::seconds(state.elapsed().as_secs()));
        })
        .progress_chars("=> ")
        .tick_chars("|/-\\ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(measure: Measure, position: u64, total: u64) -> Reading {
        Reading { measure, position, total, elapsed: Duration::from_millis(12_300) }
    }

    #[test]
    fn plain_lines() {
        let bytes = reading(Measure::Bytes, 109_000_000, 218_000_000);
        let pages = reading(Measure::Things("pages"), 42, 0);
        let files = reading(Measure::Things("files"), 42, 50);
        let boot = reading(Measure::Nothing, 0, 0);
        insta::assert_snapshot!(
            [bytes, pages, files, boot]
                .iter()
                .flat_map(|reading| [reading.under_way("work"), reading.done("work")])
                .collect::<Vec<_>>()
                .join("\n"),
            @r"
        work: 109 MB of 218 MB
        work (109 MB in 12.3 s, 8.9 MB/s)
        work: 42 pages
        work (42 pages in 12.3 s)
        work: 42 of 50 files
        work (42 files in 12.3 s)
        work: 12.3 s so far
        work (12.3 s)
        "
        );
    }

    #[test]
    fn stages_are_fed_from_threads_and_leave_their_times() {
        let progress = Output::silent().progress();
        let stage = progress.stage("download");
        stage.expect_bytes(4000);
        std::thread::scope(|scope| {
            scope.spawn(|| stage.reach(4000));
        });
        assert_eq!(stage.reading().position, 4000);
        stage.finish();
        drop(progress.stage("build"));
        let stages: Vec<_> = progress.times().into_iter().map(|time| time.stage).collect();
        assert_eq!(stages, ["download"], "a stage that was not finished leaves no time");
    }

    #[test]
    fn every_template_is_sound() {
        let stage = Output::silent().progress().stage("all");
        for total in [0, 7] {
            stage.expect_bytes(total);
            stage.expect_things("pages", total);
        }
        style(TEMPLATE);
        stage.finish();
    }
}
