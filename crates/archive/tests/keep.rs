//! What the rules keep is what restic keeps by them.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use common::{Place, password};
use rustic_backend::LocalBackend;
use rustic_core::jiff::{Timestamp, tz::TimeZone};
use rustic_core::repofile::SnapshotFile;
use rustic_core::{Credentials, Repository, RepositoryBackends, RepositoryOptions};
use sovereign_archive::entry::Moment;
use sovereign_archive::keep::decide;
use sovereign_model::keep_rules::KeepRules;

/// Snapshots of three sites: every 20 minutes, every 11 hours, every 9 days, up to the first minutes of 2025.
fn made(place: &Place) {
    let archive = place.archive();
    let first = place.take(&archive).snapshot.id;
    drop(archive);
    let backend = LocalBackend::new(place.repository().to_str().unwrap(), None).unwrap();
    let backends = RepositoryBackends::new(Arc::new(backend), None);
    let repository = Repository::new(&RepositoryOptions::default().no_cache(true), &backends).unwrap();
    let repository = repository.open(&Credentials::password(password().expose())).unwrap();
    let pattern = repository.get_snapshot_from_str(&first, |_| true).unwrap();
    let end: Timestamp = "2025-01-01T00:05:00Z".parse().unwrap();
    let mut all: Vec<SnapshotFile> = Vec::new();
    for (site, step, count) in [("hours", 20 * 60, 150), ("days", 11 * 3600, 120), ("weeks", 9 * 86_400, 130)] {
        for number in 0..count {
            let mut snapshot = pattern.clone();
            let at = Timestamp::from_second(end.as_second() - number * step).unwrap();
            snapshot.time = at.to_zoned(TimeZone::UTC);
            snapshot.paths = format!("/sites/{site}").parse().unwrap();
            all.push(snapshot);
        }
    }
    repository.delete_snapshots(&[pattern.id]).unwrap();
    repository.save_snapshots(all).unwrap();
}

/// The names of what restic would remove.
fn removed_by_restic(repository: &Path, rules: &KeepRules) -> BTreeSet<String> {
    let KeepRules { last, hourly, daily, weekly, monthly, yearly } = rules;
    let mut restic = Command::new("restic");
    restic.args(["--no-cache", "--json", "--repo"]).arg(repository).args(["forget", "--dry-run"]);
    for (rule, count) in [
        ("last", last),
        ("hourly", hourly),
        ("daily", daily),
        ("weekly", weekly),
        ("monthly", monthly),
        ("yearly", yearly),
    ] {
        restic.arg(format!("--keep-{rule}={count}"));
    }
    let said = restic.env("RESTIC_PASSWORD", password().expose()).env("TZ", "UTC").output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let text = String::from_utf8(said.stdout).unwrap();
    let groups: serde_json::Value =
        serde_json::from_str(text.lines().find(|line| line.starts_with('[')).unwrap()).unwrap();
    let groups = groups.as_array().unwrap();
    assert_eq!(groups.len(), 3, "three sites");
    let removed = groups.iter().flat_map(|group| group["remove"].as_array().into_iter().flatten());
    removed.map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn restic_forgets_the_same() {
    let place = Place::new();
    made(&place);
    let archive = place.archive();
    let snapshots = archive.snapshots().unwrap();
    assert_eq!(snapshots.len(), 400);
    let dated: Vec<_> = snapshots.iter().map(|snapshot| snapshot.dated(true)).collect();
    let oldest: BTreeSet<_> = ["hours", "days", "weeks"]
        .map(|site| {
            let of_it = |one: &&sovereign_archive::keep::Dated| one.subject.as_ref().unwrap().to_string() == site;
            dated.iter().find(of_it).unwrap().id.clone()
        })
        .into();
    drop(archive);
    for rules in [
        KeepRules::default(),
        KeepRules { last: 1, ..KeepRules::NOTHING },
        KeepRules { hourly: 30, ..KeepRules::NOTHING },
        KeepRules { daily: 9, weekly: 60, ..KeepRules::NOTHING },
        KeepRules { monthly: 5, yearly: 2, ..KeepRules::NOTHING },
        KeepRules { last: 7, hourly: 5, daily: 100, weekly: 3, monthly: 40, yearly: 1 },
    ] {
        let verdicts = decide(&dated, &rules, Moment { seconds: i64::MAX, nanoseconds: 0 });
        let forgotten = dated.iter().zip(verdicts).filter(|(_, verdict)| verdict.is_forgotten());
        let ours: BTreeSet<String> = forgotten.map(|(one, _)| one.id.clone()).collect();
        let theirs = removed_by_restic(&place.repository(), &rules);
        assert!(!ours.is_empty() && theirs.is_subset(&ours), "{rules:?}");
        // Newer versions of restic also keep the oldest while a rule has room.
        let more: Vec<_> = ours.difference(&theirs).filter(|id| !oldest.contains(*id)).collect();
        assert!(more.is_empty(), "{rules:?}: restic keeps {more:?}");
    }
}
