//! Projects: what belongs to one stack, apart from what others keep on the same server.

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Config;
use crate::answer::or_default;
use crate::client::Client;
use crate::error::IncusError;
use crate::kept::Kept;
use crate::name::ProjectName;
use crate::path::ApiPath;

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// What it keeps for itself, and what may not be done in it.
    #[serde(default, deserialize_with = "or_default")]
    pub config: Config,
}

/// The configuration of a project whose instances have no way to the host: no privileged ones, no nesting, no folder or
/// device of the host. Images, profiles and volumes are its own, and snapshots may be made of them.
///
/// Profiles too, because a project that uses those of the default project cannot be restricted.
pub fn restricted() -> Config {
    let pairs = [
        ("features.images", "true"),
        ("features.profiles", "true"),
        ("features.storage.volumes", "true"),
        ("restricted", "true"),
        ("restricted.snapshots", "allow"),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

impl Client {
    /// All projects.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn projects(&self) -> Result<Vec<Project>, IncusError> {
        self.list(ApiPath::of("projects")).await
    }

    /// One project.
    ///
    /// # Errors
    /// When there is none of that name, or the server cannot be reached or refuses.
    pub async fn project(&self, name: &ProjectName) -> Result<Kept<Project>, IncusError> {
        self.read_kept(path(name)).await
    }

    /// Makes a project.
    ///
    /// # Errors
    /// When it is there already, or the server cannot be reached or refuses.
    pub async fn create_project(&self, project: &Project) -> Result<(), IncusError> {
        let Project { name, description, config } = project;
        let body = json!({ "name": name, "description": description, "config": config });
        self.send(Method::POST, ApiPath::of("projects"), &body).await.map(drop)
    }

    /// Puts a project back as changed.
    ///
    /// # Errors
    /// When somebody else changed it in between, or the server cannot be reached or refuses.
    pub async fn update_project(&self, project: &Kept<Project>) -> Result<(), IncusError> {
        self.put_back(path(&project.value.name), project).await
    }

    /// Removes a project that is empty.
    ///
    /// # Errors
    /// When there is none or it is not empty, or the server cannot be reached.
    pub async fn delete_project(&self, name: &ProjectName) -> Result<(), IncusError> {
        self.remove(path(name)).await
    }
}

fn path(name: &ProjectName) -> ApiPath {
    ApiPath::of("projects").then(name.as_str())
}
