//! Two renewers, while the management machine is away: each beside an edge and a name server of its own, in processes of their
//! own but for the renewers, whose clock is moved on. They are asked, and do everything, as on hosts.

mod authority;
mod year;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use sovereign_certs::daemon::{Options, Pace, serve};
use sovereign_certs::store::Store;
use sovereign_certs::{Moment, renewal};
use sovereign_keys::{Epochs, Owner, Purpose, SeedFile, WorkingKeys};
use sovereign_model::layout::{RenewerFolder, StateFolder};
use sovereign_model::renewer_config::{Asked, NameServer as AskedServer, PROTOCOL, RenewerConfig};
use sovereign_model::renewer_status::RenewerStatus;
use sovereign_model::renewer_word::warrant_statement;
use sovereign_model::{DnsName, EdgeName, Stack, file};
use sovereign_runtime::control::{Request, request};
use sovereign_runtime::lifecycle::Lifecycle;
use sovereign_runtime::signed::{attest, seal};

use crate::pebble::{Pebble, Trust, free_port};
use crate::support::{Operator, eventually};
use crate::{Elsewhere, NameServer, WWW, shown, stack};

const SHOP: &str = "shop.example.org";
/// A word crosses to the other edge in ten seconds, a certificate in as many.
const PATIENCE: Duration = Duration::from_secs(60);
/// From one turn to the next, of certificates of 90 days.
const STEP: Duration = Duration::from_secs(6 * 3600);

/// What a renewer takes the hour for.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    /// From now on it is a minute after `moment`.
    fn just_after(&self, moment: Moment) {
        let ahead = moment.after(Duration::from_secs(60)).since(SystemTime::now().into());
        self.0.store(ahead.as_secs(), Ordering::Relaxed);
    }

    /// By how many seconds it is ahead of the machine's.
    fn ahead(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn now(&self) -> SystemTime {
        SystemTime::now() + Duration::from_secs(self.ahead())
    }
}

/// A renewer that runs in this process, until it is stopped.
struct Renewer {
    folder: RenewerFolder,
    lifecycle: Lifecycle,
    thread: JoinHandle<()>,
}

impl Renewer {
    fn start(operator: &Operator, config: &RenewerConfig, keys: &WorkingKeys, clock: &Clock) -> Self {
        let (folder, at) = (RenewerFolder::new(&config.folder), config.edge());
        fs::create_dir_all(folder.run()).unwrap();
        fs::create_dir_all(folder.certificates()).unwrap();
        let key = keys.renewer_key(&at).unwrap();
        fs::write(folder.key(&config.key), key.private_pem.expose()).unwrap();
        let signing = keys.config_signing().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, seal(&signing, PROTOCOL, 1, serde_json::to_string(config).unwrap())).unwrap();
        let (state, clock) = (StateFolder::new(operator.state()), clock.clone());
        let options = Options {
            config: path,
            trust: signing.verifying_key(),
            control: folder.control(),
            edge: state.edge(&at.datacenter).control(),
            name_server: state.name_server(&at.datacenter).control(),
            pace: Pace { words: Duration::from_millis(300), look: Duration::from_millis(500) },
            clock: Arc::new(move || clock.now()),
        };
        let lifecycle = Lifecycle::new(Duration::ZERO);
        let thread = std::thread::spawn({
            let lifecycle = lifecycle.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(serve(options, lifecycle)).unwrap();
            }
        });
        let renewer = Self { folder, lifecycle, thread };
        eventually("the renewer is well", PATIENCE, || renewer.status().filter(|status| status.healthy));
        renewer
    }

    fn status(&self) -> Option<RenewerStatus> {
        let told = request(&self.folder.control(), &Request::new("status"), Duration::from_secs(5)).ok()?;
        serde_json::from_value(told).ok()
    }

    /// Waits until its turn for a name comes then.
    fn comes(&self, name: &str, turn: Moment) {
        let name: DnsName = name.parse().unwrap();
        eventually("its turn is known", PATIENCE, || {
            (self.status()?.names[&name].turn_unix == Some(turn.seconds())).then_some(())
        });
    }

    /// Whether it has got the certificate of a name itself.
    fn has_got(&self, name: &str) -> bool {
        let held = Store::look(self.folder.certificates()).state(&name.parse().unwrap()).unwrap().held.unwrap();
        !held.elsewhere
    }

    /// When what it knows of a name is due.
    fn due(&self, name: &str) -> Moment {
        let name: DnsName = name.parse().unwrap();
        let store = Store::look(self.folder.certificates());
        let held = eventually("it knows what its edge shows", PATIENCE, || store.state(&name).unwrap().held);
        renewal::due(&name, &held)
    }

    fn stop(self) {
        self.lifecycle.stop();
        self.thread.join().unwrap();
    }
}

/// What all renewers of a stack are started with.
struct Setting<'s> {
    operator: &'s Operator,
    stack: &'s Stack,
    keys: &'s WorkingKeys,
    /// What the authority is believed by.
    roots: &'s str,
    name_servers: [SocketAddr; 2],
    clock: &'s Clock,
}

impl Setting<'_> {
    /// The renewer beside an edge, after `before` others.
    fn start(&self, before: u32, at: &EdgeName) -> Renewer {
        let public = self.keys.renewer_key(at).unwrap().public_hex;
        let domain: DnsName = "example.org".parse().unwrap();
        let server = |at| AskedServer { at, domains: [domain.clone()].into() };
        let mut asked = self.stack.authorities[0].clone();
        asked.roots = None;
        let signing = self.keys.config_signing().unwrap();
        let config = RenewerConfig {
            stack: self.stack.name.clone(),
            datacenter: at.datacenter.clone(),
            host: None,
            folder: self.operator.home().join(format!("renewer-{at}")),
            before,
            all: 3,
            names: BTreeMap::from([WWW, SHOP].map(|name| (name.parse().unwrap(), domain.clone()))),
            authorities: vec![Asked { authority: asked, roots: Some(self.roots.to_owned()) }],
            domains: [domain.clone()].into(),
            name_servers: self.name_servers.map(server).into(),
            warrant: attest(&signing, &warrant_statement(&self.stack.name, at, &public)),
            key: public,
        };
        Renewer::start(self.operator, &config, self.keys, self.clock)
    }
}

/// The stack as its file declares it.
fn declared(operator: &Operator) -> Stack {
    let text = fs::read_to_string(operator.home().join("stack.toml")).unwrap();
    file::parse("stack.toml", &text, operator.home()).unwrap()
}

/// Everything below a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

fn keys(operator: &Operator, stack: &Stack, edges: &[EdgeName]) -> WorkingKeys {
    let state = StateFolder::new(operator.state());
    let stored = SeedFile::at(&state.seed(), stack.name.clone()).open().unwrap();
    let owner = Owner { stack: stack.name.clone(), seed: stored.fingerprint().clone() };
    let of_renewers = edges.iter().cloned().map(Purpose::Renewer);
    let purposes: Vec<Purpose> = of_renewers.chain([Purpose::ConfigSigning]).collect();
    let unlock = || stored.unlock(|| Err::<_, String>("it has no passphrase".to_owned()));
    WorkingKeys::ensure(&state.keys(), &owner, &purposes, &Epochs::default(), unlock).unwrap()
}

#[test]
fn the_first_in_order_renews_while_nobody_looks_and_the_next_one_when_that_is_dead() {
    let operator = Operator::new();
    let ports = [operator.home_port, operator.office_port];
    operator.write("public/index.html", "<!doctype html><title>Leaf</title><p>leaf");
    stack(&operator, SHOP, &[("ca", free_port())]);
    let [home, office] = ["home", "office"].map(|at| NameServer::start(&operator, at));
    let (trust, elsewhere) = (Trust::new(), Elsewhere::new());
    // It asks the name server that stays: what the first in order says must come there.
    let authority = Pebble::start(&trust, office.listen);
    let root = authority.root();
    operator.write("root.pem", &root);
    let roots = format!("{}{root}{}", trust.root, elsewhere.0.pem());
    operator.write("roots.pem", &roots);
    stack(&operator, SHOP, &[("ca", authority.place)]);

    // What there is was got somewhere else, and is due one after the other. Then the management machine is away.
    operator.run(&["up", "--yes", "--offline", "--no-backup"]).success();
    for (name, ago, serial) in [(WWW, 59, 0x51), (SHOP, 30, 0x52)] {
        let [chain, key] = elsewhere.issued(&operator, name, ago, serial);
        operator.run(&["cert", "import", name, "--chain", &chain, "--key", &key, "--authority", "ca"]).success();
    }
    let declared = declared(&operator);
    let edges: [EdgeName; 2] = ["home", "office"].map(|at| at.parse().unwrap());
    let (keys, clock) = (keys(&operator, &declared, &edges), Clock::default());
    let name_servers = [home.listen, office.listen];
    let (operator, stack, roots, keys, clock) = (&operator, &declared, &*roots, &keys, &clock);
    let setting = Setting { operator, stack, keys, roots, name_servers, clock };
    let start = |before, at| setting.start(before, at);
    let (first, second) = (start(1, &edges[0]), start(2, &edges[1]));
    let due = first.due(WWW);
    first.comes(WWW, due.after(STEP));
    second.comes(WWW, due.after(2 * STEP));
    assert_eq!(second.due(WWW), due);

    // The management machine's turn passes. Then it is the first one's.
    clock.just_after(due);
    first.comes(WWW, due.after(STEP));
    let before = shown(operator, "roots.pem", WWW, ports[0]).unwrap();
    assert!(before.ends_with("51"), "{before}");
    clock.just_after(due.after(STEP));
    let renewed = |name: &str| {
        let each = ports.map(|port| {
            eventually("an edge shows the new one", PATIENCE, || shown(operator, "root.pem", name, port).ok())
        });
        assert_eq!(each[0], each[1], "the same at both");
    };
    renewed(WWW);
    eventually("the other sees it", PATIENCE, || (second.due(WWW) > due).then_some(()));
    assert!(first.has_got(WWW) && !second.has_got(WWW));
    // Its key is the edges' alone: what is left here is that of its account.
    eventually("the key is not kept", PATIENCE, || {
        let keys = below(&first.folder.certificates())
            .into_iter()
            .filter(|path| path.extension().is_some_and(|of| of == "pem"));
        let keys: Vec<PathBuf> =
            keys.filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("PRIVATE"))).collect();
        keys.iter().all(|key| key.ends_with("accounts/ca.pem")).then_some(())
    });

    // Its host dies, but for the edge: its turn passes, and the next one takes over.
    first.stop();
    drop(home);
    let due = second.due(SHOP);
    clock.just_after(due.after(STEP));
    second.comes(SHOP, due.after(2 * STEP));
    assert!(shown(operator, "roots.pem", SHOP, ports[1]).unwrap().ends_with("52"));
    clock.just_after(due.after(2 * STEP));
    renewed(SHOP);
    assert!(second.has_got(SHOP) && second.status().unwrap().names.values().all(|known| known.why.is_empty()));

    // The management machine is back, and has all of it.
    let back = operator.run(&["cert", "renew"]);
    for name in [WWW, SHOP] {
        assert!(back.stdout().contains(&format!("{name}: a newer one was brought back from")), "{back:?}");
    }
    second.stop();
}
