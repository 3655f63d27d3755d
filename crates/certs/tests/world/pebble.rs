//! Debian's pebble on loopback: an authority that issues certificates of its own. Also for tests elsewhere that ask it.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

const STARTS_WITHIN: Duration = Duration::from_secs(30);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A port that nobody has, neither for UDP nor for TCP.
pub(crate) fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let place = tcp.local_addr().unwrap();
        if UdpSocket::bind(place).is_ok() {
            return place;
        }
    }
}

/// What authorities of tests are believed by when they are talked to.
pub(crate) struct Trust {
    pub(crate) root: String,
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Trust {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "what pebble is talked to by");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let chain = params.signed_by(&key, &authority).unwrap().pem();
        Self { root: authority.pem(), chain, key: key.serialize_pem() }
    }
}

/// A pebble, until it is dropped.
pub(crate) struct Pebble {
    folder: TempDir,
    child: Child,
    pub(crate) place: SocketAddr,
    manage: SocketAddr,
}

impl Pebble {
    /// One that asks `dns`. Which root it issues from is new each time.
    pub(crate) fn start(trust: &Trust, dns: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (place, manage) = (free_port(), free_port());
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let config = serde_json::json!({ "pebble": {
            "listenAddress": place.to_string(),
            "managementListenAddress": manage.to_string(),
            "certificate": file("chain.pem", &trust.chain),
            "privateKey": file("key.pem", &trust.key),
            "httpPort": 1,
            "tlsPort": 1,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "domainBlocklist": ["blocked.org"],
            "certificateValidityPeriod": 90 * 86_400,
        }});
        let config = file("pebble.json", &config.to_string());
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        // One nonce of twenty is refused, as it is by default.
        let child = Command::new("pebble")
            .arg("-strict")
            .arg("-config")
            .arg(config)
            .arg("-dnsserver")
            .arg(dns.to_string())
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .spawn()
            .expect("pebble starts");
        let pebble = Self { folder, child, place, manage };
        let began = Instant::now();
        while TcpStream::connect(place).is_err() || TcpStream::connect(manage).is_err() {
            assert!(began.elapsed() < STARTS_WITHIN, "pebble does not listen: {}", pebble.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        pebble
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What its management says.
    pub(crate) fn manage(&self, path: &str) -> String {
        let asked = Command::new("curl").args(["-sk", &format!("https://{}{path}", self.manage)]).output().unwrap();
        String::from_utf8(asked.stdout).unwrap()
    }

    pub(crate) fn root(&self) -> String {
        self.manage("/roots/0")
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
