//! A server with a pool, a project for tests and a small image in it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use sovereign_incus::image::Source;
use sovereign_incus::instance::{NewInstance, Stop};
use sovereign_incus::project::{Project, restricted};
use sovereign_incus::{Client, Config, Dial, InstanceName, Patience, PoolName, UnixSocket};
use sovereign_model::Digest;
use sovereign_testkit::{busybox, incusd::Incusd};
use tokio::runtime::Runtime;

/// What the tests share.
pub(crate) struct World {
    runtime: Runtime,
    pub(crate) incusd: Incusd,
    /// In the project `sov`.
    pub(crate) client: Client,
    pub(crate) rootfs: PathBuf,
    pub(crate) image: Digest,
}

impl World {
    pub(crate) fn begin() -> Self {
        let runtime = Runtime::new().unwrap();
        let incusd = Incusd::start();
        let rootfs = incusd.file("rootfs.tar");
        busybox::rootfs(&rootfs).unwrap();
        let (client, image) = runtime.block_on(async {
            let client = incusd.connect().await.unwrap();
            client.create_pool(&pool(), "dir", &Config::new()).await.unwrap();
            let name = "sov".parse().unwrap();
            let project = Project { name, description: "for tests".to_owned(), config: restricted() };
            client.create_project(&project).await.unwrap();
            let client = client.in_project(project.name);
            let source = Source::describe(&rootfs, "x86_64", &BTreeMap::new()).await.unwrap();
            client.upload_image(&source).await.unwrap();
            (client, source.digest())
        });
        Self { runtime, incusd, client, rootfs, image }
    }

    /// Does something asynchronous to its end.
    pub(crate) fn run<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// A client that is impatient, and dials in its own way.
    pub(crate) async fn over(&self, dial: impl Dial + 'static, patience: Patience) -> Client {
        Client::connect(Arc::new(dial), patience, &[]).await.unwrap().in_project("sov".parse().unwrap())
    }

    pub(crate) fn socket(&self) -> UnixSocket {
        UnixSocket::new(self.incusd.socket())
    }

    /// What a small container is made of.
    pub(crate) fn small(&self, name: &str) -> NewInstance {
        let root = [("type", "disk"), ("path", "/"), ("pool", "pool")];
        NewInstance {
            name: name.parse().unwrap(),
            image: self.image,
            description: String::new(),
            config: Config::new(),
            devices: BTreeMap::from([("root".to_owned(), config(&root))]),
            profiles: Vec::new(),
            ephemeral: false,
        }
    }

    /// A small container that runs.
    pub(crate) async fn running(&self, name: &str) -> InstanceName {
        let new = self.small(name);
        self.client.create_instance(&new).await.unwrap();
        self.client.start(&new.name).await.unwrap();
        new.name
    }

    /// And is gone.
    pub(crate) async fn end(&self, name: &InstanceName) {
        self.client.stop(name, Stop::AtOnce).await.unwrap();
        self.client.delete_instance(name).await.unwrap();
    }
}

/// About the kit that all of this stands on.
pub(crate) fn abandoned(_: &World) {
    let dead = World::begin();
    let (name, none) = ("sovdead0".parse().unwrap(), config(&[("ipv4.address", "none"), ("ipv6.address", "none")]));
    let process = dead.run(async {
        dead.client.create_bridge(&name, "for a test", &none).await.unwrap();
        let name = dead.running("dead").await;
        dead.client.instance_state(&name).await.unwrap().pid
    });
    let is_there = || std::path::Path::new(&format!("/proc/{process}")).exists();
    let folder = dead.incusd.abandon();
    assert!(is_there() && folder.exists());
    drop(Incusd::start());
    assert!(!is_there() && !folder.exists());
    assert!(!std::path::Path::new("/sys/class/net/sovdead0").exists());
}

pub(crate) fn pool() -> PoolName {
    "pool".parse().unwrap()
}

pub(crate) fn config(pairs: &[(&str, &str)]) -> Config {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
