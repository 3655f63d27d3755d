//! A set of files on a host, in a folder named by the set's digest.
//!
//! ```text
//!  below/1f0c…/        a whole set: its files, and `.list`, which says what is in each
//!  below/.77ab….new/   one that is being sent
//! ```
//!
//! Promise: a folder of this name holds all of the set or is not there; what is cut off on the way leaves those that are
//! there as they are. What a set has in common with the one used last is not sent again, and lies on the disk once. All of
//! it is compared with the list before it gets its name, and whenever it is asked for again.
//!
//! Files are told apart by their time of change too (an edge's ETag is made of it), and not everybody changes that with
//! what is in a file. So the parts of a second follow from what is in it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, PipeWriter, Write as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use sovereign_model::{Digest, FileSeen, FileSet};

use crate::connection::Connection;
use crate::error::SshError;
use crate::files::{Access, patience};
use crate::run::Run;

/// A list of a hundred thousand files is shorter.
const LONGEST_LIST: usize = 64 << 20;

/// Whether folder `$1` is the set whose digest is `$2`, and nothing else.
pub(crate) const WHOLE: &str = r#"
export LC_ALL=C
whole() (
    cd -- "$1" 2> /dev/null || exit 1
    case $(sha256sum < .list) in
    "$2 "*) ;;
    *) exit 1 ;;
    esac
    sha256sum --check --strict --quiet .list 1>&2 || exit 1
    test "$(find . ! -type d | wc -l)" -eq "$(($(wc -l < .list) + 1))"
)
"#;

/// `whole` when the set is there; otherwise the one that was used last, and its list. `$1`: the folder of all sets. `$2`:
/// the digest.
const LOOK: &str = r#"
set -eu
if whole "$1/$2" "$2" 2> /dev/null; then
    touch -- "$1/$2"
    echo whole
    exit 0
fi
cd -- "$1" 2> /dev/null || exit 0
for name in $(ls -1t); do
    if test "$name" != "$2" && test -f "$name/.list"; then
        echo "before $name"
        exec cat -- "$name/.list"
    fi
done
"#;

/// `$1`: the folder of all sets. `$2`: the digest. `$3`: the set that has those of `.kept`, or nothing. `$4`, `$5`, `$6`: who
/// owns it, the modes of its folders and files. An archive with all else comes in.
const PUT: &str = r#"
set -eu
below=$1 digest=$2 before=$3 owner=$4
umask 077
for folder in "$(dirname -- "$below")" "$below"; do
    test -d "$folder" || install -d -- "$folder"
    chown -- "$owner" "$folder"
    chmod -- "$5" "$folder"
done
cd -- "$below"
rm -rf -- .*.new .*.old
new=.$digest.$$.new
trap 'rm -rf -- "$new"' EXIT
mkdir -- "$new"
tar --extract --no-same-owner --no-same-permissions --directory="$new" --file=-
if test -n "$before"; then
    (cd -- "$before" && xargs -0 -r cp --link --parents --target-directory="../$new" --) < "$new/.kept"
fi
rm -- "$new/.kept"
if ! whole "$new" "$digest"; then
    echo "what arrived is not what was sent" >&2
    exit 1
fi
chown -R -- "$owner" "$new"
find "$new" -type d -exec chmod -- "$5" {} +
find "$new" -type f -exec chmod -- "$6" {} +
sync --file-system -- "$new"
if test -e "$digest"; then
    # It was changed: for this moment it is away.
    mv -T -- "$digest" ".$digest.$$.old"
fi
mv -T -- "$new" "$digest"
sync -- .
rm -rf -- .*.old
"#;

/// Removes all sets but `$2` and the one used last of the others.
const TIDY: &str = r#"
set -eu
cd -- "$1"
kept=
for name in $(ls -1t); do
    if test "$name" = "$2"; then continue; fi
    if test -z "$kept"; then kept=$name; continue; fi
    rm -rf -- "$name"
done
"#;

/// What of a set goes over the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// How many files.
    pub files: usize,
    /// How many bytes are in them.
    pub bytes: u64,
}

impl Connection {
    /// Sees to it that `files` lie in a folder below `below` that is named by their digest: what was sent for it, which `tell`
    /// is told before; `None` when they are there.
    ///
    /// # Errors
    /// When the host cannot, a file is another one by now, or the connection ends.
    pub async fn put_folder(
        &self,
        files: &FileSet,
        below: &Path,
        access: Access<'_>,
        tell: impl Fn(Sent),
    ) -> Result<Option<Sent>, SshError> {
        let digest = files.digest().hex();
        let action = format!("look for files in {}", below.display());
        let size = files.iter().map(|(_, file)| file.length).sum();
        let look = Run::script(action, &[WHOLE, LOOK].concat()).arg(below).arg(&digest);
        let said = self.succeed(&look.answers_at_most(LONGEST_LIST).within(patience(size))).await?;
        let said = String::from_utf8_lossy(&said);
        let (first, list) = said.split_once('\n').unwrap_or_default();
        if first == "whole" {
            return Ok(None);
        }
        if let Some(before) = first.strip_prefix("before ").filter(|name| is_digest(name)) {
            let listed = FileSet::listed(list);
            let same = files.iter().filter(|(path, file)| listed.get(*path) == Some(&file.content));
            let kept: BTreeSet<&str> = same.map(|(path, _)| path).collect();
            match self.send(files, below, access, Some((before, kept)), &tell).await {
                // What is there may not be what its list says.
                Err(SshError::Failed { .. }) => {}
                other => return other.map(Some),
            }
        }
        self.send(files, below, access, None, &tell).await.map(Some)
    }

    /// Removes all sets below `below` but the one with this digest, and the one that was used before it.
    ///
    /// # Errors
    /// When the host cannot, or the connection ends.
    pub async fn tidy_folder(&self, below: &Path, digest: &Digest) -> Result<(), SshError> {
        let run = Run::script(format!("remove older files in {}", below.display()), TIDY);
        self.succeed(&run.arg(below).arg(digest.hex())).await.map(drop)
    }

    async fn send(
        &self,
        files: &FileSet,
        below: &Path,
        access: Access<'_>,
        before: Option<(&str, BTreeSet<&str>)>,
        tell: &impl Fn(Sent),
    ) -> Result<Sent, SshError> {
        let (before, kept) = before.unwrap_or_default();
        let all = files.iter().filter(|(path, _)| !kept.contains(path));
        let all: Vec<(String, FileSeen)> = all.map(|(path, file)| (path.to_owned(), file.clone())).collect();
        let sent = Sent { files: all.len(), bytes: all.iter().map(|(_, file)| file.length).sum() };
        tell(sent);
        let (list, kept) = (files.list(), kept.into_iter().fold(String::new(), |kept, path| kept + path + "\0"));
        let write = move |to: PipeWriter| archive(&list, &kept, &all, to);
        let folder = access.mode | (access.mode & 0o444) >> 2;
        let [folder, file] = [folder, access.mode].map(|mode| format!("{:o}", mode & 0o7777));
        let run = Run::script(format!("write files in {}", below.display()), &[WHOLE, PUT].concat())
            .args([below.as_os_str(), files.digest().hex().as_ref(), before.as_ref(), access.owner.as_ref()])
            .args([folder, file])
            .input_written(write);
        let size = files.iter().map(|(_, file)| file.length).sum();
        self.succeed(&run.within(patience(size))).await?;
        Ok(sent)
    }
}

fn is_digest(name: &str) -> bool {
    format!("sha256:{name}").parse::<Digest>().is_ok()
}

/// An archive of files as they were looked at.
fn archive(list: &str, kept: &str, files: &[(String, FileSeen)], to: PipeWriter) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(64 << 10, to));
    for (name, text) in [(".list", list), (".kept", kept)] {
        append(&mut archive, name, 0, text.len() as u64, text.as_bytes())?;
    }
    for (path, seen) in files {
        let named = |error: io::Error| io::Error::other(format!("{}: {error}", seen.from.display()));
        let file = File::open(&seen.from).map_err(named)?;
        let now = file.metadata().map_err(named)?;
        let changed = now.modified()?.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        if (now.len(), changed) != (seen.length, seen.changed) {
            let message = format!("{} was changed since it was looked at", seen.from.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let part = seen.content.as_bytes()[..4].iter().fold(0, |part, byte| part << 8 | u32::from(*byte));
        let time = format!("{}.{:09}", seen.changed, part % 1_000_000_000);
        archive.append_pax_extensions([("path", path.as_bytes()), ("mtime", time.as_bytes())])?;
        append(&mut archive, "file", seen.changed, seen.length, io::Read::take(file, seen.length))?;
    }
    archive.into_inner()?.flush()
}

fn append(
    archive: &mut tar::Builder<impl io::Write>,
    name: &str,
    changed: u64,
    length: u64,
    from: impl io::Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o600);
    header.set_size(length);
    header.set_mtime(changed);
    archive.append_data(&mut header, name, from)
}
