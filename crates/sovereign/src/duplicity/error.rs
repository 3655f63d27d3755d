//! Why an archive of duplicity cannot be had, and what the operator can do.

use std::io;
use std::path::PathBuf;

use super::chain::Moment;
use super::log::Complaint;
use crate::failure::Reason;
use crate::output::printable;

/// Duplicity did not give what was asked of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DuplicityError {
    /// It is not there.
    #[error("duplicity is not installed")]
    NotInstalled,
    /// It cannot be run.
    #[error("cannot run duplicity")]
    Run(#[source] io::Error),
    /// The folder of the archive.
    #[error("cannot read {path}", path = .path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something of ours.
    #[error("cannot use {path}", path = .path.display())]
    Scratch {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no archive, or none that is complete.
    #[error("duplicity finds no archive in {0}")]
    Nothing(String),
    /// The wrong passphrase.
    #[error("the passphrase does not open the archive")]
    WrongPassphrase,
    /// Encrypted to a key that is not there.
    #[error("the archive is encrypted to a key that is not in the GnuPG folder")]
    NoSecretKey,
    /// Files are not what was written, or not there.
    #[error("the archive is damaged: {}", .files.join("; "))]
    Damaged {
        /// Each with what is wrong with it.
        files: Vec<String>,
        /// The last state before that needs none of them.
        before: Option<Moment>,
    },
    /// There was nothing yet at that time.
    #[error("the archive begins later than {time}")]
    TooEarly {
        /// What was asked for.
        time: Moment,
        /// The first state there is.
        first: Option<Moment>,
    },
    /// The operator stopped it.
    #[error("the import was stopped; nothing half is left of it")]
    Stopped,
    /// No space.
    #[error("there is no room for what duplicity writes")]
    NoRoom,
    /// All else, in its own words.
    #[error("duplicity failed: {0}")]
    Failed(String),
}

impl Reason for DuplicityError {
    fn help(&self) -> Option<String> {
        let text = match self {
            Self::NotInstalled => "sudo apt-get install duplicity gnupg".to_owned(),
            Self::Nothing(_) => {
                "name the folder that the files named duplicity-full... lie in; a part that comes before these names \
                 (duplicity's --file-prefix) is not understood"
                    .to_owned()
            }
            Self::WrongPassphrase => {
                "it is what was in PASSPHRASE when duplicity made the archive; nothing was done".to_owned()
            }
            Self::NoSecretKey => {
                "name the GnuPG folder that has the secret key: `--gnupg-home ~/.gnupg`; the key's passphrase comes from your \
                 GnuPG agent, or from `--passphrase-file`"
                    .to_owned()
            },
            Self::Damaged { before: Some(before), .. } => format!(
                "nothing was done; bring the files back from another copy of the archive, or go back to the last state \
                 that needs none of them: `--time {before}`"
            ),
            Self::TooEarly { first: Some(first), .. } => format!("its first state is `--time {first}`"),
            Self::Damaged { .. } => "nothing was done; bring the files back from another copy of the archive, or go \
                                     back to a state that needs none of them with `--time`"
                .to_owned(),
            Self::NoRoom => "free some space in that place, and below the stack's state folder, and run the command again".to_owned(),
            Self::TooEarly { first: None, .. }
            | Self::Stopped
            | Self::Run(_)
            | Self::Folder { .. }
            | Self::Scratch { .. }
            | Self::Failed(_) => return None,
        };
        Some(text)
    }
}

/// Codes of duplicity's errors (`duplicity/log.py`).
const MISMATCHED_HASH: u32 = 21;
const GPG_FAILED: u32 = 31;

impl DuplicityError {
    /// What a complaint means. `file` is what was being read; `place` is where.
    pub(super) fn of(complaint: &Complaint, file: Option<&str>, place: &str) -> Self {
        let Complaint { code, lines } = complaint;
        let says = |words: &str| lines.iter().any(|line| line.contains(words));
        let damaged = |file: &str, why: &str| {
            let file = format!("{} {why}", printable(file.trim()));
            Self::Damaged { files: vec![file], before: None }
        };
        if says("No space left on device") {
            return Self::NoRoom;
        }
        match *code {
            MISMATCHED_HASH => {
                let file = lines.get(1).map_or("a volume", String::as_str);
                return damaged(file, "is not what its manifest says");
            }
            // A passphrase is asked for with the key it is for, or for the file itself.
            GPG_FAILED if says("Bad session key") || says("ad passphrase") || says("kdf_derive failed") => {
                return Self::WrongPassphrase;
            }
            GPG_FAILED if says("No secret key") => return Self::NoSecretKey,
            GPG_FAILED => {
                if let Some(file) = file {
                    return damaged(file, "cannot be decrypted");
                }
            }
            _ => {}
        }
        if says("No backup chains found") || says("no backup sets") {
            return Self::Nothing(place.to_owned());
        }
        let last =
            lines.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty() && !line.starts_with("====="));
        match last {
            Some(line) if line.starts_with("KeyError: ") => {
                damaged(&format!("volume {}", line.trim_start_matches("KeyError: ")), "is missing")
            }
            Some(line) => Self::Failed(printable(line)),
            None => Self::Failed(format!("code {code}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(code: u32, lines: &[&str], file: Option<&str>) -> DuplicityError {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        DuplicityError::of(&Complaint { code, lines }, file, "/backups")
    }

    /// The words are those of duplicity 0.8 and GnuPG 2.2.
    #[test]
    fn what_duplicity_says_is_understood() {
        let hash =
            ["Invalid data - SHA1 hash mismatch for file:", " duplicity-full.x.vol2.difftar.gpg", " Calculated ..."];
        let damaged = meaning(21, &hash, None);
        assert_eq!(
            damaged.to_string(),
            "the archive is damaged: duplicity-full.x.vol2.difftar.gpg is not what its manifest says"
        );
        let passphrase = ["GPGError: GPG Failed, see log below:", "gpg: decryption failed: Bad session key"];
        assert!(matches!(meaning(31, &passphrase, Some("x")), DuplicityError::WrongPassphrase));
        let zlib =
            ["GPGError: GPG Failed, see log below:", "gpg: Fatal: zlib inflate problem: invalid bit length repeat"];
        assert!(meaning(31, &zlib, Some("a.manifest.gpg")).to_string().contains("a.manifest.gpg cannot be decrypted"));
        let key = ["gpg: decryption failed: No secret key", "===== End GnuPG log ====="];
        assert!(matches!(meaning(31, &key, Some("x")), DuplicityError::NoSecretKey));
        let missing = ["Traceback (innermost last):", " KeyError: 3", ""];
        assert!(meaning(30, &missing, None).to_string().contains("volume 3 is missing"));
        let nothing = [" duplicity.dup_collections.CollectionsError: No backup chains found", ""];
        assert!(matches!(meaning(30, &nothing, None), DuplicityError::Nothing(_)));
        assert_eq!(
            meaning(50, &["BackendException: \u{1b}[2Jno"], None).to_string(),
            "duplicity failed: BackendException: no"
        );
    }
}
