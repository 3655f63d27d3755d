//! What duplicity says for machines (`--log-fd`), among what it says for people.
//!
//! ```text
//!  ERROR 21                                              a level, a code, words
//!  . Invalid data - SHA1 hash mismatch for file:         what it says for people, each line behind a dot
//!  .  duplicity-full.20261125T180320Z.vol2.difftar.gpg
//!                                                        and an empty line
//! ```
//!
//! Promise: any bytes are taken, and a bounded part of them is kept.

/// Bytes of a line that are kept.
const LONGEST_LINE: usize = 4096;
/// Lines of an error that are kept, and of all warnings.
const MOST_LINES: usize = 100;
/// Sets of an archive that are kept; a backup each hour makes so many in ten years.
const MOST_SETS: usize = 100_000;
/// The code of an account of the archive.
const COLLECTION_STATUS: u32 = 3;

/// An error, in duplicity's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) code: u32,
    pub(super) lines: Vec<String>,
}

/// A set that the archive has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) full: bool,
    pub(super) encrypted: bool,
}

/// What was said so far, as far as it is of use.
#[derive(Debug, Default)]
pub(super) struct Log {
    line: Vec<u8>,
    record: Option<Record>,
    /// The first error; complete once [`Log::has_failed`].
    pub(super) error: Option<Complaint>,
    complete: bool,
    /// The file that was being looked at last.
    pub(super) file: Option<String>,
    /// The sets there are.
    pub(super) sets: Vec<Listed>,
    /// What it thinks it should say.
    pub(super) warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    Error,
    Status,
    Warning,
    Other,
}

impl Log {
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    self.take(&String::from_utf8_lossy(&line));
                }
                byte if self.line.len() < LONGEST_LINE => self.line.push(*byte),
                _ => {}
            }
        }
    }

    /// Whether there was an error, and all of it was heard.
    pub(super) fn has_failed(&self) -> bool {
        self.complete
    }

    fn take(&mut self, line: &str) {
        match self.record {
            None => self.record = self.begin(line),
            Some(record) if line.is_empty() => {
                self.complete |= record == Record::Error;
                self.record = None;
            }
            Some(Record::Error) if !self.complete => {
                let lines = self.error.as_mut().map(|error| &mut error.lines);
                if let Some(lines) = lines.filter(|lines| lines.len() < MOST_LINES) {
                    lines.push(line.strip_prefix(". ").unwrap_or(line).trim_end().to_owned());
                }
            }
            Some(Record::Status) => {
                let words: Vec<&str> = line.split_whitespace().collect();
                if let ([kind @ ("full" | "inc"), _, _, how], true) = (&words[..], self.sets.len() < MOST_SETS) {
                    self.sets.push(Listed { full: *kind == "full", encrypted: *how == "enc" });
                }
            }
            Some(Record::Warning) if self.warnings.len() < MOST_LINES => {
                self.warnings.extend(line.strip_prefix(". ").map(str::to_owned));
            }
            Some(Record::Error | Record::Warning | Record::Other) => {
                let file = line.strip_prefix(". Copying ").and_then(|rest| rest.strip_suffix(" to local cache."));
                self.file = file.map(str::to_owned).or(self.file.take());
            }
        }
    }

    fn begin(&mut self, line: &str) -> Option<Record> {
        let mut words = line.split(' ');
        let (level, code) = (words.next()?, words.next()?.parse().ok()?);
        match level {
            "ERROR" => {
                self.error.get_or_insert_with(|| Complaint { code, lines: Vec::new() });
                Some(Record::Error)
            }
            "INFO" if code == COLLECTION_STATUS => Some(Record::Status),
            "WARNING" => Some(Record::Warning),
            "NOTICE" | "INFO" | "DEBUG" => Some(Record::Other),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_for_machines_is_found_among_the_rest() {
        let mut log = Log::default();
        log.hear(b"Copying a.manifest.gpg to local cache.\nNOTICE 1\n. Copying a.manifest.gpg to local cache.\n\nERR");
        assert!(!log.has_failed());
        assert_eq!(log.file.as_deref(), Some("a.manifest.gpg"));
        log.hear(b"OR 21\n. Invalid data - SHA1 hash mismatch for file:\n.  vol2\n. \n");
        assert!(!log.has_failed(), "it goes on");
        log.hear(b"\nERROR 30 KeyError\n. later\n\n");
        assert!(log.has_failed());
        let first = vec!["Invalid data - SHA1 hash mismatch for file:".to_owned(), " vol2".to_owned(), String::new()];
        assert_eq!(log.error, Some(Complaint { code: 21, lines: first }));
    }

    #[test]
    fn an_account_of_the_archive_says_what_is_encrypted() {
        let mut log = Log::default();
        log.hear(b"INFO 3 \nbackend B\nchain-complete\n full 20261125T180320Z 4 enc\n inc 20261125T180322Z 1 noenc\n");
        log.hear(b"orphaned-sets-num 0\n. Found\n.  full 1 2 enc\n\n full 20261125T180320Z 4 enc\n");
        log.hear(b"WARNING 11 x\n. Using the oldest.\n\n");
        assert_eq!(log.warnings, ["Using the oldest."]);
        let [full, inc] = &log.sets[..] else { panic!("{log:?}") };
        assert!(full.full && full.encrypted && !inc.full && !inc.encrypted);
    }

    proptest! {
        #[test]
        fn any_bytes_are_heard(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "(ERROR 2|INFO 3|\\. x|\n){0,40}") {
            let mut log = Log::default();
            log.hear(&bytes);
            log.hear(text.as_bytes());
        }
    }
}
