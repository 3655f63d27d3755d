//! Chains of duplicity beside the archive: kept, read by the real duplicity, imported, killed, and on a disk that went.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::leaf::{operator_with_site, stack};
use support::{Operator, eventually, files, kill, process};

/// Bytes that neither compress nor repeat.
fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    bytes
}

fn outcome(answer: &Value) -> &str {
    answer["copies"][0]["outcome"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

fn named(folder: &Path, word: &str) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().contains(word)).count()
}

/// What Debian's duplicity, which knows nothing of us, restores with the archive's password.
fn by_duplicity(operator: &Operator, chain: &Path, name: &str) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let to = operator.home().join(name);
    let password = operator.run(&["archive", "key", "--yes"]).success().stdout();
    let restored = Command::new("duplicity")
        .args(["restore", "--archive-dir"])
        .arg(operator.home().join("cache"))
        .arg(format!("file://{}", chain.display()))
        .arg(&to)
        .env("PASSPHRASE", password.trim())
        .env("GNUPGHOME", operator.home())
        .output()
        .unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    files(&to.join("files"))
}

#[test]
fn a_chain_of_duplicity_is_kept_beside_the_archive() {
    let operator = operator_with_site();
    let disk = operator.home().join("disk");
    let copy = format!("[[archive.copy]]\nname = \"old\"\nformat = \"duplicity\"\nfolder = {disk:?}\n");
    operator.write("stack.toml", &format!("{}\n{copy}", stack(&operator)));
    operator.up();
    let public = operator.home().join("public");
    let chain = disk.join("sites/leaf");
    fs::write(public.join("large.bin"), noise(2_000_000)).unwrap();

    let first = operator.json(&["backup", "leaf"]);
    assert_eq!(outcome(&first), "in-step", "{first}");
    assert_eq!((named(&chain, "-full."), named(&chain, "-inc.")), (2, 2), "what `up` backed up, and what is new since");
    assert!(named(&disk.join("state"), "-full.") > 0);
    let again = operator.json(&["backup", "leaf"]);
    assert_eq!((outcome(&again), named(&chain, "-inc.")), ("in-step", 2), "nothing changed, nothing is added");

    // As duplicity sees it, the file did not change: same time to the second. What it has is looked at, not believed.
    let page = public.join("about.html");
    let before = page.metadata().unwrap().modified().unwrap();
    fs::write(&page, "<p>as long as it takes</p>").unwrap();
    fs::File::options().write(true).open(&page).unwrap().set_modified(before + Duration::from_nanos(7)).unwrap();
    eventually("another second", Duration::from_secs(10), || {
        let now = Command::new("date").args(["-u", "+%Y%m%dT%H%M%SZ"]).output().unwrap();
        (named(&chain, String::from_utf8_lossy(&now.stdout).trim()) == 0).then_some(())
    });
    fs::write(public.join("new.html"), "<p>new</p>").unwrap();
    let second = operator.json(&["backup", "leaf"]);
    assert_eq!(outcome(&second), "in-step", "{second}");
    assert_eq!(named(&chain, "-full."), 4, "all of it anew");
    assert!(by_duplicity(&operator, &chain, "by-duplicity") == files(&public), "not what the site has");

    // Into our archive again, by its own way in.
    let key = operator.run(&["archive", "key", "--yes"]).success().stdout();
    operator.write("key", &key);
    let imported =
        operator.json(&["import", &format!("duplicity://{}", chain.display()), "leaf", "--passphrase-file", "key"]);
    assert_eq!(imported["files_proven"], files(&public).len(), "{imported}");
    let to = operator.home().join("restored");
    let snapshot = imported["snapshot"].as_str().unwrap();
    operator.run(&["restore", "leaf", "--to", to.to_str().unwrap(), "--snapshot", snapshot]).success();
    assert!(files(&to.join("files")) == files(&public));

    // It is no repository.
    operator.run(&["archive", "check", "--copy", "old"]).exits(2);

    // Killed while duplicity writes: the next run puts it right.
    fs::write(public.join("larger.bin"), noise(40_000_000)).unwrap();
    let mut running =
        operator.command(&["backup", "leaf"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let home = operator.home().display().to_string();
    eventually("duplicity at work", Duration::from_secs(60), || process(["--full-if-older-than", &home]));
    kill(running.id().try_into().unwrap(), "KILL");
    running.wait().unwrap();
    eventually("the end of duplicity", Duration::from_secs(20), || {
        process(["duplicity", &home]).is_none().then_some(())
    });
    assert_eq!(outcome(&operator.json(&["archive", "copy", "old"])), "in-step");
    assert!(by_duplicity(&operator, &chain, "after-a-kill") == files(&public), "not what the site has");
    assert!(!operator.state().join("archive/chain").exists());

    // The disk is not mounted any more.
    fs::rename(&disk, operator.home().join("drawer")).unwrap();
    let said = operator.run(&["archive", "copy", "old"]).exits(1).stdout();
    assert!(said.contains("is the right disk mounted"), "{said}");
    assert!(!disk.exists());
    assert_eq!(outcome(&operator.json(&["archive", "copy", "old", "--anew"])), "in-step");
    assert!(by_duplicity(&operator, &chain, "anew") == files(&public));
}
