//! A copy of the archive that is named on the command line, by whoever has lost the stack file or rehearses that: in a folder,
//! or on a host that speaks SFTP.
//!
//! A host of the stack lets in a key that follows from the words and the stack's name, so that nothing else has to be kept.
//! It lies in a file for as long as ssh logs in. Which host is the right one nothing here says: a person compares its key.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sovereign_archive::copy::{Login, Place, Sftp};
use sovereign_keys::RootSeed;
use sovereign_model::StackName;
use sovereign_model::archive_copy::{SftpAddress, SftpPlace};
use sovereign_model::layout::StateFolder;
use sovereign_model::ssh::{HostKey, NotAPlace};

use crate::backup::Scratch;
use crate::cli::DoorArgs;
use crate::context::Context;
use crate::failure::{Failure, Reason};
use crate::interrupt;
use crate::pinned::pinned;
use crate::secrets::RecoveryIdentity;

/// What an address begins with.
const SFTP: &str = "sftp://";

/// How long a host is waited for that is to show its key.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where it is.
#[derive(Debug, Clone)]
pub(crate) enum CopyAt {
    /// In a folder of this machine.
    Folder(PathBuf),
    /// On a host.
    Host(SftpAddress),
}

impl FromStr for CopyAt {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        match text.strip_prefix(SFTP) {
            Some(address) => address.parse().map(Self::Host),
            None => Ok(Self::Folder(text.into())),
        }
    }
}

impl fmt::Display for CopyAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Host(address) => write!(f, "{SFTP}{address}"),
        }
    }
}

/// A host that is the right one, as somebody has said who compared its key.
pub(crate) struct Door {
    address: SftpAddress,
    host_key: HostKey,
    identity: Option<PathBuf>,
}

impl Door {
    /// Has the key compared. Nothing is sent to the host yet.
    ///
    /// # Errors
    /// When the host does not answer, or its key is not confirmed.
    pub(crate) fn find(context: &Context, address: &SftpAddress, args: &DoorArgs) -> Result<Self, Failure> {
        let (output, expected) = (&context.output, args.fingerprint.as_ref());
        let host_key = interrupt::run(output, |_| pinned(output, address.server(), expected, PATIENCE))?;
        Ok(Self { address: address.clone(), host_key, identity: args.identity.clone() })
    }

    /// Logs in, with the key that was named or the one that the words lead to. What has to lie in the state folder for this
    /// is removed again, and so is that folder when nothing else is in it.
    ///
    /// # Errors
    /// When the host cannot be reached, is another one, or does not let us in.
    pub(crate) fn enter(
        &self,
        state: &StateFolder,
        stack: &StackName,
        seed: &RootSeed,
    ) -> Result<Arc<dyn Place>, Failure> {
        let entered = Scratch::named(state, "recovering-from").map_err(Failure::from).and_then(|scratch| {
            let words;
            let key = match &self.identity {
                Some(identity) => identity.as_path(),
                None => {
                    words = RecoveryIdentity::of(&scratch.folder, stack, seed)?;
                    words.path()
                }
            };
            self.log_in(key, scratch.folder.join("known-host"))
        });
        for folder in [&state.archive(), state.path()] {
            let _ = fs::remove_dir(folder); // only when it is empty
        }
        entered
    }

    fn log_in(&self, key: &Path, known_hosts: PathBuf) -> Result<Arc<dyn Place>, Failure> {
        let (address, host_key) = (self.address.clone(), self.host_key.clone());
        let place = SftpPlace { address, key: key.to_owned(), host_key };
        let refused = |source| NotLetIn { address: self.address.clone(), by_words: self.identity.is_none(), source };
        Ok(Arc::new(Sftp::connect(Login { place, known_hosts }).map_err(refused)?))
    }
}

/// The host with the copy was not got to.
#[derive(Debug, thiserror::Error)]
#[error("cannot get to the copy at {address}")]
struct NotLetIn {
    address: SftpAddress,
    by_words: bool,
    source: io::Error,
}

impl Reason for NotLetIn {
    fn help(&self) -> Option<String> {
        let refused = self.source.kind() == io::ErrorKind::PermissionDenied;
        refused.then(|| {
            if self.by_words {
                "hosts of the stack let root in with the key that follows from the words and the stack's name: are both \
                 right? Elsewhere, `--identity FILE` names a key that is let in"
            } else {
                "see that its public key is in that user's ~/.ssh/authorized_keys there"
            }
            .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_in_a_folder_unless_a_host_is_named() {
        for folder in ["/mnt/usb/repository", "usb", "root@192.0.2.9/srv"] {
            assert!(matches!(folder.parse(), Ok(CopyAt::Folder(_))), "{folder}");
        }
        let at = "sftp://root@192.0.2.9:2222/srv/archive";
        let parsed: CopyAt = at.parse().unwrap();
        assert!(matches!(parsed, CopyAt::Host(_)));
        assert_eq!(parsed.to_string(), at);
        for wrong in ["sftp://192.0.2.9/srv", "sftp://root@192.0.2.9", "sftp://-o@x/srv", "sftp://"] {
            assert!(wrong.parse::<CopyAt>().is_err(), "{wrong}");
        }
    }
}
