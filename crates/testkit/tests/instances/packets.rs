//! What passes between two instances, their host, and another machine: tried, with and without the rules.

use std::net::Ipv4Addr;
use std::process::{Child, Command as Process, Stdio};

use sovereign_incus::InstanceName;
use sovereign_incus::exec::Command;
use sovereign_model::instance::{InstanceSpec, bridge};

use crate::world::{New, World};

/// A program that ends with the test, however that ends.
struct Runs(Child);

impl Runs {
    fn begin(mut command: Process) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Another machine, that the host has a line to. It serves its root folder on port 9000.
struct Outside(Runs);

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

impl Outside {
    async fn beside(world: &World) -> Self {
        let serve = "ip link set lo up; until ip link set out1 up 2> /dev/null; do sleep 0.05; done
            ip addr add 192.0.2.2/24 dev out1; ip route add 10.64.0.0/16 via 192.0.2.1
            exec busybox httpd -f -p 9000 -h /etc";
        let mut command = Process::new("unshare");
        command.args(["--net", "sh", "-c", serve]);
        let outside = Self(Runs::begin(command));
        let lay = format!("ip link add out0 type veth peer name out1 netns {}", outside.0.0.id());
        sovereign_testkit::wait::until("a line", || async {
            (world.host(&["sh", "-c", &lay]).await.code == 0).then_some(())
        })
        .await;
        let up = "ip addr add 192.0.2.1/24 dev out0; ip link set out0 up";
        assert_eq!(world.host(&["sh", "-c", up]).await.code, 0);
        outside
    }
}

/// Whether somebody gets a page.
struct Asks<'w> {
    world: &'w World,
    from: Option<&'w InstanceName>,
}

impl Asks<'_> {
    async fn gets(&self, to: Ipv4Addr, port: u16) -> bool {
        let get = format!("printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' | timeout 1 busybox nc {to} {port}");
        let line = ["sh", "-c", &get];
        let said = match self.from {
            Some(name) => self.world.client.exec(name, &Command::new(line)).await.unwrap().stdout,
            None => self.world.host(&line).await.stdout.into_bytes(),
        };
        said.starts_with(b"HTTP/1.")
    }
}

/// As the host's own rules are: what is not named does not come in.
const OF_HOST: &str = "table inet sovereign {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iif lo accept
        iifname \"sov*\" udp dport { 67, 547 } accept
        iifname \"sovereign0\" meta mark 0x736f accept
    }
}";

pub(crate) fn filtered(world: &World) {
    world.run(async {
        world.nft(OF_HOST).await;
        let page: &[(&str, &str)] = &[("/srv/hostname", "here")];
        // Listens on a port too that no description names.
        let more = "httpd -p 8081 -h /srv\n";
        let b = New::of(world.spec("b@home"), &[("/srv/hostname", "here"), ("/etc/convert", more)]);
        let b_at = b.spec.address;
        let reaches = vec![
            std::net::SocketAddrV4::new(b_at, 8080),
            std::net::SocketAddrV4::new(bridge::HOST, 9000),
            // No way leads there.
            std::net::SocketAddrV4::new(OUTSIDE, 9000),
        ];
        let a = New::of(InstanceSpec { reaches, ..world.spec("a@home") }, page);
        let a_at = a.spec.address;
        world.up(&b).await.unwrap();
        world.up(&a).await.unwrap();
        let names: Vec<InstanceName> =
            world.client.instances().await.unwrap().into_iter().map(|instance| instance.name).collect();
        let named = |start: &str| names.iter().find(|name| name.as_str().starts_with(start)).unwrap();
        let [from_a, from_b] = ["a-home-", "b-home-"].map(|start| Asks { world, from: Some(named(start)) });
        let from_host = Asks { world, from: None };
        let outside = Outside::beside(world).await;
        let listens = ["9000", "9001"].map(|port| {
            let mut command = world.incusd.within("busybox");
            command.args(["httpd", "-f", "-p", port, "-h", "/etc"]);
            Runs::begin(command)
        });

        // What passes.
        assert!(from_a.gets(b_at, 8080).await, "the named port of the named instance");
        assert!(from_a.gets(bridge::HOST, 9000).await, "the named port of the host");
        assert!(from_host.gets(a_at, 8080).await && from_host.gets(b_at, 8080).await, "the ports that they serve");
        // What does not: another port of that instance, the other way, another port of the host, a port that only another
        // may reach, a port that is not served, another machine, whatever the description says.
        let passed = tokio::join!(
            from_a.gets(b_at, 8081),
            from_b.gets(a_at, 8080),
            from_a.gets(bridge::HOST, 9001),
            from_b.gets(bridge::HOST, 9000),
            from_host.gets(b_at, 8081),
            from_a.gets(OUTSIDE, 9000),
        );
        assert_eq!(passed, (false, false, false, false, false, false));

        // It is the rules that keep it from passing.
        for table in ["bridge sovereign_instances", "inet sovereign_instances", "inet sovereign"] {
            world.nft(&format!("delete table {table}")).await;
        }
        assert!(from_a.gets(b_at, 8081).await && from_b.gets(a_at, 8080).await && from_host.gets(b_at, 8081).await);
        assert!(from_a.gets(bridge::HOST, 9001).await && from_b.gets(bridge::HOST, 9000).await);
        assert!(from_a.gets(OUTSIDE, 9000).await);

        // At boot they are what they were.
        world.nft("include \"/etc/sovereign/instances.nft\"").await;
        assert!(from_a.gets(b_at, 8080).await && !from_b.gets(a_at, 8080).await && !from_a.gets(OUTSIDE, 9000).await);

        // What is gone has no flows.
        world.instances().stop(&a.spec.name).await.unwrap();
        let rules = world.host(&["nft", "list", "ruleset"]).await.stdout;
        assert!(rules.contains(&b_at.to_string()) && !rules.contains(&a_at.to_string()), "{rules}");
        world.instances().stop(&b.spec.name).await.unwrap();
        drop((outside, listens));
    });
}
