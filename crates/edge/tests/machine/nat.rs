//! Two data centers, one of them behind a router that translates addresses: it can dial out and cannot be dialled.
//!
//! ```text
//!   nated ── 10.77.1.2 ─── router ─── 198.51.100.2 ── public
//!                             └ 198.51.100.1, later .9: its provider gives it another address
//! ```

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use sovereign_model::agent_config::{HEALTH_PATH, LEARNED_FIELD};
use sovereign_model::edge_config::{EdgeSite, Learned, Peer, Source};

use super::common::origin::Page;
use super::common::process::{Process, status};
use super::common::{Client, Lab, NAME, Origin, Place, eventually, site_changed};
use super::network::{Network, wire};

/// A link is found dead within 10 s whatever happened to it, and is dialled within 3 s.
const BACK_WITHIN: Duration = Duration::from_secs(16);

pub(crate) fn home_behind_nat() {
    run(Side::Home);
}

pub(crate) fn office_behind_nat() {
    run(Side::Office);
}

/// Who is behind the router.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Home,
    Office,
}

fn run(nated: Side) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { Scene::new(nated).await.play().await });
}

struct Scene {
    nated: Side,
    router: Network,
    inner: Network,
    networks: [Network; 2],
    lab: Lab,
    origin: Origin,
    home: Place,
    office: Place,
    host: String,
    /// Killed with the scene.
    _edges: [Process; 2],
}

impl Scene {
    async fn new(nated: Side) -> Self {
        // Both tests run on one machine.
        let names = if nated == Side::Home { ["home1", "office1", "router1"] } else { ["home2", "office2", "router2"] };
        let [home_net, office_net, router] = names.map(Network::new);
        let (inner, outer) = if nated == Side::Home { (home_net, office_net) } else { (office_net, home_net) };
        wire(inner, router, ["10.77.1.2/24", "10.77.1.1/24"]);
        wire(outer, router, ["198.51.100.2/24", "198.51.100.1/24"]);
        inner.sh("ip route add default via 10.77.1.1");
        router.sh("sysctl -qw net.ipv4.ip_forward=1");
        router.sh("nft add table ip nat");
        router.sh("nft add chain ip nat out { type nat hook postrouting priority srcnat ; }");
        router.sh(&format!("nft add rule ip nat out oifname {} masquerade", outer.0));

        let lab = Lab::new();
        let origin = Origin::start(lab.folder.path());
        origin.fill();
        let listen = |network: Network| {
            let address = if network.0 == inner.0 { "10.77.1.2:0" } else { "198.51.100.2:0" };
            network.inside(move || TcpListener::bind(address).unwrap())
        };
        let home = lab.place_at("home", listen(home_net));
        let office = lab.place_at("office", listen(office_net));
        let site = lab.site(&home, Source::Unix(origin.socket.clone()));
        let mirror = EdgeSite { source: Source::Link("home".parse().unwrap()), webhook_key: None, ..site.clone() };
        origin.set_canonical(&site.canonical.to_string());
        let peer = |place: &Place, side| {
            let peer = place.as_peer();
            let hidden = Peer { addresses: Vec::new(), learned: Some(Learned::Public), ..peer.clone() };
            if nated == side { hidden } else { peer }
        };
        lab.seal(&home, 1, &lab.config(&home, vec![peer(&office, Side::Office)], site));
        lab.seal(&office, 1, &lab.config(&office, vec![peer(&home, Side::Home)], mirror));
        let spawned = |network: Network, place: &Place| {
            let mut command = super::common::process::command(&std::env::current_exe().unwrap(), &lab, place);
            Process(network.inside(move || command.spawn().unwrap()))
        };
        let edges = [spawned(home_net, &home), spawned(office_net, &office)];
        edges[0].complete(&home).await;
        edges[1].complete(&office).await;
        let host = format!("{NAME}:{}", home.port());
        let networks = [home_net, office_net];
        Self { nated, router, inner, networks, lab, origin, home, office, host, _edges: edges }
    }

    async fn play(self) {
        let [_, at_office] = self.networks;
        // That it cannot be dialled is what this is about.
        let (from, to) = match self.nated {
            Side::Home => (at_office, self.home.address()),
            Side::Office => (self.networks[0], self.office.address()),
        };
        let dialled = from.inside(move || std::net::TcpStream::connect_timeout(&to, Duration::from_secs(1)));
        assert!(dialled.is_err(), "the router lets connections in");
        self.works("at first").await;
        self.is_learned("198.51.100.1").await;

        let (client, address, host) = (self.lab.client.clone(), self.office.address(), self.host.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let reading = std::thread::spawn(move || at_office.run(read(client, address, host, stopped)));

        let outside = if self.nated == Side::Home { self.office_name() } else { self.home_name() };
        self.router.sh(&format!("ip address del 198.51.100.1/24 dev {outside}"));
        self.router.sh(&format!("ip address add 198.51.100.9/24 dev {outside}"));
        let changed = Instant::now();
        self.comes_back("its address changed").await;
        self.is_learned("198.51.100.9").await;
        println!("    the new address was told to agents {:?} after it changed", changed.elapsed());
        assert!(changed.elapsed() < BACK_WITHIN + Duration::from_secs(4));

        self.router.sh(&format!("ip link set {} down", self.inner.0));
        let cut = Instant::now();
        eventually("the mirror knows that the wire is cut", async || {
            (status(&self.office).await?["sites"][0]["source"]["reachable"] == false).then_some(())
        })
        .await;
        println!("    the wire was cut, and the mirror knew after {:?}", cut.elapsed());
        assert_eq!(self.write().await, StatusCode::SERVICE_UNAVAILABLE);
        self.router.sh(&format!("ip link set {} up", self.inner.0));
        self.comes_back("the wire was healed").await;

        stop.store(true, Ordering::Relaxed);
        let (reads, failed) = reading.join().unwrap();
        println!("    {reads} reads at the mirror meanwhile, {failed} failed");
        assert!(reads > 100, "{reads}");
        assert_eq!(failed, 0, "of {reads}");
    }

    fn home_name(&self) -> &'static str {
        self.networks[0].0
    }

    fn office_name(&self) -> &'static str {
        self.networks[1].0
    }

    /// A write through the mirror.
    async fn write(&self) -> StatusCode {
        let (client, address, host) = (self.lab.client.clone(), self.office.address(), self.host.clone());
        let network = self.networks[1];
        let write = move || {
            network.run(async move {
                client.post(address, &host, "/ghost/api/admin/posts/", &[], Bytes::from_static(b"{}")).await.status
            })
        };
        tokio::task::spawn_blocking(write).await.unwrap()
    }

    /// A write arrives, and a publication is read at the mirror.
    async fn works(&self, when: &str) {
        assert_eq!(self.write().await, StatusCode::OK, "{when}");
        let said = format!("<p>edited {when}</p>");
        self.origin.put("/first/", Page::html(&said));
        let (client, address) = (self.lab.client.clone(), self.home.address());
        let network = self.networks[0];
        let told = move || network.run(async move { site_changed(&client, address).await.status });
        assert_eq!(tokio::task::spawn_blocking(told).await.unwrap(), StatusCode::NO_CONTENT);
        let published = Instant::now();
        let network = self.networks[1];
        eventually("the mirror shows the edit", async || {
            let (client, address, host) = (self.lab.client.clone(), self.office.address(), self.host.clone());
            let read = move || network.run(async move { client.get(address, &host, "/first/").await.text() });
            (tokio::task::spawn_blocking(read).await.unwrap() == said).then_some(())
        })
        .await;
        println!("    {when}: published, and read at the mirror after {:?}", published.elapsed());
    }

    /// The other side tells agents where the one behind the router is seen.
    async fn is_learned(&self, address: &str) {
        let (place, network, name) = match self.nated {
            Side::Home => (&self.office, self.networks[1], "home"),
            Side::Office => (&self.home, self.networks[0], "office"),
        };
        let wanted = format!("{name} {address}");
        eventually("the address is told", async || {
            let (client, at, host) = (self.lab.client.clone(), place.address(), self.host.clone());
            let read = move || network.run(async move { client.get(at, &host, HEALTH_PATH).await.fields });
            let fields = tokio::task::spawn_blocking(read).await.unwrap();
            fields.get_all(LEARNED_FIELD).iter().any(|told| *told == *wanted).then_some(())
        })
        .await;
    }

    async fn comes_back(&self, what: &str) {
        let since = Instant::now();
        eventually("writes work again", async || (self.write().await == StatusCode::OK).then_some(())).await;
        let back = since.elapsed();
        println!("    {what}, and writes worked again after {back:?}");
        assert!(back < BACK_WITHIN, "{what}: {back:?}");
        self.works(&format!("after {what}")).await;
    }
}

/// Reads kept pages until told to stop: how many, and how many failed.
async fn read(client: Client, edge: std::net::SocketAddr, host: String, stop: Arc<AtomicBool>) -> (usize, usize) {
    let (mut reads, mut failed) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        for path in ["/", "/first/", "/second/", "/content/images/a.png"] {
            reads += 1;
            failed += usize::from(client.get(edge, &host, path).await.status != StatusCode::OK);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (reads, failed)
}
