//! The operator's door of a Ghost that runs in an instance.
//!
//! ```text
//!  here                     Incus          instance
//!  request ───────────────── put ────────► /run/operator/… ─┐ removed
//!                            run ────────► door.cjs ◄───────┘ ──► run/operator.sock
//!  answer ◄─────────── read, removed ───── /run/operator/… ◄┘
//! ```
//!
//! Promises: requests and answers, which hold passwords and keys, lie in the instance's memory only, for its root only,
//! and not in what the Incus records of programs; what comes back is bounded, and judged as a stranger's. Left out:
//! trying again.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use sovereign_incus::exec::Command;
use sovereign_incus::file::{Content, Owned};
use sovereign_incus::{Client, IncusError, InstanceName, Patience};
use sovereign_services::ghost::{Answered, Door, DoorError, Posting, door_command};

/// Only root of the instance enters it (`roles/site/operator.conf`).
const FOLDER: &str = "/run/operator";

/// The script's own limit, and a line.
const LARGEST_ANSWER: usize = (16 << 20) + 16;

/// The script gives Ghost 60 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// How much of what the script complains about is read.
const LARGEST_COMPLAINT: usize = 4 << 10;

const SEE: &str = "see whether Ghost runs: `sovereign status`, `sovereign logs`";

/// The door of the Ghost in one instance.
#[derive(Clone)]
pub struct IncusDoor {
    client: Client,
    instance: InstanceName,
}

impl IncusDoor {
    /// Of the Ghost in `instance`, of the project that `client` is for; nothing is opened yet.
    pub fn new(client: Client, instance: InstanceName) -> Self {
        let Patience { answer, .. } = client.patience();
        Self { client: client.with_patience(Patience { answer, operation: PATIENCE }), instance }
    }

    async fn carry(&self, path: &str, body: Vec<u8>) -> Result<Answered, CarryError> {
        let Files { request, answer } = Files::unused();
        let carried = self.carry_by(path, body, &request, &answer).await;
        if carried.is_err() {
            // Whichever was left; that there is none is as good.
            for file in [&request, &answer] {
                let _ = self.client.remove_file(&self.instance, file).await;
            }
        }
        carried
    }

    async fn carry_by(&self, path: &str, body: Vec<u8>, request: &Path, answer: &Path) -> Result<Answered, CarryError> {
        let Self { client, instance } = self;
        client.push_file(instance, request, &Content::Bytes(body), Owned::by_root(0o600)).await?;
        let mut command = Command::new(door_command(path, request, answer));
        command.most_output = LARGEST_COMPLAINT;
        let ran = client.exec(instance, &command).await?;
        if ran.code != 0 {
            return Err(CarryError::Script { code: ran.code, said: plain(&ran.stderr) });
        }
        let pulled = client.pull_file(instance, answer, LARGEST_ANSWER).await?;
        client.remove_file(instance, answer).await?;
        parse(pulled.content).ok_or(CarryError::Unintelligible)
    }
}

impl fmt::Debug for IncusDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IncusDoor({})", self.instance)
    }
}

impl Door for IncusDoor {
    fn post<'a>(&'a self, path: &'a str, body: Vec<u8>) -> Posting<'a> {
        Box::pin(async move {
            self.carry(path, body).await.map_err(|error| {
                let help = error.help();
                DoorError::new(error, help)
            })
        })
    }
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
enum CarryError {
    #[error("the way through its instance is not open")]
    Incus(#[from] IncusError),
    #[error("its door does not answer: {said} (exit code {code})")]
    Script { code: i64, said: String },
    #[error("what its door answered is no answer")]
    Unintelligible,
}

impl CarryError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Incus(error) => Some(error.help().unwrap_or_else(|| SEE.to_owned())),
            Self::Script { .. } => Some(SEE.to_owned()),
            Self::Unintelligible => Some("`sovereign up` replaces an instance whose files were changed".to_owned()),
        }
    }
}

/// A request's files: of no other that is under way, whoever asks.
struct Files {
    request: PathBuf,
    answer: PathBuf,
}

impl Files {
    fn unused() -> Self {
        let number = RandomState::new().build_hasher().finish(); // random, for each
        let file = |end: &str| Path::new(FOLDER).join(format!("{number:016x}.{end}"));
        Self { request: file("request"), answer: file("answer") }
    }
}

/// An answer as `door.cjs` writes it: the status in a line, then the body.
fn parse(mut text: Vec<u8>) -> Option<Answered> {
    let end = text.iter().take(4).position(|byte| *byte == b'\n')?;
    let body = text.split_off(end + 1);
    let status = http::StatusCode::from_bytes(&text[..end]).ok()?;
    Some(Answered { status, body: Bytes::from(body) })
}

/// What a stranger said, fit for a terminal.
fn plain(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    said.trim().chars().take(300).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_is_a_line_and_a_body() {
        let answered = parse(b"422\n{\"error\":{}}\n".to_vec()).unwrap();
        assert_eq!((answered.status.as_u16(), &answered.body[..]), (422, &b"{\"error\":{}}\n"[..]));
        for strange in ["", "200", "\n{}", "20\n{}", "2000\n", "abc\n{}", "099\n", " 20\n"] {
            assert_eq!(parse(strange.as_bytes().to_vec()), None, "{strange:?}");
        }
    }

    #[test]
    fn a_complaint_plays_no_tricks_on_a_terminal() {
        assert_eq!(plain(b" connect ENOENT\x1b[2J\nmore "), "connect ENOENT?[2J?more");
        assert_eq!(plain(&[b'x'; 5000]).len(), 300);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_back_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            parse(bytes.clone());
            plain(&bytes);
        }
    }
}
