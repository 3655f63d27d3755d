//! A Knot that takes dynamic updates of `example.net` with a key, on loopback.
#![allow(dead_code, unreachable_pub, reason = "also a part of another crate's tests")]

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The key's.
pub const SECRET: &str = "c292ZXJlaWduIHN0YWNrLCBhIHRlc3QncyBzZWNyZXQh";

/// What an operator has at a provider: an old web server, mail, and texts.
const THERE: &str = "@ 300 SOA ns.example.net. h.example.net. 1 60 60 60 60
@ 300 NS ns.example.net.
ns 300 A 127.0.0.1
@ 300 A 203.0.113.9
@ 300 AAAA 2001:db8::9
@ 300 MX 10 mail.example.net.
@ 300 TXT \"theirs\"
keep 300 TXT \"mine\"
";

/// It, until it is dropped.
pub struct Knot {
    _folder: TempDir,
    pub at: SocketAddr,
    process: Child,
}

impl Knot {
    /// One at an address of this machine's that knows the key `stack.example.net`.
    pub fn start(ip: IpAddr, algorithm: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = loop {
            let tcp = TcpListener::bind((ip, 0)).unwrap();
            let at = tcp.local_addr().unwrap();
            if UdpSocket::bind(at).is_ok() {
                break at;
            }
        };
        let path = folder.path().display().to_string();
        std::fs::write(folder.path().join("zone"), THERE).unwrap();
        let conf = format!(
            "server:\n    rundir: \"{path}\"\n    listen: {}@{}\n    udp-workers: 1\n    tcp-workers: 1\n\
             log:\n  - target: stderr\n    any: error\ndatabase:\n    storage: \"{path}\"\n\
             key:\n  - id: stack.example.net\n    algorithm: {algorithm}\n    secret: {SECRET}\n\
             acl:\n  - id: stack\n    key: stack.example.net\n    action: update\n\
             zone:\n  - domain: example.net\n    file: \"{path}/zone\"\n    acl: [stack]\n",
            at.ip(),
            at.port()
        );
        std::fs::write(folder.path().join("knot.conf"), conf).unwrap();
        let mut command = Command::new("knotd");
        command.arg("--config").arg(folder.path().join("knot.conf"));
        let process = command.stdout(Stdio::null()).spawn().expect("knotd runs");
        let knot = Self { _folder: folder, at, process };
        let began = Instant::now();
        while knot.kdig(&["+short", "keep.example.net", "TXT"]).is_empty() {
            assert!(began.elapsed() < Duration::from_secs(20), "Knot does not answer");
            sleep(Duration::from_millis(20));
        }
        knot
    }

    /// What kdig says, line by line, in their order.
    pub fn kdig(&self, more: &[&str]) -> Vec<String> {
        let (at, port) = (format!("@{}", self.at.ip()), self.at.port().to_string());
        let asked = Command::new("kdig").args([&*at, "-p", &*port, "+timeout=1", "+retry=0"]).args(more).output();
        let text = String::from_utf8(asked.expect("kdig runs").stdout).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with(";;"));
        // It ends some records with a space.
        let mut lines: Vec<String> = lines.map(|line| line.trim_end().to_owned()).collect();
        lines.sort();
        lines
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
