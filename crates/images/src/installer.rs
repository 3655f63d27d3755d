//! Installing the application's dependencies with pnpm, by the lock file that the application ships.
//!
//! pnpm checks each package against the SHA-512 digest in that file. It runs without the operator's settings: with a
//! home folder of its own, whose only content says where the registry is. Scripts of packages are never run.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

use crate::child::{check, last_lines, not_started};
use crate::error::At as _;
use crate::progress::{Event, Progress, Stage, Unit};
use crate::registry::{NETWORK_VARIABLES, Registries};
use crate::{Environment, Fetched, ImageError};

/// Where the installer finds and puts things. Absolute paths.
pub(crate) struct Folders<'a> {
    /// The pnpm executable.
    pub(crate) program: &'a Path,
    /// The folder with the Node.js executable.
    pub(crate) node: &'a Path,
    /// The application; `node_modules` appears in it.
    pub(crate) app: &'a Path,
    /// pnpm's home, private to this build.
    pub(crate) home: &'a Path,
    /// What was fetched, kept until an image is finished.
    pub(crate) store: &'a Path,
}

/// Installs, and tells what was fetched. Offline, only what is in the store is used.
pub(crate) fn install(
    folders: &Folders<'_>,
    registries: &Registries,
    environment: &Environment,
    offline: bool,
    progress: &dyn Progress,
) -> Result<Fetched, ImageError> {
    let settings = folders.home.join(".npmrc");
    let mut file =
        fs::File::options().write(true).create_new(true).mode(0o600).open(&settings).at("create", &settings)?;
    file.write_all(registries.to_npmrc()?.as_bytes()).at("write", &settings)?;
    let installed = call(folders, registries.of("")?.host, environment, offline, progress);
    // It may hold a token; a build that failed for another reason has no use for it either.
    fs::remove_file(&settings).at("remove", &settings)?;
    installed
}

fn call(
    folders: &Folders<'_>,
    host: String,
    environment: &Environment,
    offline: bool,
    progress: &dyn Progress,
) -> Result<Fetched, ImageError> {
    let mut path = folders.node.as_os_str().to_owned();
    path.push(":/usr/bin:/bin");
    let mut command = Command::new(folders.program);
    command
        .current_dir(folders.app)
        .args(["install", "--prod", "--frozen-lockfile", "--ignore-scripts", "--reporter", "ndjson"])
        // An application that names another version of pnpm would have it fetched and run, whatever our lock says.
        .arg("--pm-on-fail=ignore")
        .args(offline.then_some("--offline"))
        .arg("--store-dir")
        .arg(folders.store)
        .env_clear()
        .envs(environment.only(&NETWORK_VARIABLES))
        .env("HOME", folders.home)
        .env("PATH", path)
        .env("CI", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = Killed(command.spawn().map_err(|source| not_started(&command, source))?);
    let mut tally = Tally::new(host);
    let words = child.0.stderr.take().expect("the pipe was asked for");
    for line in BufReader::new(words).split(b'\n') {
        let line = line.at("read the messages of", folders.program)?;
        if let Some((done, total, what)) = tally.line(&String::from_utf8_lossy(&line)) {
            let (stage, unit) = (Stage::Install, Unit::Packages);
            progress.report(Event::Advanced { stage, done, total, unit, what });
        }
    }
    let status = child.0.wait().at("wait for", folders.program)?;
    check("installing the application's packages", status, || last_lines(&tally.said))?;
    Ok(tally.fetched)
}

/// Ends the installer when the build is given up.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What pnpm reported so far.
struct Tally {
    fetched: Fetched,
    total: Option<u64>,
    placed: u64,
    what: String,
    /// Whatever was not a count: what there is to say when it fails.
    said: String,
}

/// A message of pnpm's `ndjson` reporter; the fields that are of interest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    name: Option<String>,
    level: Option<String>,
    status: Option<String>,
    package_id: Option<String>,
    size: Option<u64>,
    added: Option<u64>,
    message: Option<String>,
    err: Option<Failure>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    message: Option<String>,
}

impl Tally {
    fn new(host: String) -> Self {
        let fetched = Fetched { host, files: 0, bytes: 0 };
        Self { fetched, total: None, placed: 0, what: String::new(), said: String::new() }
    }

    /// Takes a line in; answers when there is progress: packages placed, of how many, and which one is on its way.
    fn line(&mut self, line: &str) -> Option<(u64, Option<u64>, &str)> {
        let Ok(message) = serde_json::from_str::<Message>(line) else {
            self.say(line);
            return None;
        };
        let package = message.package_id.filter(|id| !id.starts_with("file:"));
        match (message.name.as_deref(), message.status.as_deref()) {
            (Some("pnpm:fetching-progress"), Some("started")) => {
                // Packages that lie in the application's own archive are not fetched from anybody.
                let package = package?;
                self.fetched.files += 1;
                self.fetched.bytes += message.size.unwrap_or(0);
                self.what = package;
            }
            (Some("pnpm:progress"), Some("imported")) => self.placed += 1,
            (Some("pnpm:stats"), _) => self.total = message.added.or(self.total),
            (Some("pnpm:request-retry"), _) => {
                self.say(message.error.and_then(|failure| failure.message).as_deref().unwrap_or(line));
                return None;
            }
            _ if matches!(message.level.as_deref(), Some("error" | "warn")) => {
                let text = message.err.and_then(|failure| failure.message).or(message.message);
                self.say(text.as_deref().unwrap_or(line));
                return None;
            }
            _ => return None,
        }
        Some((self.placed, self.total, &self.what))
    }

    fn say(&mut self, text: &str) {
        self.said.push_str(text);
        self.said.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn messages_are_counted() {
        let mut tally = Tally::new("packages.example".to_owned());
        for line in [
            r#"{"name":"pnpm:stats","level":"debug","prefix":"/app","added":2}"#,
            r#"{"name":"pnpm:fetching-progress","status":"started","attempt":1,"packageId":"a@1.0.0","size":70}"#,
            r#"{"name":"pnpm:fetching-progress","status":"started","attempt":1,"packageId":"file:b.tgz","size":9}"#,
            r#"{"name":"pnpm:progress","status":"imported","method":"hardlink","to":"/app/node_modules/a"}"#,
        ] {
            tally.line(line);
        }
        let line = r#"{"name":"pnpm:progress","status":"imported","method":"hardlink","to":"/app/node_modules/b"}"#;
        assert_eq!(tally.line(line), Some((2, Some(2), "a@1.0.0")));
        assert_eq!(tally.fetched, Fetched { host: "packages.example".to_owned(), files: 1, bytes: 70 });
    }

    /// A stand-in for pnpm that shows what it is given, complains and fails.
    const COMPLAINER: &str = "#!/bin/sh\n\
        cp \"$HOME/.npmrc\" given\n\
        env > environment\n\
        echo '{\"level\":\"error\",\"err\":{\"message\":\"no such version\"}}' >&2\n\
        exit 1\n";

    #[test]
    fn the_installer_gets_the_registry_and_little_else_and_its_complaint_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("pnpm");
        fs::write(&program, COMPLAINER).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let [app, home] = ["app", "home"].map(|name| folder.path().join(name));
        fs::create_dir(&app).unwrap();
        fs::create_dir(&home).unwrap();
        let variables =
            [("npm_config_registry", "https://packages.example/"), ("SECRET", "1"), ("NO_PROXY", "packages.example")];
        let environment: Environment = variables.into_iter().collect();
        let registries = Registries::load(&environment).unwrap();
        let folders = Folders { program: &program, node: folder.path(), app: &app, home: &home, store: folder.path() };
        let error = install(&folders, &registries, &environment, false, &crate::Silent).unwrap_err();
        assert!(matches!(&error, ImageError::Step { output, .. } if output == "no such version"), "{error:?}");

        assert_eq!(fs::read_to_string(app.join("given")).unwrap(), "registry=https://packages.example/\n");
        let environment = fs::read_to_string(app.join("environment")).unwrap();
        let names: BTreeSet<_> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        // A shell adds variables of its own.
        assert_eq!(names, ["CI", "HOME", "NO_PROXY", "PATH", "PWD"].into());
        assert_eq!(fs::read_dir(&home).unwrap().count(), 0, "nothing secret stays behind");
    }

    #[test]
    fn failures_are_kept_and_nothing_panics() {
        let mut tally = Tally::new(String::new());
        for line in ["", "plain words", "[1,2]", r#"{"level":"error","err":{"message":"no such version"}}"#, "{}"] {
            tally.line(line);
        }
        assert_eq!(last_lines(&tally.said), "plain words\n[1,2]\nno such version");
    }
}
