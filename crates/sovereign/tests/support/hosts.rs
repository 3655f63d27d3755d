//! Hosts for a stack: a lab of data centers with bare hosts.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;
use sovereign_testkit::incusd::Incusd;

use super::{At, Operator};

/// Why there can be none here.
pub(crate) fn missing() -> Option<String> {
    let needed = ["mmdebstrap", "ssh", "/usr/sbin/nft", "curl"];
    let lacking = needed.into_iter().find(|program| Command::new(program).arg("--version").output().is_err());
    Incusd::missing().or_else(|| lacking.map(|program| format!("there is no {program} here")))
}

/// A host of the lab.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) datacenter: String,
    pub(crate) address: String,
}

impl Host {
    pub(crate) fn edge(&self) -> At {
        At(SocketAddr::new(self.address.parse().unwrap(), 443))
    }
}

/// Data centers of bare hosts; gone when this is dropped.
pub(crate) struct Lab {
    home: tempfile::TempDir,
    name: &'static str,
    pub(crate) folder: PathBuf,
    pub(crate) hosts: Vec<Host>,
}

impl Lab {
    /// With one host in each.
    pub(crate) fn up(incusd: &Incusd, name: &'static str, datacenters: usize) -> Self {
        Self::with_hosts(incusd, name, datacenters, 1)
    }

    pub(crate) fn with_hosts(incusd: &Incusd, name: &'static str, datacenters: usize, hosts: usize) -> Self {
        let [datacenters, hosts] = [datacenters, hosts].map(|count| count.to_string());
        Self::of_shape(incusd, name, &["--datacenters", &datacenters, "--hosts", &hosts])
    }

    /// With this shape, as `lab up` takes it.
    pub(crate) fn of_shape(incusd: &Incusd, name: &'static str, shape: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let socket = incusd.socket();
        let up = [&["up", "--json", "--incus", socket.to_str().unwrap()], shape].concat();
        let output = lab(home.path(), name, &up);
        let made: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let text = |host: &Value, key: &str| host[key].as_str().unwrap().to_owned();
        let hosts = made["hosts"].as_array().unwrap_or_else(|| panic!("{output:?}")).iter().map(|host| Host {
            name: text(host, "name"),
            datacenter: text(host, "datacenter"),
            address: text(host, "address"),
        });
        let folder = Path::new(made["stack_file"].as_str().unwrap()).parent().unwrap().to_owned();
        Self { hosts: hosts.collect(), folder, home, name }
    }

    pub(crate) fn run(&self, args: &[&str]) {
        let output = lab(self.home.path(), self.name, args);
        assert!(output.status.success(), "{output:?}");
    }

    /// `--json` of a command.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = lab(self.home.path(), self.name, &[args, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// What a shell on a host says.
    #[track_caller]
    pub(crate) fn says(&self, host: &Host, script: &str) -> String {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(self.folder.join("ssh_config")).args([&host.name, script]).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Has a shell on a host read something.
    pub(crate) fn puts(&self, host: &Host, script: &str, bytes: &[u8]) {
        let mut command = Command::new("ssh");
        command.arg("-F").arg(self.folder.join("ssh_config")).args([&host.name, script]).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        assert!(child.wait().unwrap().success(), "{script}");
    }

    pub(crate) fn edge(&self, datacenter: &str) -> At {
        self.hosts.iter().find(|host| host.datacenter == datacenter).unwrap().edge()
    }

    /// What is on a host that a stack might have made.
    pub(crate) fn inventory(&self, host: &Host) -> String {
        self.says(
            host,
            "dpkg-query -W -f '${Package}\\n' | sort; cat /root/.ssh/authorized_keys; grep -o '^sovereign[^:]*' /etc/passwd; \
             cd / && find etc/systemd/system etc/sovereign opt var/lib/sovereign var/lib/incus -type f 2> /dev/null | sort; \
             nft list tables 2> /dev/null || true; ls /sys/class/net",
        )
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        lab(self.home.path(), self.name, &["down", "--yes"]);
    }
}

/// `sovereign lab`, with what hosts start from kept where the lab's own tests keep it.
fn lab(home: &Path, name: &str, args: &[&str]) -> Output {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let mut command = Command::new(Operator::program());
    command.arg("lab").args(args).args(["--name", name]).current_dir(home).env_clear().env("HOME", home);
    command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("XDG_CACHE_HOME", &cache);
    command.env("XDG_DATA_HOME", cache.join("data"));
    command.envs(std::env::var_os("APT_CONFIG").map(|file| ("APT_CONFIG", file)));
    command.output().unwrap()
}

/// Makes a bare host ready.
pub(crate) fn add(operator: &Operator, lab: &Lab, host: &Host) {
    let line = lab.says(host, "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
    let fingerprint = line.split(' ').nth(1).unwrap();
    let (target, identity) = (format!("root@{}", host.address), lab.folder.join("key").display().to_string());
    let place = ["--datacenter", &host.datacenter, "--name", &host.name, "--identity", &identity];
    let args = [&["host", "add", &target], &place[..], &["--fingerprint", fingerprint, "--yes"]].concat();
    operator.run(&args).success();
}

/// Says how long something took.
#[expect(clippy::print_stderr, reason = "figures are shown")]
pub(crate) fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    eprintln!("{what}: {:.1?}", began.elapsed());
    done
}

/// Another binary that does the same: one byte longer, so its digest is another one.
pub(crate) fn another(operator: &Operator) -> PathBuf {
    let path = operator.home().join("another-sovereign");
    fs::copy(Operator::program(), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\n").unwrap();
    path
}

/// `up` by another binary.
pub(crate) fn up_with(program: &Path, operator: &Operator) -> (Option<i32>, String) {
    run_with(program, operator, &["up", "--yes", "--no-backup"])
}

/// Another command by another program; its exit code, and what it said.
pub(crate) fn run_with(program: &Path, operator: &Operator, args: &[&str]) -> (Option<i32>, String) {
    let as_usual = operator.command(args);
    let mut command = Command::new(program);
    command.args(as_usual.get_args()).current_dir(operator.home()).env_clear();
    command.envs(as_usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.code(), format!("{stdout}{stderr}"))
}
