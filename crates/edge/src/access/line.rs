//! From what was noted of a request to its line. Pure.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use serde_json::Error;
use sovereign_model::access_entry::{AccessEntry, CameFrom};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::privacy;
use super::record::{Part, Record};
use crate::policy::Outcome;

const SECOND: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");

/// The last second that was written: most requests of a busy edge come within the same.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: i64,
    text: String,
}

impl Clock {
    fn time(&mut self, at: SystemTime) -> String {
        let at = OffsetDateTime::from(at);
        if self.text.is_empty() || self.second != at.unix_timestamp() {
            self.second = at.unix_timestamp();
            self.text = at.format(SECOND).unwrap_or_default();
        }
        format!("{}.{:03}Z", self.text, at.millisecond())
    }
}

/// Adds the line of `record` to `lines`.
pub(super) fn push(lines: &mut Vec<u8>, record: &Record, clock: &mut Clock) -> Result<(), Error> {
    let before = lines.len();
    let written = serde_json::to_writer(&mut *lines, &entry(record, clock));
    if written.is_err() {
        lines.truncate(before);
        return written;
    }
    lines.push(b'\n');
    Ok(())
}

fn entry<'a>(record: &'a Record, clock: &mut Clock) -> AccessEntry<'a> {
    let host = privacy::host(record.part(Part::Host));
    AccessEntry {
        time: clock.time(record.at).into(),
        site: record.generation.routes.site_of_host(&host).map(Cow::Borrowed),
        host,
        method: privacy::plain(record.part(Part::Method)),
        target: privacy::target(record.part(Part::Target)).into(),
        version: version(record.version).into(),
        status: record.status.map(|status| status.as_u16()),
        bytes: record.bytes,
        duration_ms: milliseconds(record.took),
        from: match record.outcome {
            Some(Outcome::Hit) => CameFrom::Hit,
            Some(Outcome::Stale) => CameFrom::Stale,
            Some(Outcome::SourceAway) => CameFrom::SourceAway,
            Some(Outcome::Miss) => CameFrom::Miss,
            Some(Outcome::Passed) => CameFrom::Passed,
            None => CameFrom::Edge,
        },
        cut: record.cut,
        reader: privacy::reader(record.reader, record.generation.config.rules.access_log).into(),
        referrer: privacy::referrer(record.part(Part::Referrer)).map(Cow::Owned),
        agent: Some(privacy::plain(record.part(Part::Agent))).filter(|agent| !agent.is_empty()),
    }
}

/// To the microsecond.
fn milliseconds(took: Duration) -> f64 {
    took.as_micros() as f64 / 1000.0
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_milliseconds() {
        let at = SystemTime::UNIX_EPOCH + Duration::new(1_764_065_000, 7_999_999);
        let mut clock = Clock::default();
        let later = at + Duration::from_millis(990);
        assert_eq!(
            [at, later, at].map(|at| clock.time(at)),
            ["2025-11-25T10:03:20.007Z", "2025-11-25T10:03:20.997Z", "2025-11-25T10:03:20.007Z"]
        );
        assert_eq!(clock.time(at + Duration::from_secs(1)), "2025-11-25T10:03:21.007Z");
        assert_eq!(milliseconds(Duration::from_nanos(1_234_567)), 1.234);
    }
}
