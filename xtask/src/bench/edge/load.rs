//! The load generators: `wrk` for HTTP/1.1, `h2load` for HTTP/2.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::case::{Case, What, Wire};
use super::site::SPREAD;
use crate::run::read;

/// Streams of an HTTP/2 connection at once: what a browser has under way of one page.
const STREAMS: u16 = 8;

/// How much longer than it should a generator may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Answered {
    pub(super) requests: u64,
    /// Of these, without the page: another status, or a connection that broke.
    pub(super) failed: u64,
    pub(super) per_second: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

/// Asks for `url` as `case` has it, for `time`.
///
/// # Errors
/// When the generator fails or says what is not understood.
pub(super) fn apply(case: &Case, url: &str, time: Duration, scratch: &Path) -> Result<Answered> {
    if case.wire == Wire::Http2 { h2load(case, url, time, scratch) } else { wrk(case, url, time, scratch) }
}

/// A generator that is ended when it does not end by itself: one that waits for ever would make the whole run wait.
fn bounded(program: &str, time: Duration) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=1").arg((time + PATIENCE).as_secs().to_string()).arg(program);
    command
}

fn threads(connections: u16) -> u16 {
    connections.min(2)
}

fn wrk(case: &Case, url: &str, time: Duration, scratch: &Path) -> Result<Answered> {
    let mut wrk = bounded("wrk", time);
    wrk.arg(format!("-t{}", threads(case.connections))).arg(format!("-c{}", case.connections));
    wrk.arg(format!("-d{}s", time.as_secs())).args(["--latency", "--timeout", "10s"]);
    if case.wire == Wire::NewTls {
        wrk.args(["-H", "Connection: close"]);
    }
    if case.what == What::Spread {
        wrk.arg("-s").arg(scratch.with_file_name(SPREAD));
    }
    let said = read(wrk.arg(url))?;
    read_wrk(&said).with_context(|| format!("wrk says: {said}"))
}

fn read_wrk(said: &str) -> Option<Answered> {
    let line = |begin: &str| said.lines().map(str::trim).find_map(|line| line.strip_prefix(begin)).map(str::trim);
    let requests = said.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())?;
    let refused: u64 = line("Non-2xx or 3xx responses:").map_or(Some(0), |count| count.parse().ok())?;
    let broken = line("Socket errors:").map_or(0, |counts| {
        let counts = counts.split(", ").filter_map(|count| count.split(' ').next_back()?.parse::<u64>().ok());
        counts.sum()
    });
    Some(Answered {
        requests,
        failed: refused + broken,
        per_second: line("Requests/sec:")?.parse().ok()?,
        p50: duration(line("50%")?)?,
        p99: duration(line("99%")?)?,
    })
}

/// A time as `wrk` writes it: `76.00us`, `1.25ms`, `1.01s`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let number: f64 = text[..unit].parse().ok()?;
    let scale = match &text[unit..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Some(Duration::from_secs_f64(number * scale))
}

fn h2load(case: &Case, url: &str, time: Duration, scratch: &Path) -> Result<Answered> {
    let log = scratch.join("requests.log");
    let authority = url.split('/').nth(2).unwrap_or_default();
    let mut h2load = bounded("h2load", time);
    h2load.arg(format!("-t{}", threads(case.connections))).arg(format!("-c{}", case.connections));
    h2load.arg(format!("-m{STREAMS}")).arg(format!("-D{}", time.as_secs())).arg("--npn-list=h2");
    h2load.arg(format!("--connect-to={}", authority.replace("localhost", "127.0.0.1")));
    h2load.arg(format!("--log-file={}", log.display())).arg(url);
    let said = read(&mut h2load)?;
    if !said.contains("Application protocol: h2") {
        bail!("this is not HTTP/2: {said}");
    }
    let times = fs::read_to_string(&log)?;
    fs::remove_file(&log)?;
    let mut times: Vec<u64> = times.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect();
    times.sort_unstable();
    read_h2load(&said, &times).with_context(|| format!("h2load says: {said}"))
}

/// The counts that `h2load` prints, and the sorted times of all requests in microseconds.
fn read_h2load(said: &str, times: &[u64]) -> Option<Answered> {
    let counts = said.lines().find_map(|line| line.strip_prefix("requests: "))?;
    let count = |what: &str| -> Option<u64> {
        counts.split(", ").find_map(|count| count.strip_suffix(what))?.trim().parse().ok()
    };
    let finished = said.lines().find_map(|line| line.strip_prefix("finished in "))?;
    let per_second = finished.split(", ").find_map(|part| part.strip_suffix(" req/s"))?.parse().ok()?;
    let at = |part: usize| times.get((times.len() * part / 100).min(times.len().checked_sub(1)?)).copied();
    let statuses = said.lines().find_map(|line| line.strip_prefix("status codes: "))?;
    let good: u64 = statuses.split(' ').next()?.parse().ok()?;
    // The last ones are cut off when the time is over: no fault of the server's.
    let done = count(" done")?;
    Some(Answered {
        requests: done,
        failed: done.saturating_sub(good),
        per_second,
        p50: Duration::from_micros(at(50)?),
        p99: Duration::from_micros(at(99)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says() {
        let said = "Running 2s test @ https://localhost:1/page.html\n  2 threads and 64 connections\n  \
            Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency   488.00us    1.02ms  20.01ms   99.50%\n    \
            Req/Sec    30.11k     3.50k   38.00k    50.00%\n  Latency Distribution\n     50%  439.00us\n     \
            75%  700.00us\n     90%    1.20ms\n     99%    2.56ms\n  120000 requests in 2.01s, 2.30GB read\n  \
            Socket errors: connect 0, read 3, write 0, timeout 1\n  Non-2xx or 3xx responses: 20\n\
            Requests/sec:  59701.49\nTransfer/sec:      1.14GB\n";
        let expected = Answered {
            requests: 120_000,
            failed: 24,
            per_second: 59_701.49,
            p50: Duration::from_micros(439),
            p99: Duration::from_micros(2560),
        };
        assert_eq!(read_wrk(said), Some(expected));
        assert_eq!(read_wrk("unable to connect to localhost:1 Connection refused"), None);
    }

    #[test]
    fn what_h2load_says() {
        let said = "finished in 2.00s, 40532.00 req/s, 790.00MB/s\n\
            requests: 81064 total, 81576 started, 81064 done, 81063 succeeded, 1 failed, 0 errored, 0 timeout\n\
            status codes: 81063 2xx, 0 3xx, 1 4xx, 0 5xx\n";
        let expected = Answered {
            requests: 81_064,
            failed: 1,
            per_second: 40_532.0,
            p50: Duration::from_micros(51),
            p99: Duration::from_micros(100),
        };
        let times: Vec<u64> = (1..=100).collect();
        assert_eq!(read_h2load(said, &times), Some(expected));
        assert_eq!(read_h2load(said, &[]), None);
    }
}
