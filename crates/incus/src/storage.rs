//! Storage pools, and the volumes in them that outlive instances.

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Config;
use crate::answer::or_default;
use crate::client::Client;
use crate::error::IncusError;
use crate::kept::Kept;
use crate::name::{PoolName, SnapshotName, VolumeName};
use crate::path::ApiPath;

/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// `dir`, `btrfs`, `zfs`, ...
    #[serde(default)]
    pub driver: String,
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

/// A custom volume: made by us and not with an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: VolumeName,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Its configuration: `size`, `security.shifted`, ...
    #[serde(default, deserialize_with = "or_default")]
    pub config: Config,
    /// The member of the cluster that has it.
    #[serde(default)]
    pub location: String,
    /// What uses it, as paths of the API.
    #[serde(default, deserialize_with = "or_default")]
    pub used_by: Vec<String>,
}

/// Volumes are listed with their snapshots among them, whose names have a `/` as no volume's has.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
struct VolumeOrSnapshot(Option<Volume>);

impl TryFrom<Value> for VolumeOrSnapshot {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, serde_json::Error> {
        let is_snapshot = value["name"].as_str().is_some_and(|name| name.contains('/'));
        if is_snapshot { Ok(Self(None)) } else { serde_json::from_value(value).map(|volume| Self(Some(volume))) }
    }
}

/// A snapshot of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Listed")]
pub struct VolumeSnapshot {
    /// Its name in the volume; `None` when it has one that is none.
    pub name: Option<SnapshotName>,
    /// When it was made, by RFC 3339.
    pub created_at: String,
}

/// As listings have it: with the volume's name in front.
#[derive(Deserialize)]
struct Listed {
    name: String,
    #[serde(default)]
    created_at: String,
}

impl From<Listed> for VolumeSnapshot {
    fn from(Listed { name, created_at }: Listed) -> Self {
        let name = name.rsplit_once('/').map_or(name.as_str(), |(_, name)| name);
        Self { name: name.parse().ok(), created_at }
    }
}

impl Client {
    /// All pools.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn pools(&self) -> Result<Vec<Pool>, IncusError> {
        self.list(ApiPath::of("storage-pools")).await
    }

    /// One pool.
    ///
    /// # Errors
    /// When there is none of that name, or the server cannot be reached or refuses.
    pub async fn pool(&self, name: &PoolName) -> Result<Kept<Pool>, IncusError> {
        self.read_kept(pool_path(name)).await
    }

    /// Makes a pool. In a cluster: first at each member ([`Client::at`]), then once for all.
    ///
    /// # Errors
    /// When it is there already, or the server cannot be reached, refuses or cannot do it.
    pub async fn create_pool(&self, name: &PoolName, driver: &str, config: &Config) -> Result<(), IncusError> {
        let body = json!({ "name": name, "driver": driver, "config": config });
        self.send(Method::POST, self.placed(ApiPath::of("storage-pools")), &body).await.map(drop)
    }

    /// Removes a pool that is empty.
    ///
    /// # Errors
    /// When there is none or it is not empty, or the server cannot be reached.
    pub async fn delete_pool(&self, name: &PoolName) -> Result<(), IncusError> {
        self.remove(pool_path(name)).await
    }

    /// The custom volumes of a pool.
    ///
    /// # Errors
    /// When there is no such pool, or the server cannot be reached or refuses.
    pub async fn volumes(&self, pool: &PoolName) -> Result<Vec<Volume>, IncusError> {
        let all: Vec<VolumeOrSnapshot> = self.list(self.project_of(volumes_path(pool))).await?;
        Ok(all.into_iter().filter_map(|VolumeOrSnapshot(volume)| volume).collect())
    }

    /// One custom volume.
    ///
    /// # Errors
    /// When there is none of that name, or the server cannot be reached or refuses.
    pub async fn volume(&self, pool: &PoolName, name: &VolumeName) -> Result<Kept<Volume>, IncusError> {
        self.read_kept(self.volume_path(pool, name)).await
    }

    /// Makes a custom volume for files.
    ///
    /// # Errors
    /// When it is there already, or the server cannot be reached, refuses or cannot do it.
    pub async fn create_volume(
        &self,
        pool: &PoolName,
        name: &VolumeName,
        description: &str,
        config: &Config,
    ) -> Result<(), IncusError> {
        let body = json!({ "name": name, "description": description, "config": config, "content_type": "filesystem" });
        self.send(Method::POST, self.placed(self.project_of(volumes_path(pool))), &body).await.map(drop)
    }

    /// Puts a volume back as changed.
    ///
    /// # Errors
    /// When somebody else changed it in between, or the server cannot be reached or refuses.
    pub async fn update_volume(&self, pool: &PoolName, volume: &Kept<Volume>) -> Result<(), IncusError> {
        self.put_back(self.volume_path(pool, &volume.value.name), volume).await
    }

    /// Removes a custom volume that nothing uses, with its snapshots.
    ///
    /// # Errors
    /// When there is none or it is used, or the server cannot be reached.
    pub async fn delete_volume(&self, pool: &PoolName, name: &VolumeName) -> Result<(), IncusError> {
        self.remove(self.volume_path(pool, name)).await
    }

    /// The snapshots of a volume, the oldest first.
    ///
    /// # Errors
    /// When there is no such volume, or the server cannot be reached or refuses.
    pub async fn volume_snapshots(
        &self,
        pool: &PoolName,
        volume: &VolumeName,
    ) -> Result<Vec<VolumeSnapshot>, IncusError> {
        self.list(self.snapshots_path(pool, volume, None)).await
    }

    /// Keeps a volume as it is now.
    ///
    /// # Errors
    /// When there is a snapshot of that name, or the server cannot be reached, refuses or cannot do it.
    pub async fn snapshot_volume(
        &self,
        pool: &PoolName,
        volume: &VolumeName,
        snapshot: &SnapshotName,
    ) -> Result<(), IncusError> {
        let path = self.snapshots_path(pool, volume, None);
        self.send(Method::POST, path, &json!({ "name": snapshot })).await.map(drop)
    }

    /// Makes a volume what it was. Refused while a running instance uses it.
    ///
    /// # Errors
    /// When there is no such snapshot or the volume is used, or the server cannot be reached.
    pub async fn restore_volume(
        &self,
        pool: &PoolName,
        volume: &VolumeName,
        snapshot: &SnapshotName,
    ) -> Result<(), IncusError> {
        self.send(Method::PUT, self.volume_path(pool, volume), &json!({ "restore": snapshot })).await.map(drop)
    }

    /// Removes a snapshot of a volume.
    ///
    /// # Errors
    /// When there is none of that name, or the server cannot be reached or refuses.
    pub async fn delete_volume_snapshot(
        &self,
        pool: &PoolName,
        volume: &VolumeName,
        snapshot: &SnapshotName,
    ) -> Result<(), IncusError> {
        self.remove(self.snapshots_path(pool, volume, Some(snapshot))).await
    }

    fn volume_path(&self, pool: &PoolName, name: &VolumeName) -> ApiPath {
        self.placed(self.project_of(volumes_path(pool).then(name.as_str())))
    }

    fn snapshots_path(&self, pool: &PoolName, volume: &VolumeName, snapshot: Option<&SnapshotName>) -> ApiPath {
        let path = volumes_path(pool).then(volume.as_str()).then("snapshots");
        let path = match snapshot {
            Some(snapshot) => path.then(snapshot.as_str()),
            None => path,
        };
        self.placed(self.project_of(path))
    }
}

fn pool_path(name: &PoolName) -> ApiPath {
    ApiPath::of("storage-pools").then(name.as_str())
}

fn volumes_path(pool: &PoolName) -> ApiPath {
    pool_path(pool).then("volumes").then("custom")
}
