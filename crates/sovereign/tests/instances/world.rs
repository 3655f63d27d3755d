//! An Incus in a network of its own, and instances made in it as their descriptions say.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sovereign_engine::incus::door::IncusDoor;
use sovereign_engine::incus::instances::{Instances, Ran};
use sovereign_incus::exec::{self, Command};
use sovereign_incus::file::{Content, Owned};
use sovereign_incus::image::Source;
use sovereign_incus::{Client, InstanceName};
use sovereign_model::{StackName, UnitName};
use sovereign_services::ghost::{Described, Image};
use sovereign_testkit::incusd::Incusd;
use sovereign_testkit::within::{self, Within};
use tokio::runtime::Runtime;

use crate::support::Operator;

/// A first start makes tables: 30 s on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) incusd: Incusd,
    /// In the project of the stack.
    pub(crate) client: Client,
    host: Within,
    stack: StackName,
}

impl World {
    pub(crate) fn begin() -> Self {
        let runtime = Runtime::new().unwrap();
        let incusd = Incusd::start_apart();
        let connected = async { within::prepare(&incusd.connect().await.unwrap(), "6GiB").await.unwrap() };
        let client = runtime.block_on(connected);
        let host = Within::of(&incusd);
        Self { runtime, incusd, client, host, stack: "leaf".parse().unwrap() }
    }

    fn instances(&self) -> Instances<'_, Within> {
        Instances::new(&self.client, &self.host, &self.stack, None).well_within(PATIENCE)
    }

    /// Has an instance run and be well, as the engine does.
    pub(crate) fn run(&self, Described { spec, contents }: &Described, image: &Source) -> (InstanceName, Ran) {
        self.runtime.block_on(async {
            let ran = self.instances().run(spec, contents, image, &|_| ()).await.unwrap_or_else(|error| {
                panic!("{error:?}");
            });
            (self.instances().current(&spec.name).await.unwrap().unwrap(), ran)
        })
    }

    /// Stops what the current instance replaced.
    pub(crate) fn retire(&self, unit: &UnitName) {
        self.runtime.block_on(self.instances().retire(unit)).unwrap();
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

    pub(crate) fn exec(&self, instance: &InstanceName, line: Vec<String>) -> exec::Ran {
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
}

/// What an operator has built of a role.
pub(crate) fn built(runtime: &Runtime, operator: &Operator, role: &str) -> (Image, Source) {
    let built = operator.json(&["images", "build", "--offline", role]);
    let rootfs = PathBuf::from(built["rootfs"].as_str().unwrap());
    let fingerprint = built["fingerprint"].as_str().unwrap().parse().unwrap();
    let metadata = rootfs.with_file_name("metadata.tar");
    let described = Source::described(&metadata, &rootfs, fingerprint);
    let name = format!("debian-{role}").parse().unwrap();
    (Image { name, fingerprint }, runtime.block_on(described).unwrap())
}
