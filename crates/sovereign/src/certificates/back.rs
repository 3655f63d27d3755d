//! Brings certificates back from a restored snapshot of the state, with their keys, accounts and all that was tried.
//!
//! Promise: what is there already stays as it is, and nothing but plain files is taken, for this user alone. What edges were
//! seen to have is not: they are other edges now.

use std::fs;
use std::path::{Path, PathBuf};

use sovereign_model::layout::StateFolder;

use super::hand::RECORD;
use crate::recovery::{RecoverError, failed, make};

/// Puts what lies at `from` in its place.
///
/// # Errors
/// When it cannot be read or written; doing it again goes on.
pub(crate) fn bring_back(from: &Path, state: &StateFolder) -> Result<(), RecoverError> {
    let to = state.certificates();
    for file in files(from)? {
        let Ok(within) = file.strip_prefix(from) else { continue };
        let place = to.join(within);
        if within == Path::new(RECORD) || place.symlink_metadata().is_ok() {
            continue;
        }
        make(place.parent().unwrap_or(&to))?;
        let content = zeroize::Zeroizing::new(fs::read(&file).map_err(failed("read", &file))?);
        sovereign_runtime::file::replace(&place, &content, 0o600)
            .map_err(|error| failed("write", &place)(error.source))?;
    }
    Ok(())
}

/// All plain files below a folder, if it is one.
fn files(folder: &Path) -> Result<Vec<PathBuf>, RecoverError> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(at) = folders.pop() {
        if !at.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            continue;
        }
        for entry in fs::read_dir(&at).map_err(failed("read", &at))? {
            let entry = entry.map_err(failed("read", &at))?;
            let kind = entry.file_type().map_err(failed("read", &at))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_was_saved_comes_back_for_this_user_alone_and_takes_nothings_place() {
        let folder = tempfile::tempdir().unwrap();
        let (from, state) = (folder.path().join("saved"), StateFolder::new(folder.path().join("state")));
        bring_back(&from, &state).unwrap();
        assert!(!state.certificates().exists(), "there was nothing");
        for (file, text) in
            [("names/a.example/1/key.pem", "key"), ("names/a.example/state.json", "saved"), (RECORD, "seen")]
        {
            let path = from.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        symlink("/etc/passwd", from.join("names/link")).unwrap();
        let newer = state.certificates().join("names/a.example/state.json");
        fs::create_dir_all(newer.parent().unwrap()).unwrap();
        fs::write(&newer, "newer").unwrap();
        bring_back(&from, &state).unwrap();
        let key = state.certificates().join("names/a.example/1/key.pem");
        assert_eq!(
            (fs::read_to_string(&key).unwrap(), fs::read_to_string(&newer).unwrap()),
            ("key".into(), "newer".into())
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&key), mode(key.parent().unwrap())), (0o600, 0o700));
        assert!(!state.certificates().join(RECORD).exists() && !state.certificates().join("names/link").exists());
    }
}
