//! A host: an Incus with a network to itself, the project and the pool that a host has, and an image.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sovereign_engine::apply::Progress;
use sovereign_engine::incus::instances::{Contents, Instances, InstancesError, Ran};
use sovereign_hosts::systemd::{Answer, Host as _};
use sovereign_incus::image::Source;
use sovereign_incus::project::{Project, restricted};
use sovereign_incus::{Client, Config, Dial, InstanceName, MemberName, Patience};
use sovereign_model::instance::{InstanceFile, InstanceHealth, InstanceSpec, Limits, VolumeSpec};
use sovereign_model::unit::Replace;
use sovereign_model::{Digest, StackName, UnitName};
use sovereign_testkit::within::Within;
use sovereign_testkit::{busybox, incusd::Incusd};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// What the tests share.
pub(crate) struct World {
    runtime: Runtime,
    pub(crate) incusd: Incusd,
    host: Within,
    stack: StackName,
    member: Option<MemberName>,
    /// In the project of the stack.
    pub(crate) client: Client,
    pub(crate) image: Source,
}

impl World {
    pub(crate) fn begin() -> Self {
        Self::with(Incusd::start_apart(), None)
    }

    /// The same as the only member of a cluster.
    pub(crate) fn clustered() -> Self {
        let incusd = Incusd::start_apart();
        for line in
            [["config", "set", "core.https_address", "127.0.0.1:8443"].as_slice(), &["cluster", "enable", "atlas"]]
        {
            let mut incus = incusd.within("incus");
            incus.env("INCUS_DIR", incusd.file("")).env("INCUS_CONF", incusd.file("client"));
            let ended = incus.args(line).stdin(Stdio::null()).output().unwrap();
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        }
        Self::with(incusd, Some("atlas".parse().unwrap()))
    }

    fn with(incusd: Incusd, member: Option<MemberName>) -> Self {
        let runtime = Runtime::new().unwrap();
        let rootfs = incusd.file("rootfs.tar");
        busybox::server(&rootfs).unwrap();
        let (client, image) = runtime.block_on(async {
            let client = incusd.connect().await.unwrap();
            let (pool, size) = ("sovereign".parse().unwrap(), Config::from([("size".to_owned(), "1GiB".to_owned())]));
            match &member {
                None => client.create_pool(&pool, "btrfs", &size).await.unwrap(),
                Some(member) => {
                    client.at(member.clone()).create_pool(&pool, "btrfs", &size).await.unwrap();
                    client.create_pool(&pool, "btrfs", &Config::new()).await.unwrap();
                }
            }
            let mut config = restricted();
            // As `host add` makes it.
            config.remove("restricted.snapshots");
            let project = Project { name: "sovereign".parse().unwrap(), description: String::new(), config };
            client.create_project(&project).await.unwrap();
            let image = Source::describe(&rootfs, "x86_64", &BTreeMap::new()).await.unwrap();
            (client.in_project(project.name), image)
        });
        let host = Within::of(&incusd);
        Self { runtime, incusd, host, stack: "shop".parse().unwrap(), member, client, image }
    }

    /// Does something asynchronous to its end.
    pub(crate) fn run<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    /// As the next run of the command line has them: nothing is remembered.
    pub(crate) fn instances(&self) -> Instances<'_, Within> {
        Instances::new(&self.client, &self.host, &self.stack, self.member.clone()).well_within(Duration::from_secs(15))
    }

    /// The same over a connection of another kind.
    pub(crate) async fn instances_over(&self, dial: impl Dial + 'static) -> Instances<'_, Within> {
        let client = Client::connect(Arc::new(dial), Patience::default(), &[]).await.unwrap();
        Instances::new(&client, &self.host, &self.stack, self.member.clone())
    }

    /// Runs a command on the host; what it wrote.
    pub(crate) async fn host(&self, words: &[&str]) -> Answer {
        self.host.run(words).await.unwrap()
    }

    /// Puts rules for packets into effect on the host.
    pub(crate) async fn nft(&self, rules: &str) {
        let Answer { code, stderr, .. } = self.host(&["nft", rules]).await;
        assert_eq!(code, 0, "{stderr}");
    }

    /// A description of a unit whose HTTP server is asked for a page.
    pub(crate) fn spec(&self, unit: &str) -> InstanceSpec {
        InstanceSpec {
            name: unit.parse().unwrap(),
            datacenter: "home".parse().unwrap(),
            host: "atlas".parse().unwrap(),
            image: "debian-site".parse().unwrap(),
            fingerprint: self.image.digest(),
            address: Ipv4Addr::UNSPECIFIED,
            volumes: Vec::new(),
            files: Vec::new(),
            reaches: Vec::new(),
            serves: Some(8080),
            limits: Limits { memory: 64 << 20, processes: 50 },
            health: InstanceHealth::Http { port: 8080, path: "/".to_owned(), host: "shop.example".to_owned() },
            after: Vec::new(),
            stop_grace_seconds: 10,
            replace: Replace::Beside,
            data_version: None,
            converts: Vec::new(),
            inputs: BTreeMap::new(),
        }
    }

    /// Runs it with these files.
    pub(crate) async fn up(&self, new: &New) -> Result<Ran, InstancesError> {
        self.instances().run(&new.spec, &new.contents(), &self.image, &|_| ()).await
    }

    /// The names of what there is of a unit, and whether each runs.
    pub(crate) async fn of(&self, unit: &UnitName) -> Vec<(InstanceName, bool)> {
        let prefix = unit.as_str().replace('@', "-");
        let all = self.client.instances().await.unwrap().into_iter();
        let mine = all.filter(|instance| instance.name.as_str().starts_with(&prefix));
        mine.map(|instance| (instance.name, instance.status == sovereign_incus::instance::Status::Running)).collect()
    }

    /// What a page of an instance says, asked from the host.
    pub(crate) async fn page(&self, address: Ipv4Addr, path: &str) -> Option<String> {
        let url = format!("http://{address}:8080/{path}");
        let Answer { code, stdout, .. } = self.host(&["curl", "-s", "-f", "-m", "2", &url]).await;
        (code == 0).then_some(stdout)
    }
}

/// A description with what its files contain.
#[derive(Clone)]
pub(crate) struct New {
    pub(crate) spec: InstanceSpec,
    files: Vec<(PathBuf, String)>,
}

impl New {
    pub(crate) fn of(spec: InstanceSpec, files: &[(&str, &str)]) -> Self {
        let files: Vec<_> = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        let file = |(path, text): &(PathBuf, String)| InstanceFile {
            path: path.clone(),
            mode: 0o640,
            user: 33,
            group: 34,
            digest: Digest::of(text),
        };
        let spec = InstanceSpec { files: files.iter().map(file).collect(), ..spec };
        Self { spec: spec.addressed(), files }
    }

    pub(crate) fn contents(&self) -> Contents {
        self.files.iter().map(|(path, text)| (path, text.as_bytes())).collect()
    }
}

/// Runs it until it says what it does next, and no further.
pub(crate) async fn cut_at(world: &World, new: &New, at: &str) {
    let (reached, stop) = oneshot::channel();
    let reached = Mutex::new(Some(reached));
    let tell = |progress| {
        if progress == Progress::Doing(at.to_owned())
            && let Some(reached) = reached.lock().unwrap().take()
        {
            reached.send(()).unwrap();
        }
    };
    let (instances, contents) = (world.instances(), new.contents());
    tokio::select! {
        biased;
        _ = stop => {}
        ran = instances.run(&new.spec, &contents, &world.image, &tell) => panic!("not cut at {at}: {ran:?}"),
    }
}

pub(crate) fn volume(name: &str, path: &str) -> VolumeSpec {
    VolumeSpec { name: name.to_owned(), path: Path::new(path).to_owned() }
}
