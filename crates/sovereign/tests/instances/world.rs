//! An Incus in a network of its own, and instances made in it as their descriptions say.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sovereign_engine::incus::door::IncusDoor;
use sovereign_incus::exec::{Command, Ran};
use sovereign_incus::file::{Content, Owned};
use sovereign_incus::image::Source;
use sovereign_incus::instance::{NewInstance, Stop};
use sovereign_incus::{Client, Config, Devices, InstanceName};
use sovereign_model::instance::{InstanceHealth, InstanceSpec, bridge};
use sovereign_services::ghost::{Described, Image};
use sovereign_testkit::incusd::Incusd;
use tokio::runtime::Runtime;

use crate::support::{Operator, eventually};

/// A first start makes tables: 30 s on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) incusd: Incusd,
    pub(crate) client: Client,
}

fn config<const N: usize>(pairs: [(&str, String); N]) -> Config {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

impl World {
    pub(crate) fn begin() -> Self {
        let runtime = Runtime::new().unwrap();
        let incusd = Incusd::start_apart();
        let client = runtime.block_on(async {
            let client = incusd.connect().await.unwrap();
            client.create_pool(&"pool".parse().unwrap(), "dir", &Config::new()).await.unwrap();
            let network = config([
                ("ipv4.address", format!("{}/{}", bridge::HOST, bridge::PREFIX)),
                ("ipv4.nat", "false".to_owned()),
                ("ipv6.address", "none".to_owned()),
            ]);
            client.create_bridge(&bridge::NAME.parse().unwrap(), "", &network).await.unwrap();
            client
        });
        Self { runtime, incusd, client }
    }

    /// An image that the operator has built.
    pub(crate) fn upload(&self, built: &Value) -> Image {
        let rootfs = PathBuf::from(built["rootfs"].as_str().unwrap());
        let fingerprint = built["fingerprint"].as_str().unwrap().parse().unwrap();
        self.runtime.block_on(async {
            let source = Source::described(&rootfs.with_file_name("metadata.tar"), &rootfs, fingerprint).await.unwrap();
            self.client.upload_image(&source).await.unwrap();
        });
        Image { name: "debian-site".parse().unwrap(), fingerprint }
    }

    /// Makes an instance as described, with its files, and starts it.
    pub(crate) fn make(&self, name: &str, Described { spec, contents }: &Described) -> InstanceName {
        let instance: InstanceName = name.parse().unwrap();
        self.runtime.block_on(async {
            let volumes = self.client.volumes(&"pool".parse().unwrap()).await.unwrap();
            for volume in volume_names(spec) {
                if !volumes.iter().any(|there| there.name.as_str() == volume) {
                    let name = volume.parse().unwrap();
                    self.client.create_volume(&"pool".parse().unwrap(), &name, "", &Config::new()).await.unwrap();
                }
            }
            let new = NewInstance {
                name: instance.clone(),
                image: spec.fingerprint,
                description: String::new(),
                config: config([
                    ("limits.memory", spec.limits.memory.to_string()),
                    ("limits.processes", spec.limits.processes.to_string()),
                ]),
                devices: devices(spec),
                profiles: Vec::new(),
                ephemeral: false,
            };
            self.client.create_instance(&new).await.unwrap();
            for file in &spec.files {
                let above: Vec<&Path> = file.path.ancestors().skip(1).filter(|path| path.parent().is_some()).collect();
                for folder in above.into_iter().rev() {
                    self.client.make_folder(&instance, folder, Owned::by_root(0o755)).await.unwrap();
                }
                let content = Content::Bytes(contents.get(&file.path).unwrap().to_vec());
                let owned = Owned { mode: file.mode, uid: file.user, gid: file.group };
                self.client.push_file(&instance, &file.path, &content, owned).await.unwrap();
            }
            self.client.start(&instance).await.unwrap();
        });
        instance
    }

    /// Waits until it is, as its description says that one tells.
    pub(crate) fn well(&self, instance: &InstanceName, spec: &InstanceSpec) {
        eventually(&format!("{instance} is well"), PATIENCE, || match &spec.health {
            InstanceHealth::Service { service } => {
                let asked = Command::new(["systemctl", "is-active", "--quiet", service]);
                let ran = self.runtime.block_on(self.client.exec(instance, &asked));
                ran.is_ok_and(|ran| ran.code == 0).then_some(())
            }
            InstanceHealth::Http { port, path, host } => {
                (1..500).contains(&self.get(spec.address, *port, host, path).0).then_some(())
            }
        });
    }

    /// Status and body, as an edge on the host would ask.
    pub(crate) fn get(&self, address: Ipv4Addr, port: u16, host: &str, path: &str) -> (u16, String) {
        self.curl(address, port, host, path, &[])
    }

    pub(crate) fn curl(&self, address: Ipv4Addr, port: u16, host: &str, path: &str, more: &[&str]) -> (u16, String) {
        let mut curl = self.incusd.within("curl");
        curl.args(["--silent", "--max-time", "10", "--write-out", "\n%{http_code}"]);
        curl.args(["--header", &format!("host: {host}"), "--header", "x-forwarded-proto: https"]);
        let output = curl.args(more).arg(format!("http://{address}:{port}{path}")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = said.rsplit_once('\n').unwrap_or_default();
        (status.parse().unwrap_or(0), body.to_owned())
    }

    pub(crate) fn exec(&self, instance: &InstanceName, line: Vec<String>) -> Ran {
        self.runtime.block_on(self.client.exec(instance, &Command::new(line))).unwrap()
    }

    /// What a shell in the instance says.
    #[track_caller]
    pub(crate) fn says(&self, instance: &InstanceName, script: &str) -> String {
        let ran = self.exec(instance, ["sh", "-c", script].map(str::to_owned).into());
        let (said, complained) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert_eq!(ran.code, 0, "{script}: {said}{complained}");
        said.trim().to_owned()
    }

    pub(crate) fn push(&self, instance: &InstanceName, path: &str, bytes: Vec<u8>, owner: u32) {
        let owned = Owned { mode: 0o600, uid: owner, gid: owner };
        let content = Content::Bytes(bytes);
        let pushed = self.client.push_file(instance, Path::new(path), &content, owned);
        self.runtime.block_on(pushed).unwrap();
    }

    pub(crate) fn door(&self, instance: &InstanceName) -> IncusDoor {
        IncusDoor::new(self.client.clone(), instance.clone())
    }

    /// Stops and removes it; volumes stay.
    pub(crate) fn end(&self, instance: &InstanceName, spec: &InstanceSpec) {
        let within = Stop::Within(Duration::from_secs(spec.stop_grace_seconds.into()));
        self.runtime.block_on(async {
            self.client.stop(instance, within).await.unwrap();
            self.client.delete_instance(instance).await.unwrap();
        });
    }
}

fn volume_names(spec: &InstanceSpec) -> impl Iterator<Item = String> + '_ {
    let unit = spec.name.as_str().replace('@', "-");
    spec.volumes.iter().map(move |volume| format!("{unit}-{}", volume.name))
}

fn devices(spec: &InstanceSpec) -> Devices {
    let text = str::to_owned;
    let root = [("type", text("disk")), ("path", text("/")), ("pool", text("pool"))];
    let eth0 = [
        ("type", text("nic")),
        ("network", text(bridge::NAME)),
        ("ipv4.address", spec.address.to_string()),
        ("hwaddr", bridge::hardware(spec.address)),
    ];
    let mut devices = BTreeMap::from([(text("root"), config(root)), (text("eth0"), config(eth0))]);
    for (volume, source) in spec.volumes.iter().zip(volume_names(spec)) {
        let path = volume.path.display().to_string();
        let disk = [("type", text("disk")), ("pool", text("pool")), ("source", source), ("path", path)];
        devices.insert(volume.name.clone(), config(disk));
    }
    devices
}

/// What an operator has built of a role.
pub(crate) fn built(operator: &Operator, role: &str) -> Value {
    operator.json(&["images", "build", "--offline", role])
}
