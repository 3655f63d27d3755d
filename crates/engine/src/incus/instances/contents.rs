//! What is in the files that an instance finds when it starts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use sovereign_model::Digest;
use sovereign_model::instance::InstanceSpec;

use super::error::InstancesError;

/// Bytes by the path they are put at. They may be secret: nothing of them is ever shown.
#[derive(Default)]
pub struct Contents(BTreeMap<PathBuf, Vec<u8>>);

impl Contents {
    /// What is to be put at `path`.
    pub fn get(&self, path: &Path) -> Option<&[u8]> {
        self.0.get(path).map(Vec::as_slice)
    }

    /// Sees that there is for each file of a description what the description says.
    pub(super) fn fit(&self, spec: &InstanceSpec) -> Result<(), InstancesError> {
        let strange = spec.files.iter().find(|file| self.get(&file.path).map(Digest::of) != Some(file.digest));
        strange.map_or(Ok(()), |file| Err(InstancesError::OtherContent { path: file.path.clone() }))
    }
}

impl<P: Into<PathBuf>, B: Into<Vec<u8>>> FromIterator<(P, B)> for Contents {
    fn from_iter<I: IntoIterator<Item = (P, B)>>(files: I) -> Self {
        Self(files.into_iter().map(|(path, bytes)| (path.into(), bytes.into())).collect())
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
