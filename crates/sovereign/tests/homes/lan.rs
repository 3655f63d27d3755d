//! Somebody on the network of a data center: a namespace of its own on the lab's bridge, with a resolver that its router
//! might run.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::support::eventually;
use crate::support::hosts::Host;

/// Runs a command line; its words have no spaces in them.
fn sh(line: &str) {
    let mut words = line.split_whitespace();
    let ended = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(ended.status.success(), "{line}: {}", String::from_utf8_lossy(&ended.stderr));
}

/// A device, and what it asks for names. Gone when this is dropped.
pub(crate) struct Device {
    name: String,
    resolver: Option<Child>,
}

impl Device {
    /// On the network of a host, which is this bridge.
    pub(crate) fn beside(host: &Host, bridge: &str) -> Self {
        let name = format!("{bridge}-d");
        let device = Self { name, resolver: None };
        let name = &device.name;
        let [a, b, c, _] = host.address.parse::<Ipv4Addr>().unwrap().octets();
        sh(&format!("ip netns add {name}"));
        sh(&format!("ip link add {name}v type veth peer name eth0 netns {name}"));
        sh(&format!("ip link set {name}v master {bridge} up"));
        for line in [
            "link set lo up".to_owned(),
            format!("address add {a}.{b}.{c}.200/24 dev eth0"),
            "link set eth0 up".to_owned(),
            format!("route add default via {a}.{b}.{c}.1"),
        ] {
            sh(&format!("ip -n {name} {line}"));
        }
        device
    }

    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Has it ask a resolver of its own, which is told this on top of its `basis`.
    pub(crate) fn resolve(&mut self, program: &str, args: &[&str], conf: &Path, text: &str) {
        fs::write(conf, text).unwrap();
        fs::create_dir_all(self.etc()).unwrap();
        fs::write(self.etc().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        let mut command = self.command(program);
        command.args(args).arg(conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.resolver = Some(command.spawn().unwrap());
        eventually(&format!("{program} answers"), Duration::from_secs(10), || {
            let said = self.run("kdig", &["@127.0.0.1", "localhost", "A", "+time=1", "+retry=0"]);
            String::from_utf8_lossy(&said.stdout).contains("HEADER").then_some(())
        });
    }

    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Output {
        self.command(program).args(args).output().unwrap()
    }

    /// What is read at an address with the name that readers use, found as this device finds it.
    pub(crate) fn reads(&self, authority: &Path, url: &str, more: &[&str]) -> Result<String, String> {
        let mut curl = self.command("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", "--cacert"]).arg(authority);
        let output = curl.args(more).arg(url).output().unwrap();
        let [said, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if output.status.success() { Ok(said) } else { Err(error) }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(mut resolver) = self.resolver.take() {
            let _ = resolver.kill();
            let _ = resolver.wait();
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
        let _ = fs::remove_dir_all(self.etc());
    }
}
