//! Putting a unit in the place of the one before it, on a host's systemd.
//!
//! ```text
//!  write ─▶ reload ─▶ sockets ─▶ start beside ─▶ enable ─▶ stop the old one, which drains ─▶ forget those before it
//!                                   │ fails
//!                                   └▶ stop and remove it: the old one has served all along
//! ```
//!
//! Promise: connections wait in sockets that systemd holds, so that none is refused; what does not come to life changes
//! nothing; a run that was killed anywhere is finished by the next one. The exception is a socket whose addresses change, or
//! that somebody stopped: nobody else can listen there meanwhile, so the old service is stopped first. A service whose own
//! text somebody changed is written and started anew; who connects meanwhile waits.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use sovereign_model::unit::UnitSpec;
use sovereign_model::{StackName, UnitName};

use crate::connection::Connection;
use crate::error::SshError;
use crate::files::Access;
use crate::run::{Ended, Run};

use super::{Account, Names, UnitFile, files};

/// Where units lie that an administrator has written.
const FOLDER: &str = "/etc/systemd/system";
/// How much of a service's log is told when it does not come to life.
const LOG_LINES: &str = "20";

/// A host whose systemd obeys: the port that a connection to one implements.
pub trait Host: Sync {
    /// What goes wrong on the way to it.
    type Error: Error + Send + Sync + 'static;

    /// Runs a command as root and waits for its end.
    fn run(&self, words: &[&str]) -> impl Future<Output = Result<Answer, Self::Error>> + Send;

    /// Puts a file there that everybody may read and root alone may change, whole or not at all.
    fn put(&self, path: &str, text: &str) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What a command answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// A service may take minutes to start, or to drain.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

impl Host for Connection {
    type Error = SshError;

    async fn run(&self, words: &[&str]) -> Result<Answer, SshError> {
        let (program, arguments) = words.split_first().unwrap_or((&"true", &[]));
        let run = Run::new(format!("run {}", words.join(" ")), program).args(arguments).within(PATIENCE);
        let Ended { code, stdout, stderr } = Connection::run(self, &run).await?;
        let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Answer { code, stdout, stderr })
    }

    async fn put(&self, path: &str, text: &str) -> Result<(), SshError> {
        self.put_bytes(Path::new(path), text.as_bytes(), Access::PUBLIC).await
    }
}

/// Why a unit was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError<E: Error + 'static> {
    /// The host was not reached, or stopped answering.
    #[error("the host does not do what it is asked")]
    Host(#[source] E),
    /// A command failed.
    #[error("`{command}` failed: {said}")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        said: String,
    },
    /// The new one does not come to life. What ran before runs.
    #[error("{service} does not come to life: {log}")]
    NotWell {
        /// The service.
        service: String,
        /// The end of its log.
        log: String,
    },
}

impl<E: Error> ReplaceError<E> {
    /// What the operator can do.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Host(_) => None,
            Self::Command { .. } => {
                Some("`systemctl status` and `journalctl --pager-end` on the host say more".to_owned())
            }
            Self::NotWell { .. } => {
                Some("what ran before still does; the log says what is wrong with the new one".to_owned())
            }
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replaced {
    /// The service that runs now.
    pub service: String,
    /// Whether it was started; it may have run already.
    pub started: bool,
    /// Those that were stopped.
    pub stopped: Vec<String>,
}

/// Has `unit` run on the host, in the place of any other description of it.
///
/// # Errors
/// When the host does not obey, or the unit does not come to life; then what ran before runs.
pub async fn replace<H: Host>(
    host: &H,
    stack: &StackName,
    unit: &UnitSpec,
    account: Account<'_>,
) -> Result<Replaced, ReplaceError<H::Error>> {
    let names = Names::of(stack, unit);
    let systemd = Systemd { host };
    let wanted = files(stack, unit, account);
    let there = systemd.there(&names).await?;
    let before = there.current.clone().filter(|current| *current != names.service());
    let was_changed = there.texts.get(&names.service()).is_some_and(|text| *text != wanted[0].text);
    let mut moved = there.moved(&wanted);
    for socket in wanted[1..].iter().filter(|file| there.texts.contains_key(&file.name)) {
        if !moved.contains(&socket.name.as_str()) && !systemd.is_active(&socket.name).await? {
            moved.push(&socket.name);
        }
    }
    for UnitFile { name, text } in wanted.iter().filter(|file| there.texts.get(&file.name) != Some(&file.text)) {
        systemd.put(name, text).await?;
    }
    systemd.systemctl(&["daemon-reload"]).await?;
    let running = there.services(&names).filter(|service| *service != names.service()).map(str::to_owned);
    let running: Vec<String> = running.collect();
    let sockets: Vec<&str> = wanted[1..].iter().map(|file| file.name.as_str()).collect();
    if !moved.is_empty() {
        // A socket does not begin to listen while its service runs.
        let own = names.service();
        let own = there.texts.contains_key(&own).then_some(own.as_str());
        systemd.each("stop", running.iter().map(String::as_str).chain(own)).await?;
        systemd.each("restart", moved.iter().copied()).await?;
    }
    if there.current.is_none() {
        // A socket that has no service to start does not listen.
        systemd.systemctl(&["enable", "--force", &names.service()]).await?;
    }
    systemd.each("enable --now", sockets.iter().copied()).await?;
    let was_active = systemd.is_active(&names.service()).await?;
    let verb = if was_active && was_changed { "restart" } else { "start" };
    if let Err(error) = systemd.systemctl(&[verb, &names.service()]).await {
        let log = systemd.log(&names.service()).await?;
        systemd.give_back(&names, &there, &moved, before.as_deref()).await?;
        return Err(match error {
            ReplaceError::Command { .. } => ReplaceError::NotWell { service: names.service(), log },
            other => other,
        });
    }
    systemd.systemctl(&["enable", "--force", &names.service()]).await?;
    let mut replaced = Replaced { service: names.service(), started: !was_active, stopped: Vec::new() };
    for service in running {
        if systemd.is_active(&service).await? {
            replaced.stopped.push(service.clone());
        }
        systemd.systemctl(&["disable", "--now", &service]).await?;
        // The one before stays, to go back to.
        if before.as_ref() != Some(&service) {
            systemd.remove(&service).await?;
        }
    }
    systemd.forget(there.sockets(&names).filter(|socket| !sockets.contains(socket))).await?;
    Ok(replaced)
}

/// Stops a unit, and removes everything of it that is systemd's. Whether there was a service of it.
///
/// # Errors
/// When the host does not obey.
pub async fn remove<H: Host>(host: &H, stack: &StackName, unit: &UnitName) -> Result<bool, ReplaceError<H::Error>> {
    let names = Names::of_any(stack, unit);
    let systemd = Systemd { host };
    let there = systemd.there(&names).await?;
    // Sockets first, and by themselves: a connection to one of them would start the service again, and with it the others.
    systemd.each("stop --job-mode=ignore-dependencies", there.sockets(&names)).await?;
    systemd.forget(there.sockets(&names).chain(there.services(&names))).await?;
    Ok(there.services(&names).next().is_some())
}

/// What a host has of a unit.
#[derive(Debug, Default)]
struct There {
    texts: BTreeMap<String, String>,
    /// The service that starts at boot.
    current: Option<String>,
}

impl There {
    fn services<'t>(&'t self, names: &'t Names) -> impl Iterator<Item = &'t str> {
        self.texts.keys().map(String::as_str).filter(|name| names.is_service(name))
    }

    fn sockets<'t>(&'t self, names: &'t Names) -> impl Iterator<Item = &'t str> {
        self.texts.keys().map(String::as_str).filter(|name| names.is_socket(name))
    }

    /// Sockets that listen somewhere else now.
    fn moved<'w>(&self, wanted: &'w [UnitFile]) -> Vec<&'w str> {
        let moved = wanted[1..].iter().filter(|file| self.texts.get(&file.name).is_some_and(|text| *text != file.text));
        moved.map(|file| file.name.as_str()).collect()
    }
}

/// A host's systemd.
struct Systemd<'h, H> {
    host: &'h H,
}

impl<H: Host> Systemd<'_, H> {
    async fn run(&self, words: &[&str]) -> Result<Answer, ReplaceError<H::Error>> {
        self.host.run(words).await.map_err(ReplaceError::Host)
    }

    async fn obey(&self, words: &[&str]) -> Result<String, ReplaceError<H::Error>> {
        let Answer { code, stdout, stderr } = self.run(words).await?;
        if code == 0 {
            return Ok(stdout);
        }
        Err(ReplaceError::Command { command: words.join(" "), said: format!("{}", Said(&stderr)) })
    }

    async fn systemctl(&self, words: &[&str]) -> Result<(), ReplaceError<H::Error>> {
        self.obey(&[&["systemctl"], words].concat()).await.map(drop)
    }

    /// One command for all of them, if there are any.
    async fn each<'n>(
        &self,
        verb: &str,
        names: impl Iterator<Item = &'n str> + Send,
    ) -> Result<(), ReplaceError<H::Error>> {
        let words: Vec<&str> = verb.split(' ').collect();
        let names: Vec<&str> = names.collect();
        if names.is_empty() { Ok(()) } else { self.systemctl(&[words, names].concat()).await }
    }

    async fn is_active(&self, service: &str) -> Result<bool, ReplaceError<H::Error>> {
        Ok(self.run(&["systemctl", "--quiet", "is-active", service]).await?.code == 0)
    }

    async fn there(&self, names: &Names) -> Result<There, ReplaceError<H::Error>> {
        let mut there = There::default();
        let list = self.obey(&["ls", "-1", FOLDER]).await?;
        for name in list.lines().filter(|name| names.is_service(name) || names.is_socket(name)) {
            let text = self.obey(&["cat", &format!("{FOLDER}/{name}")]).await?;
            there.texts.insert(name.to_owned(), text);
        }
        let target = self.run(&["readlink", &format!("{FOLDER}/{}", names.alias())]).await?;
        let target = target.stdout.trim().rsplit('/').next().unwrap_or_default().to_owned();
        there.current = there.texts.contains_key(&target).then_some(target);
        Ok(there)
    }

    async fn put(&self, name: &str, text: &str) -> Result<(), ReplaceError<H::Error>> {
        self.host.put(&format!("{FOLDER}/{name}"), text).await.map_err(ReplaceError::Host)
    }

    async fn remove(&self, name: &str) -> Result<(), ReplaceError<H::Error>> {
        self.obey(&["rm", "-f", &format!("{FOLDER}/{name}")]).await.map(drop)
    }

    async fn log(&self, service: &str) -> Result<String, ReplaceError<H::Error>> {
        let words = ["journalctl", "--unit", service, "--lines", LOG_LINES, "--output", "cat", "--no-pager", "--quiet"];
        Ok(format!("{}", Said(&self.run(&words).await?.stdout)))
    }

    /// Everything as it was before the new one did not come to life.
    async fn give_back(
        &self,
        names: &Names,
        there: &There,
        moved: &[&str],
        before: Option<&str>,
    ) -> Result<(), ReplaceError<H::Error>> {
        let _ = self.run(&["systemctl", "stop", &names.service()]).await?;
        if there.current.is_none() {
            self.systemctl(&["disable", &names.service()]).await?;
        }
        if !there.texts.contains_key(&names.service()) {
            self.remove(&names.service()).await?;
        }
        for (name, text) in moved.iter().filter_map(|name| Some((*name, there.texts.get(*name)?))) {
            self.put(name, text).await?;
        }
        self.systemctl(&["daemon-reload"]).await?;
        let _ = self.run(&["systemctl", "reset-failed", &names.service()]).await?;
        self.each("restart", moved.iter().copied()).await?;
        match before {
            Some(before) => self.systemctl(&["start", before]).await,
            // Nobody answers, so nobody listens.
            None if there.sockets(names).next().is_none() => {
                let made = self.there(names).await?;
                self.forget(made.sockets(names)).await
            }
            None => Ok(()),
        }
    }

    /// Stops units, and removes their files.
    async fn forget<'n>(&self, units: impl Iterator<Item = &'n str> + Send) -> Result<(), ReplaceError<H::Error>> {
        for unit in units {
            self.systemctl(&["disable", "--now", unit]).await?;
            self.remove(unit).await?;
        }
        self.systemctl(&["daemon-reload"]).await
    }
}

/// A host's words, bounded, in one line, and without anything that a terminal would obey.
pub(super) struct Said<'t>(pub(super) &'t str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 2000;
        let lines = self.0.lines().map(str::trim).filter(|line| !line.is_empty());
        let text = lines.collect::<Vec<_>>().join("; ");
        let text: String = text.chars().filter(|character| !character.is_control()).take(MOST).collect();
        f.write_str(if text.is_empty() { "it said nothing" } else { &text })
    }
}
