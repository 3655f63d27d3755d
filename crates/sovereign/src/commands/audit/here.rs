//! This machine, where it runs a part of the stack: a subset. Its packet filter, its other programs and its other users are
//! the operator's; looked at are the sockets of our own processes, how applications are kept apart, and who may read what
//! is secret.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sovereign_engine::embedded::{Client, SupervisorStatus, listens};
use sovereign_hosts::audit::{Finding, Findings};

use crate::declared::Declared;
use crate::deployment::Joined;
use crate::failure::Failure;

const UP: &str = "`sovereign up` brings it in line with the stack file";

pub(super) async fn look(declared: &Declared, joined: &Joined) -> Vec<Finding> {
    let mut all = Findings::new();
    match Client::of(declared.state.clone()).status().await {
        Ok(Some(status)) => {
            let units = joined.wanted.datacenters.values().flat_map(|datacenter| datacenter.units.values());
            let units = units.filter(|unit| unit.runs.host().is_none());
            let wanted = units.flat_map(|unit| unit.runs.sockets()).map(|socket| socket.address).collect();
            let keeper = status.keeper.as_ref().map(|keeper| keeper.pid.cast_signed());
            let of_units = status.units.iter().filter_map(|unit| unit.pid);
            let pids: Vec<i32> = of_units.chain(keeper).chain([status.pid.cast_signed()]).collect();
            sockets(&listens(&pids), &wanted, &mut all);
            confinement(&status, &mut all);
        }
        Ok(None) => all.drift("units", "nothing of the stack runs here", UP),
        Err(error) => {
            let error = Failure::from(error);
            all.unseen("units", error.chain().join(": "), "`sovereign status` says more");
        }
    }
    secrets(declared.state.path(), &mut all);
    all.into_all()
}

/// Where our processes listen beside where they should.
fn sockets(listening: &BTreeSet<SocketAddr>, wanted: &BTreeSet<SocketAddr>, all: &mut Findings) {
    const SUBJECT: &str = "ports";
    for socket in listening.difference(wanted) {
        all.drift(SUBJECT, format_args!("a process of the stack listens on {socket}, which nothing describes"), UP);
    }
    for socket in wanted.difference(listening) {
        all.drift(SUBJECT, format_args!("nothing of the stack listens on {socket}, where it should"), UP);
    }
    let list: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    all.else_fine(SUBJECT, format_args!("the stack listens on {}; who else does was not asked", list.join(", ")));
}

fn confinement(status: &SupervisorStatus, all: &mut Findings) {
    const SUBJECT: &str = "units";
    for unit in &status.units {
        match &unit.confined {
            Some(confined) if confined.missing.is_empty() => {}
            Some(confined) => {
                let sentence = format!("{} is kept apart by {confined}", unit.name);
                all.warn(SUBJECT, sentence, "this machine cannot do more; a host of its own can");
            }
            None if unit.pid.is_none() => {}
            None => all.drift(SUBJECT, format_args!("{} is kept apart by nothing", unit.name), UP),
        }
    }
    all.else_fine(SUBJECT, format_args!("{}, each kept apart", status.units.len()));
}

/// Who may read keys. What lies below a folder that only its owner enters needs no look of its own, but keys get one.
fn secrets(state: &Path, all: &mut Findings) {
    const SUBJECT: &str = "files";
    let Ok(folder) = fs::symlink_metadata(state) else {
        return all.unseen(
            SUBJECT,
            "the state folder cannot be looked at",
            "run it as the user who ran `sovereign up`",
        );
    };
    let mut secret = vec![state.join("seed"), state.join("keys")];
    secret.extend(["seed", "keys"].iter().flat_map(|name| within(&state.join(name))));
    if folder.mode() & 0o066 != 0 {
        let help = format!("`chmod go-rw {}`", state.display());
        all.drift(
            SUBJECT,
            format_args!("others may look into {} ({:04o})", state.display(), folder.mode() & 0o7777),
            help,
        );
    }
    let count = secret.len();
    for path in secret {
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        let what = path.display();
        if about.mode() & 0o077 != 0 {
            let sentence = format!("others may use {what} ({:04o})", about.mode() & 0o7777);
            all.drift(SUBJECT, sentence, format_args!("`chmod go= {what}`"));
        } else if about.uid() != folder.uid() {
            all.drift(
                SUBJECT,
                format_args!("{what} belongs to another user ({})", about.uid()),
                "look at it, and who made it",
            );
        }
    }
    all.else_fine(SUBJECT, format_args!("{count} keys and folders of keys, for their owner alone"));
}

fn within(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn told(look: impl FnOnce(&mut Findings)) -> Vec<String> {
        let mut all = Findings::new();
        look(&mut all);
        all.into_all().iter().map(|finding| format!("{}: {}", finding.verdict, finding.sentence)).collect()
    }

    #[test]
    fn sockets_that_are_too_many_or_missing_are_named() {
        let of = |list: &[&str]| list.iter().map(|socket| socket.parse().unwrap()).collect();
        let (all, less) = (of(&["127.0.0.1:8443", "[::1]:9100"]), of(&["127.0.0.1:8443"]));
        let fine = told(|found| sockets(&less, &less, found));
        assert_eq!(fine, ["fine: the stack listens on 127.0.0.1:8443; who else does was not asked"]);
        let more = told(|found| sockets(&all, &less, found));
        assert_eq!(more, ["drift: a process of the stack listens on [::1]:9100, which nothing describes"]);
        let missing = told(|found| sockets(&less, &all, found));
        assert_eq!(missing, ["drift: nothing of the stack listens on [::1]:9100, where it should"]);
    }

    #[test]
    fn whoever_else_may_read_is_named() {
        let state = tempfile::tempdir().unwrap();
        let key = state.path().join("keys/ca.json");
        let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir(state.path().join("keys")).unwrap();
        fs::write(&key, "secret").unwrap();
        allow(state.path(), 0o700);
        allow(&state.path().join("keys"), 0o700);
        allow(&key, 0o600);
        let look = || told(|found| secrets(state.path(), found));
        assert_eq!(look(), ["fine: 3 keys and folders of keys, for their owner alone"]);
        allow(&key, 0o640);
        assert_eq!(look(), [format!("drift: others may use {} (0640)", key.display())]);
        allow(&key, 0o600);
        allow(state.path(), 0o755);
        assert_eq!(look(), [format!("drift: others may look into {} (0755)", state.path().display())]);
    }
}
