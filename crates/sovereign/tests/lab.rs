//! `sovereign lab` as an operator types it, with a real Incus and the smallest lab. What a lab is, is tested where it is
//! made.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::path::Path;
use std::process::{Command, ExitCode};

use serde_json::Value;
use sovereign_testkit::harness::{self, Test};
use sovereign_testkit::incusd::Incusd;

const TESTS: &[Test<Incusd>] = &[("a_lab_is_made_broken_healed_and_removed", lab)];

fn main() -> ExitCode {
    let needed = ["mmdebstrap", "ssh", "/usr/sbin/nft"];
    let lacking = needed.into_iter().find(|program| Command::new(program).arg("--version").output().is_err());
    let missing = Incusd::missing().or_else(|| lacking.map(|program| format!("there is no {program} here")));
    harness::main(TESTS, missing.as_deref(), Incusd::start)
}

fn lab(incusd: &Incusd) {
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sovereign"));
        // What hosts start from is that of the room's own tests.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        command.args(args).arg("--json").current_dir(home.path()).env_clear().env("HOME", home.path());
        command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("XDG_CACHE_HOME", &cache);
        command.env("XDG_DATA_HOME", cache.join("data"));
        command.envs(std::env::var_os("APT_CONFIG").map(|file| ("APT_CONFIG", file)));
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
        (output.status.code().unwrap(), answer)
    };
    let socket = incusd.socket();
    let up = ["lab", "up", "--datacenters", "1", "--hosts", "1", "--incus", socket.to_str().unwrap()];
    let (code, made) = run(&up);
    assert_eq!(code, 0, "{made}");
    assert_eq!(made["hosts"][0]["name"], "home-1");
    assert!(Path::new(made["stack_file"].as_str().unwrap()).is_file());

    let (code, state) = run(&["lab", "status"]);
    assert_eq!((code, &state["hosts"][0]["answers"]), (0, &true.into()), "{state}");
    assert_eq!(run(&["lab", "cut", "office"]).0, 1, "it has no such data center");
    assert_eq!(run(&["lab", "close", "home", "80"]).0, 1, "it is behind no router");
    assert_eq!(run(&["lab", "readdress", "home"]).0, 1);
    assert_eq!(run(&["lab", "cut", "home"]).0, 0);
    assert_eq!(run(&["lab", "kill", "home-1"]).1["broken"][0], "home-1 has no power");
    let (code, state) = run(&["lab", "status"]);
    assert_eq!((code, &state["hosts"][0]["power"]), (3, &"stopped".into()), "{state}");
    assert_eq!(state["faults"].as_array().unwrap().len(), 2);
    assert_eq!(run(&["lab", "heal"]).1["healed"].as_array().unwrap().len(), 2);
    assert_eq!(run(&up).0, 0, "it is waited for");
    assert_eq!(run(&["lab", "status"]).0, 0);

    // Nobody is there to be asked.
    assert_eq!(run(&["lab", "down"]).0, 2);
    assert_eq!(run(&["lab", "down", "--yes"]).0, 0);
    assert_eq!(run(&["lab", "status"]).0, 1);
    assert!(!Path::new(made["stack_file"].as_str().unwrap()).exists());
}
