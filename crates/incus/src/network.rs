//! Networks: bridges that the server manages.

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Config;
use crate::answer::or_default;
use crate::client::Client;
use crate::error::IncusError;
use crate::kept::Kept;
use crate::name::NetworkName;
use crate::path::ApiPath;

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name, which is that of the interface too: 15 characters at most.
    pub name: NetworkName,
    /// `bridge`, `physical`, ...
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Whether the server made it.
    #[serde(default)]
    pub managed: bool,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Its configuration.
    #[serde(default, deserialize_with = "or_default")]
    pub config: Config,
    /// What uses it, as paths of the API.
    #[serde(default, deserialize_with = "or_default")]
    pub used_by: Vec<String>,
}

impl Client {
    /// All networks, those that the server did not make too.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn networks(&self) -> Result<Vec<Network>, IncusError> {
        self.list(self.scoped("networks")).await
    }

    /// One network.
    ///
    /// # Errors
    /// When there is none of that name, or the server cannot be reached or refuses.
    pub async fn network(&self, name: &NetworkName) -> Result<Kept<Network>, IncusError> {
        self.read_kept(self.network_path(name)).await
    }

    /// Makes a bridge. In a cluster: first at each member ([`Client::at`]), then once for all.
    ///
    /// # Errors
    /// When it is there already, or the server cannot be reached or refuses.
    pub async fn create_bridge(
        &self,
        name: &NetworkName,
        description: &str,
        config: &Config,
    ) -> Result<(), IncusError> {
        let body = json!({ "name": name, "type": "bridge", "description": description, "config": config });
        self.send(Method::POST, self.placed(self.scoped("networks")), &body).await.map(drop)
    }

    /// Puts a network back as changed.
    ///
    /// # Errors
    /// When somebody else changed it in between, or the server cannot be reached or refuses.
    pub async fn update_network(&self, network: &Kept<Network>) -> Result<(), IncusError> {
        self.put_back(self.network_path(&network.value.name), network).await
    }

    /// Removes a network that nothing uses.
    ///
    /// # Errors
    /// When there is none or it is used, or the server cannot be reached.
    pub async fn delete_network(&self, name: &NetworkName) -> Result<(), IncusError> {
        self.remove(self.network_path(name)).await
    }

    fn network_path(&self, name: &NetworkName) -> ApiPath {
        self.project_of(ApiPath::of("networks").then(name.as_str()))
    }
}
