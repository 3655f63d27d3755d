//! Whose archive it is, written on the outside: the name of the stack.
//!
//! The archive's password is derived from the words and this name. Whoever has lost everything else must not have to
//! remember it. It is no secret: it opens nothing.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sovereign_archive::copy::LABEL;
use sovereign_model::StackName;

/// The format of the file.
const VERSION: u32 = 1;
#[derive(Serialize, Deserialize)]
struct Label {
    version: u32,
    stack: StackName,
}

/// The name on the archive in `folder`; `None` where there is none that can be understood.
pub(crate) fn read(folder: &Path) -> Option<StackName> {
    let text = fs::read(folder.join(LABEL)).ok()?;
    let Label { version, stack } = serde_json::from_slice(&text).ok()?;
    (version == VERSION).then_some(stack)
}

/// Writes the name on it, where it is not there yet.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(folder: &Path, stack: &StackName) -> io::Result<()> {
    if read(folder).as_ref() == Some(stack) {
        return Ok(());
    }
    let text = serde_json::to_vec(&Label { version: VERSION, stack: stack.clone() }).map_err(io::Error::other)?;
    sovereign_runtime::file::replace(&folder.join(LABEL), &text, 0o600).map_err(|error| error.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_on_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), None);
        let name: StackName = "shop".parse().unwrap();
        write(folder.path(), &name).unwrap();
        assert_eq!(read(folder.path()), Some(name));
        for text in ["", "{}", r#"{"version":1,"stack":"../up"}"#, r#"{"version":2,"stack":"shop"}"#] {
            fs::write(folder.path().join(LABEL), text).unwrap();
            assert_eq!(read(folder.path()), None, "{text}");
        }
    }
}
