//! That a host is evacuated on purpose: what lies on it and says so, by whom, and what is to run there again.
//!
//! It lies on the host and not only here, so that every operator sees it; and it is written before anything stops, so that
//! whoever comes after a run that was killed knows what ran.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::connection::Connection;
use crate::error::SshError;
use crate::files::Access;
use crate::run::Run;

/// Where it lies.
pub const NOTE: &str = "/etc/sovereign/evacuated.json";
/// The format of the file.
const FORMAT: u32 = 1;
/// Names of a thousand instances are shorter.
const LONGEST: usize = 256 << 10;

/// A host is evacuated on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evacuation {
    /// The format it is written in.
    #[serde(default)]
    format: u32,
    /// Who did it: a user and their machine.
    pub by: String,
    /// With which command.
    pub command: String,
    /// When, in seconds of the epoch.
    pub since_unix: u64,
    /// The instances that ran, in the order in which they are started again.
    #[serde(default)]
    pub ran: Vec<String>,
}

impl Evacuation {
    /// One that begins.
    pub fn new(by: String, command: &str, since_unix: u64) -> Self {
        Self { format: FORMAT, by, command: command.to_owned(), since_unix, ran: Vec::new() }
    }

    /// One that only the cluster's word is known of: somebody told Incus, not us.
    pub fn by_hand() -> Self {
        Self::new("somebody at its Incus".to_owned(), "incus cluster evacuate", 0)
    }

    /// For people: by whom, with what.
    pub fn text(&self) -> String {
        format!("evacuated on purpose by {} (`{}`)", printable(&self.by), printable(&self.command))
    }

    /// What a host has. What cannot be read is still a note that somebody left.
    fn parse(text: &[u8]) -> Self {
        match serde_json::from_slice::<Self>(text) {
            Ok(note) if note.format <= FORMAT => note,
            _ => Self::new("a newer sovereign".to_owned(), "sovereign host evacuate", 0),
        }
    }

    /// Reads it from a host; `None` when the host is not evacuated.
    ///
    /// # Errors
    /// When the connection ends, or the host cannot.
    pub async fn read(host: &Connection) -> Result<Option<Self>, SshError> {
        Ok(host.get_file(Path::new(NOTE), LONGEST).await?.map(|text| Self::parse(&text)))
    }

    /// Writes it on a host.
    ///
    /// # Errors
    /// As [`Evacuation::read`].
    pub async fn write(&self, host: &Connection) -> Result<(), SshError> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        host.put_bytes(Path::new(NOTE), &text, Access::PUBLIC).await
    }

    /// Removes it from a host.
    ///
    /// # Errors
    /// As [`Evacuation::read`].
    pub async fn remove(host: &Connection) -> Result<(), SshError> {
        host.succeed(&Run::new("say that it is not evacuated", "rm").args(["-f", "--", NOTE])).await.map(drop)
    }
}

/// What lies on a host is somebody else's words.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_believed_whatever_is_in_it() {
        let mut note = Evacuation::new("ann@laptop".to_owned(), "sovereign host evacuate", 1_800_000_000);
        note.ran = vec!["database-blog-home-1".to_owned(), "ghost-blog-home-1".to_owned()];
        let text = serde_json::to_vec_pretty(&note).unwrap();
        insta::assert_snapshot!(String::from_utf8_lossy(&text));
        assert_eq!(Evacuation::parse(&text), note);
        assert_eq!(note.text(), "evacuated on purpose by ann@laptop (`sovereign host evacuate`)");
        // Of a newer program, cut off, or nonsense: the host is evacuated all the same.
        let newer = String::from_utf8_lossy(&text).replace("\"format\": 1", "\"format\": 2");
        for strange in [newer.as_bytes(), &text[..text.len() / 2], b"", b"\xff{}"] {
            assert_eq!(Evacuation::parse(strange).by, "a newer sovereign");
        }
        let loud = Evacuation::new("\u{1b}[31mann".to_owned(), "x", 0);
        assert!(!loud.text().contains('\u{1b}'));
    }
}
