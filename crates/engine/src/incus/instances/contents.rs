//! What is in the files that an instance finds when it starts.

use sovereign_model::Digest;
use sovereign_model::instance::InstanceSpec;
pub use sovereign_services::ghost::Contents;

use super::error::InstancesError;

/// Sees that there is for each file of a description what the description says.
pub(super) fn fit(contents: &Contents, spec: &InstanceSpec) -> Result<(), InstancesError> {
    let strange = spec.files.iter().find(|file| contents.get(&file.path).map(Digest::of) != Some(file.digest));
    strange.map_or(Ok(()), |file| Err(InstancesError::OtherContent { path: file.path.clone() }))
}
