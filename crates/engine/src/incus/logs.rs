//! What units on a host have written: read from systemd's journals, the host's for units of its own, an instance's for applications.
//!
//! Promises: what comes is bounded, in lines and in bytes, and the newest of it; what is read next begins where this
//! ended, also when the host was started again meanwhile. When another instance has taken the place of one, that one's
//! log is read from then on.
//!
//! Left out: making lines harmless for a terminal (whoever shows them), what an instance wrote that was removed.

use sovereign_hosts::systemd::Names;
use sovereign_hosts::{Run, SshError};
use sovereign_incus::exec::Command;
use sovereign_incus::instance::Status;
use sovereign_incus::{IncusError, InstanceName};
use sovereign_model::{StackName, UnitName};

use super::IncusEngineError;
use super::reach::Link;

/// What is read at once at most. A line of the journal has 48 KiB at most.
const MOST_BYTES: usize = 4 << 20;

const SCRIPT: &str = include_str!("logs.sh");

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// A service of the host's own: an edge.
    Host,
    /// A service in the unit's instance.
    Service(&'static str),
}

/// The log of a unit, which is read from its end on.
#[derive(Debug, Clone)]
pub struct LogReader {
    unit: UnitName,
    writer: Writer,
    /// Where it was read last.
    instance: Option<InstanceName>,
    /// Up to where.
    cursor: Option<String>,
}

/// A log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The host.
    #[error(transparent)]
    Host(#[from] SshError),
    /// The instance, or the way to it.
    #[error(transparent)]
    Incus(#[from] IncusError),
    /// The instance does not run, and its journal is read within it: as a stranger's, and not by the host.
    #[error("its instance does not run")]
    Stopped,
    /// systemd's journal.
    #[error("journalctl says: {said} (exit code {code})")]
    Journal {
        /// Its exit code.
        code: i64,
        /// Its own words.
        said: String,
    },
    /// What came back is no journal.
    #[error("what came back is no log")]
    Unintelligible,
}

impl LogError {
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::Host(error) => error.help(),
            Self::Incus(error) => error.help(),
            Self::Stopped => Some("`sovereign up` starts it; then its log says what was before".to_owned()),
            Self::Journal { .. } => None,
            Self::Unintelligible => Some("see that `sh`, `journalctl` and `tail` there are Debian's own".to_owned()),
        }
    }
}

impl LogReader {
    /// Of a unit, which is written by `writer`; nothing is read yet.
    pub fn new(unit: UnitName, writer: Writer) -> Self {
        Self { unit, writer, instance: None, cursor: None }
    }

    /// Whose log it is.
    pub fn unit(&self) -> &UnitName {
        &self.unit
    }

    /// The last lines that were written since this was called before, `lines` at most.
    ///
    /// # Errors
    /// When the host or the instance does not answer, or its journal cannot be read. What was to be read will be the
    /// next time.
    pub async fn read_new(
        &mut self,
        link: &Link,
        stack: &StackName,
        lines: usize,
    ) -> Result<Vec<String>, IncusEngineError> {
        let instance = match self.writer {
            Writer::Host => None,
            Writer::Service(_) => Some(link.instance(stack, &self.unit).await?),
        };
        let name = instance.as_ref().map(|(_, name)| name.clone());
        if name != self.instance {
            self.cursor = None;
        }
        let failed = |source| IncusEngineError::Log {
            unit: self.unit.clone(),
            host: link.edge.clone(),
            source: Box::new(source),
        };
        // Without a line there would be no place to go on from.
        let (count, after) = (lines.max(1).to_string(), self.cursor.as_deref().unwrap_or_default());
        let most = MOST_BYTES.to_string();
        let (said, complaint) = match (&instance, self.writer) {
            (Some((client, name)), Writer::Service(service)) => {
                let line = ["sh", "-c", SCRIPT, "sovereign", service, &count, after, &most];
                let command = Command { most_output: MOST_BYTES, ..Command::new(line) };
                match client.exec(name, &command).await {
                    Ok(ran) => (ran.stdout, ran.stderr),
                    Err(error) => {
                        let state = client.instance_state(name).await;
                        let is_stopped = state.is_ok_and(|state| state.status == Status::Stopped);
                        return Err(failed(if is_stopped { LogError::Stopped } else { error.into() }));
                    }
                }
            }
            _ => {
                let units = format!("{}.*.service", Names::base(stack, &self.unit));
                let run = Run::script("read its edge's log", SCRIPT).arg(units).args([&count, after, &most]);
                let run = run.answers_at_most(MOST_BYTES);
                let ended = link.connection.run(&run).await.map_err(|error| failed(error.into()))?;
                (ended.stdout, ended.stderr)
            }
        };
        let read = Read::parse(&said, &complaint).map_err(failed)?;
        self.instance = name;
        self.cursor = read.cursor.or(self.cursor.take());
        let surplus = read.lines.len().saturating_sub(lines);
        Ok(read.lines.into_iter().skip(surplus).collect())
    }
}

/// What the script says.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    lines: Vec<String>,
    /// Where the last line is; `None` when there was none.
    cursor: Option<String>,
}

impl Read {
    fn parse(said: &[u8], complaint: &[u8]) -> Result<Self, LogError> {
        let is_cut = said.len() >= MOST_BYTES;
        let text = String::from_utf8_lossy(said);
        let mut lines: Vec<&str> = text.lines().skip(usize::from(is_cut)).collect();
        let code = lines.pop().and_then(|line| line.strip_prefix("-- ended: ")?.parse().ok());
        let code: i64 = code.ok_or(LogError::Unintelligible)?;
        if code != 0 {
            let said = super::instances::bounded(complaint, 2);
            // There is no unit of that name yet, or nothing that it wrote is kept any longer.
            if said.contains("No data available") {
                return Ok(Self { lines: Vec::new(), cursor: None });
            }
            return Err(LogError::Journal { code, said });
        }
        let cursor = lines.last().and_then(|line| line.strip_prefix("-- cursor: ")).map(str::to_owned);
        if cursor.is_some() {
            lines.pop();
        }
        Ok(Self { lines: lines.into_iter().map(str::to_owned).collect(), cursor })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn read(said: &str) -> (Vec<String>, Option<String>) {
        let read = Read::parse(said.as_bytes(), b"").unwrap();
        (read.lines, read.cursor)
    }

    #[test]
    fn lines_are_read_and_where_they_end() {
        let (lines, cursor) = read("one\n\n-- cursor: forged\ntwo\n-- cursor: s=1;i=2\n-- ended: 0\n");
        assert_eq!(lines, ["one", "", "-- cursor: forged", "two"]);
        assert_eq!(cursor.as_deref(), Some("s=1;i=2"));
        assert_eq!(read("-- ended: 0\n"), (Vec::new(), None));
    }

    #[test]
    fn nothing_written_yet_is_no_failure_and_all_else_is_one() {
        let none = b"Failed to add filter for units: No data available\n";
        assert_eq!(Read::parse(b"-- ended: 1\n", none).unwrap(), Read { lines: Vec::new(), cursor: None });
        let failed = Read::parse(b"-- ended: 1\n", b"Failed to seek to cursor: \x1b[2J\n").unwrap_err();
        assert_eq!(failed.to_string(), "journalctl says: Failed to seek to cursor: [2J (exit code 1)");
        for strange in ["", "one\n", "-- ended: x\n", "-- ended: 0\nmore\n"] {
            assert!(matches!(Read::parse(strange.as_bytes(), b""), Err(LogError::Unintelligible)), "{strange:?}");
        }
    }

    #[test]
    fn half_a_line_at_the_beginning_of_too_much_is_left_out() {
        let end = "\nwhole\n-- cursor: c\n-- ended: 0\n";
        let said = format!("{}{end}", "x".repeat(MOST_BYTES - end.len()));
        assert_eq!(read(&said), (vec!["whole".to_owned()], Some("c".to_owned())));
    }

    /// What the script makes of a journalctl that does this: what is read, and how journalctl was called.
    fn script(journalctl: &str, after: &str, most: usize) -> (Read, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journalctl");
        let called = folder.path().join("called");
        let text = format!("#!/bin/sh\necho \"$*\" > {}\n{journalctl}\n", called.display());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let search = format!("{}:/usr/bin:/bin", folder.path().display());
        let mut sh = std::process::Command::new("/bin/sh");
        let arguments = ["-c", SCRIPT, "sovereign", "sovereign-demo.edge.*.service", "9", after, &most.to_string()];
        let ran = sh.args(arguments).env("PATH", search).output().unwrap();
        (Read::parse(&ran.stdout, &ran.stderr).unwrap(), std::fs::read_to_string(called).unwrap())
    }

    #[test]
    fn the_script_asks_for_what_is_new_and_gives_the_end_of_it() {
        let say = "printf 'one\\ntwo\\n-- cursor: s=1;i=2\\n'";
        let (read, called) = script(say, "", 1000);
        assert_eq!((read.lines.len(), read.cursor.as_deref()), (2, Some("s=1;i=2")));
        let asked = "--no-pager --quiet --output=cat --show-cursor --unit=sovereign-demo.edge.*.service --lines=9";
        assert_eq!(called.trim_end(), asked);
        let (_, called) = script(say, "s=1;i=1 $(x)", 1000);
        assert_eq!(called.trim_end(), format!("{asked} --after-cursor=s=1;i=1 $(x)"), "a place is one word");
        let (read, _) = script(say, "", "two\n-- cursor: s=1;i=2\n-- ended: 0\n".len());
        assert_eq!(read.lines, ["two"]);
        let (read, _) = script("echo 'Failed to add filter for units: No data available' >&2; exit 1", "", 1000);
        assert_eq!(read, Read { lines: Vec::new(), cursor: None });
    }

    proptest! {
        #[test]
        fn nothing_that_comes_back_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Read::parse(&bytes, &bytes);
        }
    }
}
