//! A laboratory: an application on a unix socket that answers like Ghost, edges with real sockets, and an HTTPS client.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the laboratory")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

pub mod blog;
pub mod client;
pub mod door;
pub mod origin;
pub mod process;
pub mod prometheus;
pub mod raw;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519, SanType};
use serde_json::Value;
use sovereign_edge::{EdgeError, Listeners, Options};
use sovereign_model::HostName;
use sovereign_model::edge_config::{
    CertificateFiles, EdgeApp, EdgeConfig, EdgeSite, EpochProof, PROTOCOL, Peer, Source, epoch_statement,
};
use sovereign_model::edge_rules::{EdgeRules, Limits, Room};
use sovereign_model::renewer_word::{Word, warrant_statement};
use sovereign_model::stack::AdminReach;
use sovereign_runtime::SigningKey;
use sovereign_runtime::control::{self, Request};
use sovereign_runtime::lifecycle::{Drained, Lifecycle};
use sovereign_runtime::signed;
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub use client::{Answer, Client};
pub use origin::Origin;

pub const HOOK_SECRET: &str = "5e5e5e5e";
/// The name under which the site is canonical; the port is the home edge's.
pub const NAME: &str = "blog.localhost";

/// Folders, keys, ports and a certificate authority.
pub struct Lab {
    pub folder: TempDir,
    operator: SigningKey,
    issuer: Issuer<'static, KeyPair>,
    pub client: Client,
    /// The authority's certificate, PEM.
    pub authority: String,
}

/// What one edge of the lab is.
pub struct Place {
    /// Its data center.
    pub name: &'static str,
    /// Where that has several.
    pub host: Option<&'static str>,
    pub listener: TcpListener,
    pub folder: PathBuf,
    link_public: String,
}

impl Place {
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub fn port(&self) -> u16 {
        self.address().port()
    }

    fn host_name(&self) -> Option<HostName> {
        self.host.map(|host| host.parse().unwrap())
    }

    pub fn as_peer(&self) -> Peer {
        Peer {
            datacenter: self.name.parse().unwrap(),
            host: self.host_name(),
            public_key: self.link_public.clone(),
            addresses: vec![self.address()],
            learned: None,
        }
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    pub fn control(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    pub fn renewal(&self) -> PathBuf {
        self.folder.join("renewal.sock")
    }
}

/// An edge that runs in this process.
pub struct Running {
    pub lifecycle: Lifecycle,
    pub task: JoinHandle<Result<Drained, EdgeError>>,
    control: PathBuf,
}

impl Running {
    pub async fn ask(&self, request: Request) -> Result<Value, control::ControlError> {
        control::request_async(&self.control, &request, Duration::from_secs(5)).await
    }

    /// The status of the one site.
    pub async fn site(&self) -> Value {
        let status = self.ask(Request::new("status")).await.unwrap();
        assert_eq!(status["healthy"], true);
        status["sites"][0].clone()
    }

    /// Waits until the mirror is complete and has come to rest.
    pub async fn complete(&self) -> Value {
        within(Duration::from_secs(120), "the site is complete", async || {
            let site = self.site().await;
            (site["complete"] == true && site["pass"].is_null() && site["pages-stale"] == 0).then_some(site)
        })
        .await
    }

    pub async fn stop(self) -> Drained {
        self.lifecycle.stop();
        self.task.await.unwrap().unwrap()
    }
}

impl Lab {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // Named, or OpenSSL takes what it has signed for self-signed.
        params.distinguished_name.push(rcgen::DnType::CommonName, "laboratory");
        let authority = params.self_signed(&key).unwrap();
        let client = Client::trusting(authority.der().clone());
        let authority = authority.pem();
        Self { folder, operator: SigningKey::from_bytes(&[7; 32]), issuer: Issuer::new(params, key), client, authority }
    }

    /// A data center: its port, certificate and link key.
    pub fn place(&self, name: &'static str) -> Place {
        self.place_at(name, TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// The same where `listener` listens.
    pub fn place_at(&self, name: &'static str, listener: TcpListener) -> Place {
        self.edge_of(name, None, listener)
    }

    /// One of several hosts of a data center.
    pub fn host(&self, datacenter: &'static str, host: &'static str) -> Place {
        self.edge_of(datacenter, Some(host), TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn edge_of(&self, name: &'static str, host: Option<&'static str>, listener: TcpListener) -> Place {
        let folder = self.folder.path().join(host.unwrap_or(name));
        std::fs::create_dir(&folder).unwrap();
        self.write_certificate(&folder);
        let link = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        std::fs::write(folder.join("link.pem"), link.serialize_pem()).unwrap();
        std::fs::write(folder.join("hook"), format!("{HOOK_SECRET}\n")).unwrap();
        Place { name, host, listener, folder, link_public: hex::encode(link.public_key_raw()) }
    }

    pub fn write_certificate(&self, folder: &Path) -> Vec<u8> {
        self.write_certificate_until(folder, 4096)
    }

    /// One that ends when `year` begins.
    pub fn write_certificate_until(&self, folder: &Path, year: i32) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([NAME.to_owned(), format!("www.{NAME}")]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(folder.join("chain.pem"), leaf.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        leaf.der().to_vec()
    }

    /// A certificate for `name` alone with its key in one text, and the certificate.
    pub fn public_certificate(&self, name: &str, year: i32) -> (String, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (key.serialize_pem() + &leaf.pem(), leaf.der().to_vec())
    }

    /// The same as an authority would issue it, so long ago and for as long again.
    pub fn issued(&self, name: &str, ago: Duration) -> (String, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        let now = SystemTime::now();
        (params.not_before, params.not_after) = ((now - ago).into(), (now + ago).into());
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (key.serialize_pem() + &leaf.pem(), leaf.der().to_vec())
    }

    pub fn config(&self, place: &Place, peers: Vec<Peer>, site: EdgeSite) -> EdgeConfig {
        EdgeConfig {
            stack: "lab".parse().unwrap(),
            datacenter: place.name.parse().unwrap(),
            host: place.host_name(),
            certificate: CertificateFiles { chain: place.folder.join("chain.pem"), key: place.folder.join("key.pem") },
            public_certificates: None,
            public_authorities: None,
            store: place.folder.join("store"),
            link_key: place.folder.join("link.pem"),
            peers,
            sites: vec![site],
            // Everything here comes from one address.
            rules: EdgeRules {
                limits: Limits { requests_per_address: 1_000_000, ..Limits::default() },
                ..EdgeRules::default()
            },
            access_log: None,
            proxy: None,
            https_port: 443,
        }
    }

    /// The lab's one site, canonical at `home`.
    pub fn site(&self, home: &Place, source: Source) -> EdgeSite {
        EdgeSite {
            site: "blog".parse().unwrap(),
            canonical: format!("https://{NAME}:{}", home.port()).parse().unwrap(),
            names: vec![NAME.parse().unwrap(), format!("www.{NAME}").parse().unwrap()],
            app: if matches!(source, Source::Folder(_)) { EdgeApp::Static } else { EdgeApp::Ghost },
            webhook_key: matches!(source, Source::Unix(_)).then(|| home.folder.join("hook")),
            source,
            mirrors: vec!["office".parse().unwrap()],
            admin: AdminReach::Public,
            epoch: 1,
            room: Room::default(),
            hsts_days: 0,
            epoch_proof: None,
            maintenance: false,
        }
    }

    /// A word of who renews certificates beside an edge, and whom the management machine vouches for.
    pub fn word(&self, by: &str, number: u64) -> Word {
        let (stack, key) = ("lab".parse().unwrap(), SigningKey::from_bytes(&[8; 32]));
        let (by, public) = (by.parse().unwrap(), hex::encode(key.verifying_key().as_bytes()));
        let warrant = signed::attest(&self.operator, &warrant_statement(&stack, &by, &public));
        let challenges = [(NAME.parse().unwrap(), ["text".to_owned()].into())].into();
        let mut word = Word { by, key: public, warrant, number, challenges, signature: String::new() };
        word.signature = signed::attest(&key, &word.statement(&stack));
        word
    }

    /// The management machine's word that `primary` is the blog's in `epoch`.
    pub fn proof(&self, epoch: u64, primary: &str) -> EpochProof {
        proof_by(&self.operator, "blog", epoch, primary)
    }

    pub fn seal(&self, place: &Place, generation: u64, config: &EdgeConfig) {
        let payload = serde_json::to_string(config).unwrap();
        let sealed = signed::seal(&self.operator, PROTOCOL, generation, payload);
        std::fs::write(place.config_path(), sealed).unwrap();
    }

    pub fn options(&self, place: &Place) -> Options {
        let (trust, renewal) = (self.operator.verifying_key(), Some(place.renewal()));
        Options { config: place.config_path(), trust, control: place.control(), renewal }
    }

    /// Starts an edge and waits until it answers on its control socket.
    pub async fn start(&self, place: &Place) -> Running {
        let listener = place.listener.try_clone().unwrap();
        self.start_with(place, Listeners { https: vec![listener], ..Listeners::default() }).await
    }

    /// Starts an edge on these sockets.
    pub async fn start_with(&self, place: &Place, listeners: Listeners) -> Running {
        let lifecycle = Lifecycle::new(Duration::from_secs(20));
        // A process that is about to be relieved answers until its successor has taken the name of the socket.
        let socket = || std::fs::symlink_metadata(place.control()).ok().map(|found| found.ino());
        let before = socket();
        let task = tokio::spawn(sovereign_edge::serve(self.options(place), listeners, lifecycle.clone()));
        let running = Running { lifecycle, task, control: place.control() };
        eventually("the edge is up", async || {
            assert!(!running.task.is_finished(), "the edge has ended");
            socket().filter(|now| Some(*now) != before)?;
            running.ask(Request::new("status")).await.ok()
        })
        .await;
        running
    }

    /// What Ghost says in a webhook, signed.
    pub async fn hook(&self, home: &Place, body: &str) -> Answer {
        hook(&self.client, home.address(), body, SystemTime::now()).await
    }

    /// Home with the application, and mirrors of it; all complete.
    pub async fn many(&self, origin: &Origin, mirrors: &[&'static str]) -> (Place, Running, Vec<(Place, Running)>) {
        let home = self.place("home");
        let places: Vec<_> = mirrors.iter().map(|name| self.place(name)).collect();
        let mut site = self.site(&home, Source::Unix(origin.socket.clone()));
        site.mirrors = mirrors.iter().map(|name| name.parse().unwrap()).collect();
        let mirror = EdgeSite { source: Source::Link("home".parse().unwrap()), webhook_key: None, ..site.clone() };
        origin.set_canonical(&site.canonical.to_string());
        self.seal(&home, 1, &self.config(&home, places.iter().map(Place::as_peer).collect(), site));
        let at_home = self.start(&home).await;
        at_home.complete().await;
        let mut running = Vec::new();
        for place in places {
            self.seal(&place, 1, &self.config(&place, vec![home.as_peer()], mirror.clone()));
            let edge = self.start(&place).await;
            edge.complete().await;
            running.push((place, edge));
        }
        (home, at_home, running)
    }

    /// Home with the application, office with a mirror of it; both complete.
    pub async fn two(&self, origin: &Origin) -> (Place, Running, Place, Running) {
        let (home, office) = (self.place("home"), self.place("office"));
        let site = self.site(&home, Source::Unix(origin.socket.clone()));
        let mirror = EdgeSite { source: Source::Link("home".parse().unwrap()), webhook_key: None, ..site.clone() };
        origin.set_canonical(&site.canonical.to_string());
        self.seal(&home, 1, &self.config(&home, vec![office.as_peer()], site));
        self.seal(&office, 1, &self.config(&office, vec![home.as_peer()], mirror));
        let at_home = self.start(&home).await;
        at_home.complete().await;
        let at_office = self.start(&office).await;
        at_office.complete().await;
        (home, at_home, office, at_office)
    }
}

/// What `key` says of a site's primary.
pub fn proof_by(key: &SigningKey, site: &str, epoch: u64, primary: &str) -> EpochProof {
    let primary = primary.parse().unwrap();
    let statement = epoch_statement(&"lab".parse().unwrap(), &site.parse().unwrap(), epoch, &primary);
    EpochProof { primary, signature: signed::attest(key, &statement) }
}

/// What Ghost says in a webhook, signed by a clock that says `now`.
async fn hook(client: &Client, home: SocketAddr, body: &str, now: SystemTime) -> Answer {
    let time = now.duration_since(UNIX_EPOCH).unwrap().as_millis().to_string();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(HOOK_SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    mac.update(time.as_bytes());
    let signature = format!("sha256={}, t={time}", hex::encode(mac.finalize().into_bytes()));
    let fields = [("x-ghost-signature", signature.as_str()), ("content-type", "application/json")];
    let host = format!("127.0.0.1:{}", home.port());
    client.post(home, &host, "/.sovereign/hooks/blog", &fields, Bytes::copy_from_slice(body.as_bytes())).await
}

/// Ghost says that the site changed.
pub async fn site_changed(client: &Client, home: SocketAddr) -> Answer {
    site_changed_at(client, home, SystemTime::now()).await
}

/// The same, by a clock that says `now`.
pub async fn site_changed_at(client: &Client, home: SocketAddr, now: SystemTime) -> Answer {
    hook(client, home, r#"{"event":"site.changed"}"#, now).await
}

/// Asks until there is an answer, for at most 20 seconds.
pub async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(Duration::from_secs(20), what, ask).await
}

/// The same for what takes longer.
pub async fn within<T>(time: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(time, asking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}
