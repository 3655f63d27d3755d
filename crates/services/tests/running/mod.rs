//! A Ghost in a temporary folder, run as an engine would run it: from its layout and its unit, nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::Sha256;
use sovereign_model::edge_rules::Room;
use sovereign_model::name::{DatacenterName, Origin};
use sovereign_model::stack::{AdminReach, App, Site, SiteSettings};
use sovereign_model::unit::Health;
use sovereign_model::{Digest, UnitName};
use sovereign_services::ghost::{
    Connection, Home, Keys, Operator, OperatorError, Owner, SetUp, Webhooks, layout, outgoing, owner_email, setup,
    unit, webhook_url,
};
use sovereign_services::secret::Secret;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// Boot with an empty database took 4 s alone, and more beside other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is yes; fails the test when it stays no.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = SystemTime::now();
    while !condition().await {
        assert!(start.elapsed().unwrap() < PATIENCE, "never happened: {what}, {}", now());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The time as Ghost writes it.
pub(crate) fn now() -> String {
    after(Duration::ZERO)
}

fn after(wait: Duration) -> String {
    let seconds = (SystemTime::now() + wait).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    // Days to a civil date: Howard Hinnant's algorithm, good for every year we run in.
    let (days, rest) = ((seconds / 86_400) as i64 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year_of_era + carry;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.000Z", rest / 3600, rest / 60 % 60, rest % 60)
}

pub(crate) struct Ghost {
    pub(crate) site: Site,
    pub(crate) hooks: Hooks,
    pub(crate) reader_password: Option<Secret>,
    state: tempfile::TempDir,
    image: PathBuf,
    datacenter: DatacenterName,
    webhooks: Webhooks,
    child: Option<Child>,
}

impl Ghost {
    /// `None` when no image is named. Nothing runs yet.
    pub(crate) fn prepare(name: &str) -> Option<Self> {
        let image = PathBuf::from(std::env::var_os("SOVEREIGN_GHOST_IMAGE")?);
        let hooks = Hooks::listen();
        let site = Site {
            name: name.parse().unwrap(),
            app: App::Ghost,
            canonical: Origin::https(format!("{name}.localhost").parse().unwrap(), hooks.port),
            edge_port: hooks.port,
            names: Vec::new(),
            primary: "home".parse().unwrap(),
            mirrors: Vec::new(),
            admin: AdminReach::Public,
            room: Room::default(),
            hsts_days: 0,
            settings: SiteSettings::default(),
        };
        // The edge's address, without its TLS
        let target = webhook_url(&site).replacen("https:", "http:", 1);
        let webhooks = Webhooks { target, key: Secret::new("a key of the test") };
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("ca.pem"), "").unwrap();
        Some(Self {
            site,
            hooks,
            reader_password: None,
            state,
            image,
            datacenter: "home".parse().unwrap(),
            webhooks,
            child: None,
        })
    }

    /// Deep enough that no socket in it could be bound by its whole path.
    pub(crate) fn folder(&self) -> PathBuf {
        self.state.path().join("d".repeat(100)).join("sites/blog")
    }

    pub(crate) fn webhook_key(&self) -> &str {
        self.webhooks.key.expose()
    }

    pub(crate) fn operator(&self) -> Operator {
        Operator::of(&self.folder())
    }

    pub(crate) async fn start(&mut self) {
        let (folder, ca) = (self.folder(), self.state.path().join("ca.pem"));
        let home = self.home(&folder, &ca);
        layout(&home).write().unwrap();
        let unit = unit(&home).unwrap();
        assert_eq!(unit.name, "ghost-blog@home".parse::<UnitName>().unwrap());
        let log = File::create(self.state.path().join("ghost.log")).unwrap();
        let mut command = Command::new(&unit.program);
        command.args(&unit.args).env_clear().envs(&unit.env).current_dir(&unit.working_dir).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();

        let Health::HttpUnix { socket, path, host } = &unit.health else { panic!("Ghost is asked over its socket") };
        eventually("Ghost is healthy", async || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("Ghost ended, {status}: {}", self.log());
            }
            Connection::new(socket).get(host, path).await.is_ok_and(|(status, _, _)| status.as_u16() < 500)
        })
        .await;
        self.child = Some(child);
    }

    /// What `program` prints, line by line and sorted, when node runs it under our guard as it runs Ghost.
    pub(crate) async fn run_guarded(&self, program: &Path) -> Vec<String> {
        let (folder, ca) = (self.folder(), self.state.path().join("ca.pem"));
        let home = self.home(&folder, &ca);
        layout(&home).write().unwrap();
        let unit = unit(&home).unwrap();
        let args = unit.args.split_last().unwrap().1; // all but Ghost itself
        let mut command = Command::new(&unit.program);
        command.args(args).arg(program).env_clear().envs(&unit.env).current_dir(&unit.working_dir);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut lines: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    fn home<'a>(&'a self, folder: &'a Path, ca_certificate: &'a Path) -> Home<'a> {
        Home {
            site: &self.site,
            datacenter: &self.datacenter,
            folder,
            image: &self.image,
            image_digest: Digest::of("image"),
            ca_certificate,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.state.path().join("ghost.log")).unwrap_or_default()
    }

    /// SIGTERM, as an engine stops it.
    pub(crate) async fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        assert!(tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success(), "{}", self.log());
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    pub(crate) async fn setup(&self) -> Result<SetUp, OperatorError> {
        let owner = Owner {
            name: "Owner".to_owned(),
            email: owner_email(&self.site.canonical),
            password: Secret::new("nine-Wild-geese-0"),
        };
        setup(&self.operator(), &self.site, &owner, &self.webhooks, self.reader_password.as_ref()).await
    }

    /// The targets Ghost was refused.
    pub(crate) fn refused(&self) -> Vec<String> {
        outgoing(&self.folder()).unwrap().into_iter().map(|refused| refused.target).collect()
    }

    fn connection(&self) -> Connection {
        Connection::new(self.folder().join("run/ghost.sock"))
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, HeaderMap, String) {
        let (status, headers, body) = self.connection().get(&self.site.canonical.authority(), path).await.unwrap();
        (status, headers, String::from_utf8_lossy(&body).into_owned())
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call("POST", path, Some(body), None).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call("PUT", path, Some(body), None).await
    }

    pub(crate) async fn can_sign_in(&self, email: &str, password: &str) -> bool {
        let (status, _) = self.post("/session/", json!({ "username": email, "password": password })).await;
        status == StatusCode::CREATED
    }

    /// The Admin API, with a token made from our key.
    pub(crate) async fn admin(
        &self,
        keys: &Keys,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        self.call(method, path, body, Some(format!("Ghost {}", token(keys)))).await
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>, pass: Option<String>) -> (StatusCode, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/ghost/api/admin{path}"))
            .header("host", self.site.canonical.authority())
            .header("origin", self.site.canonical.to_string())
            .header("x-forwarded-proto", "https")
            .header("content-type", "application/json");
        if let Some(pass) = pass {
            request = request.header("authorization", pass);
        }
        let body = Full::new(Bytes::from(body.map(|body| body.to_string()).unwrap_or_default()));
        let answer = self.connection().send(request.body(body).unwrap()).await.unwrap();
        (answer.status(), serde_json::from_slice(answer.body()).unwrap_or(Value::Null))
    }

    pub(crate) async fn publish(&self, keys: &Keys, post: Value) -> Value {
        let (status, answer) = self.admin(keys, "POST", "/posts/?source=html", Some(json!({ "posts": [post] }))).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer["posts"][0].clone()
    }

    pub(crate) async fn schedule(&self, keys: &Keys, slug: &str, wait: Duration) -> Value {
        let at = after(wait);
        let post =
            json!({ "title": slug, "slug": slug, "html": "<p>x</p>", "status": "scheduled", "published_at": at });
        self.publish(keys, post).await
    }
}

impl Drop for Ghost {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what Ghost said:\n{}", self.log());
        }
    }
}

fn token(keys: &Keys) -> String {
    let (id, key) = keys.admin.expose().split_once(':').unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let head = json!({ "alg": "HS256", "typ": "JWT", "kid": id }).to_string();
    let claims = json!({ "iat": now, "exp": now + 60, "aud": "/admin/" }).to_string();
    let signed = format!("{}.{}", BASE64.encode(head), BASE64.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(&hex::decode(key).unwrap()).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

/// One webhook call that came in.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    pub(crate) signature: String,
    pub(crate) raw: Bytes,
    pub(crate) body: Value,
}

/// Whether `X-Ghost-Signature` is right: `sha256=<hex HMAC(key, body + t)>, t=<milliseconds>`.
pub(crate) fn signed_by(hook: &Hook, key: &str) -> bool {
    let parts = hook.signature.split(", ").filter_map(|part| part.split_once('=')).collect::<BTreeMap<_, _>>();
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(&hook.raw);
    mac.update(parts["t"].as_bytes());
    mac.verify_slice(&hex::decode(parts["sha256"]).unwrap()).is_ok()
}

/// Where an edge would take webhooks.
pub(crate) struct Hooks {
    pub(crate) port: u16,
    came: Arc<Mutex<Vec<Hook>>>,
}

impl Hooks {
    fn listen() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let came = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(serve(TcpListener::from_std(listener).unwrap(), Arc::clone(&came)));
        Self { port, came }
    }

    /// Waits for a call about `event`: told apart by what is in it, because Ghost does not name the event.
    pub(crate) async fn next(&self, event: &str) -> Hook {
        let kind = event.split('.').next().unwrap();
        let wanted = |hook: &Hook| match kind {
            "site" => hook.body["event"] == event,
            _ => hook.body[kind]["current"]["status"] == "published",
        };
        eventually(event, async || self.came.lock().unwrap().iter().any(wanted)).await;
        let mut came = self.came.lock().unwrap();
        let place = came.iter().position(wanted).unwrap();
        came.remove(place)
    }
}

async fn serve(listener: TcpListener, came: Arc<Mutex<Vec<Hook>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let came = Arc::clone(&came);
        let service = service_fn(move |request: Request<Incoming>| {
            let came = Arc::clone(&came);
            async move {
                let path = request.uri().path().to_owned();
                let signature = request.headers().get("x-ghost-signature");
                let signature = signature.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
                let raw = request.into_body().collect().await?.to_bytes();
                let body = serde_json::from_slice(&raw).unwrap_or(Value::Null);
                if Path::new(&path).starts_with("/.sovereign/hooks") {
                    came.lock().unwrap().push(Hook { signature, raw, body });
                }
                Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::default()))
            }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
