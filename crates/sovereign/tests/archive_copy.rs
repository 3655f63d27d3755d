//! Copies of the archive with the real binary: brought in step, damaged here and there, restored from; read by restic.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::leaf::{operator_with_site, stack};
use support::{Operator, files, noise};

fn declare(operator: &Operator, archive: &str) {
    operator.write("stack.toml", &format!("{}\n{archive}", stack(operator)));
}

fn outcomes(answer: &Value) -> Vec<(&str, &str)> {
    let rows = answer["copies"].as_array().unwrap_or_else(|| panic!("{answer}"));
    rows.iter().map(|row| (row["copy"].as_str().unwrap(), row["outcome"].as_str().unwrap())).collect()
}

/// What a repository consists of: all but what this program keeps beside it.
fn repository(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let ours = |name: &Path| name.starts_with("set-aside") || name.to_string_lossy().starts_with("sovereign.");
    files(folder).into_iter().filter(|(name, _)| !ours(name)).collect()
}

fn largest_pack(repository: &Path) -> PathBuf {
    let packs = files(&repository.join("data"));
    repository.join("data").join(packs.into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0)
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn restored(operator: &Operator, to: &str, more: &[&str]) -> Vec<(PathBuf, Vec<u8>)> {
    let args = [&["restore", "leaf", "--to", to], more].concat();
    operator.run(&args).success();
    files(&operator.home().join(to).join("files")).into_iter().collect()
}

fn is_sound_for_restic(operator: &Operator, repository: &Path) {
    let password = operator.home().join("password");
    fs::write(&password, operator.run(&["archive", "key", "--yes"]).success().stdout()).unwrap();
    let mut restic = Command::new("restic");
    restic.args(["--no-cache", "check", "--read-data", "--repo"]).arg(repository);
    let output = restic.arg("--password-file").arg(&password).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn copies_are_kept_in_step_restored_from_and_mend_what_is_damaged() {
    let operator = operator_with_site();
    let (archive, public) = (operator.state().join("archive/repository"), operator.home().join("public"));
    fs::write(public.join("large.bin"), noise(1, 2_000_000)).unwrap();
    operator.up();

    // Without a word there is one at the data center that is no site's primary.
    let first = operator.json(&["backup"]);
    assert_eq!(outcomes(&first), [("office", "in-step")], "{first}");
    let office = operator.state().join("dc/office/archive");
    assert_eq!(repository(&office), repository(&archive));
    is_sound_for_restic(&operator, &office);

    // Several of them: one fails, and the others are brought in step all the same; a disk in a drawer is no failure.
    operator.write("taken/holiday.jpg", "");
    let (taken, nas, disk) = (
        "[[archive.copy]]\nname = \"taken\"\nfolder = \"taken\"\n",
        "[[archive.copy]]\nname = \"nas\"\nfolder = \"mnt/nas\"\n",
        "[[archive.copy]]\nname = \"drawer\"\ndisk = \"0000-0000-dead\"\nfolder = \"archive\"\n",
    );
    declare(&operator, &format!("{taken}{disk}{nas}"));
    let failed = operator.run(&["backup"]).exits(1).stdout();
    assert!(failed.contains("copy taken: ") && failed.contains("no copy of the archive"), "{failed}");
    assert!(failed.contains("copy drawer: disk 0000-0000-dead is not plugged in"), "{failed}");
    let copy = operator.home().join("mnt/nas");
    assert_eq!(repository(&copy), repository(&archive));
    declare(&operator, &format!("{disk}{nas}"));
    operator.run(&["archive", "copy"]).success();
    operator.run(&["archive", "copy", "atic"]).exits(2);
    let known: Value =
        serde_json::from_slice(&fs::read(operator.state().join("archive/copies.json")).unwrap()).unwrap();
    let there = fs::read_dir(archive.join("snapshots")).unwrap().count();
    assert_eq!(known["copies"]["nas"]["snapshots"].as_array().unwrap().len(), there, "{known}");
    assert!(known["copies"]["nas"]["in_step_unix"].is_u64() && known["copies"]["nas"]["checked_unix"].is_null());
    assert!(known["copies"]["taken"]["trouble"]["message"].is_string(), "{known}");

    // It is enough to restore from, and nothing is written there.
    fs::write(public.join("new.html"), "<p>new</p>").unwrap();
    operator.run(&["backup"]).success();
    let here: Vec<_> = files(&public).into_iter().collect();
    let before = files(&copy);
    let aside = operator.state().join("archive/aside");
    fs::rename(&archive, &aside).unwrap();
    operator.run(&["archive", "list"]).exits(1);
    let listed = operator.json(&["archive", "list", "--from-copy", "nas"]);
    assert!(listed["snapshots"].as_array().unwrap().len() > there, "{listed}");
    assert_eq!(restored(&operator, "from-copy", &["--from-copy", "nas"]), here);
    operator.run(&["archive", "check", "--copy", "nas", "--read-data"]).success();
    operator.run(&["restore", "leaf", "--to", "x", "--from-copy", "drawer"]).exits(1);
    assert_eq!(files(&copy), before);
    fs::rename(&aside, &archive).unwrap();

    // Whoever has lost all else finds on it whose it is.
    assert_eq!(fs::read(copy.join("sovereign.json")).unwrap(), fs::read(archive.join("sovereign.json")).unwrap());

    // What changed, by path.
    let leaf: Vec<&str> = listed["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["of"] == "leaf")
        .map(|row| row["snapshot"].as_str().unwrap())
        .collect();
    let diff = operator.json(&["archive", "diff", leaf[1]]);
    assert_eq!(diff["files"]["added"], serde_json::json!(["files/new.html"]), "{diff}");
    assert_eq!(operator.json(&["archive", "diff", leaf[0], "newest"])["files"], diff["files"]);
    assert!(operator.run(&["archive", "diff", leaf[0], leaf[0]]).success().stdout().contains("nothing changed"));
    operator.run(&["archive", "diff", leaf[0]]).exits(2);

    // Damage there is found, and put right from here.
    flip(&largest_pack(&copy));
    operator.run(&["archive", "check", "--copy", "nas"]).success();
    let said = operator.run(&["archive", "check", "--copy", "nas", "--read-data"]).exits(1).stdout();
    assert!(said.contains("is not what it was"), "{said}");
    operator.run(&["archive", "check", "--copy", "nas", "--read-data", "--repair"]).success();
    assert_eq!(repository(&copy), repository(&archive));

    // Damage here is found, shown, and put right from there when somebody says yes.
    let whole = repository(&archive);
    flip(&largest_pack(&archive));
    let snapshot = archive.join("snapshots").join(leaf[0]);
    fs::remove_file(&snapshot).unwrap();
    let said = operator.run(&["archive", "check", "--read-data"]).exits(1).stdout();
    assert!(said.contains("--repair"), "{said}");
    let asked = operator.run(&["archive", "check", "--repair"]).exits(2).stderr();
    assert!(asked.contains("copy nas") && asked.contains("missing") && asked.contains("--yes"), "{asked}");
    let said = operator.run(&["archive", "check", "--repair", "--yes"]).success().stdout();
    assert!(said.contains("2 files brought back"), "{said}");
    assert_eq!(repository(&archive), whole);
    assert_eq!(files(&archive.join("set-aside")).len(), 1, "nothing that is damaged is deleted");
    assert!(operator.run(&["archive", "check", "--repair"]).success().stdout().contains("what it was"));
    is_sound_for_restic(&operator, &archive);

    // No copy has it: what is lost is named, and the next backup reads again what is still there.
    declare(&operator, "[archive]\ncopy = []\n");
    flip(&largest_pack(&archive));
    let lost = operator.run(&["archive", "check", "--repair", "--yes"]).exits(1).stdout();
    assert!(lost.contains("no copy has it") && lost.contains("files/large.bin"), "{lost}");
    assert!(
        lost.contains(&leaf[0][..8]) && lost.contains(&leaf[1][..8]) && lost.contains("sovereign backup"),
        "{lost}"
    );
    let again = operator.json(&["backup"]);
    assert!(again["snapshots"][0]["bytes_read"].as_u64().unwrap() >= 2_000_000, "{again}");
    operator.run(&["archive", "check", "--read-data"]).success();
    assert_eq!(restored(&operator, "healed", &["--snapshot", leaf[1]]), here, "the old one is whole again");
    is_sound_for_restic(&operator, &archive);

    // What is not there any more stays lost, and the snapshots with it are given up, on purpose.
    fs::write(public.join("short-lived.bin"), noise(2, 3_000_000)).unwrap();
    let with = operator.json(&["backup"])["snapshots"][0]["snapshot"].as_str().unwrap().to_owned();
    fs::remove_file(public.join("short-lived.bin")).unwrap();
    operator.run(&["backup"]).success();
    flip(&largest_pack(&archive));
    operator.run(&["archive", "check", "--repair", "--yes"]).exits(1);
    operator.run(&["backup"]).success();
    operator.run(&["archive", "check"]).exits(1);
    declare(&operator, disk);
    let held = operator.run(&["archive", "check", "--repair", "--yes"]).exits(1).stdout();
    assert!(held.contains("could not be asked") && held.contains("files/short-lived.bin"), "{held}");
    declare(&operator, "[archive]\ncopy = []\n");
    let said = operator.run(&["archive", "check", "--repair", "--yes"]).success().stdout();
    assert!(said.contains("1 snapshot given up") && said.contains(&with[..8]), "{said}");
    operator.run(&["archive", "check", "--read-data"]).success();
    operator.run(&["archive", "prune", "--yes"]).success();
    is_sound_for_restic(&operator, &archive);

    // A copy that was away all the time has it: it keeps it, says so, and gives it back.
    declare(&operator, nas);
    let said = operator.run(&["archive", "copy", "nas"]).exits(1).stdout();
    assert!(said.contains("it has 1 file that the archive lost"), "{said}");
    operator.run(&["archive", "check", "--repair", "--yes"]).success();
    assert_eq!(outcomes(&operator.json(&["backup"])), [("nas", "in-step")]);
    assert_eq!(repository(&copy), repository(&archive));
    is_sound_for_restic(&operator, &copy);
}
