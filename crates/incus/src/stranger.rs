//! Every parser of a server's words at once, for whoever feeds parsers with what breaks them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::answer::{Answer, typed};
use crate::kept::Kept;
use crate::path::last_part;
use crate::{cluster, image, instance, network, profile, project, server, storage};

/// Reads bytes as an answer of each kind. Whether it was one.
///
/// # Panics
/// When a promise is broken: a field that is not ours went missing on its way back.
pub fn look_at(bytes: &[u8]) -> bool {
    let Ok(answer) = Answer::parse(bytes) else { return false };
    match answer {
        Answer::Async(operation) => {
            let _ = (operation.state(), operation.what(), operation.why(), last_part(&operation.id));
        }
        Answer::Sync(value) => {
            goes_back::<instance::Instance>(&value);
            goes_back::<network::Network>(&value);
            goes_back::<profile::Profile>(&value);
            goes_back::<project::Project>(&value);
            goes_back::<storage::Volume>(&value);
            let _ = typed::<server::Server>(value.clone());
            let _ = typed::<instance::State>(value.clone());
            let _ = typed::<Vec<cluster::Member>>(value.clone());
            let _ = typed::<Vec<storage::VolumeSnapshot>>(value.clone());
            let _ = typed::<image::Image>(value).map(|image| image.digest());
        }
        Answer::Error { message, .. } => assert!(!message.contains(char::is_control), "{message:?}"),
    }
    true
}

fn goes_back<T: DeserializeOwned + Serialize>(value: &Value) {
    let Ok(kept) = Kept::<T>::parse(value.clone(), None) else { return };
    let back = kept.to_body();
    for key in value.as_object().into_iter().flat_map(serde_json::Map::keys) {
        assert!(back.get(key).is_some(), "{key:?} went missing");
    }
}
