//! Applications cannot read what is not theirs: tried from inside the place where a real Ghost runs.
//!
//! Ghost's own unit is given another program for a while, with nothing else changed: same paths, same user, same fence.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sovereign_engine::embedded::Client;
use sovereign_model::layout::StateFolder;
use sovereign_model::unit::{Health, UnitSpec};
use support::{Operator, eventually};

/// Tries everything it is told to, by every way it knows, and writes down what it could do.
const TRIAL: &str = r"
const fs = require('fs'), net = require('net');
const { read, list, visible, connect, processes, own, report } = JSON.parse(process.env.TRIAL);
const could = [];
const listed = path => { try { return fs.readdirSync(path); } catch { return []; } };
const attempt = (what, act) => { try { act(); could.push(what); } catch {} };
for (const path of read) attempt(`read ${path}`, () => fs.readFileSync(path));
for (const path of read) attempt(`change ${path}`, () => fs.appendFileSync(path, 'x'));
// Folders that lead to its own paths are there in its own root, with nothing else in them.
const leads = path => visible.some(own => own === path || own.startsWith(`${path}/`) || path.startsWith(`${own}/`));
for (const path of list) for (const name of fs.existsSync(path) ? listed(path) : [])
  if (!leads(`${path}/${name}`)) could.push(`see ${path}/${name}`);
for (const path of list) attempt(`write into ${path}`, () => fs.writeFileSync(`${path}/intruder`, 'x'));
for (const pid of processes) {
  for (const part of ['environ', 'mem', 'maps', 'fd', 'root/etc/shadow'])
    attempt(`look at ${part} of ${pid}`, () => part === 'fd' ? fs.readdirSync(`/proc/${pid}/fd`) : fs.openSync(`/proc/${pid}/${part}`));
  attempt(`signal ${pid}`, () => process.kill(pid, 0));
}
attempt('its own configuration', () => fs.readFileSync(own));
const connecting = connect.map(path => new Promise(done => {
  const socket = net.connect(path, () => { could.push(`connect ${path}`); socket.destroy(); done(); });
  socket.on('error', done);
}));
Promise.all(connecting).then(() => {
  fs.writeFileSync(`${report}.new`, JSON.stringify(could));
  fs.renameSync(`${report}.new`, report);
  setInterval(() => {}, 1000);
});
";

fn stack(operator: &Operator) -> String {
    let declared = support::leaf::stack(operator);
    let (places, _) = declared.split_once("[[site]]").unwrap();
    let site = |name: &str| {
        format!(
            "[[site]]\nname = {name:?}\napp = \"ghost\"\ncanonical = \"{name}.localhost\"\nprimary = \"home\"\nmirrors = [\"office\"]\n"
        )
    };
    format!("{places}{}\n{}", site("blog"), site("diary"))
}

/// Every file below `folder`, without those below `except`.
fn files(folder: &Path, except: &Path, found: &mut Vec<PathBuf>) {
    if folder == except {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), except, found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn applications_cannot_read_what_is_not_theirs() {
    let operator = Operator::new().with_shared_images();
    operator.write("stack.toml", &stack(&operator));
    let began = std::time::Instant::now();
    let first = operator.run(&["up", "--yes", "--offline"]);
    if first.code() != Some(0) && first.stderr().contains("image") {
        eprintln!("SKIPPED: there is no image of Ghost to try it with\n{}", first.stderr());
        return;
    }
    eprintln!("first up: {:?}", began.elapsed());
    first.success();
    let state = operator.state();
    let client = Client::of(StateFolder::new(&state));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    let ledger: Value = serde_json::from_slice(&fs::read(state.join("run/units.json")).unwrap()).unwrap();
    let unit = &ledger["units"]["ghost-blog@home"];
    let confined = unit["processes"][0]["confined"].clone();
    let mut spec: UnitSpec = serde_json::from_value(unit["spec"].clone()).unwrap();
    let own = state.join("dc/home/sites/blog");
    let report = spec.confinement.write.first().unwrap().join("report.json");

    // All of the state folder but the application's own: seed, keys, edges, journal, the other site.
    let mut read = Vec::new();
    files(&state, &own, &mut read);
    let programs = state.join("bin");
    let public = state.join("ca/ca.pem");
    read.retain(|path| !path.starts_with(&programs) && *path != public);
    for part in ["seed", "keys", "dc/home/edge/key.pem", "dc/home/sites/diary", "dc/home/set-up", "journal", "run"] {
        assert!(read.iter().any(|path| path.starts_with(state.join(part))), "{part} is not tried");
    }
    read.extend([operator.home().join("stack.toml"), "/etc/shadow".into(), "/etc/machine-id".into()]);
    let list = ["seed", "keys", "dc/home/edge", "dc/home/edge/store", "dc/home/sites", "dc/home/sites/diary/content"];
    let list: Vec<_> = list
        .iter()
        .map(|part| if part.is_empty() { state.clone() } else { state.join(part) })
        .chain([state.clone(), operator.home().to_owned()])
        .collect();
    let connect = ["run/supervisor.sock", "dc/home/edge/run/control.sock", "dc/home/sites/diary/run/ghost.sock"];
    let connect: Vec<_> = connect.iter().map(|socket| state.join(socket)).collect();
    for socket in &connect {
        assert!(fs::symlink_metadata(socket).is_ok(), "{} is not tried", socket.display());
    }
    let others: Vec<_> =
        operator.processes().into_iter().filter(|pid| Some(*pid) != operator.pid_now("ghost-blog@home")).collect();
    let visible: Vec<_> = spec.confinement.read.iter().chain(&spec.confinement.write).collect();
    let trial = serde_json::json!({
        "read": read, "list": list, "visible": visible, "connect": connect, "processes": others,
        "own": own.join("config.production.json"), "report": report,
    });
    spec.args = vec!["-e".to_owned(), TRIAL.to_owned()];
    spec.env.insert("TRIAL".to_owned(), trial.to_string());
    spec.health = Health::Alive;
    runtime.block_on(client.apply(&spec)).unwrap();
    let could = eventually("the trial's report", Duration::from_secs(60), || fs::read(&report).ok());
    let could: Vec<String> = serde_json::from_slice(&could).unwrap();
    fs::remove_file(&report).unwrap();

    if confined["mounts"] == false {
        eprintln!("SKIPPED in part: without a root folder of its own it reaches sockets: {confined}");
    }
    let could: Vec<_> =
        could.into_iter().filter(|what| confined["mounts"] != false || !what.starts_with("connect")).collect();
    assert_eq!(could, ["its own configuration"], "{confined}");

    // The next run puts Ghost back in its place.
    operator.run(&["plan"]).exits(3);
    operator.up();
    operator.run(&["plan"]).success();
    for name in ["blog", "diary"] {
        operator.curl(&format!("{name}.localhost:{}", operator.home_port), operator.office_port, "/", &[]).ok();
    }
}
