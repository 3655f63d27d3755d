//! What a Ghost tried to reach and was refused: the guard's log, read and told.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// More than the guard ever writes: 200 lines of a name of 253 bytes and some words.
pub const LARGEST_LOG: u32 = 128 << 10;

/// One target that Ghost tried to reach since it was started. Each is noted once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// When it was first tried, RFC 3339.
    pub at: String,
    /// `lookup`, `connect` or `datagram`.
    pub kind: String,
    /// A name, or an address and port.
    pub target: String,
}

/// What the Ghost in `folder` was refused since it was started.
///
/// The log is written by Ghost's own user, so a line that is not one of the guard's is left out, and characters that
/// could play tricks on a terminal are replaced.
///
/// # Errors
/// When the log is there and cannot be read.
pub fn outgoing(folder: &Path) -> io::Result<Vec<Refused>> {
    let path = folder.join("run/outgoing.log");
    let text = match sovereign_runtime::file::read_foreign(&path, LARGEST_LOG.into()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    Ok(refused_in(&text))
}

/// What the guard's log says, judged line by line: whatever is not a line of the guard's is left out.
pub fn refused_in(log: &[u8]) -> Vec<Refused> {
    let mut refused = log
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Refused>(line).ok())
        .map(|Refused { at, kind, target }| Refused { at: plain(&at), kind: plain(&kind), target: plain(&target) })
        .collect::<Vec<_>>();
    // Worker threads keep notes of their own.
    refused.sort_by(|a, b| (&a.kind, &a.target, &a.at).cmp(&(&b.kind, &b.target, &b.at)));
    refused.dedup_by(|later, first| (&later.kind, &later.target) == (&first.kind, &first.target));
    refused
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The same in one sentence.
pub fn outgoing_text(refused: &[Refused]) -> String {
    if refused.is_empty() {
        return "tried to reach nobody outside".to_owned();
    }
    let targets = refused.iter().map(|refused| refused.target.as_str()).collect::<Vec<_>>().join(", ");
    format!("tried to reach {targets}; refused, nothing went out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_with_care() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(outgoing(folder.path()).unwrap(), []);
        std::fs::create_dir(folder.path().join("run")).unwrap();
        let log = concat!(
            "{\"at\":\"2026-01-01T00:00:01Z\",\"kind\":\"lookup\",\"target\":\"b.example\"}\n",
            "{\"at\":\"2026-01-01T00:00:00Z\",\"kind\":\"connect\",\"target\":\"192.0.2.1:443\"}\n",
            "{\"at\":\"2026-01-01T00:00:02Z\",\"kind\":\"lookup\",\"target\":\"b.example\"}\n",
            "not json\n{\"kind\":7}\n",
            "{\"at\":\"\",\"kind\":\"lookup\",\"target\":\"x\\u001b[2J\"}\n{\"at\":\"cut o",
        );
        std::fs::write(folder.path().join("run/outgoing.log"), log).unwrap();
        let refused = outgoing(folder.path()).unwrap();
        assert_eq!(
            outgoing_text(&refused),
            "tried to reach 192.0.2.1:443, b.example, x?[2J; refused, nothing went out"
        );
        assert_eq!(outgoing_text(&[]), "tried to reach nobody outside");
    }
}
