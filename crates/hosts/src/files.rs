//! Files on a host, put there whole or not at all.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sovereign_model::Digest;

use crate::connection::Connection;
use crate::error::SshError;
use crate::run::Run;

/// Beside, compared, made to last, renamed. What is in the way and is no file stays.
const PUT: &str = r#"
set -eu
path=$1 sum=$2 mode=$3 owner=$4
beside="$(dirname -- "$path")/.$(basename -- "$path").$$.new"
trap 'rm -f -- "$beside"' EXIT
umask 077
cat > "$beside"
case $(sha256sum < "$beside") in
"$sum "*) ;;
*) echo "what arrived is not what was sent" >&2; exit 1 ;;
esac
chown -- "$owner" "$beside"
chmod -- "$mode" "$beside"
sync -- "$beside"
mv -fT -- "$beside" "$path"
sync -- "$(dirname -- "$path")"
"#;

/// `GONE` is the exit code when nothing is there.
const GET: &str = r#"
test -e "$1" || exit 66
exec cat -- "$1"
"#;
const GONE: i32 = 66;

/// So slow a line is given up: a MiB takes 20 s and more.
const SLOWEST: u64 = 50 << 10;

/// Whose a file is, and who may do what with it.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// Permission bits.
    pub mode: u32,
    /// `user:group`, by name or number.
    pub owner: &'a str,
}

impl Access<'static> {
    /// For root alone.
    pub const PRIVATE: Self = Self { mode: 0o600, owner: "root:root" };
    /// Root's, and anybody may read it.
    pub const PUBLIC: Self = Self { mode: 0o644, owner: "root:root" };
}

pub(crate) fn patience(size: u64) -> Duration {
    Duration::from_secs(60 + size / SLOWEST)
}

fn put(path: &Path, digest: &Digest, access: Access<'_>, size: u64) -> Run {
    let mode = format!("{:o}", access.mode & 0o7777);
    let run = Run::script(format!("write {}", path.display()), PUT).arg(path).arg(digest.hex());
    run.arg(mode).arg(access.owner).within(patience(size))
}

impl Connection {
    /// Writes a file: the path holds what it held before, or all of `content`.
    ///
    /// # Errors
    /// When the host cannot, says what arrived is something else, or the connection ends.
    pub async fn put_bytes(&self, path: &Path, content: &[u8], access: Access<'_>) -> Result<(), SshError> {
        let run = put(path, &Digest::of(content), access, content.len() as u64).input(content);
        self.succeed(&run).await.map(drop)
    }

    /// The same with the content of a file of this machine.
    ///
    /// # Errors
    /// As [`Connection::put_bytes`], or when the file cannot be read.
    pub async fn put_file(&self, from: &Path, to: &Path, access: Access<'_>) -> Result<(), SshError> {
        let path = from.to_owned();
        let read = tokio::task::spawn_blocking(move || digest_of(&path))
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::Interrupted)));
        let (digest, size) =
            read.map_err(|source| SshError::Here { action: format!("read {}", from.display()), source })?;
        self.succeed(&put(to, &digest, access, size).input_file(from)).await.map(drop)
    }

    /// Reads a file of at most `most` bytes; `None` when nothing is there.
    ///
    /// # Errors
    /// When the host cannot, or the file is longer.
    pub async fn get_file(&self, path: &Path, most: usize) -> Result<Option<Vec<u8>>, SshError> {
        let action = format!("read {}", path.display());
        let run = Run::script(&action, GET).arg(path).answers_at_most(most).within(patience(most as u64));
        let ended = self.run(&run).await?;
        match ended.code {
            0 => Ok(Some(ended.stdout)),
            GONE => Ok(None),
            code => Err(SshError::Failed { host: self.address().clone(), action, code, said: ended.said() }),
        }
    }
}

fn digest_of(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let (mut hash, mut size, mut some) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        match file.read(&mut some)? {
            0 => return Ok((Digest::from_bytes(hash.finalize().into()), size)),
            count => {
                hash.update(&some[..count]);
                size += count as u64;
            }
        }
    }
}
