//! The archive with the real binary: backed up, killed in the midst, restored, and read by Debian's restic.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap fails the test; figures are shown")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use sovereign_keys::{Epochs, Purpose, RootSeed};
use sovereign_testkit::sshd::Sshd;
use support::leaf::operator_with_site;
use support::{Operator, Readers, eventually, files, kill, noise, process};

fn repository(operator: &Operator) -> PathBuf {
    operator.state().join("archive/repository")
}

fn row<'v>(answer: &'v Value, of: &str) -> &'v Value {
    let rows = answer["snapshots"].as_array().unwrap_or_else(|| panic!("{answer}"));
    rows.iter().rfind(|row| row["of"] == of).unwrap_or_else(|| panic!("nothing of {of}: {answer}"))
}

fn how_many(operator: &Operator, of: &str) -> usize {
    let listed = operator.json(&["archive", "list"]);
    listed["snapshots"].as_array().unwrap().iter().filter(|row| row["of"] == of).count()
}

#[test]
fn a_site_is_backed_up_proven_restored_and_read_by_restic() {
    let operator = operator_with_site();
    operator.run(&["archive", "list"]).exits(1);
    operator.up_without_backup();
    operator.run(&["archive", "list"]).exits(1);

    let public = operator.home().join("public");
    fs::write(public.join("large.bin"), noise(1, 3_000_000)).unwrap();
    fs::write(public.join("secret.txt"), "the plaintext nobody finds in the archive").unwrap();
    let first = operator.json(&["backup"]);
    let (leaf, state) = (row(&first, "leaf"), row(&first, "(state)"));
    let count = files(&public).len();
    assert_eq!(leaf["files"], count, "{first}");
    assert_eq!(leaf["files_proven"], count, "every new file is restored and compared");
    assert!(state["files"].as_u64().unwrap() >= 3, "{first}");

    // Nothing changed: nothing is read, no snapshot is added, and it was looked at again.
    let second = operator.json(&["backup", "leaf"]);
    assert_eq!((&row(&second, "leaf")["unchanged"], &row(&second, "leaf")["bytes_read"]), (&true.into(), &0.into()));
    assert_eq!(how_many(&operator, "leaf"), 1);

    // One file more: that file and no other is read.
    fs::write(public.join("new.html"), "<p>new</p>").unwrap();
    let third = operator.json(&["backup", "leaf"]);
    assert_eq!(row(&third, "leaf")["bytes_read"], 10, "{third}");
    operator.run(&["archive", "check", "--read-data"]).success();

    // The newest comes back, an older one too, and a part of it.
    let to = operator.home().join("restored");
    operator.run(&["restore", "leaf", "--to", to.to_str().unwrap()]).success();
    assert_eq!(files(&to.join("files")), files(&public));
    operator.run(&["restore", "leaf", "--to", to.to_str().unwrap()]).exits(1);
    let older = row(&first, "leaf")["snapshot"].as_str().unwrap();
    let part = operator.home().join("part");
    let args =
        ["restore", "leaf", "--to", part.to_str().unwrap(), "--snapshot", &older[..8], "--path", "files/large.bin"];
    operator.run(&args).success();
    assert_eq!(files(&part).keys().collect::<Vec<_>>(), [Path::new("files/large.bin")]);
    let of_state = row(&first, "(state)")["snapshot"].as_str().unwrap();
    operator.run(&["restore", "leaf", "--to", part.to_str().unwrap(), "--snapshot", of_state]).exits(2);
    operator.run(&["restore", "leaf", "--to", part.to_str().unwrap(), "--path", "../etc"]).exits(2);

    // The state too, and what is not declared any more; what is not there is an error. Neither a folder of the operator's
    // nor the state is replaced in its place.
    let state_to = operator.home().join("state-of-then");
    operator.run(&["restore", "(state)", "--to", state_to.to_str().unwrap()]).success();
    assert_eq!(fs::read(state_to.join("stack.toml")).unwrap(), fs::read(operator.home().join("stack.toml")).unwrap());
    operator.run(&["restore", "nobodys", "--to", operator.home().join("nobodys").to_str().unwrap()]).exits(1);
    let said = operator.run(&["restore", "leaf", "--yes"]).exits(2).stderr();
    assert!(said.contains("restore leaf --to FOLDER"), "a way out: {said}");
    operator.run(&["restore", "(state)", "--yes"]).exits(2);

    operator.run(&["restore", "nobodys", "--yes"]).exits(2);

    // No key and no word of the seed is in the state's snapshot, and nothing is readable without the password.
    let shown = operator.run(&["archive", "show", of_state]).success().stdout();
    assert!(shown.contains("stack.toml") && !shown.contains("root.json") && !shown.contains("keys"), "{shown}");
    for (name, bytes) in files(&repository(&operator)) {
        assert!(!bytes.windows(9).any(|part| part == b"plaintext"), "{} is not encrypted", name.display());
    }
    assert_eq!(repository(&operator).metadata().unwrap().permissions().mode() & 0o777, 0o700);

    // The password goes to a terminal, or where it is meant to.
    operator.run(&["archive", "key"]).exits(2);
    operator.run(&["rotate", "archive"]).exits(2);
    let password = operator.home().join("password");
    fs::write(&password, operator.run(&["archive", "key", "--yes"]).success().stdout()).unwrap();
    read_by_restic(&operator, &password, &public);
    // A second person's opens it too, and is another one.
    let second = operator.home().join("second");
    fs::write(&second, operator.run(&["archive", "key", "--add", "--yes"]).success().stdout()).unwrap();
    assert_ne!(fs::read(&second).unwrap(), fs::read(&password).unwrap());
    fs::remove_dir_all(operator.home().join("by-restic")).unwrap();
    read_by_restic(&operator, &second, &public);

    the_way_out_for_a_folder(&operator, &to.join("files"));

    // What backups are for outlives what they are of.
    operator.run(&["down", "--purge", "--yes"]).success();
    assert!(repository(&operator).join("config").exists());
}

/// What was restored beside is served when the stack file says so, and no request is dropped on the way.
fn the_way_out_for_a_folder(operator: &Operator, restored: &Path) {
    let stack = fs::read_to_string(operator.home().join("stack.toml")).unwrap();
    let elsewhere = stack.replace("folder = \"public\"", &format!("folder = {restored:?}"));
    let authority = format!("leaf.localhost:{}", operator.home_port);
    fs::write(restored.join("about.html"), "<p>As it was then</p>").unwrap();
    let readers = Readers::start(operator, "leaf.localhost", &[operator.home_port], "/about.html");
    for (file, text) in [(elsewhere, "As it was then"), (stack, "About")] {
        operator.write("stack.toml", &file);
        operator.up();
        eventually("the other folder", Duration::from_secs(20), || {
            operator.curl(&authority, operator.home_port, "/about.html", &[]).ok().text().contains(text).then_some(())
        });
    }
    readers.stop_without_failure();
}

/// Debian's restic, which knows nothing of us, lists, checks and restores it.
fn read_by_restic(operator: &Operator, password: &Path, public: &Path) {
    let restic = |args: &[&str]| {
        let output = Command::new("restic")
            .args(["--no-cache", "--repo"])
            .arg(repository(operator))
            .arg("--password-file")
            .arg(password)
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "restic {args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    let listed: Value = serde_json::from_str(&restic(&["snapshots", "--json", "--path", "/sites/leaf"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    assert!(restic(&["check", "--read-data"]).contains("no errors were found"));
    let to = operator.home().join("by-restic");
    restic(&["restore", "latest", "--path", "/sites/leaf", "--target", to.to_str().unwrap()]);
    assert_eq!(files(&to.join("sites/leaf/files")), files(public));
}

fn size(folder: &Path) -> u64 {
    let metadata = folder.symlink_metadata();
    let inside = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum::<u64>();
    inside + metadata.map_or(0, |metadata| if metadata.is_file() { metadata.len() } else { 0 })
}

#[test]
fn whatever_is_killed_leaves_whole_snapshots_only() {
    let operator = operator_with_site();
    operator.up_without_backup();
    operator.run(&["backup"]).success();
    let public = operator.home().join("public");
    let home = operator.home().display().to_string();
    for (round, (victim, grown)) in
        [("backup", 0), ("backup", 9_000_000), ("source", 0), ("source", 9_000_000)].into_iter().enumerate()
    {
        let round = round as u64;
        // What the archive has grown by is seen late: there must be much more to come.
        let each = if grown == 0 { 4_000_000 } else { 16_000_000 };
        for number in 0..8 {
            fs::write(public.join(format!("{number}.bin")), noise(round * 8 + number + 2, each)).unwrap();
        }
        let before = size(&repository(&operator).join("data"));
        let mut running =
            operator.command(&["backup", "leaf"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let source = eventually("a source", Duration::from_secs(60), || process(["archive-source", &home]));
        if round == 0 {
            let environment = fs::read_to_string(format!("/proc/{source}/environ")).unwrap();
            assert!(!environment.contains("HOME") && !environment.contains("SOVEREIGN"), "{environment}");
            let status = fs::read_to_string(format!("/proc/{source}/status")).unwrap();
            assert!(status.contains("NoNewPrivs:\t1"), "it is not confined: {status}");
        }
        eventually("a repository that grows", Duration::from_secs(60), || {
            (size(&repository(&operator).join("data")) >= before + grown).then_some(())
        });
        match victim {
            "backup" => kill(running.id().try_into().unwrap(), "KILL"),
            _ => kill(source, "KILL"),
        }
        let ended = running.wait().unwrap();
        assert!(!ended.success(), "round {round}: nothing was killed");
        eventually("the source's end", Duration::from_secs(20), || {
            process(["archive-source", &home]).is_none().then_some(())
        });
        assert_eq!(how_many(&operator, "leaf"), 1, "round {round}");
        operator.run(&["archive", "check", "--read-data"]).success();
    }
    // And the next one is whole, from what the others left.
    let at_last = operator.json(&["backup"]);
    assert_eq!(row(&at_last, "leaf")["files_proven"], 8, "{at_last}");
    let to = operator.home().join("restored");
    operator.run(&["restore", "leaf", "--to", to.to_str().unwrap()]).success();
    assert_eq!(files(&to.join("files")), files(&public));
    in_little_memory(&operator);
}

/// However much there is: 128 MB of it are for making the key from the password.
fn in_little_memory(operator: &Operator) {
    const MEASURE: &str = "import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    fs::write(operator.home().join("public/huge.bin"), noise(99, 150_000_000)).unwrap();
    let to = operator.home().join("huge");
    for args in [&["backup", "leaf"][..], &["restore", "leaf", "--to", to.to_str().unwrap()]] {
        let program = Operator::program();
        let mut measured = Command::new("python3");
        measured.args(["-c", MEASURE]).arg(program).args(args).current_dir(operator.home()).env_clear();
        let output = measured.env("HOME", operator.home()).env("SOVEREIGN_STATE", operator.state()).output().unwrap();
        let peak: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_else(|_| panic!("{output:?}"));
        assert!(peak < 300_000, "{args:?} took {peak} kB");
    }
    assert_eq!(fs::metadata(to.join("files/huge.bin")).unwrap().len(), 150_000_000);
}

#[test]
fn a_snapshot_that_was_never_proven_is_not_taken_for_one_that_was() {
    let operator = operator_with_site();
    operator.up_without_backup();
    let public = operator.home().join("public");
    // What proofs are restored into cannot be made: a run that ends between a snapshot and its proof.
    let scratch = operator.state().join("archive/scratch");
    fs::create_dir(operator.state().join("archive")).unwrap();
    fs::write(&scratch, "in the way").unwrap();
    let said = operator.run(&["backup"]).exits(1).stdout();
    assert!(said.contains("is there but not proven"), "{said}");
    let listed = operator.json(&["archive", "list"]);
    assert_eq!(
        (&row(&listed, "leaf")["unproven"], &row(&listed, "leaf")["verified_unix"]),
        (&true.into(), &Value::Null)
    );
    let restore = |to: &str| operator.run(&["restore", "leaf", "--to", to]).success().stdout();
    assert!(restore("unproven").contains("not known here"));

    // The next one proves all of it, though nothing changed, and adds nothing.
    fs::remove_file(&scratch).unwrap();
    let first = operator.json(&["backup"]);
    assert_eq!(row(&first, "leaf")["files_proven"], files(&public).len(), "{first}");
    assert_eq!(how_many(&operator, "leaf"), 1);

    // One more that is not proven: what was proven is restored, and the other named.
    fs::write(public.join("new.html"), "<p>new</p>").unwrap();
    fs::write(&scratch, "in the way").unwrap();
    operator.run(&["backup", "leaf"]).exits(1);
    assert_eq!(how_many(&operator, "leaf"), 2);
    let said = restore("proven");
    assert!(said.contains("newer and was never proven"), "{said}");
    assert!(!operator.home().join("proven/files/new.html").exists());

    // What is new since the proven one is proven with the next.
    fs::remove_file(&scratch).unwrap();
    fs::write(public.join("newer.html"), "<p>newer</p>").unwrap();
    let third = operator.json(&["backup", "leaf"]);
    assert_eq!(row(&third, "leaf")["files_proven"], 2, "{third}");
    assert_eq!(row(&third, "leaf")["unproven"].as_array().unwrap().len(), 1, "{third}");
    assert!(!restore("newest").contains("remark"));
    assert!(operator.home().join("newest/files/newer.html").exists());

    // A folder as `archive show` prints it.
    operator.run(&["restore", "leaf", "--to", "part", "--path", "files/"]).success();
}

#[test]
fn another_folder_is_not_taken_for_the_archive() {
    let operator = operator_with_site();
    let elsewhere = operator.home().join("disk/archive");
    let stack = fs::read_to_string(operator.home().join("stack.toml")).unwrap();
    operator.write("stack.toml", &format!("{stack}\n[archive]\nfolder = {elsewhere:?}\n"));
    operator.up_without_backup();
    operator.run(&["backup"]).success();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&operator.state().join("archive")), 0o700, "it is there wherever the archive lies");
    assert_eq!(mode(&operator.state().join("archive/repository.json")), 0o600);

    // The disk is not mounted.
    let disk = operator.home().join("disk");
    fs::rename(&disk, operator.home().join("drawer")).unwrap();
    for args in [&["backup"][..], &["archive", "list"], &["restore", "leaf", "--to", "restored"]] {
        let said = operator.run(args).exits(1).stderr();
        assert!(said.contains("is the right disk mounted"), "{said}");
    }
    assert!(!disk.exists());
    fs::rename(operator.home().join("drawer"), &disk).unwrap();
    operator.run(&["backup"]).success();
    assert_eq!(how_many(&operator, "leaf"), 1);

    // Damage to one snapshot takes no other away.
    let state = row(&operator.json(&["archive", "list"]), "(state)")["snapshot"].as_str().unwrap().to_owned();
    fs::write(elsewhere.join("snapshots").join(&state), noise(7, 300)).unwrap();
    let said = operator.run(&["archive", "list"]).success().stdout();
    assert!(said.contains(&format!("snapshot {} cannot be read", &state[..8])), "{said}");
    operator.run(&["restore", "leaf", "--to", "restored"]).success();
    assert_eq!(operator.json(&["backup"])["unreadable"][0]["snapshot"], state.as_str());
    operator.run(&["archive", "check"]).exits(1);
}

/// A recovery with these words typed into it, on a machine that has nothing but a copy of the archive.
fn recover(operator: &Operator, archive: &Path, words: &str, more: &[&str]) -> Output {
    operator.typed(&[&["recover", "--archive", archive.to_str().unwrap()], more].concat(), words)
}

#[track_caller]
fn says(output: &Output, code: i32, what: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && said.contains(what), "{code} and {what:?}: {output:?}");
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn words_and_a_copy_of_the_archive_bring_everything_back() {
    let burnt = operator_with_site();
    burnt.up();
    burnt.run(&["rotate", "link/home"]).success();
    burnt.up();
    // What is known of hosts: their pinned keys must not be trusted anew.
    let hosts = r#"{ "version": 1, "hosts": {} }"#;
    fs::create_dir(burnt.state().join("hosts")).unwrap();
    fs::write(burnt.state().join("hosts/hosts.json"), hosts).unwrap();
    let public = burnt.home().join("public");
    fs::write(public.join("large.bin"), noise(1, 3_000_000)).unwrap();
    let good = row(&burnt.json(&["backup"]), "leaf")["snapshot"].clone();
    let packs = files(&repository(&burnt).join("data"));
    fs::write(public.join("late.bin"), noise(2, 100_000)).unwrap();
    burnt.run(&["backup", "leaf"]).success();
    let words = burnt.run(&["seed", "show"]).success().stdout();
    let authority = burnt.run(&["ca", "show"]).success().stdout();
    let another_stack = operator_with_site();
    another_stack.up();
    let theirs = another_stack.run(&["seed", "show"]).success().stdout();

    let fresh = Operator::new();
    let usb = fresh.home().join("usb");
    copy(&repository(&burnt), &usb);
    rehearsed(&burnt, &usb, &words);
    out_of_a_host(&burnt, &usb, &words);
    let wanted = files(&public);
    let epochs = fs::read(burnt.state().join("keys/epochs.json")).unwrap();
    let ports = [burnt.home_port, burnt.office_port];
    burnt.run(&["down", "--purge", "--yes"]).success();
    drop(burnt);
    from_the_one_before(&usb, &words, &packs, &good);

    // Other words, another name, and an archive without its name: each an error that says what is wrong.
    says(&recover(&fresh, &usb, &"abandon ".repeat(24), &[]), 1, "the checksum of the words is wrong");
    says(&recover(&fresh, &usb, &theirs, &[]), 1, "they do not open the archive");
    says(&recover(&fresh, &usb, &words, &["--name", "other"]), 1, "they do not open the archive");
    for name in [&["--name", "leaf"][..], &[]] {
        says(&recover(&fresh, &fresh.home().join("nothing"), &words, name), 1, "there is no archive");
    }
    fs::remove_file(usb.join("sovereign.json")).unwrap();
    says(&recover(&fresh, &usb, &words, &[]), 2, "which stack's archive");
    assert!(!fresh.state().exists(), "nothing was made of what was refused");
    // A stack file of somebody else's is not written over.
    let file = fresh.write(".config/sovereign/stack.toml", "version = 1");
    says(&recover(&fresh, &usb, &words, &["--name", "leaf"]), 1, "there is another stack file");
    fs::remove_file(&file).unwrap();

    killed_while_it_copies(&fresh, &usb, &words);
    let output = recover(&fresh, &usb, &words, &["--name", "leaf", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let back: Value = serde_json::from_slice(&output.stdout).unwrap();
    eprintln!("{back}");
    let all: Vec<_> = back["back"].as_array().unwrap().iter().map(|row| row["of"].as_str().unwrap()).collect();
    assert_eq!(all, ["(state)", "leaf"], "{back}");
    assert_eq!(fs::read(fresh.state().join("keys/epochs.json")).unwrap(), epochs, "rotated secrets stay rotated");
    assert_eq!(fs::read_to_string(fresh.state().join("hosts/hosts.json")).unwrap(), hosts);
    assert!(fs::read_dir(fresh.state().join("journal")).unwrap().count() > 0);

    // It goes on where the other has ended: the same certificates, the same pages, the same archive.
    let [home, office] = ports;
    fresh.up();
    assert_eq!(fresh.run(&["ca", "show"]).success().stdout(), authority);
    for (port, page) in [(home, "/about.html"), (office, "/large.bin")] {
        let read = fresh.curl(&format!("leaf.localhost:{home}"), port, page, &[]).ok();
        assert_eq!(Some(&read.body), wanted.get(Path::new(&page[1..])), "{page}");
    }
    let listed = fresh.json(&["archive", "list"]);
    let recovered = &back["back"][1]["snapshot"];
    assert!(listed["snapshots"].as_array().unwrap().iter().any(|row| row["snapshot"] == *recovered), "{listed}");
    fresh.run(&["backup"]).success();
    fresh.run(&["status"]).success();
    fresh.run(&["archive", "check", "--read-data"]).success();
    // Once more: nothing is put over anything.
    let again = recover(&fresh, &usb, &words, &["--name", "leaf"]);
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout).contains("is there already"), "{again:?}");
}

/// All of it while the stack runs, from the copy that there is and from a folder. Nothing that is there is touched.
fn rehearsed(operator: &Operator, usb: &Path, words: &str) {
    let standing =
        || [operator.home().join("public"), repository(operator), operator.state().join("dc/office/archive")];
    let (live, apart) = (operator.run(&["status"]), operator.state().join("archive/drill-recover"));
    let before = standing().map(|folder| files(&folder));
    for args in
        [&["drill", "recover", "--json"][..], &["drill", "recover", "--json", "--archive", usb.to_str().unwrap()]]
    {
        let output = operator.typed(args, words);
        assert!(output.status.success(), "{output:?}");
        let drilled: Value = serde_json::from_slice(&output.stdout).unwrap();
        eprintln!("{drilled}");
        let all: Vec<_> = drilled["back"].as_array().unwrap().iter().map(|row| row["of"].as_str().unwrap()).collect();
        assert_eq!((all, &drilled["stack_file_same"]), (vec!["(state)", "leaf"], &Value::Bool(true)), "{drilled}");
        assert!(drilled["back"][1]["rpo_seconds"].as_u64().unwrap() < 300, "{drilled}");
        assert!(!apart.exists(), "what was restored is removed");
    }
    let said = operator.typed(&["drill", "recover"], &operator.run(&["seed", "show"]).success().stdout());
    assert!(String::from_utf8_lossy(&said.stdout).contains("came back from copy office in "), "{said:?}");
    // A site that was never backed up, and a stack file that changed since.
    let file = operator.home().join("stack.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        format!(
            "{text}\n[[site]]\nname = \"new\"\napp = \"static\"\nfolder = \"public\"\n\
        canonical = \"new.localhost\"\nprimary = \"home\"\n"
        ),
    )
    .unwrap();
    let output = operator.typed(&["drill", "recover", "--json"], words);
    let drilled: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &drilled["missing"][0]), (Some(1), &Value::from("new")), "{drilled}");
    assert_eq!(drilled["stack_file_same"], false);
    fs::write(&file, text).unwrap();
    let twenty_four = "abandon ".repeat(23) + "art";
    let output = operator.typed(&["drill", "recover"], &twenty_four);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("they do not open the archive"), "{said}");
    assert_eq!(standing().map(|folder| files(&folder)), before, "nothing that is there was touched");
    assert_eq!(operator.run(&["status"]).code(), live.code());
}

/// The copy is on a host, which lets in whom the words lead to. First it does not, or is not the right one.
fn out_of_a_host(operator: &Operator, usb: &Path, words: &str) {
    let host = Sshd::start("restrict");
    let there = host.at("home/archive");
    copy(usb, &there);
    let before = files(&there);
    let (fresh, fingerprint) = (Operator::new(), host.host_key().fingerprint().to_string());
    let at = format!("sftp://{}{}", host.address(), there.display());
    let recover = |more: &[&str]| fresh.typed(&[&["recover", "--archive", &at, "--json"], more].concat(), words);
    says(&recover(&[]), 2, "before the stack's name is known");
    says(&recover(&["--name", "leaf"]), 2, &format!("--fingerprint {fingerprint}"));
    let other = Sshd::start("restrict").host_key().fingerprint().to_string();
    says(&recover(&["--name", "leaf", "--fingerprint", &other]), 1, &fingerprint);
    says(&recover(&["--name", "leaf", "--fingerprint", &fingerprint]), 1, "the key that follows from the words");
    says(
        &recover(&["--name", "leaf", "--fingerprint", &fingerprint, "--identity", "none"]),
        1,
        "cannot get to the copy",
    );
    assert!(!fresh.state().exists(), "nothing was made of what was refused");

    let identity = host.at("ours").display().to_string();
    let args = ["drill", "recover", "--archive", &at, "--fingerprint", &fingerprint, "--identity", &identity];
    let drilled = operator.typed(&args, words);
    assert!(String::from_utf8_lossy(&drilled.stdout).contains(&format!("came back from {at} in ")), "{drilled:?}");

    let seed = RootSeed::parse(words).unwrap();
    let epoch = Epochs::default().of(&Purpose::HostsRecovery);
    let secret = seed.derive(&"leaf".parse().unwrap(), &Purpose::HostsRecovery, epoch);
    let key = sovereign_keys::ssh_key(&secret, "of the words").public_line;
    fs::write(host.at("authorized"), format!("restrict {key}\n")).unwrap();
    let (elsewhere, pinned) = (format!("{at}/data"), ["--name", "leaf", "--fingerprint", &fingerprint]);
    let lost = fresh.typed(&[&["recover", "--archive", &elsewhere], &pinned[..]].concat(), words);
    says(&lost, 1, "there is no archive");
    says(&recover(&["--name", "other", "--fingerprint", &fingerprint]), 1, "cannot get to the copy");
    let output = recover(&["--name", "leaf", "--fingerprint", &fingerprint]);
    let back: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(back["back"][1]["of"], "leaf", "{back}");
    let public = fresh.home().join(".config/sovereign/public");
    assert_eq!(files(&public), files(&operator.home().join("public")));
    assert_eq!(files(&repository(&fresh).join("data")), files(&there.join("data")));
    assert!(!fresh.state().join("archive/recovering-from").exists(), "no key is left");
    assert_eq!(files(&there), before, "nothing is written there");
    fresh.run(&["archive", "check", "--read-data"]).success();
}

/// A copy in which all is damaged that came after the snapshot `good`, whose packs are these.
fn from_the_one_before(usb: &Path, words: &str, packs: &BTreeMap<PathBuf, Vec<u8>>, good: &Value) {
    let fresh = Operator::new();
    let damaged = fresh.home().join("usb");
    copy(usb, &damaged);
    for (pack, bytes) in files(&damaged.join("data")).into_iter().filter(|(pack, _)| !packs.contains_key(pack)) {
        fs::write(damaged.join("data").join(pack), noise(3, bytes.len())).unwrap();
    }
    let output = recover(&fresh, &damaged, words, &["--json"]);
    let back: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(back["back"][1]["snapshot"], *good, "the damaged one is passed over: {back}");
    assert!(back["remarks"].to_string().contains("of leaf cannot be restored"), "and named: {back}");
}

fn killed_while_it_copies(fresh: &Operator, usb: &Path, words: &str) {
    let args = ["recover", "--archive", usb.to_str().unwrap(), "--name", "leaf"];
    let mut running =
        fresh.command(&args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
    let data = fresh.state().join("archive/repository/data");
    eventually("an archive half there", Duration::from_secs(60), || data.exists().then_some(()));
    kill(running.id().try_into().unwrap(), "KILL");
    running.wait().unwrap();
}
