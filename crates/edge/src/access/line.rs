//! From what was noted of a request to its line. Pure.
//!
//! Written by hand rather than by serde: an edge writes a line for every request, and this takes half as long. That it is
//! an [`AccessEntry`](sovereign_model::access_entry::AccessEntry) is tested.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use sovereign_model::access_entry::CameFrom;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::privacy;
use super::record::{Sent, Story};
use crate::generation::Generation;
use crate::policy::Outcome;

const SECOND: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");

/// The length of a moment.
const MOMENT: usize = "2025-11-25T10:03:20.007Z".len();

/// A request that is to be written down.
pub(super) struct Noted<'a> {
    /// The generation it began with: its names, and what is written of readers.
    pub(super) generation: &'a Generation,
    pub(super) reader: IpAddr,
    pub(super) sent: Sent<'a>,
    pub(super) story: Story,
}

/// The last second that was written: most requests of a busy edge come within the same.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    /// Adds the moment `at` to `line`, to the millisecond.
    fn push(&mut self, line: &mut Vec<u8>, at: SystemTime) {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.text.is_empty() || self.second != since.as_secs() {
            self.second = since.as_secs();
            self.text = OffsetDateTime::from(at).format(SECOND).unwrap_or_default();
        }
        line.extend_from_slice(self.text.as_bytes());
        push_thousandths(line, since.subsec_millis());
        line.push(b'Z');
    }
}

/// What a line begins with, before the moment.
const BEGINNING: &[u8] = b"{\"time\":\"";

/// Adds the lines of all `lanes` to `lines`, by the moment that each begins with.
pub(super) fn merge(lanes: &[Vec<u8>], lines: &mut Vec<u8>) {
    let mut rests: Vec<&[u8]> = lanes.iter().map(Vec::as_slice).filter(|lane| !lane.is_empty()).collect();
    while rests.len() > 1
        && let Some(next) = (0..rests.len()).min_by_key(|lane| moment(rests[*lane]))
    {
        let rest = rests[next];
        let (line, after) = rest.split_at(memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1));
        lines.extend_from_slice(line);
        if after.is_empty() {
            rests.swap_remove(next);
        } else {
            rests[next] = after;
        }
    }
    rests.into_iter().for_each(|rest| lines.extend_from_slice(rest));
}

fn moment(line: &[u8]) -> &[u8] {
    line.get(BEGINNING.len()..BEGINNING.len() + MOMENT).unwrap_or_default()
}

/// Adds the line of a request to `lines`.
pub(super) fn push(lines: &mut Vec<u8>, clock: &mut Clock, request: &Noted<'_>) {
    let Noted { generation, reader, sent, story } = request;
    let host = privacy::host(sent.host);
    lines.extend_from_slice(BEGINNING);
    clock.push(lines, story.began.wall);
    lines.push(b'"');
    if let Some(site) = generation.routes.site_of_host(&host) {
        push_text(lines, "site", site.as_str());
    }
    push_text(lines, "host", &host);
    push_text(lines, "method", &privacy::plain(sent.method));
    push_text(lines, "target", &privacy::target(sent.target));
    push_text(lines, "version", version(story.version));
    push_name(lines, "status");
    match story.status {
        Some(status) => lines.extend_from_slice(status.as_str().as_bytes()),
        None => lines.extend_from_slice(b"null"),
    }
    push_name(lines, "bytes");
    push_number(lines, story.bytes);
    push_name(lines, "duration-ms");
    push_milliseconds(lines, story.took);
    push_text(lines, "from", came_from(story.outcome).as_str());
    if let Some(cut) = story.cut {
        push_text(lines, "cut", cut.as_str());
    }
    push_name(lines, "reader");
    lines.push(b'"');
    privacy::push_reader(lines, *reader, generation.config.rules.access_log);
    lines.push(b'"');
    if let Some(referrer) = privacy::referrer(sent.referrer) {
        push_text(lines, "referrer", &referrer);
    }
    let agent = privacy::plain(sent.agent);
    if !agent.is_empty() {
        push_text(lines, "agent", &agent);
    }
    lines.extend_from_slice(b"}\n");
}

fn push_name(line: &mut Vec<u8>, name: &str) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
}

/// Adds a text, which is visible ASCII and spaces: nothing else gets through [`privacy`].
fn push_text(line: &mut Vec<u8>, name: &str, text: &str) {
    push_name(line, name);
    line.push(b'"');
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\');
    if text.as_bytes().iter().any(is_special) {
        for byte in text.bytes() {
            if is_special(&byte) {
                line.push(b'\\');
            }
            line.push(byte);
        }
    } else {
        line.extend_from_slice(text.as_bytes());
    }
    line.push(b'"');
}

fn push_number(line: &mut Vec<u8>, number: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// To the microsecond.
fn push_milliseconds(line: &mut Vec<u8>, took: Duration) {
    let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    push_number(line, microseconds / 1000);
    push_thousandths(line, (microseconds % 1000) as u32);
}

fn push_thousandths(line: &mut Vec<u8>, thousandths: u32) {
    let digit = |divisor: u32| b'0' + (thousandths / divisor % 10) as u8;
    line.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
}

fn came_from(outcome: Option<Outcome>) -> CameFrom {
    match outcome {
        Some(Outcome::Hit) => CameFrom::Hit,
        Some(Outcome::Stale) => CameFrom::Stale,
        Some(Outcome::SourceAway) => CameFrom::SourceAway,
        Some(Outcome::Miss) => CameFrom::Miss,
        Some(Outcome::Passed) => CameFrom::Passed,
        None => CameFrom::Edge,
    }
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
        let mut written = |at| {
            let mut line = Vec::new();
            clock.push(&mut line, at);
            String::from_utf8(line).unwrap()
        };
        let later = at + Duration::from_millis(990);
        assert_eq!(
            [at, later, at].map(&mut written),
            ["2025-11-25T10:03:20.007Z", "2025-11-25T10:03:20.997Z", "2025-11-25T10:03:20.007Z"]
        );
        assert_eq!(written(at + Duration::from_secs(1)), "2025-11-25T10:03:21.007Z");
    }

    #[test]
    fn lines_of_several_threads_are_put_in_order() {
        let line = |ms: u32| format!("{{\"time\":\"2025-11-25T10:03:20.{ms:03}Z\",\"site\":{ms}}}\n");
        let lane = |all: &[u32]| all.iter().flat_map(|ms| line(*ms).into_bytes()).collect::<Vec<u8>>();
        let mut lines = Vec::new();
        // A line that came late in its lane keeps none of the others back.
        merge(&[lane(&[1, 5, 9]), Vec::new(), lane(&[2, 7, 3]), lane(&[4])], &mut lines);
        assert_eq!(String::from_utf8(lines).unwrap(), [1, 2, 4, 5, 7, 3, 9].map(line).concat());
    }

    #[test]
    fn durations_are_written_in_milliseconds() {
        let written = |took| {
            let mut line = Vec::new();
            push_milliseconds(&mut line, took);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(written(Duration::from_nanos(1_234_567)), "1.234");
        assert_eq!(written(Duration::from_secs(60)), "60000.000");
        assert_eq!(written(Duration::ZERO), "0.000");
    }
}
