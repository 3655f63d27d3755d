//! Instances: made from an image, started, stopped, changed, removed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sovereign_model::Digest;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::answer::or_default;
use crate::client::{Client, Patience};
use crate::error::IncusError;
use crate::kept::Kept;
use crate::name::{InstanceName, ProfileName};
use crate::path::ApiPath;
use crate::{Config, Devices};

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub name: InstanceName,
    /// How it is. While a member of a cluster does not answer, the others say `Error` of all that is there: that is no
    /// reason to act.
    #[serde(default)]
    pub status: Status,
    /// The member of the cluster that has it.
    #[serde(default)]
    pub location: String,
    /// The project it is in.
    #[serde(default)]
    pub project: String,
    /// When it was started last, RFC 3339.
    #[serde(default, rename = "last_used_at")]
    pub last_started: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Its own configuration. Keys that begin with `volatile.` are the server's.
    #[serde(default, deserialize_with = "or_default")]
    pub config: Config,
    /// Its own devices.
    #[serde(default, deserialize_with = "or_default")]
    pub devices: Devices,
    /// The profiles below its own configuration.
    #[serde(default, deserialize_with = "or_default")]
    pub profiles: Vec<ProfileName>,
}

impl Instance {
    /// When it was started last, in seconds of the epoch; `None` when it never was.
    pub fn started(&self) -> Option<u64> {
        let at = OffsetDateTime::parse(&self.last_started, &Rfc3339).ok()?;
        // Of what never was the server says a moment long before the epoch, or the epoch itself.
        u64::try_from(at.unix_timestamp()).ok().filter(|seconds| *seconds > 0)
    }
}

/// How an instance is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Status {
    /// It runs.
    Running,
    /// It does not.
    #[default]
    Stopped,
    /// Its processes are held still.
    Frozen,
    /// It is broken, or its member does not answer.
    Error,
    /// Another word of the server's.
    Other(String),
}

impl From<String> for Status {
    fn from(word: String) -> Self {
        match word.as_str() {
            "Running" => Self::Running,
            "Stopped" => Self::Stopped,
            "Frozen" => Self::Frozen,
            "Error" => Self::Error,
            _ => Self::Other(word),
        }
    }
}

impl From<Status> for String {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => "Running".to_owned(),
            Status::Stopped => "Stopped".to_owned(),
            Status::Frozen => "Frozen".to_owned(),
            Status::Error => "Error".to_owned(),
            Status::Other(word) => word,
        }
    }
}

/// An instance to be made. Always a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInstance {
    /// Its name: letters, digits and `-`.
    pub name: InstanceName,
    /// What it is made from.
    pub image: Digest,
    /// For people.
    pub description: String,
    /// Its configuration.
    pub config: Config,
    /// Its devices. Without a root disk among them or in a profile it is refused.
    pub devices: Devices,
    /// The profiles below its own configuration.
    pub profiles: Vec<ProfileName>,
    /// Whether it is removed when it stops.
    pub ephemeral: bool,
}

/// What is seen of an instance from outside.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct State {
    /// How it is.
    #[serde(default)]
    pub status: Status,
    /// Its first process, as the host counts; 0 when it does not run.
    #[serde(default)]
    pub pid: i64,
    /// Its interfaces, by name.
    #[serde(default, deserialize_with = "or_default")]
    pub network: BTreeMap<String, Interface>,
}

/// An interface of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Interface {
    /// Its addresses.
    #[serde(default, deserialize_with = "or_default")]
    pub addresses: Vec<Address>,
    /// Its hardware address.
    #[serde(default)]
    pub hwaddr: String,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// `global`, `link` or `local`.
    #[serde(default)]
    pub scope: String,
}

/// How an instance is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It is told, and has this long.
    Within(Duration),
    /// At once, as if power were cut.
    AtOnce,
}

impl Client {
    /// All instances of the project.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn instances(&self) -> Result<Vec<Instance>, IncusError> {
        self.list(self.scoped("instances")).await
    }

    /// One instance.
    ///
    /// # Errors
    /// When there is none of that name, or the server cannot be reached or refuses.
    pub async fn instance(&self, name: &InstanceName) -> Result<Kept<Instance>, IncusError> {
        self.read_kept(self.instance_path(name, &[])).await
    }

    /// What is seen of an instance from outside: whether it runs, and its addresses.
    ///
    /// # Errors
    /// When there is none of that name, or the server cannot be reached or refuses.
    pub async fn instance_state(&self, name: &InstanceName) -> Result<State, IncusError> {
        self.read(self.instance_path(name, &["state"])).await
    }

    /// Makes an instance from an image that is at the server. It is not started.
    ///
    /// # Errors
    /// When it is there already, or the server cannot be reached, refuses or cannot do it.
    pub async fn create_instance(&self, new: &NewInstance) -> Result<(), IncusError> {
        let NewInstance { name, image, description, config, devices, profiles, ephemeral } = new;
        let body = json!({
            "name": name,
            "type": "container",
            "source": { "type": "image", "fingerprint": image.hex() },
            "description": description,
            "config": config,
            "devices": devices,
            "profiles": profiles,
            "ephemeral": ephemeral,
        });
        self.send(Method::POST, self.placed(self.scoped("instances")), &body).await.map(drop)
    }

    /// Puts an instance back as changed.
    ///
    /// # Errors
    /// When somebody else changed it in between, or the server cannot be reached, refuses or cannot do it.
    pub async fn update_instance(&self, instance: &Kept<Instance>) -> Result<(), IncusError> {
        self.put_back(self.instance_path(&instance.value.name, &[]), instance).await
    }

    /// Sets these keys and devices of an instance, and no others.
    ///
    /// # Errors
    /// When there is none of that name, or the server cannot be reached, refuses or cannot do it.
    pub async fn patch_instance(
        &self,
        name: &InstanceName,
        config: &Config,
        devices: &Devices,
    ) -> Result<(), IncusError> {
        let mut body = serde_json::Map::new();
        // A key that is there means all of what it names, devices above all.
        if !config.is_empty() {
            body.insert("config".to_owned(), json!(config));
        }
        if !devices.is_empty() {
            body.insert("devices".to_owned(), json!(devices));
        }
        self.send(Method::PATCH, self.instance_path(name, &[]), &Value::Object(body)).await.map(drop)
    }

    /// Starts an instance.
    ///
    /// # Errors
    /// When it runs already, or the server cannot be reached, refuses or cannot do it.
    pub async fn start(&self, name: &InstanceName) -> Result<(), IncusError> {
        self.set_state(name, &json!({ "action": "start" })).await
    }

    /// Stops an instance.
    ///
    /// # Errors
    /// When it does not run or does not stop in time, or the server cannot be reached or refuses.
    pub async fn stop(&self, name: &InstanceName, how: Stop) -> Result<(), IncusError> {
        match how {
            Stop::AtOnce => self.set_state(name, &json!({ "action": "stop", "force": true })).await,
            Stop::Within(time) => {
                let Patience { answer, operation } = self.patience();
                let patient = self.with_patience(Patience { answer, operation: operation.max(time + answer) });
                patient.set_state(name, &json!({ "action": "stop", "timeout": time.as_secs().max(1) })).await
            }
        }
    }

    /// Holds the processes of an instance still.
    ///
    /// # Errors
    /// When it does not run, or the server cannot be reached or refuses.
    pub async fn freeze(&self, name: &InstanceName) -> Result<(), IncusError> {
        self.set_state(name, &json!({ "action": "freeze" })).await
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// When it is not frozen, or the server cannot be reached or refuses.
    pub async fn unfreeze(&self, name: &InstanceName) -> Result<(), IncusError> {
        self.set_state(name, &json!({ "action": "unfreeze" })).await
    }

    /// Removes an instance that does not run, with its snapshots. Custom volumes stay.
    ///
    /// # Errors
    /// When there is none or it runs, or the server cannot be reached or refuses.
    pub async fn delete_instance(&self, name: &InstanceName) -> Result<(), IncusError> {
        self.remove(self.instance_path(name, &[])).await
    }

    async fn set_state(&self, name: &InstanceName, body: &Value) -> Result<(), IncusError> {
        self.send(Method::PUT, self.instance_path(name, &["state"]), body).await.map(drop)
    }

    pub(crate) fn instance_path(&self, name: &InstanceName, below: &[&str]) -> ApiPath {
        let path = ApiPath::of("instances").then(name.as_str());
        self.project_of(below.iter().fold(path, |path, part| path.then(part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_an_instance_was_started_is_known_or_not() {
        let started = |said: Value| serde_json::from_value::<Instance>(said).unwrap().started();
        assert_eq!(
            started(json!({"name": "c1", "last_used_at": "2026-11-26T01:34:35.362927763Z"})),
            Some(1_795_656_875)
        );
        for never in ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "yesterday", ""] {
            assert_eq!(started(json!({"name": "c1", "last_used_at": never})), None, "{never}");
        }
        assert_eq!(started(json!({"name": "c1"})), None);
    }
}
