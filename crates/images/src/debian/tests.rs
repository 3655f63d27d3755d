//! Locks and packages, with real apt and gpgv and a mirror of a few small packages that is signed with a key of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use sovereign_model::Digest;

use super::*;
use crate::{Environment, Options, Silent};

/// A mirror in a folder, and a machine whose apt is set up with it.
struct Mirror {
    folder: tempfile::TempDir,
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

impl Mirror {
    /// With a key, and the packages `base` (essential) and `tool` (which needs `library`), all of version 1.
    fn new() -> Self {
        let mirror = Self { folder: tempfile::tempdir().unwrap() };
        mirror.make_key("key");
        for folder in ["repo/pool", "repo/dists/bookworm/main/binary-all", "sources"] {
            fs::create_dir_all(mirror.path(folder)).unwrap();
        }
        let repo = mirror.path("repo");
        let source = format!("Types: deb\nURIs: file:{}\nSuites: bookworm\nComponents: main\n", repo.display());
        fs::write(mirror.path("sources/debian.sources"), source).unwrap();
        // Of the machine that runs the test nothing is read.
        let sources = mirror.path("sources");
        let settings = format!(
            "Dir::Etc::parts \"/dev/null\";\nDir::Etc::main \"/dev/null\";\nDir::Etc::sourcelist \"/dev/null\";\n\
             Dir::Etc::sourceparts \"{}\";\n",
            sources.display()
        );
        fs::write(mirror.path("apt.conf"), settings).unwrap();
        mirror.package("base", "1", "Essential: yes\n");
        mirror.package("library", "1:1.0-1+b1", "");
        mirror.package("tool", "1", "Depends: library\n");
        mirror.sign("key", "");
        mirror
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn make_key(&self, name: &str) {
        let home = self.path(name);
        fs::create_dir(&home).unwrap();
        run(Command::new("chmod").arg("700").arg(&home));
        let gpg = |arguments: &[&str]| {
            run(Command::new("gpg").env("GNUPGHOME", &home).args(["--batch", "--quiet"]).args(arguments))
        };
        gpg(&["--passphrase", "", "--quick-generate-key", &format!("{name}@mirror.test"), "ed25519", "sign", "never"]);
        fs::write(self.path(&format!("{name}.gpg")), gpg(&["--export"])).unwrap();
    }

    /// The file of a package.
    fn file(&self, name: &str, version: &str) -> PathBuf {
        self.path("repo/pool").join(format!("{name}_{}_all.deb", version.replace("1:", "")))
    }

    fn package(&self, name: &str, version: &str, more: &str) {
        let tree = self.path(&format!("tree-{name}"));
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@mirror.test>\n{more}\
             Description: {name} for tests\n"
        );
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        fs::write(tree.join(name), format!("{name} {version}\n")).unwrap();
        run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(self.file(name, version)));
    }

    /// Writes the index of what is in the pool, and signs it.
    fn sign(&self, key: &str, more: &str) {
        let mut packages = String::new();
        let mut files: Vec<_> =
            fs::read_dir(self.path("repo/pool")).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for file in files {
            let control = String::from_utf8(run(Command::new("dpkg-deb").arg("--field").arg(&file))).unwrap();
            let (bytes, name) = (fs::read(&file).unwrap(), file.file_name().unwrap().to_str().unwrap());
            let (control, size, hash) = (control.trim_end(), bytes.len(), Digest::of(&bytes).hex());
            packages.push_str(&format!("{control}\nFilename: pool/{name}\nSize: {size}\nSHA256: {hash}\n\n"));
        }
        let dist = self.path("repo/dists/bookworm");
        let index = format!("main/binary-{}/Packages", Architecture::here().unwrap());
        fs::create_dir_all(dist.join(&index).parent().unwrap()).unwrap();
        fs::write(dist.join(&index), &packages).unwrap();
        let (size, hash, architecture) = (packages.len(), Digest::of(&packages).hex(), Architecture::here().unwrap());
        let release = format!(
            "Origin: Test\nSuite: stable\nCodename: bookworm\nDate: Thu, 02 Jan 2020 03:04:05 UTC\n{more}\
             Architectures: {architecture}\nComponents: main\nSHA256:\n {hash} {size} {index}\n"
        );
        let path = self.path("release");
        fs::write(&path, release).unwrap();
        let mut gpg = Command::new("gpg");
        gpg.env("GNUPGHOME", self.path(key)).args(["--batch", "--quiet", "--yes", "--clearsign", "--output"]);
        run(gpg.arg(dist.join("InRelease")).arg(&path));
    }

    fn role(&self) -> Role {
        let mut role = Role::host();
        role.name = "debian-test".parse().unwrap();
        role.packages = vec!["tool".to_owned()];
        role.base.suites.truncate(1);
        role.base.keyring = self.path("key.gpg");
        role
    }

    fn kept(&self) -> Kept {
        Kept::open(self.path("kept")).unwrap()
    }

    fn options(&self, offline: bool) -> Options {
        let path = std::env::var_os("PATH").unwrap();
        let variables = [("PATH", path), ("APT_CONFIG", self.path("apt.conf").into_os_string())];
        Options {
            offline,
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(7),
            environment: Environment::from_iter(variables),
        }
    }

    fn resolve(&self) -> Result<Lock, ImageError> {
        resolve(&self.role(), &self.kept(), &self.options(false), &Silent)
    }

    fn fetch(&self, lock: &Lock) -> Result<crate::Receipt, ImageError> {
        fetch(lock, &self.role(), &self.kept(), &self.options(false), &Silent)
    }

    fn fetch_offline(&self, lock: &Lock) -> Result<crate::Receipt, ImageError> {
        fetch(lock, &self.role(), &self.kept(), &self.options(true), &Silent)
    }
}

fn debian(error: ImageError) -> DebianError {
    match error {
        ImageError::Debian(error) => error,
        other => panic!("{other:?}"),
    }
}

fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}

#[test]
fn a_role_is_locked_with_all_it_needs_and_kept_without_its_mirror() {
    let mirror = Mirror::new();
    let lock = mirror.resolve().unwrap();
    let packages: Vec<_> = lock.packages.iter().map(ToString::to_string).collect();
    assert_eq!(packages, ["base 1", "library 1:1.0-1+b1", "tool 1"]);
    assert_eq!((lock.made(), lock.wanted.as_slice()), (1_577_934_245, &["tool".to_owned()][..]));
    assert_eq!(lock, mirror.resolve().unwrap(), "asked again, the same");
    assert_eq!(Lock::parse(&lock.to_text()).unwrap(), lock);

    let receipt = mirror.fetch(&lock).unwrap();
    assert_eq!((receipt.fetched[0].files, receipt.fetched[0].bytes), (3, lock.bytes()));
    rename(&mirror.path("repo"), &mirror.path("gone"));
    assert_eq!(mirror.fetch(&lock).unwrap().fetched, [], "nothing has to be fetched again");
    mirror.fetch_offline(&lock).unwrap();
}

#[test]
fn what_another_key_has_signed_is_refused_and_so_is_what_nobody_has() {
    let mirror = Mirror::new();
    mirror.make_key("other");
    mirror.sign("other", "");
    let error = debian(mirror.resolve().unwrap_err());
    assert!(matches!(error, DebianError::Unsigned { .. }), "{error:?}");
    assert!(error.help().unwrap().contains("nothing was taken"), "{error}");

    // As if the machine's own configuration were careless.
    let careless = "Acquire::AllowInsecureRepositories \"true\";\nAPT::Get::AllowUnauthenticated \"true\";\n";
    let settings = fs::read_to_string(mirror.path("apt.conf")).unwrap();
    fs::write(mirror.path("apt.conf"), settings + careless).unwrap();
    fs::remove_file(mirror.path("repo/dists/bookworm/InRelease")).unwrap();
    fs::copy(mirror.path("release"), mirror.path("repo/dists/bookworm/Release")).unwrap();
    let error = debian(mirror.resolve().unwrap_err());
    assert!(matches!(error, DebianError::Unsigned { .. }), "{error:?}");
}

#[test]
fn an_index_that_is_too_old_is_refused() {
    let mirror = Mirror::new();
    mirror.sign("key", "Valid-Until: Fri, 03 Jan 2020 03:04:05 UTC\n");
    let error = debian(mirror.resolve().unwrap_err());
    assert!(matches!(error, DebianError::Expired { .. }), "{error:?}");
}

#[test]
fn a_version_that_vanished_is_named_with_the_way_out_and_the_way_out_works() {
    let mirror = Mirror::new();
    let old = mirror.resolve().unwrap();
    fs::remove_file(mirror.file("tool", "1")).unwrap();
    mirror.package("tool", "2", "Depends: library\n");
    mirror.sign("key", "");
    let error = debian(mirror.fetch(&old).unwrap_err());
    let DebianError::Vanished { packages, .. } = &error else { panic!("{error:?}") };
    assert_eq!(packages, &["tool 1".to_owned()]);
    assert!(error.help().unwrap().contains("sovereign images lock --update test"), "{:?}", error.help());

    let new = mirror.resolve().unwrap();
    mirror.fetch(&new).unwrap();
    let changes = old.changes(&new);
    let change = &changes[0];
    let versions = (change.old.as_ref().unwrap().as_str(), change.new.as_ref().unwrap().as_str());
    assert_eq!((changes.len(), change.package.as_str(), versions), (1, "tool", ("1", "2")));
}

#[test]
fn a_kept_version_outlives_its_mirror() {
    let mirror = Mirror::new();
    let old = mirror.resolve().unwrap();
    mirror.fetch(&old).unwrap();
    fs::remove_file(mirror.file("tool", "1")).unwrap();
    mirror.fetch(&old).unwrap();
}

#[test]
fn what_is_not_as_locked_is_never_kept() {
    let mirror = Mirror::new();
    let lock = mirror.resolve().unwrap();
    let file = mirror.file("tool", "1");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let error = debian(mirror.fetch(&lock).unwrap_err());
    assert!(matches!(&error, DebianError::Foreign { package, .. } if package == "tool 1"), "{error:?}");
    let tool = lock.packages.iter().find(|package| package.name.as_str() == "tool").unwrap();
    assert!(!mirror.kept().file(tool).exists());
}

#[test]
fn a_damaged_package_is_fetched_again_and_offline_it_is_named() {
    let mirror = Mirror::new();
    let lock = mirror.resolve().unwrap();
    mirror.fetch(&lock).unwrap();
    let file = mirror.kept().file(&lock.packages[1]);
    fs::write(&file, "torn").unwrap();
    let error = debian(mirror.fetch_offline(&lock).unwrap_err());
    assert!(
        matches!(&error, DebianError::NotKept { packages } if packages == &["library 1:1.0-1+b1".to_owned()]),
        "{error:?}"
    );
    mirror.fetch(&lock).unwrap();
    mirror.fetch_offline(&lock).unwrap();
}

#[test]
fn without_a_mirror_without_keys_and_offline_it_is_said_what_is_missing() {
    let mirror = Mirror::new();
    fs::remove_file(mirror.path("sources/debian.sources")).unwrap();
    let error = debian(mirror.resolve().unwrap_err());
    assert!(matches!(&error, DebianError::NoMirror(suite) if suite.as_str() == "bookworm"), "{error:?}");
    fs::remove_file(mirror.path("key.gpg")).unwrap();
    assert!(matches!(debian(mirror.resolve().unwrap_err()), DebianError::KeysMissing(_)));
    let error = debian(resolve(&mirror.role(), &mirror.kept(), &mirror.options(true), &Silent).unwrap_err());
    assert!(matches!(error, DebianError::Offline(_)), "{error:?}");
}

#[test]
fn what_debian_does_not_have_is_told_in_apts_words() {
    let mirror = Mirror::new();
    let mut role = mirror.role();
    role.packages.push("unheard-of".to_owned());
    let error = debian(resolve(&role, &mirror.kept(), &mirror.options(false), &Silent).unwrap_err());
    assert!(matches!(&error, DebianError::Unsolvable { said, .. } if said.contains("unheard-of")), "{error:?}");
}
