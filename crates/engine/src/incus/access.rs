//! The access log of an edge on a host, read over SSH: the last lines of it, and then what is added.
//!
//! Promises: what comes is bounded; whole lines only, none twice and none left out, whichever moment the edge rotates
//! its log at. Left out: what is in a line.

use std::path::PathBuf;
use std::time::Duration;

use sovereign_hosts::Run;
use sovereign_model::StackName;
use sovereign_model::access_entry::{KEPT, rotated};
use sovereign_model::layout::on_host;

use super::IncusEngineError;
use super::reach::Link;

/// What is read at once at most.
const MOST_BYTES: usize = 4 << 20;

/// To look through all that is kept, on a slow disk.
const PATIENCE: Duration = Duration::from_secs(20);

/// The access log of an edge on a host.
#[derive(Debug, Clone)]
pub struct AccessReader {
    path: PathBuf,
    /// The number of the file that was read last, and up to where.
    at: Option<(u64, u64)>,
}

impl AccessReader {
    /// Of the edge at the end of a link; nothing is read yet.
    pub fn new(link: &Link, stack: &StackName) -> Self {
        Self { path: on_host::state(stack).edge(&link.edge.datacenter).access_log(), at: None }
    }

    /// Whole lines: at first the last `lines` of those that have `with` in them, later all that were added.
    ///
    /// # Errors
    /// When the host does not answer.
    pub async fn read_new(&mut self, link: &Link, lines: usize, with: &str) -> Result<Vec<u8>, IncusEngineError> {
        let (file, at) = match self.at {
            None => (String::new(), lines.to_string()),
            Some((file, at)) => (file.to_string(), at.to_string()),
        };
        let run = Run::script("read its edge's access log", include_str!("access.sh"));
        let run = run.arg(MOST_BYTES.to_string()).args([file.as_str(), &at, with]).arg(&self.path);
        let run = run.args((1..=KEPT).map(|times| rotated(&self.path, times)));
        // The line before, and what is read.
        let run = run.answers_at_most(MOST_BYTES + 64).within(PATIENCE);
        let failed = |source| IncusEngineError::Host { host: link.edge.clone(), source: Box::new(source) };
        Ok(self.take(&link.connection.succeed(&run).await.map_err(failed)?))
    }

    /// Takes what the script says.
    fn take(&mut self, said: &[u8]) -> Vec<u8> {
        let Some((file, place, text)) = parse(said) else { return Vec::new() };
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.at = Some((file, if self.at.is_none() { place } else { place.saturating_add(whole as u64) }));
        text[..whole].to_vec()
    }
}

fn parse(said: &[u8]) -> Option<(u64, u64, &[u8])> {
    let end = said.iter().position(|byte| *byte == b'\n')?;
    let (file, place) = str::from_utf8(&said[..end]).ok()?.split_once(' ')?;
    Some((file.parse().ok()?, place.parse().ok()?, &said[end + 1..]))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::path::Path;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// As [`AccessReader::read_new`] does it, without a host between.
    fn read(reader: &mut AccessReader, lines: usize, with: &str) -> String {
        let (file, at) = match reader.at {
            None => (String::new(), lines.to_string()),
            Some((file, at)) => (file.to_string(), at.to_string()),
        };
        let mut script = Command::new("sh");
        script.args(["-c", include_str!("access.sh"), "sovereign", "1000", &file, &at, with]).arg(&reader.path);
        let ran = script.args((1..=KEPT).map(|times| rotated(&reader.path, times))).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stderr), "");
        String::from_utf8(reader.take(&ran.stdout)).unwrap()
    }

    fn add(path: &Path, text: &str) {
        fs::OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_log_is_read_from_its_end_on_across_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.jsonl");
        let mut reader = AccessReader { path: path.clone(), at: None };
        assert_eq!(read(&mut reader, 9, ""), "", "there is none yet");
        add(&rotated(&path, 2), "1 blog\n2 shop\n");
        add(&rotated(&path, 1), "3 blog\n");
        add(&path, "4 shop\n5 blog\n6 bl");
        assert_eq!(read(&mut reader.clone(), 2, ""), "4 shop\n5 blog\n");
        assert_eq!(read(&mut reader, 3, "blog"), "1 blog\n3 blog\n5 blog\n");
        assert_eq!(read(&mut reader, 9, ""), "", "half a line is waited for");
        add(&path, "og\n");
        fs::rename(&path, rotated(&path, 3)).unwrap();
        assert_eq!(read(&mut reader, 9, ""), "", "the log is not there for a moment");
        add(&path, "7 shop\n");
        assert_eq!(read(&mut reader, 9, ""), "6 blog\n");
        assert_eq!(read(&mut reader, 9, ""), "7 shop\n");
        assert_eq!(read(&mut reader, 9, ""), "");
        fs::write(&path, "8\n").unwrap(); // emptied by somebody
        assert_eq!(read(&mut reader, 9, ""), "8\n");
    }

    #[test]
    fn much_is_read_in_parts_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.jsonl");
        let mut reader = AccessReader { path: path.clone(), at: None };
        add(&path, "first\n");
        assert_eq!(read(&mut reader, 1, ""), "first\n");
        let all: String = (0..500).map(|number| format!("line {number}\n")).collect();
        add(&path, &all);
        let mut parts = String::new();
        while parts.len() < all.len() {
            let part = read(&mut reader, 1, "");
            assert!(!part.is_empty() && part.len() <= 1000);
            parts += &part;
        }
        assert_eq!(parts, all);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_back_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            AccessReader { path: "/log".into(), at: None }.take(&bytes);
        }
    }
}
