//! A small lab in a real Incus: made, reached, broken, healed, removed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed unwrap fails the test; figures are worth seeing"
)]

mod world;

use std::process::ExitCode;
use std::sync::mpsc;

use sovereign_incus::Config;
use sovereign_lab::{Event, Fault, Lab, LabError, Shape, Silent, Stage, Watcher};
use sovereign_testkit::harness::{self, Test};

use world::World;

/// One after the other: the lab of the first is used by the next ones and removed by the last.
const TESTS: &[Test<World>] = &[
    ("what_is_somebody_elses_is_left_alone", foreign),
    ("one_that_was_stopped_half_way_is_removed_whole", stopped),
    ("data_centers_behind_routers_are_reached_as_those_allow", routers),
    ("a_lab_comes_up_and_is_reached_over_ssh", comes_up),
    ("an_up_again_changes_nothing_and_another_shape_is_refused", again),
    ("a_host_with_another_key_is_not_believed", other_key),
    ("a_cut_line_is_silent_until_it_is_healed", cut),
    ("a_host_without_power_comes_back", power),
    ("a_lab_is_removed_with_everything_in_it", removed),
];

fn main() -> ExitCode {
    harness::main(TESTS, world::missing().as_deref(), World::begin)
}

/// Seconds for what must come through: nobody waits for them where it does.
const PATIENCE: u8 = 60;

/// Seconds for what must not come through: waited for each time.
const IMPATIENCE: u8 = 2;

fn small() -> Shape {
    Shape::new("small".parse().unwrap(), 2, 1)
}

fn foreign(world: &World) {
    world.run(async {
        let bridge = "theirsbr1".parse().unwrap();
        let none = Config::from(
            [("ipv4.address", "none"), ("ipv6.address", "none")].map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        world.client.create_bridge(&bridge, "somebody's", &none).await.unwrap();
        let shape = Shape { name: "theirs".parse().unwrap(), ..small() };
        let error = world.up(&shape, &Silent).await.unwrap_err();
        assert!(matches!(&error, LabError::Foreign { kind: "network", .. }), "{error}");
        assert!(!world.folder("theirs").exists());
        assert_eq!(world.client.network(&bridge).await.unwrap().value.description, "somebody's");
        world.client.delete_network(&bridge).await.unwrap();
        assert_eq!(world.things().await, world.before);
    });
}

/// Says when a stage begins.
struct Tell(mpsc::Sender<Stage>);

impl Watcher for Tell {
    fn report(&self, event: Event) {
        if let Event::Began(stage, _) = event {
            self.0.send(stage).unwrap();
        }
    }
}

fn stopped(world: &World) {
    world.run(async {
        for at in [Stage::Image, Stage::Hosts] {
            let (told, stages) = mpsc::channel();
            let tell = Tell(told);
            let shape = small();
            let up = world.up(&shape, &tell);
            let reached = async {
                while !stages.try_iter().any(|stage| stage == at) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                made = up => panic!("it was to be stopped: {made:?}"),
                () = reached => {}
            }
            world.down("small").await;
            assert_eq!(world.things().await, world.before, "{at:?}");
        }
    });
}

fn routers(world: &World) {
    let shape = Shape {
        forwarded: vec!["home".to_owned()],
        outbound_only: vec!["office".to_owned()],
        ..Shape::new("small".parse().unwrap(), 3, 2)
    };
    let lab = world.run(world.up(&shape, &Silent)).unwrap().lab;
    let [home, office, cabin] = &lab.datacenters[..] else { panic!("{lab:?}") };
    // Something that greets on a port that is forwarded.
    assert!(world.ssh("home-1", "mkdir -p /run/sshd && /usr/sbin/sshd -p 443").is_some());
    let answers = |within: u8, from: &str, address, port: u16| {
        let line = format!("timeout {within} bash -c 'exec 3<>/dev/tcp/{address}/{port}; head -c 4 <&3'");
        world.ssh(from, &line).is_some_and(|said| said == "SSH-")
    };
    let (greets, is_shut) = (
        |from: &str, address, port| answers(PATIENCE, from, address, port),
        |from: &str, address, port| !answers(IMPATIENCE, from, address, port),
    );
    let own = |datacenter: &sovereign_lab::LabDatacenter| datacenter.hosts[0].address;
    assert!(greets("cabin-1", home.public(), 443) && greets("office-1", home.public(), 443));
    assert!(is_shut("home-2", home.public(), 443) && greets("home-2", own(home), 443), "nobody is led back in");
    assert!(is_shut("cabin-1", home.public(), 22), "this port is not forwarded");
    assert!(is_shut("cabin-1", own(home), 443), "nobody outside knows the addresses behind a router");
    assert!(is_shut("cabin-1", own(office), 22) && is_shut("cabin-1", office.public(), 443));
    assert!(greets("home-1", own(cabin), 22) && greets("office-1", own(cabin), 22));
    let stack = std::fs::read_to_string(world.folder("small").join("stack.toml")).unwrap();
    assert!(stack.contains(&format!("address = \"{}\"\nreach = \"forwarded\"", home.public())), "{stack}");
    assert!(stack.contains("address = \"dynamic\"\nreach = \"outbound-only\""), "{stack}");
    let mut lab = lab.clone();
    let folder = world.folder("small");
    let closed = Fault::Closed { datacenter: home.name.clone(), port: 443 };
    world.run(sovereign_lab::inflict(&world.client, &mut lab, &folder, closed)).unwrap();
    assert!(is_shut("cabin-1", home.public(), 443));
    world.run(sovereign_lab::heal(&world.client, &mut lab, &folder, None)).unwrap();
    let moved = world.run(sovereign_lab::readdress(&mut lab, &folder, "home")).unwrap();
    assert!(greets("cabin-1", moved, 443) && is_shut("cabin-1", home.public(), 443));
    assert!(greets("home-1", own(cabin), 22), "from another address now");
    world.run(async {
        world.down("small").await;
        assert_eq!(world.things().await, world.before);
    });
}

fn comes_up(world: &World) {
    let made = world.run(world.up(&small(), &Silent)).unwrap();
    println!("{} hosts let us in {:?} after the image was there", made.lab.size(), made.took);
    assert_eq!(world.ssh("home-1", "hostname").unwrap(), "home-1\n");
    assert_eq!(world.ssh("office-1", "hostname; cat /etc/debian_version").unwrap().lines().next(), Some("office-1"));
    let running = world.ssh("home-1", "systemctl is-system-running --wait || true").unwrap();
    let failed = world.ssh("home-1", "systemctl --failed --plain --no-legend").unwrap();
    println!("home-1 is {}, failed: {failed:?}", running.trim());
    assert!(world.ssh("home-1", "command -v incusd").is_none(), "a bare host has no Incus");
    // Root of a host is nobody here, and has room for containers of its own.
    let map = world.ssh("home-1", "cat /proc/self/uid_map").unwrap();
    assert!(!map.trim_start().starts_with("0          0"), "{map}");
    assert_eq!(world.ssh("home-1", "cat /etc/subuid").unwrap(), "root:1000000:100000000\n");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&world.folder("small").join("key").metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let status = world.run(sovereign_lab::status(&world.client, &made.lab)).unwrap();
    assert!(status.hosts.iter().all(sovereign_lab::HostStatus::is_well), "{status:?}");
    let stack = std::fs::read_to_string(&made.stack_file).unwrap();
    for (_, host) in made.lab.hosts() {
        assert!(stack.contains(&host.address.to_string()), "{stack}");
    }
}

fn again(world: &World) {
    world.run(async {
        let boot = world.ssh("home-1", "cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1").unwrap();
        let before = world.lab();
        let made = world.up(&small(), &Silent).await.unwrap();
        assert_eq!(made.lab, before);
        assert_eq!(world.ssh("home-1", "cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1").unwrap(), boot);
        let other = Shape { hosts: 2, ..small() };
        let error = world.up(&other, &Silent).await.unwrap_err();
        assert!(matches!(error, LabError::OtherShape { hosts: 2, .. }), "{error}");
    });
    // What is written down is of another Incus, which is there: nothing is made here under the same names.
    let record = world.folder("small").join("lab.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let elsewhere = world.folder("elsewhere.socket");
    world.run(async {
        let _listening = tokio::net::UnixListener::bind(&elsewhere).unwrap();
        let mut of_elsewhere = world.lab();
        of_elsewhere.incus.clone_from(&elsewhere);
        std::fs::write(&record, serde_json::to_string(&of_elsewhere).unwrap()).unwrap();
        let error = world.up(&small(), &Silent).await.unwrap_err();
        assert!(matches!(&error, LabError::OtherIncus { incus, .. } if *incus == elsewhere), "{error}");
    });
    std::fs::remove_file(&elsewhere).unwrap();
    std::fs::write(&record, text).unwrap();
}

fn other_key(world: &World) {
    let known = world.folder("small").join("known_hosts");
    let right = std::fs::read_to_string(&known).unwrap();
    let keys: Vec<&str> = right.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    let addresses = right.lines().map(|line| line.split_once(' ').unwrap().0);
    let swapped: String = addresses.zip(keys.iter().rev()).map(|(address, key)| format!("{address} {key}\n")).collect();
    std::fs::write(&known, swapped).unwrap();
    assert_eq!(world.ssh("home-1", "true"), None);
    std::fs::write(&known, right).unwrap();
    assert!(world.ssh("home-1", "true").is_some());
}

fn cut(world: &World) {
    let mut lab = world.lab();
    let folder = world.folder("small");
    let (home, office) = (lab.target("home").unwrap(), lab.target("office").unwrap());
    let address = lab.hosts_of(&office)[0].address;
    let passes = |within: u8| {
        let line = format!("timeout {within} bash -c 'exec 3<>/dev/tcp/{address}/22'");
        world.ssh("home-1", &line).is_some()
    };
    assert!(passes(PATIENCE));
    let line = Fault::Cut { one: home.clone(), other: Some(office) };
    world.run(sovereign_lab::inflict(&world.client, &mut lab, &folder, line)).unwrap();
    assert!(!passes(IMPATIENCE), "the line is cut, and we still reach its end");

    let whole = Fault::Cut { one: home.clone(), other: None };
    world.run(sovereign_lab::inflict(&world.client, &mut lab, &folder, whole)).unwrap();
    let status = world.run(sovereign_lab::status(&world.client, &lab)).unwrap();
    assert_eq!(status.hosts.iter().map(|host| host.answers).collect::<Vec<_>>(), [false, true]);

    let healed = world.run(sovereign_lab::heal(&world.client, &mut lab, &folder, Some(&home))).unwrap();
    assert_eq!(healed.len(), 2);
    assert!(passes(PATIENCE));
    assert_eq!(world.lab(), lab, "what is broken is written down");

    let slow = Fault::Slow { one: home, kilobytes_per_second: 100 };
    let fetch = || {
        let began = std::time::Instant::now();
        assert!(world.ssh("home-1", "head -c 500000 /dev/zero | base64 -w 0").is_some());
        began.elapsed()
    };
    let before = fetch();
    world.run(sovereign_lab::inflict(&world.client, &mut lab, &folder, slow)).unwrap();
    let after = fetch();
    world.run(sovereign_lab::heal(&world.client, &mut lab, &folder, None)).unwrap();
    println!("half a megabyte took {before:?}, and {after:?} at 100 kB/s");
    // 670 kB: six seconds, on a machine of whatever speed.
    assert!(after > std::time::Duration::from_secs(3), "{before:?} {after:?}");
}

fn power(world: &World) {
    let mut lab = world.lab();
    let folder = world.folder("small");
    let dead = Fault::Dead { host: "office-1".parse().unwrap() };
    world.run(sovereign_lab::inflict(&world.client, &mut lab, &folder, dead)).unwrap();
    let status = world.run(sovereign_lab::status(&world.client, &lab)).unwrap();
    assert_eq!(status.hosts.iter().map(sovereign_lab::HostStatus::is_well).collect::<Vec<_>>(), [true, false]);
    assert!(world.ssh("office-1", "true").is_none());
    let healed = world.run(sovereign_lab::heal(&world.client, &mut lab, &folder, None)).unwrap();
    assert_eq!(healed.len(), 1);
    world.run(world.up(&small(), &Silent)).unwrap();
    assert!(world.ssh("office-1", "true").is_some());
}

fn removed(world: &World) {
    world.run(async {
        world.down("small").await;
        assert_eq!(world.things().await, world.before);
        let error = Lab::read(&world.folder("small")).unwrap();
        assert_eq!(error, None);
    });
}
