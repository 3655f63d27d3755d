//! What is beyond the stack file's rules is forgotten, and its room comes back, with the real binary; read by restic.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::leaf::{operator_with_site, stack};
use support::{Operator, files, noise};

fn snapshots(operator: &Operator, of: &str) -> Vec<String> {
    let listed = operator.json(&["archive", "list"]);
    let rows = listed["snapshots"].as_array().unwrap_or_else(|| panic!("{listed}"));
    rows.iter().filter(|row| row["of"] == of).map(|row| row["snapshot"].as_str().unwrap().to_owned()).collect()
}

fn packs(operator: &Operator) -> u64 {
    files(&operator.state().join("archive/repository/data")).values().map(|bytes| bytes.len() as u64).sum()
}

fn restic(operator: &Operator, args: &[&str]) -> String {
    let password = operator.home().join("password");
    fs::write(&password, operator.run(&["archive", "key", "--yes"]).success().stdout()).unwrap();
    let mut command = Command::new("restic");
    command.args(["--no-cache", "--repo"]).arg(operator.state().join("archive/repository"));
    let output = command.arg("--password-file").arg(&password).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "restic {args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn is_sound(operator: &Operator, public: &Path, round: &str) {
    operator.run(&["archive", "check", "--read-data"]).success();
    assert!(restic(operator, &["check", "--read-data"]).contains("no errors were found"), "{round}");
    let to = operator.home().join(format!("by-restic-{round}"));
    restic(operator, &["restore", "latest", "--path", "/sites/leaf", "--target", to.to_str().unwrap()]);
    assert_eq!(files(&to.join("sites/leaf/files")), files(public), "{round}");
}

#[test]
fn what_is_beyond_the_rules_goes_and_its_room_comes_back() {
    let operator = operator_with_site();
    let rules = "[archive]\nkeep = { last = 2, hourly = 0, daily = 0, weekly = 0, monthly = 0, yearly = 0 }\n";
    operator.write("stack.toml", &format!("{}\n{rules}", stack(&operator)));
    operator.up_without_backup();
    let public = operator.home().join("public");
    for round in 0..4 {
        fs::write(public.join("large.bin"), noise(round + 1, 1_500_000)).unwrap();
        let said = operator.run(&["backup"]).success().stdout();
        let line = match round {
            0 | 1 => None,
            2 => Some("1 snapshot is beyond what [archive] keep says: `sovereign archive prune`"),
            _ => Some("2 snapshots are beyond what [archive] keep says: `sovereign archive prune`"),
        };
        assert_eq!(said.lines().find(|line| line.contains("beyond")), line, "{said}");
    }
    let all = snapshots(&operator, "leaf");
    assert_eq!(all.len(), 4);

    // What was proven last stays, whatever came after it: another one of the archive says so.
    let record = operator.state().join("archive/verified.json");
    let last = fs::read_to_string(&record).unwrap();
    assert!(last.contains(&all[3]), "{last}");
    fs::write(&record, last.replace(&all[3], &all[0])).unwrap();
    let planned = operator.json(&["archive", "prune", "--dry-run"]);
    assert_eq!(planned["snapshots"][0]["kept_by"], serde_json::json!(["newest-proven"]), "{planned}");
    assert_eq!(planned["forgotten"], 1, "{planned}");
    // And where that is not known, all.
    fs::remove_file(&record).unwrap();
    let planned = operator.json(&["archive", "prune", "--dry-run"]);
    assert_eq!((&planned["forgotten"], &planned["nothing"]), (&0.into(), &true.into()), "{planned}");
    fs::write(&record, last).unwrap();

    // Beside a snapshot that cannot be read nothing is forgotten, and `backup` does not ask for it.
    let file = operator.state().join("archive/repository/snapshots").join(&all[1]);
    let good = fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[40] ^= 1;
    fs::write(&file, bad).unwrap();
    for args in [&["archive", "prune", "--yes"][..], &["archive", "prune", "--dry-run"]] {
        let refused = operator.run(args).exits(1);
        let said = refused.stderr();
        assert!(said.contains("beside a snapshot that cannot be read") && said.contains(&all[1]), "{said}");
    }
    assert!(!operator.run(&["backup"]).success().stdout().contains("beyond"));
    fs::write(&file, good).unwrap();
    assert_eq!(snapshots(&operator, "leaf"), all);

    // It asks, and nobody is there to answer; what it would do is shown all the same.
    let asked = operator.run(&["archive", "prune"]).exits(2);
    assert!(asked.stderr().contains("--yes") && asked.stderr().contains("FORGOTTEN, OR KEPT BY"), "{asked:?}");
    let planned = operator.json(&["archive", "prune", "--dry-run"]);
    assert_eq!(
        (&planned["done"], &planned["nothing"], &planned["forgotten"]),
        (&false.into(), &false.into(), &2.into())
    );
    assert!(planned["bytes_marked"].as_u64().unwrap() > 3_000_000, "{planned}");
    let forgotten = |answer: &Value| -> Vec<String> {
        let rows = answer["snapshots"].as_array().unwrap();
        rows.iter()
            .filter(|row| row["forget"] == true)
            .map(|row| row["snapshot"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(forgotten(&planned), all[..2]);
    assert_eq!(snapshots(&operator, "leaf"), all, "nothing is done yet");

    // What was shown is done: forgotten at once, the room is still taken.
    let before = packs(&operator);
    let pruned = operator.json(&["archive", "prune", "--yes"]);
    assert_eq!((&pruned["done"], &pruned["bytes_marked"]), (&true.into(), &planned["bytes_marked"]), "{pruned}");
    assert_eq!(forgotten(&pruned), all[..2]);
    assert_eq!(snapshots(&operator, "leaf"), all[2..]);
    assert_eq!(snapshots(&operator, "(state)").len(), 1);
    assert!(packs(&operator) >= before);
    is_sound(&operator, &public, "marked");
    let again = operator.run(&["archive", "prune"]).success().stdout();
    assert!(again.contains("nothing to prune") && again.contains("still there"), "{again}");

    // A day later it is free.
    let tomorrow = operator.run_later("+1d", &["--json", "archive", "prune", "--yes"]);
    let freed: Value = serde_json::from_str(&tomorrow.stdout()).unwrap_or_else(|error| panic!("{error}: {tomorrow:?}"));
    let removed = freed["bytes_removed"].as_u64().unwrap();
    assert!(removed > 3_000_000 && freed["done"] == true, "{freed}");
    assert!(packs(&operator) < before - 3_000_000 + 100_000, "{} of {before}, {freed}", packs(&operator));
    is_sound(&operator, &public, "removed");

    // Backups go on.
    fs::write(public.join("large.bin"), noise(9, 1_500_000)).unwrap();
    operator.run(&["backup"]).success();
    is_sound(&operator, &public, "after");
}
