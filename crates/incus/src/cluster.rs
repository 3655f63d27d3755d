//! The members of a cluster, emptied and filled again.

use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use crate::answer::or_default;
use crate::client::{Client, Patience};
use crate::error::IncusError;
use crate::instance;
use crate::name::{InstanceName, MemberName};
use crate::path::ApiPath;
use crate::{Config, Devices};

/// Emptying a member is moving all that is on it, one after the other.
const MOVING: Duration = Duration::from_secs(60 * 60);

/// A member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// Its name.
    pub server_name: MemberName,
    /// Where the others reach it.
    #[serde(default)]
    pub url: String,
    /// What it does for the cluster: `database-leader`, ...
    #[serde(default, deserialize_with = "or_default")]
    pub roles: Vec<String>,
    /// How it is.
    pub status: Status,
    /// The same for people.
    #[serde(default)]
    pub message: String,
    /// What it is built for.
    #[serde(default)]
    pub architecture: String,
}

impl Member {
    /// Whether it decides with others what the cluster's database says.
    pub fn votes(&self) -> bool {
        self.roles.iter().any(|role| role == "database" || role == "database-leader")
    }
}

/// An instance of any project, with what follows from its profiles.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Anywhere {
    /// Its name.
    pub name: InstanceName,
    /// The project it is in.
    #[serde(default)]
    pub project: String,
    /// The member that has it.
    #[serde(default)]
    pub location: String,
    /// How it is.
    #[serde(default)]
    pub status: instance::Status,
    /// Its configuration, profiles included.
    #[serde(default, deserialize_with = "or_default")]
    pub expanded_config: Config,
    /// Its devices, profiles included.
    #[serde(default, deserialize_with = "or_default")]
    pub expanded_devices: Devices,
}

/// How a member is, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Status {
    /// It answers.
    Online,
    /// It has not answered for a while.
    Offline,
    /// Its instances were moved away; it takes none until it is restored.
    Evacuated,
    /// Another word of the server's.
    Other(String),
}

impl From<String> for Status {
    fn from(word: String) -> Self {
        match word.as_str() {
            "Online" => Self::Online,
            "Offline" => Self::Offline,
            "Evacuated" => Self::Evacuated,
            _ => Self::Other(word),
        }
    }
}

impl Client {
    /// The members of the cluster; none when there is no cluster.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn members(&self) -> Result<Vec<Member>, IncusError> {
        if !self.server().await?.environment.server_clustered {
            return Ok(Vec::new());
        }
        self.list(ApiPath::of("cluster").then("members")).await
    }

    /// The instances of all projects.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn instances_anywhere(&self) -> Result<Vec<Anywhere>, IncusError> {
        self.list(ApiPath::of("instances").with("all-projects", "true")).await
    }

    /// Moves a member's instances to the others, or stops those that cannot move. It takes as long as moving takes.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses or fails.
    pub async fn evacuate(&self, member: &MemberName) -> Result<(), IncusError> {
        self.set_member(member, "evacuate").await
    }

    /// Brings a member's instances back, and lets it take new ones.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses or fails.
    pub async fn restore(&self, member: &MemberName) -> Result<(), IncusError> {
        self.set_member(member, "restore").await
    }

    async fn set_member(&self, member: &MemberName, action: &str) -> Result<(), IncusError> {
        let Patience { answer, operation } = self.patience();
        let patient = self.with_patience(Patience { answer, operation: operation.max(MOVING) });
        let path = ApiPath::of("cluster").then("members").then(member.as_str()).then("state");
        patient.send(Method::POST, path, &json!({ "action": action, "mode": "" })).await.map(drop)
    }
}
