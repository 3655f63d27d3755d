//! `cargo xtask conformance`: the public HTTP cache test suite against an edge, test by test.
//!
//! The edge is the real one, put up by the real binary in front of the suite's own server as an `upstream` site, and asked over
//! TLS. What passes is listed in `xtask/conformance/expected.json`; the list may only grow. A listed test that does not
//! pass fails the gate; one that passes and is not listed is named, to be added with `--accept`.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::compiler::Front;
use crate::run::{Deadline, cargo, read, root, run, say, target};
use crate::stack::{Ended, Stack, free_ports, wait_for};
use crate::tiers::Tally;

/// The suite, as packaged: its newer versions are other tests, so figures of two versions do not compare.
const SUITE: &str = "http-cache-tests@0.4.5";

/// How each test ended: its kind by the suite (required, optimal, check), and `pass` or what else.
type Judged = BTreeMap<String, (String, String)>;

/// Runs the suite and compares; with `accept`, what passes now becomes what is expected.
///
/// # Errors
/// When the suite cannot be run. Tests that are listed and do not pass are counted.
pub(crate) fn check(deadline: Deadline, accept: bool) -> Result<Tally> {
    let suite = suite(deadline)?;
    // The program as tests have it: built for itself, dependencies have other features, and are compiled once more.
    let mut build = cargo(["test", "--workspace", "--test=ghost", "--no-run", "--locked"]);
    run(Front::Lints.of(&mut build)?, deadline)?;
    let judged = judge(&suite)?;
    let list = root().join("xtask/conformance/expected.json");
    let expected: Vec<String> = serde_json::from_str(&fs::read_to_string(&list)?).context("expected.json")?;
    for kind in ["required", "optimal", "check"] {
        let of_kind = judged.values().filter(|(of, _)| of == kind);
        let passed = of_kind.clone().filter(|(_, ending)| ending == "pass").count();
        say(format!("{kind:<9} {passed:>3} of {}", of_kind.count()));
    }
    let passes = |id: &String| judged.get(id).is_some_and(|(_, ending)| ending == "pass");
    let lost: Vec<_> = expected.iter().filter(|id| !passes(id)).collect();
    let gained: Vec<_> =
        judged.iter().filter(|(id, (kind, _))| kind != "check" && passes(id) && !expected.contains(id)).collect();
    for id in &lost {
        say(format!("no longer passes: {id} ({})", judged.get(*id).map_or("no such test", |(_, ending)| ending)));
    }
    for (id, _) in &gained {
        say(format!("passes, and is not listed yet: {id}"));
    }
    if accept && lost.is_empty() {
        let mut list_now: Vec<&String> = expected.iter().chain(gained.iter().map(|(id, _)| *id)).collect();
        list_now.sort();
        fs::write(&list, format!("{}\n", serde_json::to_string_pretty(&list_now)?))?;
    }
    Ok(Tally { passed: (expected.len() - lost.len()) as u64, failed: lost.len() as u64, ignored: 0 })
}

/// The suite's folder; fetched once.
fn suite(deadline: Deadline) -> Result<PathBuf> {
    let home = target().join("tools/http-cache-tests");
    let suite = home.join("node_modules/http-cache-tests");
    if !suite.join("package.json").is_file() {
        fs::create_dir_all(&home)?;
        let mut install = Command::new("npm");
        install.args(["install", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(&home);
        // npm hangs for minutes when it does not trust the registry; other programs are told whom to trust by this name.
        if let (None, Some(trusted)) = (env::var_os("NODE_EXTRA_CA_CERTS"), env::var_os("SSL_CERT_FILE")) {
            install.env("NODE_EXTRA_CA_CERTS", trusted);
        }
        run(install.arg(SUITE), deadline).context("cannot fetch the suite")?;
    }
    Ok(suite)
}

fn judge(suite: &Path) -> Result<Judged> {
    let scratch = target().join("tmp").join(format!("conformance-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let judged = judge_in(&scratch, suite);
    // What a crashed run left is no reason to fail the next.
    let _ = fs::remove_dir_all(&scratch);
    judged
}

fn judge_in(scratch: &Path, suite: &Path) -> Result<Judged> {
    let [origin, edge] = free_ports()?;
    let server = Command::new("node")
        .arg("--require")
        .arg(root().join("xtask/conformance/loopback.cjs"))
        .arg("server/server.mjs")
        .current_dir(suite)
        .env("npm_config_protocol", "http")
        .env("npm_config_port", origin.to_string())
        .env("npm_config_pidfile", scratch.join("server.pid"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start the suite's server")?;
    let _server = Ended(server);
    wait_for(origin)?;
    let program = target().join("debug/sovereign");
    let stack = Stack::up(&program, scratch, &stack_file(origin, edge))?;
    let authority = scratch.join("ca.pem");
    fs::write(&authority, read(stack.command().args(["ca", "show"]))?)?;
    let mut client = Command::new("node");
    client
        .arg("--no-warnings")
        .arg(root().join("xtask/conformance/run.mjs"))
        .env("SUITE", suite)
        .env("BASE", format!("https://localhost:{edge}"))
        .env("NODE_EXTRA_CA_CERTS", &authority);
    let printed: BTreeMap<String, Value> = serde_json::from_str(&read(&mut client)?).context("the suite's results")?;
    let text = |test: &Value, key: &str| test[key].as_str().unwrap_or_default().to_owned();
    Ok(printed.into_iter().map(|(id, test)| (id, (text(&test, "kind"), text(&test, "ending")))).collect())
}

fn stack_file(origin: u16, edge: u16) -> String {
    format!(
        "version = 1\n[stack]\nname = \"conformance\"\n[[datacenter]]\nname = \"home\"\n[[datacenter.uplink]]\n\
         name = \"loopback\"\naddress = \"127.0.0.1\"\nport = {edge}\n[[site]]\nname = \"suite\"\n\
         app = \"upstream\"\naddress = \"127.0.0.1:{origin}\"\nmirror = {{ crawl = false }}\n\
         canonical = \"localhost\"\nprimary = \"home\"\n"
    )
}

/// The command line: nothing, or `--accept`.
///
/// # Errors
/// As [`check`], and when a listed test does not pass.
pub(crate) fn command(args: &[&str]) -> Result<()> {
    let accept = match args {
        [] => false,
        ["--accept"] => true,
        _ => bail!("`cargo xtask conformance` takes only `--accept`"),
    };
    let tally = check(Deadline::after(Duration::from_secs(10 * 60)), accept)?;
    ensure!(tally.failed == 0, "{} tests that passed before do not pass", tally.failed);
    Ok(())
}
