//! Two management machines of one stack: what one is told while the other works on a host. The host is an sshd of this
//! machine that lets through what is asked of a lease and nothing else, so nothing is made here but the lease.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; a skipped one says so")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sovereign_testkit::sshd::Sshd;
use support::Operator;

/// What the host does: leases, whatever keeps a connection, and to say whether it is evacuated. It does not say what it
/// uses; all else waits while there is a file, and then fails.
const DOOR: &str = r#"#!/bin/sh
case $SSH_ORIGINAL_COMMAND in
*sovereign-is-here* | *lease.* | *evacuated.json*) exec sh -c "$SSH_ORIGINAL_COMMAND" ;;
*smaps_rollup*) exit 1 ;;
esac
echo x >> "$0.asked"
while [ -e "$0.waits" ]; do sleep 0.1; done
exit 1
"#;

/// A stack of its own for this test, with its one host.
struct World {
    server: Sshd,
    anna: Operator,
    ben: Operator,
    stack: String,
}

impl World {
    fn new() -> Self {
        let (server, anna, ben) = (Sshd::start(""), Operator::new(), Operator::new());
        let stack = format!("lease-{}", std::process::id());
        let file = format!(
            "version = 1\n[stack]\nname = \"{stack}\"\n[[datacenter]]\nname = \"home\"\nengine = \"incus\"\n\
             [[datacenter.uplink]]\nname = \"fibre\"\naddress = \"192.0.2.1\"\n[[datacenter.host]]\nname = \"atlas\"\n\
             address = \"192.0.2.1\"\n"
        );
        for operator in [&anna, &ben] {
            operator.write("stack.toml", &file);
        }
        let world = Self { server, anna, ben, stack };
        let (address, key) = (world.server.address().to_string(), world.server.host_key());
        let identity = world.server.at("ours").display().to_string();
        let add = ["host", "add", &address, "--datacenter", "home", "--name", "atlas", "--identity", &identity];
        // Looking makes the root seed and the key of the stack.
        world.anna.run(&[&add[..], &["--dry-run", "--fingerprint", &key.fingerprint().to_string()]].concat());
        let record = format!(
            "{{\"version\":1,\"hosts\":{{\"home/atlas\":{{\"address\":\"{address}\",\"host-key\":\"{}\"}}}}}}",
            key.as_str()
        );
        world.anna.write("state/hosts/hosts.json", &record);
        let copied = Command::new("cp").arg("-a").arg(world.anna.state()).arg(world.ben.state()).status().unwrap();
        assert!(copied.success());
        fs::write(world.door(), DOOR).unwrap();
        Command::new("chmod").arg("0755").arg(world.door()).status().unwrap();
        let ours =
            Command::new("ssh-keygen").args(["-y", "-f"]).arg(world.anna.state().join("keys/hosts.ssh")).output();
        let ours = String::from_utf8(ours.unwrap().stdout).unwrap();
        fs::write(world.server.at("authorized"), format!("command=\"{}\" {ours}", world.door().display())).unwrap();
        world
    }

    fn door(&self) -> PathBuf {
        self.server.at("door")
    }

    fn waits(&self, waits: bool) {
        let path = self.door().with_extension("waits");
        if waits { fs::write(path, "").unwrap() } else { fs::remove_file(path).unwrap() }
    }

    /// How often anything else was asked of the host.
    fn asked(&self) -> usize {
        fs::read_to_string(self.door().with_extension("asked")).unwrap_or_default().lines().count()
    }

    fn leases(&self) -> PathBuf {
        Path::new("/run/sovereign/lease").join(&self.stack)
    }

    /// A run that has its lease, and waits for the host's answer to something else.
    fn start(&self, operator: &Operator, args: &[&str]) -> Child {
        let before = self.asked();
        let said = operator.home().join("said");
        let stderr = fs::File::create(&said).unwrap();
        let run = operator.command(args).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        let began = Instant::now();
        while self.asked() == before {
            assert!(began.elapsed() < Duration::from_secs(30), "{}", fs::read_to_string(&said).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        run
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.leases());
        let _ = fs::remove_dir("/run/sovereign/lease");
        let _ = fs::remove_dir("/run/sovereign");
    }
}

#[test]
fn the_second_operator_is_told_who_works_and_may_take_over_from_the_dead() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: leases lie below /run, so this test needs root");
        return;
    }
    let world = World::new();
    world.waits(true);
    let mut up = world.start(&world.anna, &["up", "--yes", "--no-backup"]);

    // Ben has a copy of the state folder, so no lock of this machine stops him.
    let refused = world.ben.run(&["down"]);
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    for said in ["another run works on hosts of this stack", "`sovereign up` of ", "home/atlas", "--take-lease", "90 s"]
    {
        assert!(refused.stderr().contains(said), "{said}: {refused:?}");
    }
    assert!(refused.stderr().contains(&format!("process {}", up.id())), "{refused:?}");
    let problem = world.ben.json(&["down"])["error"]["problems"][0].clone();
    assert_eq!((problem["host"].as_str(), problem["held-by"]["command"].as_str()), (Some("home/atlas"), Some("up")));
    let status = world.ben.json(&["status"]);
    assert_eq!(status["at_work"]["home/atlas"]["process"], up.id(), "{status}");
    let status = world.ben.run(&["status"]);
    assert!(status.stdout().contains("at work: `sovereign up` of "), "{status:?}");
    // Planning takes no lease, so it is not in the way of one either: it goes on to look at the host.
    let asked = world.asked();
    let mut plan = world.start(&world.ben, &["plan"]);
    assert!(world.asked() > asked);
    plan.kill().unwrap();
    plan.wait().unwrap();

    // Killed, it holds the host for a while, to everybody but its own machine.
    up.kill().unwrap();
    up.wait().unwrap();
    world.waits(false);
    let still = world.ben.run(&["down"]);
    assert_eq!(still.code(), Some(1), "{still:?}");
    let own = world.anna.run(&["down"]);
    assert_ne!(own.code(), Some(1), "{own:?}");
    assert!(world.asked() > asked, "it went on to the host");
    // And gave it back.
    let asked = world.asked();
    let free = world.ben.run(&["down"]);
    assert_ne!(free.code(), Some(1), "{free:?}");
    assert!(world.asked() > asked, "{free:?}");

    // From the dead: after a question, which a script answers with another word.
    world.waits(true);
    let mut dead = world.start(&world.anna, &["up", "--yes", "--no-backup"]);
    dead.kill().unwrap();
    dead.wait().unwrap();
    world.waits(false);
    let question = world.ben.run(&["down", "--take-lease"]);
    assert_eq!(question.code(), Some(2), "{question:?}");
    assert!(question.stderr().contains("Is that machine dead"), "{question:?}");
    let asked = world.asked();
    let taken = world.ben.run(&["down", "--take-lease", "--yes"]);
    assert_ne!(taken.code(), Some(1), "{taken:?}");
    assert!(world.asked() > asked, "{taken:?}");
    assert!(world.leases().exists());

    // Recovered from the words, a machine makes the key that hosts let in by itself.
    for gone in ["keys/hosts.ssh", "hosts/recovery.json"] {
        fs::remove_file(world.ben.state().join(gone)).unwrap();
    }
    let asked = world.asked();
    world.ben.run(&["up", "--yes", "--no-backup"]);
    assert!(world.asked() > asked, "it is let in");
}
