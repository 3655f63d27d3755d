//! Which configurations this machine wrote to a host: what lies there and is none of them was made elsewhere.

use std::io;

use serde::{Deserialize, Serialize};
use sovereign_model::EdgeName;
use sovereign_model::layout::StateFolder;
use sovereign_model::observed::Written;

use crate::record::RecordError;

/// The format of the file.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    version: u32,
    /// The last one, and one that was under way.
    written: Vec<Written>,
}

/// The last one, and one that was under way when a run was killed.
pub(super) fn read(state: &StateFolder, edge: &EdgeName) -> Result<Vec<Written>, RecordError> {
    let Some(host) = &edge.host else { return Ok(Vec::new()) };
    let path = state.written(&edge.datacenter, host);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(|File { written, .. }| written)
            .map_err(|source| RecordError::Malformed { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(RecordError::File { path, source }),
    }
}

/// Before a configuration is written.
pub(super) fn begin(state: &StateFolder, edge: &EdgeName, next: Written) -> Result<(), RecordError> {
    let mut written = read(state, edge)?;
    if !written.contains(&next) {
        written.push(next);
    }
    keep(state, edge, written)
}

/// When it lies there.
pub(super) fn finish(state: &StateFolder, edge: &EdgeName, lies: Written) -> Result<(), RecordError> {
    keep(state, edge, vec![lies])
}

fn keep(state: &StateFolder, edge: &EdgeName, written: Vec<Written>) -> Result<(), RecordError> {
    let Some(host) = &edge.host else { return Ok(()) };
    let folder = state.host(&edge.datacenter, host);
    crate::file::private_folder(&folder).map_err(|source| RecordError::File { path: folder, source })?;
    let path = state.written(&edge.datacenter, host);
    let text = serde_json::to_vec_pretty(&File { version: VERSION, written }).expect("numbers and digests serialize");
    sovereign_runtime::file::replace(&path, &text, 0o600)
        .map_err(|error| RecordError::File { path, source: error.source })
}

#[cfg(test)]
mod tests {
    use sovereign_model::Digest;

    use super::*;

    #[test]
    fn what_was_under_way_is_known_with_what_was_written_before() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::new(folder.path());
        let edge: EdgeName = "home/atlas".parse().unwrap();
        let [first, second, third] =
            [1, 2, 3].map(|generation| Written { generation, config: Digest::of([generation as u8]) });
        assert_eq!(read(&state, &edge).unwrap(), []);
        begin(&state, &edge, first).unwrap();
        finish(&state, &edge, first).unwrap();
        assert_eq!(read(&state, &edge).unwrap(), [first]);
        // Killed, and again, and then not.
        begin(&state, &edge, second).unwrap();
        begin(&state, &edge, second).unwrap();
        assert_eq!(read(&state, &edge).unwrap(), [first, second]);
        begin(&state, &edge, third).unwrap();
        assert_eq!(read(&state, &edge).unwrap(), [first, second, third]);
        finish(&state, &edge, third).unwrap();
        assert_eq!(read(&state, &edge).unwrap(), [third]);
        insta::assert_snapshot!(
            std::fs::read_to_string(state.written(&edge.datacenter, &edge.host.clone().unwrap())).unwrap()
        );
        std::fs::write(state.written(&edge.datacenter, &edge.host.unwrap()), "{").unwrap();
        assert!(read(&state, &"home/atlas".parse().unwrap()).unwrap_err().help().is_some());
    }
}
