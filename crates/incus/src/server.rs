//! The server: what it is and what it can do.

use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use crate::answer::or_default;
use crate::client::Client;
use crate::error::IncusError;
use crate::path::ApiPath;
use crate::{Config, MemberName};

/// The extensions of the API that this client uses. The last came with Incus 6.0, the floor.
pub(crate) const NEEDED: &[&str] = &[
    "etag",
    "patch",
    "file_delete",
    "file_symlinks",
    "directory_manipulation",
    "container_exec_recording",
    "container_exec_user_group_cwd",
    "storage",
    "storage_api_volume_snapshots",
    "network",
    "clustering",
    "clustering_evacuation",
    "projects",
    "projects_networks",
    "projects_restrictions",
    "instances",
    "instance_state_started_at",
];

/// A server, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Server {
    /// What its API has beyond the first version.
    #[serde(default, deserialize_with = "or_default")]
    pub api_extensions: Vec<String>,
    /// What it runs on.
    pub environment: Environment,
    /// Its configuration.
    #[serde(default, deserialize_with = "or_default")]
    pub config: Config,
}

/// What a server runs on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Environment {
    /// Its version.
    #[serde(default)]
    pub server_version: String,
    /// Its name; in a cluster, the member's.
    #[serde(default)]
    pub server_name: String,
    /// Whether it is in a cluster.
    #[serde(default)]
    pub server_clustered: bool,
    /// The version of its kernel.
    #[serde(default)]
    pub kernel_version: String,
    /// What it can run, its own architecture first: `x86_64`.
    #[serde(default, deserialize_with = "or_default")]
    pub architectures: Vec<String>,
    /// The storage drivers it has the tools for. That the kernel can do it too is not said.
    #[serde(default, deserialize_with = "or_default")]
    pub storage_supported_drivers: Vec<StorageDriver>,
}

/// A way to store volumes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StorageDriver {
    /// `dir`, `btrfs`, ...
    #[serde(rename = "Name")]
    pub name: String,
}

impl Server {
    /// Whether its API has an extension.
    pub fn has(&self, extension: &str) -> bool {
        self.api_extensions.iter().any(|has| has == extension)
    }
}

impl Client {
    /// What the server is and can do.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn server(&self) -> Result<Server, IncusError> {
        self.read(self.placed(ApiPath::root())).await
    }

    /// Sets these keys of the server's configuration, and no others.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn configure_server(&self, config: &Config) -> Result<(), IncusError> {
        self.send(Method::PATCH, self.placed(ApiPath::root()), &json!({ "config": config })).await.map(drop)
    }
}

impl Server {
    /// Its name as a member of a cluster, when it is one.
    pub fn member(&self) -> Option<MemberName> {
        self.environment.server_clustered.then(|| self.environment.server_name.parse().ok()).flatten()
    }
}
