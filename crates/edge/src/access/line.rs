//! From what was noted of a request to its line. Pure.

use std::time::{Duration, SystemTime};

use serde_json::Error;
use sovereign_model::access_entry::{AccessEntry, CameFrom};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::privacy;
use super::record::{Part, Record};
use crate::policy::Outcome;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Adds the line of `record` to `lines`.
pub(super) fn push(lines: &mut Vec<u8>, record: &Record) -> Result<(), Error> {
    let before = lines.len();
    let written = serde_json::to_writer(&mut *lines, &entry(record));
    if written.is_err() {
        lines.truncate(before);
        return written;
    }
    lines.push(b'\n');
    Ok(())
}

fn entry(record: &Record) -> AccessEntry {
    let host = privacy::host(record.part(Part::Host));
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    AccessEntry {
        time: time(record.at),
        site: record.generation.routes.site_of_host(&host).cloned(),
        host,
        method: privacy::plain(record.part(Part::Method)),
        target: privacy::target(record.part(Part::Target)),
        version: version(record.version).to_owned(),
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
        reader: privacy::reader(record.reader, record.generation.config.rules.access_log),
        referrer: privacy::referrer(record.part(Part::Referrer)),
        agent: some(privacy::plain(record.part(Part::Agent))),
    }
}

fn time(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(TIME).unwrap_or_default()
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
        assert_eq!(time(at), "2025-11-25T10:03:20.007Z");
        assert_eq!(milliseconds(Duration::from_nanos(1_234_567)), 1.234);
    }
}
