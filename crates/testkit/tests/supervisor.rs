//! The supervisor with real processes: what is killed comes back, and no connection is ever refused.
#![expect(clippy::print_stderr, reason = "figures, and what this machine cannot do, for who reads the test's output")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sovereign_engine::embedded::{Client, ClientError, SupervisorStatus, UnitState, UnitStatus};
use sovereign_model::unit::{Confinement, Health, Replace, SocketSpec, UnitSpec};
use sovereign_model::{StateFolder, UnitName};
use sovereign_testkit::wait::until;

const TESTBED: &str = env!("CARGO_BIN_EXE_testbed");

/// An id without an account.
const ORDINARY_USER: u32 = 61_001;

/// A supervisor of its own for one test.
struct Bed {
    folder: tempfile::TempDir,
    client: Client,
    /// Who runs it, when that is not who runs the test.
    user: Option<u32>,
}

impl Bed {
    async fn new() -> Self {
        let bed = Self::idle();
        bed.start().await;
        bed
    }

    fn idle() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::of(StateFolder::new(folder.path().join("state")));
        Self { folder, client, user: None }
    }

    /// Hands everything over to an ordinary user, who then starts the supervisor. For tests that run as root.
    async fn start_as(&mut self, user: u32) {
        self.user = Some(user);
        for folder in ["journal", "run", "logs/supervisor"] {
            fs::create_dir_all(self.state().join(folder)).unwrap();
        }
        fs::copy(TESTBED, self.folder.path().join("testbed")).unwrap();
        let owner = format!("{user}:{user}");
        assert!(Command::new("chown").arg("-R").arg(owner).arg(self.folder.path()).status().unwrap().success());
        self.start().await;
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    async fn start(&self) -> SupervisorStatus {
        let args: Vec<OsString> = vec!["supervise".into(), "--state".into(), self.state().into()];
        let Some(user) = self.user else { return self.client.start(Path::new(TESTBED), &args).await.unwrap() };
        let program = self.folder.path().join("testbed");
        let become_user = [format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()];
        let line = become_user.into_iter().map(OsString::from).chain([program.into()]).chain(args).collect::<Vec<_>>();
        self.client.start(Path::new("/usr/bin/setpriv"), &line).await.unwrap()
    }

    async fn status(&self) -> SupervisorStatus {
        until("an answer of the supervisor", || async { self.client.status().await.ok().flatten() }).await
    }

    async fn unit(&self, unit: &UnitName) -> UnitStatus {
        self.status().await.units.into_iter().find(|status| status.name == *unit).unwrap()
    }

    /// Applies and waits until the unit is as wanted.
    async fn run(&self, spec: &UnitSpec) -> UnitStatus {
        self.client.apply(spec).await.unwrap();
        self.well(&spec.name, |_| true).await
    }

    async fn well(&self, unit: &UnitName, also: impl Fn(&UnitStatus) -> bool) -> UnitStatus {
        let also = &also;
        until(format!("{unit} being well"), || async move {
            let status = self.client.unit(unit).await.ok().flatten()?;
            (status.is_well() && also(&status)).then_some(status)
        })
        .await
    }

    async fn kill_supervisor_and_keeper(&self) {
        let status = self.status().await;
        // The keeper first would be replaced, the supervisor first would be started again: stop both, then kill.
        let both = [status.keeper.unwrap().pid, status.pid].map(|pid| Pid::from_raw(pid.cast_signed()).unwrap());
        for signal in [Signal::STOP, Signal::KILL] {
            for pid in both {
                kill_process(pid, signal).unwrap();
            }
        }
        let gone = || async { self.client.status().await.is_ok_and(|status| status.is_none()).then_some(()) };
        until("both being gone", gone).await;
    }

    /// A unit with a socket, which answers with `word`.
    fn daemon(&self, name: &str, address: SocketAddr, word: &str, replace: Replace) -> UnitSpec {
        let control = self.folder.path().join("control");
        fs::create_dir_all(&control).unwrap();
        let socket = control.join(format!("{name}.sock"));
        UnitSpec {
            args: vec!["daemon".into(), socket.display().to_string(), word.into()],
            sockets: vec![SocketSpec { name: "https".into(), address }],
            confinement: Confinement {
                read: vec![],
                write: vec![control],
                own_user: false,
                connect: None,
                low_ports: false,
            },
            health: Health::Control { socket },
            replace,
            ..self.script(name, "")
        }
        .program(TESTBED)
    }

    /// A unit that is a shell script.
    fn script(&self, name: &str, script: &str) -> UnitSpec {
        UnitSpec {
            name: name.parse().unwrap(),
            datacenter: "home".parse().unwrap(),
            host: None,
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
            working_dir: "/".into(),
            sockets: vec![],
            confinement: Confinement::default(),
            health: Health::Alive,
            after: vec![],
            stop_grace_seconds: 5,
            replace: Replace::StopFirst,
            inputs: BTreeMap::new(),
        }
    }
}

trait Program {
    fn program(self, path: &str) -> Self;
}

impl Program for UnitSpec {
    fn program(mut self, path: &str) -> Self {
        self.program = path.into();
        self
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // A test must not leave processes: those whose arguments name its folder are its own. Stopped first, or they
        // would bring each other back.
        let mark = self.folder.path().display().to_string();
        loop {
            let own = processes_with(&mark);
            if own.is_empty() {
                return;
            }
            for signal in [Signal::STOP, Signal::KILL] {
                own.iter().for_each(|pid| send(*pid, signal));
            }
        }
    }
}

fn processes_with(mark: &str) -> Vec<i32> {
    // A zombie has no arguments.
    let mine = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id().cast_signed() && String::from_utf8_lossy(&line).contains(mark)
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(mine).collect()
}

fn kill(pid: i32) {
    send(pid, Signal::KILL);
}

fn send(pid: i32, signal: Signal) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut text = String::new();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    // A process that is killed with the connection in its hands resets it; what counts here is that it was accepted.
    let _ = stream.read_to_string(&mut text);
    Ok(text)
}

/// Connects again and again; a refused connection is what must not happen.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, Vec<String>)>,
}

impl Reader {
    fn of(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut answers, mut failures) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                match ask(address) {
                    Ok(_) => answers += 1,
                    Err(error) => failures.push(error.to_string()),
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            (answers, failures)
        });
        Self { stop, thread }
    }

    fn was_never_refused(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (answers, failures) = self.thread.join().unwrap();
        assert!(answers > 0);
        assert_eq!(failures, Vec::<String>::new(), "besides {answers} answers");
    }
}

#[tokio::test]
async fn a_unit_that_is_killed_comes_back_and_no_connection_is_refused() {
    let bed = Bed::new().await;
    let address = free_address();
    let spec = bed.daemon("web@home", address, "hello", Replace::Beside);
    let first = bed.run(&spec).await;
    assert!(ask(address).unwrap().starts_with("hello "));
    assert!(!bed.client.apply(&spec).await.unwrap(), "the same description changes nothing");
    let reader = Reader::of(address);
    kill(first.pid.unwrap());
    let second = bed.well(&spec.name, |unit| unit.pid != first.pid).await;
    assert_eq!(second.restarts, 1);
    assert_eq!(second.last_exit.as_deref(), Some("killed (SIGKILL)"));
    assert!(second.usage.rss_bytes > 0);
    reader.was_never_refused();
}

#[tokio::test]
async fn a_supervisor_that_is_killed_comes_back_and_adopts() {
    let bed = Bed::new().await;
    let address = free_address();
    let spec = bed.daemon("web@home", address, "hello", Replace::Beside);
    let unit = bed.run(&spec).await;
    let before = bed.status().await;
    let reader = Reader::of(address);
    kill(before.pid.cast_signed());
    let after = until("another supervisor", || async {
        let status = bed.client.status().await.ok().flatten()?;
        (status.pid != before.pid).then_some(status)
    })
    .await;
    assert_eq!(after.keeper.unwrap().pid, before.keeper.unwrap().pid);
    let adopted = bed.well(&spec.name, |_| true).await;
    assert_eq!((adopted.pid, adopted.restarts), (unit.pid, 0));
    // It is watched like one of its own.
    kill(unit.pid.unwrap());
    bed.well(&spec.name, |now| now.pid != unit.pid).await;
    reader.was_never_refused();
}

#[tokio::test]
async fn a_keeper_that_is_killed_is_replaced_and_then_supervisor_and_unit_die_at_once() {
    let bed = Bed::new().await;
    let address = free_address();
    let spec = bed.daemon("web@home", address, "hello", Replace::Beside);
    let unit = bed.run(&spec).await;
    let before = bed.status().await;
    let reader = Reader::of(address);
    let first_keeper = before.keeper.unwrap().pid;
    kill(first_keeper.cast_signed());
    until("another keeper", || async {
        let keeper = bed.status().await.keeper?;
        (keeper.pid != first_keeper).then_some(())
    })
    .await;
    kill(before.pid.cast_signed());
    kill(unit.pid.unwrap());
    bed.well(&spec.name, |now| now.pid != unit.pid).await;
    assert_ne!(bed.status().await.pid, before.pid);
    reader.was_never_refused();
}

#[tokio::test]
async fn units_outlive_supervisor_and_keeper_and_the_next_ones_adopt_them() {
    let bed = Bed::new().await;
    let address = free_address();
    let spec = bed.daemon("web@home", address, "hello", Replace::Beside);
    let unit = bed.run(&spec).await;
    let reader = Reader::of(address);
    bed.kill_supervisor_and_keeper().await;
    bed.start().await;
    let adopted = bed.well(&spec.name, |_| true).await;
    assert_eq!(adopted.pid, unit.pid);
    kill(unit.pid.unwrap());
    bed.well(&spec.name, |now| now.pid != unit.pid).await;
    reader.was_never_refused();
}

#[tokio::test]
async fn shutdown_ends_units_whose_supervisor_and_keeper_were_killed() {
    let bed = Bed::new().await;
    let address = free_address();
    let spec = bed.daemon("web@home", address, "hello", Replace::Beside);
    bed.run(&spec).await;
    bed.kill_supervisor_and_keeper().await;
    assert_eq!(bed.client.shutdown().await.unwrap(), std::slice::from_ref(&spec.name));
    assert_eq!(processes_with(&bed.folder.path().display().to_string()), Vec::<i32>::new());
    assert_eq!(bed.start().await.units, vec![], "shut down means not wanted again");
}

#[tokio::test]
async fn shutdown_right_after_the_supervisors_death_waits_for_the_next_one() {
    let bed = Bed::new().await;
    let spec = bed.daemon("web@home", free_address(), "hello", Replace::Beside);
    bed.run(&spec).await;
    kill(bed.status().await.pid.cast_signed());
    assert_eq!(bed.client.shutdown().await.unwrap(), std::slice::from_ref(&spec.name));
    assert_eq!(processes_with(&bed.folder.path().display().to_string()), Vec::<i32>::new());
}

#[tokio::test]
async fn shutdown_while_a_unit_is_being_removed_ends_both() {
    let bed = Bed::new().await;
    let mark = bed.folder.path().join("mark").display().to_string();
    let slow = bed.script("slow@home", &format!("trap '' TERM; : {mark}; while :; do sleep 1; done"));
    bed.run(&UnitSpec { stop_grace_seconds: 1, ..slow.clone() }).await;
    let removal = tokio::spawn({
        let (client, name) = (bed.client.clone(), slow.name.clone());
        async move { client.remove(&name).await }
    });
    until("the removal", || async { (bed.unit(&slow.name).await.state == UnitState::Stopping).then_some(()) }).await;
    let before = bed.status().await.pid;
    bed.client.shutdown().await.unwrap();
    // Whoever answers last, it is done.
    drop(removal.await);
    assert_eq!(processes_with(&bed.folder.path().display().to_string()), Vec::<i32>::new());
    let log = fs::read_to_string(bed.state().join("logs/supervisor/current.log")).unwrap_or_default();
    assert!(!log.contains("panicked"), "supervisor {before}: {log}");
}

#[tokio::test]
async fn a_new_description_starts_beside_and_takes_over_when_it_is_well() {
    let bed = Bed::new().await;
    let address = free_address();
    let old = bed.daemon("web@home", address, "old", Replace::Beside);
    let first = bed.run(&old).await;
    let reader = Reader::of(address);
    let second = bed.run(&bed.daemon("web@home", address, "new", Replace::Beside)).await;
    assert_ne!(second.pid, first.pid);
    until("the old one being gone", || async { ask(address).unwrap().starts_with("new ").then_some(()) }).await;
    // One that does not start leaves the old one serving, and says so.
    let mut broken = bed.daemon("web@home", address, "broken", Replace::Beside);
    broken.args.truncate(1);
    bed.client.apply(&broken).await.unwrap();
    let kept = until("a refusal", || async {
        let unit = bed.unit(&broken.name).await;
        unit.refused.is_some().then_some(unit)
    })
    .await;
    assert_eq!(kept.pid, second.pid);
    assert!(!kept.is_well());
    assert!(ask(address).unwrap().starts_with("new "));
    reader.was_never_refused();
}

#[tokio::test]
async fn the_supervisor_becomes_another_program_in_place() {
    let bed = Bed::new().await;
    let address = free_address();
    let spec = bed.daemon("web@home", address, "hello", Replace::Beside);
    let unit = bed.run(&spec).await;
    let before = bed.status().await;
    let reader = Reader::of(address);
    let copy = bed.folder.path().join("newer");
    fs::copy(TESTBED, &copy).unwrap();
    let after = bed.client.replace(&copy).await.unwrap();
    assert_eq!(after.pid, before.pid, "the same process");
    assert_eq!(fs::read_link(format!("/proc/{}/exe", after.pid)).unwrap(), copy);
    let keeper = after.keeper.unwrap().pid;
    assert_eq!(fs::read_link(format!("/proc/{keeper}/exe")).unwrap(), copy);
    assert_eq!(bed.well(&spec.name, |_| true).await.pid, unit.pid);
    kill(unit.pid.unwrap());
    let restarted = bed.well(&spec.name, |now| now.pid != unit.pid).await;
    assert_eq!(restarted.last_exit.as_deref(), Some("killed (SIGKILL)"), "units stay its children");
    reader.was_never_refused();
}

#[tokio::test]
async fn after_shutdown_nothing_is_left() {
    let bed = Bed::new().await;
    let address = free_address();
    let web = bed.daemon("web@home", address, "hello", Replace::Beside);
    // One that leaves a grandchild behind and ignores being asked to end.
    let mark = bed.folder.path().join("mark").display().to_string();
    let mut stubborn =
        bed.script("stubborn@home", &format!("trap '' TERM; sleep 1000 & : {mark}; while :; do wait; done"));
    stubborn.stop_grace_seconds = 1;
    stubborn.after = vec![web.name.clone()];
    bed.run(&web).await;
    bed.run(&stubborn).await;
    let status = bed.status().await;
    assert!(status.usage.rss_bytes > 0 && status.keeper.as_ref().unwrap().usage.rss_bytes > 0);
    eprintln!("memory: supervisor {:?}, keeper {:?}", status.usage, status.keeper.unwrap().usage);
    bed.client.shutdown().await.unwrap();
    assert_eq!(processes_with(&bed.folder.path().display().to_string()), Vec::<i32>::new());
    assert!(ask(address).is_err());
    let sockets: Vec<_> = files(bed.folder.path()).into_iter().filter(|path| path.ends_with(".sock")).collect();
    assert_eq!(sockets, Vec::<PathBuf>::new());
    bed.client.shutdown().await.unwrap();
    assert_eq!(bed.start().await.units, vec![], "shut down means not wanted again");
    bed.client.shutdown().await.unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn sigterm_stops_units_and_the_next_start_brings_them_back() {
    let bed = Bed::new().await;
    let address = free_address();
    let spec = bed.daemon("web@home", address, "hello", Replace::Beside);
    let unit = bed.run(&spec).await;
    let status = bed.status().await;
    kill_process(Pid::from_raw(status.pid.cast_signed()).unwrap(), Signal::TERM).unwrap();
    until("everything being gone", || async {
        processes_with(&bed.folder.path().display().to_string()).is_empty().then_some(())
    })
    .await;
    bed.start().await;
    assert_ne!(bed.well(&spec.name, |_| true).await.pid, unit.pid);
    // The same as a command, as systemd gives it.
    let rest = Command::new(TESTBED).args(["supervise", "--state"]).arg(bed.state()).args(["--part", "rest"]).status();
    assert!(rest.unwrap().success());
    assert_eq!(processes_with(&bed.folder.path().display().to_string()), Vec::<i32>::new());
    bed.start().await;
    bed.well(&spec.name, |_| true).await;
}

#[tokio::test]
async fn a_second_supervisor_of_the_same_stack_ends_at_once() {
    let bed = Bed::new().await;
    let first = bed.status().await;
    let second = Command::new(TESTBED).args(["supervise", "--state"]).arg(bed.state()).output().unwrap();
    assert!(second.status.success(), "it found the first and left");
    assert_eq!(bed.status().await.pid, first.pid);
}

#[tokio::test]
async fn a_supervisor_that_cannot_run_says_so_at_once() {
    let bed = Bed::idle();
    fs::create_dir_all(bed.state().join("run")).unwrap();
    fs::write(bed.state().join("run/units.json"), r#"{"format":2}"#).unwrap();
    let args: Vec<OsString> = vec!["supervise".into(), "--state".into(), bed.state().into()];
    let error = bed.client.start(Path::new(TESTBED), &args).await.unwrap_err();
    assert!(matches!(&error, ClientError::NotUp { log } if log.contains("Newer")), "{error}");
}

#[tokio::test]
async fn applying_again_what_was_given_up_tries_again() {
    let bed = Bed::new().await;
    let mark = bed.folder.path().join("mended");
    let script = format!("test -e {} || exit 1; exec sleep 1000", mark.display());
    let mut spec = bed.script("late@home", &script);
    spec.confinement.read.push(bed.folder.path().to_owned());
    bed.client.apply(&spec).await.unwrap();
    let dead = |unit: &UnitStatus| unit.state == UnitState::Pausing && unit.restarts >= 3;
    bed.client.wait_well(&spec.name, dead).await.unwrap();
    fs::write(&mark, "").unwrap();
    bed.client.apply(&spec).await.unwrap();
    let well = bed.client.wait_well(&spec.name, dead).await.unwrap().unwrap();
    assert!(well.is_well(), "{well:?}");
}

#[tokio::test]
async fn a_taken_port_is_refused_with_its_owner() {
    let bed = Bed::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = bed.daemon("web@home", taken.local_addr().unwrap(), "hello", Replace::Beside);
    let error = bed.client.apply(&spec).await.unwrap_err();
    let help = error.help().unwrap();
    assert!(help.contains(&format!("process {}", std::process::id())), "{help}");
    assert_eq!(bed.status().await.units, vec![]);
}

#[tokio::test]
async fn units_start_in_order_and_a_failing_one_is_shown() {
    let bed = Bed::new().await;
    let first = bed.script("first@home", "echo to the log; exit 3");
    let mut second = bed.script("second@home", "exec sleep 1000");
    second.after = vec![first.name.clone()];
    bed.client.apply(&first).await.unwrap();
    let failing = until("a third try", || async {
        let unit = bed.unit(&first.name).await;
        (unit.restarts >= 2 && unit.state == UnitState::Pausing).then_some(unit)
    })
    .await;
    assert_eq!(failing.last_exit.as_deref(), Some("exit code 3"));
    assert!(failing.next_try_ms.is_some());
    bed.client.apply(&second).await.unwrap();
    let log = fs::read_to_string(bed.state().join("logs/first@home/current.log")).unwrap();
    assert!(log.starts_with("to the log\n"), "{log:?}");
    bed.client.apply(&bed.script("first@home", "exec sleep 1000")).await.unwrap();
    bed.well(&second.name, |_| true).await;
    bed.client.stop(&first.name).await.unwrap();
    assert_eq!(bed.unit(&first.name).await.state, UnitState::Stopped);
    bed.client.remove(&first.name).await.unwrap();
    assert_eq!(bed.client.unit(&first.name).await.unwrap(), None);
}

/// A page of what a unit may not do, tried by a shell from inside. Runs as far confined as this machine allows.
#[tokio::test]
async fn a_confined_unit_reaches_its_own_paths_and_nothing_else() {
    let root_tests = rustix::process::geteuid().is_root();
    // By an ordinary user, a unit may get a root folder of its own; by root, a user too.
    for (own_user, by_other) in [(false, false), (true, false), (true, true)] {
        if by_other && !root_tests {
            continue;
        }
        let mut bed = Bed::idle();
        let root = bed.folder.path().to_owned();
        let (own, app) = (root.join("own"), root.join("app"));
        fs::create_dir_all(&own).unwrap();
        fs::create_dir_all(&app).unwrap();
        fs::write(app.join("config"), "configuration\n").unwrap();
        fs::set_permissions(app.join("config"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(own.join("earlier"), "by the operator\n").unwrap();
        for (name, mode) in [("seed", 0o600), ("readable", 0o644)] {
            fs::write(root.join(name), "SECRET\n").unwrap();
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir_all(bed.state()).unwrap();
        let me = std::process::id();
        let [allowed, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [allowed, other] = [&allowed, &other].map(|listener| listener.local_addr().unwrap().port());
        let script = format!(
            "cd {own} || exit 1
            echo x >> earlier && echo appended
            cat {app}/config
            echo x 2>/dev/null > {app}/config || echo config refused
            cat {root}/seed 2>/dev/null || echo seed refused
            cat {root}/readable 2>/dev/null || echo readable refused
            cat {state}/run/units.json >/dev/null 2>&1 || echo ledger refused
            cat /proc/{me}/environ >/dev/null 2>&1 || echo environ refused
            cat /proc/{me}/maps >/dev/null 2>&1 || echo maps refused
            kill -0 {me} 2>/dev/null || echo signal refused
            touch /etc/mine 2>/dev/null || echo etc refused
            cat /etc/shadow >/dev/null 2>&1 || echo shadow refused
            test -r /usr/bin/env && echo system readable
            echo t > ${{TMPDIR:-/tmp}}/mine && echo temporary written
            echo > /dev/null && echo null written
            bash -c 'exec 3<>/dev/tcp/127.0.0.1/{allowed}' 2>/dev/null && echo allowed port reached
            bash -c 'exec 3<>/dev/tcp/127.0.0.1/{other}' 2>/dev/null || echo other port refused
            test -e {state}/run/supervisor.sock && echo sockets in sight
            touch done; exec sleep 1000",
            own = own.display(),
            app = app.display(),
            root = root.display(),
            state = bed.state().display(),
        );
        let mut spec = bed.script("app@home", &script);
        let (read, write) = (vec![app.clone(), app.join("config")], vec![own.clone()]);
        spec.confinement = Confinement { read, write, own_user, connect: Some(vec![allowed]), low_ports: false };
        if by_other {
            bed.start_as(ORDINARY_USER).await;
        } else {
            bed.start().await;
        }
        let unit = bed.run(&spec).await;
        until("the script being done", || async { own.join("done").exists().then_some(()) }).await;
        let log = fs::read_to_string(bed.state().join("logs/app@home/current.log")).unwrap();
        let mut said: Vec<&str> = log.lines().collect();
        let confined = unit.confined.unwrap();
        eprintln!("own user {own_user}, by an ordinary user {by_other}: {confined}");
        // What this machine cannot do is told, and need not be so.
        let sockets_in_sight = said.last() == Some(&"sockets in sight");
        said.truncate(said.len() - usize::from(sockets_in_sight));
        assert!(!(confined.mounts && sockets_in_sight), "a unit may connect to what it sees");
        if confined.missing.iter().any(|missing| missing.starts_with("ports")) {
            said.push("other port refused");
        }
        if !confined.landlock && !confined.mounts {
            eprintln!("SKIPPED: this machine confines nothing");
            return;
        }
        assert_eq!(
            said,
            [
                "appended",
                "configuration",
                "config refused",
                "seed refused",
                "readable refused",
                "ledger refused",
                "environ refused",
                "maps refused",
                "signal refused",
                "etc refused",
                "shadow refused",
                "system readable",
                "temporary written",
                "null written",
                "allowed port reached",
                "other port refused"
            ],
            "own user: {own_user}, {confined}"
        );
        if own_user && root_tests && !by_other && confined.mounts {
            assert_eq!(confined.user, Some(fs::metadata(own.join("done")).unwrap().uid()));
            let readable_to = fs::read_to_string(format!("/proc/{}/status", unit.pid.unwrap())).unwrap();
            assert!(readable_to.contains(&format!("Uid:\t{}", confined.user.unwrap())), "{readable_to}");
        }
        bed.client.shutdown().await.unwrap();
        assert!(fs::read_dir(bed.state().join("run/root")).unwrap().next().is_none());
    }
}

#[tokio::test]
async fn a_unit_that_is_not_well_for_long_is_started_again() {
    let bed = Bed::new().await;
    let spec = bed.daemon("web@home", free_address(), "hello", Replace::Beside);
    let first = bed.run(&spec).await;
    let sick = bed.folder.path().join("control/web@home.sick");
    fs::write(&sick, "").unwrap();
    until("a restart", || async {
        let unit = bed.unit(&spec.name).await;
        (unit.restarts > 0 && unit.pid != first.pid).then_some(())
    })
    .await;
    assert_ne!(bed.unit(&spec.name).await.state, UnitState::Healthy);
    fs::remove_file(&sick).unwrap();
    let well = bed.well(&spec.name, |_| true).await;
    assert_eq!(well.last_exit.as_deref(), Some("exit code 0"), "it was asked to end, not killed");
}

#[tokio::test]
async fn a_replacement_cut_off_by_a_kill_is_begun_again_from_the_old_process() {
    let bed = Bed::new().await;
    let address = free_address();
    let old = bed.daemon("web@home", address, "old", Replace::Beside);
    let first = bed.run(&old).await;
    let reader = Reader::of(address);
    // One that runs and never says that it is well.
    let mark = format!("exec sleep 1000 # {}", bed.folder.path().display());
    let never = UnitSpec { args: vec!["-c".into(), mark], ..bed.daemon("web@home", address, "-", Replace::Beside) };
    let never = never.program("/bin/sh");
    bed.client.apply(&never).await.unwrap();
    until("the new process", || async { (bed.unit(&never.name).await.state == UnitState::Replacing).then_some(()) })
        .await;
    kill(bed.status().await.pid.cast_signed());
    let kept = until("the old one going on, and a refusal", || async {
        let unit = bed.client.unit(&never.name).await.ok().flatten()?;
        unit.refused.is_some().then_some(unit)
    })
    .await;
    assert_eq!(kept.pid, first.pid);
    bed.run(&bed.daemon("web@home", address, "new", Replace::Beside)).await;
    until("the old one being gone", || async { ask(address).unwrap().starts_with("new ").then_some(()) }).await;
    let sleeping = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    assert_eq!(processes_with(&bed.folder.path().display().to_string()).iter().filter(|pid| sleeping(pid)).count(), 0);
    reader.was_never_refused();
}
