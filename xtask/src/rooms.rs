//! Rooms: which crate may know which, and what the pure ones must not know. ARCHITECTURE.md draws it; this checks it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::run::{cargo, read, root, say};

/// A room and the rooms it may use. What is not listed may not be used, and an unlisted room may not exist.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("runtime", &[]),
    ("plan", &["model"]),
    ("keys", &["model"]),
    ("images", &["model"]),
    ("services", &["model", "runtime"]),
    ("edge", &["model", "runtime"]),
    ("dns", &["model", "runtime"]),
    ("certs", &["model", "runtime"]),
    ("ssh", &["model", "runtime"]),
    ("archive", &["model", "runtime", "ssh"]),
    ("hosts", &["model", "runtime", "ssh"]),
    ("incus", &["model"]),
    ("lab", &["model", "runtime", "ssh", "incus"]),
    ("engine", &["model", "plan", "services", "images", "keys", "runtime", "hosts", "incus"]),
    (
        "sovereign",
        &[
            "model", "plan", "services", "images", "keys", "runtime", "edge", "dns", "certs", "archive", "hosts",
            "engine", "incus", "lab",
        ],
    ),
    ("fuzz", &["model", "keys", "images", "services", "runtime", "edge", "dns", "certs", "archive", "hosts", "incus"]),
    ("testkit", &["model", "plan", "services", "images", "keys", "runtime", "edge", "hosts", "engine", "incus"]),
];

/// Rooms that decide and do nothing.
const PURE: &[&str] = &["model", "plan"];

/// Crates that touch the world: none may be anywhere below a pure room.
const EFFECTS: &[&str] = &[
    "tokio",
    "mio",
    "async-std",
    "hyper",
    "rustls",
    "ureq",
    "socket2",
    "rustix",
    "nix",
    "getrandom",
    "rand",
    "tempfile",
    "time",
    "chrono",
    "tracing-subscriber",
];

/// Parts of the standard library that do the same, and jiff, which is below `domain` for the times in signatures and must
/// not be used for what it can do besides.
const EFFECTS_OF_STD: &[&str] = &[
    "std::fs",
    "std::env::",
    "std::process",
    "std::thread",
    "std::io::std",
    "SystemTime::now",
    "Instant::now",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "jiff::",
];

/// Checks every rule, and reports all that are broken.
///
/// # Errors
/// When one is broken, or cargo cannot say.
pub(crate) fn check() -> Result<()> {
    let mut broken = arrows(&uses(&serde_json::from_str(&metadata()?)?)?);
    for room in PURE {
        let package = format!("sovereign-{room}");
        let tree =
            read(&mut cargo(["tree", "--package", &package, "--edges=normal", "--prefix=none", "--format={lib}"]))?;
        broken.extend(effects(room, &tree));
        sources(room, &root().join("crates").join(room).join("src"), &mut broken)?;
    }
    for rule in &broken {
        say(format!("  {rule}"));
    }
    ensure!(broken.is_empty(), "{} rules between rooms are broken", broken.len());
    say(format!("{} rooms, arrows one way, {} of them pure", ARROWS.len(), PURE.len()));
    Ok(())
}

/// The names of all integration tests, each once: of some names several rooms have one.
///
/// # Errors
/// When cargo cannot say.
pub(crate) fn integration_tests() -> Result<BTreeSet<String>> {
    let metadata: Value = serde_json::from_str(&metadata()?)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let targets = packages.iter().flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let tests = targets.filter(|target| target["kind"].as_array().is_some_and(|kinds| kinds.contains(&"test".into())));
    Ok(tests.filter_map(|test| test["name"].as_str().map(str::to_owned)).collect())
}

fn metadata() -> Result<String> {
    read(&mut cargo(["metadata", "--format-version=1", "--no-deps", "--offline"]))
        .or_else(|_| read(&mut cargo(["metadata", "--format-version=1", "--no-deps"])))
}

/// Which room uses which, by `cargo metadata`. Dependencies of tests are no arrows.
fn uses(metadata: &Value) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let room = |package: &Value| {
        let name = package["name"].as_str()?;
        if name == "sovereign" { Some(name.to_owned()) } else { name.strip_prefix("sovereign-").map(str::to_owned) }
    };
    let used = |package: &Value| -> BTreeSet<String> {
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        dependencies.filter(|dependency| dependency["kind"].is_null()).filter_map(room).collect()
    };
    Ok(packages.iter().filter_map(|package| Some((room(package)?, used(package)))).collect())
}

fn arrows(uses: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut broken = Vec::new();
    for (room, used) in uses {
        match ARROWS.iter().find(|(name, _)| name == room) {
            Some((_, allowed)) => broken.extend(
                used.iter()
                    .filter(|used| !allowed.contains(&used.as_str()))
                    .map(|used| format!("{room} must not use {used}")),
            ),
            None => broken.push(format!("{room} is a room nobody drew: add it to ARCHITECTURE.md and to xtask")),
        }
    }
    broken
}

fn effects(room: &str, tree: &str) -> Vec<String> {
    let below: BTreeSet<&str> = tree.lines().map(str::trim).collect();
    EFFECTS
        .iter()
        .filter(|effect| below.contains(effect.replace('-', "_").as_str()))
        .map(|effect| format!("{room} is pure and must not depend on {effect}"))
        .collect()
}

/// Looks through the sources of a pure room, tests left out.
fn sources(room: &str, folder: &Path, broken: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            sources(room, &path, broken)?;
        } else if path.extension().is_some_and(|ext| ext == "rs")
            && path.file_stem().is_some_and(|stem| stem != "tests")
        {
            let text = fs::read_to_string(&path)?;
            broken.extend(effects_in(&text).map(|(line, effect)| {
                format!("{room} is pure and must not say `{effect}` ({}:{line})", path.display())
            }));
        }
    }
    Ok(())
}

fn effects_in(text: &str) -> impl Iterator<Item = (usize, &'static str)> {
    let product = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    let code = product.filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.flat_map(|(number, line)| {
        EFFECTS_OF_STD.iter().filter(move |effect| line.contains(**effect)).map(move |effect| (number + 1, *effect))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_backwards_and_a_room_nobody_drew_are_found() {
        let metadata = serde_json::json!({"packages": [
            {"name": "sovereign-model", "dependencies": [{"name": "sovereign-plan", "kind": null}]},
            {"name": "sovereign-attic", "dependencies": []},
            {"name": "sovereign-plan", "dependencies": [
                {"name": "sovereign-model", "kind": null}, {"name": "sovereign-testkit", "kind": "dev"}]},
        ]});
        let broken = arrows(&uses(&metadata).unwrap());
        assert_eq!(
            broken,
            ["attic is a room nobody drew: add it to ARCHITECTURE.md and to xtask", "model must not use plan",]
        );
    }

    #[test]
    fn effects_below_a_pure_room_are_found() {
        assert_eq!(effects("plan", "serde\ntokio\n"), ["plan is pure and must not depend on tokio"]);
        let source = "use std::fs;\n// std::fs is not used\n#[cfg(test)]\nmod tests { use std::env::var; }\n";
        assert_eq!(effects_in(source).collect::<Vec<_>>(), [(1, "std::fs")]);
    }
}
