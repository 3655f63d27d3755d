//! Profiles: configuration and devices that instances have in common.

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answer::or_default;
use crate::client::Client;
use crate::error::IncusError;
use crate::kept::Kept;
use crate::name::ProfileName;
use crate::path::ApiPath;
use crate::{Config, Devices};

/// A profile of the client's project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Its configuration.
    #[serde(default, deserialize_with = "or_default")]
    pub config: Config,
    /// Its devices.
    #[serde(default, deserialize_with = "or_default")]
    pub devices: Devices,
}

impl Client {
    /// All profiles.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn profiles(&self) -> Result<Vec<Profile>, IncusError> {
        self.list(self.scoped("profiles")).await
    }

    /// One profile.
    ///
    /// # Errors
    /// When there is none of that name, or the server cannot be reached or refuses.
    pub async fn profile(&self, name: &ProfileName) -> Result<Kept<Profile>, IncusError> {
        self.read_kept(self.profile_path(name)).await
    }

    /// Makes a profile.
    ///
    /// # Errors
    /// When it is there already, or the server cannot be reached or refuses.
    pub async fn create_profile(&self, profile: &Profile) -> Result<(), IncusError> {
        let Profile { name, description, config, devices } = profile;
        let body = json!({ "name": name, "description": description, "config": config, "devices": devices });
        self.send(Method::POST, self.scoped("profiles"), &body).await.map(drop)
    }

    /// Puts a profile back as changed.
    ///
    /// # Errors
    /// When somebody else changed it in between, or the server cannot be reached or refuses.
    pub async fn update_profile(&self, profile: &Kept<Profile>) -> Result<(), IncusError> {
        self.put_back(self.profile_path(&profile.value.name), profile).await
    }

    /// Removes a profile that nothing uses.
    ///
    /// # Errors
    /// When there is none or it is used, or the server cannot be reached.
    pub async fn delete_profile(&self, name: &ProfileName) -> Result<(), IncusError> {
        self.remove(self.profile_path(name)).await
    }

    fn profile_path(&self, name: &ProfileName) -> ApiPath {
        self.project_of(ApiPath::of("profiles").then(name.as_str()))
    }
}
