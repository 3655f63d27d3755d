//! Units on a real systemd: replaced under load, kept when the new one does not come to life, brought back when killed.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sovereign_hosts::systemd::{self, Account, GuardError, Guarded, Names, ReplaceError, Replaced};
use sovereign_model::StackName;
use sovereign_model::unit::{Confinement, Health, Replace, SocketSpec, UnitSpec};
use support::{Systemd, eventually};

/// Says its first argument to whoever connects; ends what it has begun when it is told to stop.
const SERVER: &str = r#"
import ctypes, os, select, signal, socket, struct, sys
how = struct.pack("QQQ", os.O_PATH, 0, 8) # RESOLVE_BENEATH: edges read folders of files so
if ctypes.CDLL(None).syscall(437, os.open("/usr", os.O_PATH), b"bin", how, len(how)) < 0:
    sys.exit("no openat2")
if sys.argv[1] == "broken":
    sys.exit("no such flag: \x1b[31mbroken")
listeners = [socket.socket(fileno=3 + at) for at in range(int(os.environ["LISTEN_FDS"]))]
for listener in listeners:
    listener.setblocking(False)
wake, woken = os.pipe()
signal.signal(signal.SIGTERM, lambda *_: os.write(woken, b"x"))
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    ready, _, _ = select.select([wake, *listeners], [], [])
    if wake in ready:
        break
    for listener in ready:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            continue # the other one was faster
        connection.settimeout(5)
        connection.recv(100)
        connection.sendall(sys.argv[1].encode())
        connection.close()
"#;

/// Connects again and again until its input ends; says how often it was not answered, and by whom it was.
const READER: &str = r#"
import select, socket, sys
failed, seen = 0, {}
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
        connection.sendall(b"?")
        said = connection.recv(100).decode()
        connection.close()
        seen[said] = seen.get(said, 0) + 1
        failed += said == ""
    except OSError as error:
        failed += 1
        print(error, file=sys.stderr)
print(failed, *sorted(seen))
"#;

fn stack() -> StackName {
    "shop".parse().unwrap()
}

fn account() -> Account<'static> {
    Account { user: "daemon", state: std::path::Path::new("/var/lib/sovereign"), asks: None }
}

fn unit(says: &str, port: u16) -> UnitSpec {
    UnitSpec {
        name: "edge@home".parse().unwrap(),
        datacenter: "home".parse().unwrap(),
        host: None,
        program: "/usr/bin/python3".into(),
        args: vec!["/var/lib/sovereign/shop/server.py".to_owned(), says.to_owned()],
        env: BTreeMap::new(),
        working_dir: "/".into(),
        sockets: vec![SocketSpec { name: "https".to_owned(), address: ([127, 0, 0, 1], port).into() }],
        confinement: Confinement {
            read: vec!["/var/lib/sovereign/shop".into()],
            write: Vec::new(),
            own_user: true,
            connect: None,
            low_ports: false,
        },
        health: Health::Alive,
        after: Vec::new(),
        stop_grace_seconds: 10,
        replace: Replace::Beside,
        inputs: BTreeMap::new(),
    }
}

/// Somebody who reads without a pause.
struct Reader(Child);

impl Reader {
    fn start(host: &Systemd, port: u16) -> Self {
        let mut command: Command = host.command(&["python3", "-c", READER, &port.to_string()]);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// How many were not answered, and who answered.
    fn stop(mut self) -> String {
        drop(self.0.stdin.take());
        String::from_utf8(self.0.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    }
}

fn ask(host: &Systemd, port: u16) -> String {
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo '?' >&3; cat <&3");
    String::from_utf8(host.output(&["bash", "-c", &script]).stdout).unwrap()
}

async fn replace(host: &Systemd, unit: &UnitSpec) -> Result<Replaced, ReplaceError<std::io::Error>> {
    systemd::replace(host, &stack(), unit, account()).await
}

#[expect(clippy::print_stderr, reason = "a test that tests nothing says so")]
fn boot() -> Option<Systemd> {
    let booted = Systemd::boot();
    if booted.is_none() {
        assert!(std::env::var_os("CI").is_none(), "only root can boot a systemd of its own");
        eprintln!("SKIPPED: only root can boot a systemd of its own, nothing was tested");
    }
    booted
}

#[tokio::test]
async fn what_nobody_confirms_is_undone_by_the_host_itself() {
    let Some(host) = boot() else { return };
    let is_there = || host.output(&["ip", "link", "show", "cut"]).status.success();
    // What is undone leaves a trace of having been there.
    let trace = host.path("/run/trace");
    let change = |within| Guarded {
        name: "network",
        change: "ip link add cut type veth peer name other && touch /run/trace",
        undo: "ip link del cut 2>/dev/null || true",
        within,
    };
    // Nobody says a word. A host may be so slow that it is undone before it was made, or ended while it is being made.
    let mut hasty = change(Duration::from_millis(100));
    loop {
        match hasty.make(&host).await {
            Ok(()) => break,
            Err(GuardError::Late) => assert!(!trace.exists() && !is_there()),
            Err(GuardError::Change { said }) => assert!(said.starts_with("it was not done within") && !is_there()),
            Err(other) => panic!("{other:?}"),
        }
        let _ = std::fs::remove_file(&trace);
        hasty.within *= 2;
    }
    assert!(trace.exists(), "it was made");
    eventually("undone", || (!is_there()).then_some(()));
    assert!(matches!(hasty.confirm(&host).await, Err(GuardError::Late)));
    // Confirmed: it stays, and there is no timer any more.
    let patient = change(Duration::from_secs(24 * 60 * 60));
    patient.make(&host).await.unwrap();
    patient.confirm(&host).await.unwrap();
    patient.undo(&host).await.unwrap();
    assert!(is_there(), "what was confirmed is nobody's to undo");
    host.output(&["ip", "link", "del", "cut"]);
    // A second one undoes a first one that waits. One that fails is undone at once, and its words are told.
    patient.make(&host).await.unwrap();
    patient.make(&host).await.unwrap();
    let broken =
        Guarded { change: "ip link add second type veth peer name last; echo no such thing >&2; exit 4", ..patient };
    match broken.make(&host).await {
        Err(GuardError::Change { said }) => assert_eq!(said, "no such thing"),
        other => panic!("{other:?}"),
    }
    assert!(!is_there(), "the one before it was undone");
    // One that does not come to its end, and does not want to be told, is ended and undone.
    let within = Duration::from_secs(2);
    let stuck = "trap '' TERM; ip link add cut type veth peer name other; echo waits for somebody >&2; sleep 1000";
    match (Guarded { change: stuck, within, ..patient }).make(&host).await {
        Err(GuardError::Change { said }) => {
            assert!(said.starts_with("it was not done within 2 s. waits for somebody"), "{said}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!is_there(), "what was ended half-way was undone");
    // Without anything that would undo it nothing is changed.
    std::fs::remove_file(host.path("/usr/bin/systemd-run")).unwrap();
    assert!(matches!(patient.make(&host).await, Err(GuardError::NoGuard { .. })));
    assert!(!is_there());
    eventually("no timer", || {
        let timers = host.output(&["systemctl", "list-timers", "--all", "--no-legend", "sovereign-*"]);
        timers.stdout.is_empty().then_some(())
    });
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a score is worth knowing")]
async fn a_unit_is_replaced_beside_the_old_one_and_kept_when_the_new_one_is_no_good() {
    let Some(host) = boot() else { return };
    std::fs::create_dir_all(host.path("/var/lib/sovereign/shop/secret")).unwrap();
    std::fs::File::create(host.path("/var/lib/sovereign/shop/server.py"))
        .unwrap()
        .write_all(SERVER.as_bytes())
        .unwrap();
    let [one, two, broken] = ["one", "two", "broken"].map(|says| unit(says, 8443));
    let services = [&one, &two].map(|unit| Names::of(&stack(), unit).service());

    // One that is no good leaves nothing.
    let left = || {
        let found = host.output(&["sh", "-c", "find /etc/systemd/system /run/systemd/system -name 'sovereign-*'"]);
        String::from_utf8(found.stdout).unwrap()
    };
    assert!(matches!(replace(&host, &broken).await, Err(ReplaceError::NotWell { .. })));
    assert_eq!(left(), "");
    // The first one; again, nothing changes.
    let done = replace(&host, &one).await.unwrap();
    assert_eq!(done, Replaced { service: services[0].clone(), started: true, stopped: Vec::new() });
    assert_eq!(ask(&host, 8443), "one");
    assert!(!replace(&host, &one).await.unwrap().started);
    let score = host.output(&["systemd-analyze", "security", "--no-pager", &services[0]]);
    let score = String::from_utf8_lossy(&score.stdout).lines().last().unwrap_or_default().to_owned();
    eprintln!("{score}");
    assert!(score.contains("OK"), "{score}");

    // The next one, while somebody reads without a pause.
    let reader = Reader::start(&host, 8443);
    eventually("a reader", || (ask(&host, 8443) == "one").then_some(()));
    let done = replace(&host, &two).await.unwrap();
    assert_eq!(done, Replaced { service: services[1].clone(), started: true, stopped: vec![services[0].clone()] });
    assert_eq!(ask(&host, 8443), "two");
    // One that is no good: the reason is told, and the old one has answered all along.
    match replace(&host, &broken).await {
        Err(ReplaceError::NotWell { log, .. }) => assert!(log.contains("no such flag: [31mbroken"), "{log}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(ask(&host, 8443), "two");
    assert_eq!(reader.stop(), "0 one two", "nobody was refused");

    // Killed, it comes back, and connections wait for it.
    host.output(&["systemctl", "kill", "--signal=KILL", &services[1]]);
    assert_eq!(ask(&host, 8443), "two");
    // And when the host starts anew: everything is enabled, and nothing else.
    let enabled = host.output(&["systemctl", "list-unit-files", "--state=enabled", "--no-legend", "sovereign-*"]);
    let enabled = String::from_utf8_lossy(&enabled.stdout)
        .lines()
        .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
        .collect::<Vec<_>>();
    assert_eq!(enabled, [services[1].clone(), Names::of(&stack(), &two).socket("https")]);

    // Changed by somebody: its text, and what listens. All of it comes back, and the process with the old text does not stay.
    let (service, socket) = (&services[1], Names::of(&stack(), &two).socket("https"));
    let text = host.path(&format!("/etc/systemd/system/{service}"));
    let right = std::fs::read_to_string(&text).unwrap();
    std::fs::write(&text, right.replace("NoNewPrivileges=yes", "NoNewPrivileges=no")).unwrap();
    host.output(&["sh", "-c", &format!("systemctl daemon-reload; systemctl restart {service}")]);
    let process = || host.output(&["systemctl", "show", "--property=MainPID", "--value", service]).stdout;
    let changed = process();
    replace(&host, &two).await.unwrap();
    assert_eq!(std::fs::read_to_string(&text).unwrap(), right);
    assert_ne!(process(), changed, "it was started anew");
    assert_eq!(ask(&host, 8443), "two");
    let listens = || host.output(&["systemctl", "is-active", &socket]).status.success();
    host.output(&["systemctl", "stop", "--job-mode=ignore-dependencies", &socket]);
    assert!(!listens());
    replace(&host, &two).await.unwrap();
    assert!(listens());
    assert_eq!(ask(&host, 8443), "two");
    std::fs::remove_file(host.path(&format!("/etc/systemd/system/{socket}"))).unwrap();
    replace(&host, &two).await.unwrap();
    assert!(listens() && host.path(&format!("/etc/systemd/system/{socket}")).exists());
    assert_eq!(ask(&host, 8443), "two");

    // Another port: the old service makes room.
    replace(&host, &unit("two", 8444)).await.unwrap();
    assert_eq!([ask(&host, 8444), ask(&host, 8443)], ["two", ""]);
    systemd::remove(&host, &stack(), &two.name).await.unwrap();
    assert_eq!(ask(&host, 8444), "");
    assert_eq!(left(), "");
}
