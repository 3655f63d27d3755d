//! A line of an edge's access log: one request of a reader, as one JSON object.
//!
//! An edge writes them, the command line and an operator's own tools read them. A reader ignores fields it does not
//! know. What is left out for the readers' sake is left out before a line is made: see the edge's `access`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::name::SiteName;

/// How long a file of the log gets: some 60,000 requests, and quick to search.
pub const MOST_BYTES: u64 = 20 << 20;
/// How many older files are kept beside it: 100 MB together, which a small machine can spare and no flood exceeds.
pub const KEPT: u32 = 4;

/// The file of the log at `path` that was rotated away so many times; 0 is the one written to.
pub fn rotated(path: &Path, times: u32) -> PathBuf {
    if times == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{times}"));
    name.into()
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AccessEntry {
    /// When it came: RFC 3339, UTC, milliseconds.
    pub time: String,
    /// The site it was for, by its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteName>,
    /// The host that was asked.
    pub host: String,
    /// Its method.
    pub method: String,
    /// What it was for, without what may be a secret.
    pub target: String,
    /// `HTTP/1.1`, `HTTP/2`.
    pub version: String,
    /// The answer's status; `None` when the reader left before there was one.
    pub status: Option<u16>,
    /// Bytes of the answer's body that were handed to the connection.
    pub bytes: u64,
    /// From the request's head to the last of these bytes, in milliseconds.
    pub duration_ms: f64,
    /// Where the answer came from.
    pub from: CameFrom,
    /// Who ended the answer before its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// The reader's address, or the network it is in.
    pub reader: String,
    /// The origin of the page that led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrer: Option<String>,
    /// What the reader's program calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// Where an answer came from: the words of the metric `sovereign_edge_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CameFrom {
    /// The store, fresh.
    Hit,
    /// The store, stale.
    Stale,
    /// The store, because the source is away.
    SourceAway,
    /// The source, asked for a page of the store.
    Miss,
    /// The source: this reader's own.
    Passed,
    /// The edge itself.
    Edge,
}

impl CameFrom {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::SourceAway => "source-away",
            Self::Miss => "miss",
            Self::Passed => "passed",
            Self::Edge => "edge",
        }
    }
}

/// Who ended an answer before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// The reader left.
    Reader,
    /// The source broke off, or the reader took nothing for too long.
    Edge,
}

impl Cut {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Edge => "edge",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_same_everywhere() {
        for from in
            [CameFrom::Hit, CameFrom::Stale, CameFrom::SourceAway, CameFrom::Miss, CameFrom::Passed, CameFrom::Edge]
        {
            assert_eq!(serde_json::to_value(from).unwrap(), from.as_str());
        }
        for cut in [Cut::Reader, Cut::Edge] {
            assert_eq!(serde_json::to_value(cut).unwrap(), cut.as_str());
        }
    }

    #[test]
    fn a_rotated_file_lies_beside_the_log() {
        let path = Path::new("/log/access.jsonl");
        assert_eq!(rotated(path, 0), path);
        assert_eq!(rotated(path, 2), Path::new("/log/access.jsonl.2"));
    }
}
