//! Files that an earlier version wrote must still be read: one folder of fixtures per format version, never changed.
//!
//! The seed in them is the one of docs/secrets.md, the passphrase of the encrypted one is `correct horse`.

#![cfg(test)]

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sovereign_keys::{Epochs, Owner, Passphrase, Purpose, RootSeed, SeedError, SeedFile, WorkingKeys};
use sovereign_model::StackName;

const WORDS: &str = "hamster diagram private dutch cause delay private meat slide toddler razor book \
                     happy fancy gospel tennis maple dilemma loan word shrug inflict delay length";

fn stack() -> StackName {
    "demo".parse().unwrap()
}

fn passphrase() -> Result<Passphrase, Infallible> {
    Ok(Passphrase::new("correct horse".to_owned()).unwrap())
}

/// Puts a fixture where it belongs, with the mode it belongs there with; a checkout keeps no modes.
fn place(fixture: &str, folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(fixture);
    fs::copy(from, &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn a_root_seed_of_version_1_is_read() {
    for (fixture, encrypted) in [("root-plain.json", false), ("root-encrypted.json", true)] {
        let folder = tempfile::tempdir().unwrap();
        place(fixture, folder.path(), "root.json");
        let stored = SeedFile::at(folder.path(), stack()).open().unwrap();
        assert_eq!(stored.is_encrypted(), encrypted);
        assert!(stored.is(&RootSeed::parse(WORDS).unwrap()));
        assert_eq!(stored.unlock(passphrase).unwrap().words().expose(), WORDS);
    }
}

#[test]
fn a_working_key_and_epochs_of_version_1_are_read() {
    let folder = tempfile::tempdir().unwrap();
    place("webhook.blog.json", folder.path(), "webhook.blog.json");
    let epochs = Epochs::read(&place("epochs.json", folder.path(), "epochs.json")).unwrap();
    let webhook: Purpose = "webhook/blog".parse().unwrap();
    assert_eq!(epochs.of(&webhook), 2);

    let seed = RootSeed::parse(WORDS).unwrap();
    let owner = Owner { stack: stack(), seed: seed.fingerprint(&stack()) };
    let never_asked = || -> Result<RootSeed, SeedError> { panic!("the kept key is good") };
    let keys = WorkingKeys::ensure(folder.path(), &owner, [&webhook], &epochs, never_asked).unwrap();
    let derived = seed.derive(&stack(), &webhook, 2);
    assert_eq!(keys.webhook_key(&"blog".parse().unwrap()).unwrap(), sovereign_keys::webhook_key(&derived));

    let imagined = WorkingKeys::imagined(&stack(), [&webhook], &seed);
    assert_eq!(imagined.epoch(&webhook), Some(1));
}

#[test]
fn files_are_still_written_as_version_1() {
    let folder = tempfile::tempdir().unwrap();
    let seed = RootSeed::parse(WORDS).unwrap();
    let (seeds, keys) = (folder.path().join("seed"), folder.path().join("keys"));
    SeedFile::at(&seeds, stack()).restore(&seed, None).unwrap();
    let mut epochs = Epochs::default();
    let webhook: Purpose = "webhook/blog".parse().unwrap();
    epochs.rotate(&webhook);
    epochs.write(&keys.join("epochs.json")).unwrap();
    let owner = Owner { stack: stack(), seed: seed.fingerprint(&stack()) };
    WorkingKeys::ensure(&keys, &owner, [&webhook], &epochs, || Ok(seed)).unwrap();

    let written = [
        ("root-plain.json", seeds.join("root.json")),
        ("epochs.json", keys.join("epochs.json")),
        ("webhook.blog.json", keys.join("webhook.blog.json")),
    ];
    for (fixture, path) in written {
        let kept = place(fixture, folder.path(), fixture);
        assert_eq!(fs::read_to_string(path).unwrap(), fs::read_to_string(kept).unwrap(), "{fixture}");
    }
}
