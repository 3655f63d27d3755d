//! A second Knot that has a copy of the zone, configured as its owner would, by what they are told.
#![allow(unreachable_pub, reason = "a module of one test binary")]

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sovereign_dns::knot::copy;
use sovereign_keys::{Purpose, RootSeed, TransferKey, WorkingKeys};
use sovereign_model::layout::NameServerFolder;
use sovereign_model::secondary::{Secondary, TsigAlgorithm};
use tempfile::TempDir;

use crate::common::PATIENCE;
use crate::stage::Stage;

/// Has a friend's server at `place` declared, and brings its key; the key.
pub fn declare(stage: &mut Stage, place: SocketAddr) -> TransferKey {
    let name: sovereign_model::SecondaryName = "friend".parse().unwrap();
    let secondary = Secondary {
        host: None,
        addresses: [place.ip()].into(),
        notify: vec![place],
        key: Secondary::usual_key(&name, &stage.config.stack),
        algorithm: TsigAlgorithm::HmacSha256,
        name: name.clone(),
    };
    let purposes = [Purpose::Transfer(name.clone())];
    let keys = WorkingKeys::imagined(&stage.config.stack, &purposes, &RootSeed::generate());
    let key = keys.transfer_key(&secondary).unwrap();
    let path = NameServerFolder::new(stage.folder.path()).transfer_key(&name, &key.digest());
    fs::write(path, key.knot().expose()).unwrap();
    stage.config.transfer_keys.insert(name.clone(), key.digest());
    stage.config.names.domains[0].secondaries.push(name);
    stage.config.names.secondaries.push(secondary);
    key
}

/// A friend's Knot, until it is dropped.
pub struct Friend {
    folder: TempDir,
    process: Child,
}

impl Friend {
    pub fn start(stage: &Stage, place: SocketAddr, secret: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let told = copy::conf(&stage.config.names, &stage.config.names.secondaries[0], secret);
        // Name servers of tests are not at DNS's own port.
        let told = told.replace("@53", &format!("@{}", stage.listen.port()));
        let own = format!(
            "server:\n    rundir: \"{path}\"\n    listen: {}@{}\n    udp-workers: 1\n    tcp-workers: 1\n\
             log:\n  - target: stderr\n    any: error\ndatabase:\n    storage: \"{path}\"\n",
            place.ip(),
            place.port()
        );
        fs::write(folder.path().join("knot.conf"), own + &told).unwrap();
        let mut knot = Command::new("knotd");
        knot.arg("--config").arg(folder.path().join("knot.conf")).stdout(Stdio::null()).stderr(Stdio::null());
        let friend = Self { process: knot.spawn().expect("knotd runs"), folder };
        let began = Instant::now();
        while !friend.control(&["status"]) {
            assert!(began.elapsed() < PATIENCE, "a friend's Knot does not run");
            sleep(Duration::from_millis(20));
        }
        friend
    }

    fn control(&self, command: &[&str]) -> bool {
        let mut knotc = Command::new("knotc");
        knotc.arg("--blocking").arg("--socket").arg(self.folder.path().join("knot.sock"));
        knotc.args(command).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("knotc runs").success()
    }

    /// Whether it gets the zone, or hears that it has the newest, when it looks.
    pub fn refreshes(&self) -> bool {
        self.control(&["zone-refresh", "example.org"])
    }
}

impl Drop for Friend {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
