use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::Silent;
use crate::test_registry::{Answer, TestRegistry, package};

/// Fetches a package from a registry, with what is in `folder` already.
fn fetch(registry: &TestRegistry, folder: &Path, package: &Package) -> Result<(Vec<u8>, Receipt), ImageError> {
    let registries = Registries::load(&registry.environment()).unwrap();
    let mut downloads = Downloads::new(folder.to_owned(), Some(&registries), package.bytes, &Silent).unwrap();
    let mut receipt = Receipt::default();
    let mut bytes = Vec::new();
    downloads.fetch(package, &mut receipt)?.read_to_end(&mut bytes).unwrap();
    Ok((bytes, receipt))
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Bytes that are different at every place.
fn archive(length: usize) -> Vec<u8> {
    (0..length as u32).flat_map(u32::to_le_bytes).take(length).collect()
}

fn part(folder: &Path, package: &Package) -> PathBuf {
    folder.join(format!("{}.part", package.integrity.file_name()))
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_package_is_fetched_once() {
    let (bytes, folder) = (archive(100_000), folder());
    let package = package("@scope/thing", &bytes);
    let served = bytes.clone();
    let registry = TestRegistry::start(move |_, _| Answer::file(&served));
    let (got, receipt) = fetch(&registry, folder.path(), &package).unwrap();
    assert!(got == bytes);
    let fetched = Fetched { host: registry.address().ip().to_string(), files: 1, bytes: 100_000 };
    assert_eq!(receipt.fetched, [fetched]);
    let (_, receipt) = fetch(&registry, folder.path(), &package).unwrap();
    assert_eq!(receipt.fetched, []);
    let paths: Vec<_> = registry.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/npm/@scope/thing/-/thing-1.0.0.tgz"]);
}

#[test]
fn what_a_killed_run_left_is_continued() {
    let (bytes, folder) = (archive(50_000), folder());
    let package = package("thing", &bytes);
    fs::write(part(folder.path(), &package), &bytes[..20_000]).unwrap();
    let served = bytes.clone();
    let registry = TestRegistry::start(move |_, _| Answer::file(&served));
    let (got, receipt) = fetch(&registry, folder.path(), &package).unwrap();
    assert!(got == bytes);
    assert_eq!(receipt.fetched[0].bytes, 30_000);
    assert_eq!(registry.requests()[0].range, Some(20_000));
}

#[test]
fn a_server_without_ranges_starts_again() {
    let (bytes, folder) = (archive(50_000), folder());
    let package = package("thing", &bytes);
    fs::write(part(folder.path(), &package), &bytes[..20_000]).unwrap();
    let served = bytes.clone();
    let registry = TestRegistry::start(move |_, _| Answer::Whole(served.clone()));
    assert!(fetch(&registry, folder.path(), &package).unwrap().0 == bytes);
}

#[test]
fn a_damaged_beginning_is_fetched_again() {
    let (bytes, folder) = (archive(50_000), folder());
    let package = package("thing", &bytes);
    for damaged in [vec![0; 20_000], vec![0; 50_000], vec![0; 90_000]] {
        fs::write(part(folder.path(), &package), damaged).unwrap();
        let served = bytes.clone();
        let registry = TestRegistry::start(move |_, _| Answer::file(&served));
        assert!(fetch(&registry, folder.path(), &package).unwrap().0 == bytes);
        fs::remove_file(folder.path().join(format!("{}.tgz", package.integrity.file_name()))).unwrap();
    }
}

#[test]
fn a_file_that_the_disk_forgot_is_fetched_again() {
    let (bytes, folder) = (archive(5_000), folder());
    let package = package("thing", &bytes);
    fs::write(folder.path().join(format!("{}.tgz", package.integrity.file_name())), "not the package").unwrap();
    let served = bytes.clone();
    let registry = TestRegistry::start(move |_, _| Answer::file(&served));
    assert!(fetch(&registry, folder.path(), &package).unwrap().0 == bytes);
}

#[test]
fn a_wrong_byte_ends_it_and_leaves_nothing() {
    let (bytes, folder) = (archive(50_000), folder());
    let package = package("thing", &bytes);
    let mut wrong = bytes.clone();
    wrong[49_999] ^= 1;
    let longer = [&bytes[..], &[0; 5_000_000]].concat();
    for served in [wrong, bytes[..40_000].to_vec(), longer] {
        let registry = TestRegistry::start(move |_, _| Answer::file(&served));
        let error = fetch(&registry, folder.path(), &package).unwrap_err();
        let ImageError::Integrity { package: name, host, expected, found } = &error else { panic!("{error:?}") };
        assert_eq!((name.as_str(), host.as_str()), ("thing 1.0.0", "127.0.0.1"));
        assert_eq!(**expected, package.integrity);
        assert_ne!(expected, found);
        assert!(error.help().is_some());
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

#[test]
fn a_refusal_is_final() {
    for (status, word) in [(404, "does not have the package"), (401, "token")] {
        let registry = TestRegistry::start(move |_, _| Answer::Status(status));
        let error = fetch(&registry, folder().path(), &package("thing", b"x")).unwrap_err();
        assert!(matches!(error, ImageError::Download { status: Some(said), .. } if said == status), "{error:?}");
        assert!(error.help().is_some_and(|help| help.contains(word)));
        assert_eq!(registry.requests().len(), 1);
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let registry = TestRegistry::start(|n, _| if n == 0 { Answer::Status(503) } else { Answer::file(b"thing") });
    assert_eq!(fetch(&registry, folder().path(), &package("thing", b"thing")).unwrap().0, b"thing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the connection does, as long as some bytes come each time.
    #[test]
    fn broken_connections_do_not_matter(length in 1_usize..300_000, cuts in prop::collection::vec(1_usize..100_000, 0..6)) {
        let (bytes, folder) = (archive(length), folder());
        let package = package("thing", &bytes);
        let served = bytes.clone();
        let registry = TestRegistry::start(move |n, _| Answer::File { bytes: served.clone(), cut: cuts.get(n).copied() });
        let (got, receipt) = fetch(&registry, folder.path(), &package).unwrap();
        prop_assert!(got == bytes);
        prop_assert_eq!(receipt.fetched[0].bytes, length as u64);
    }
}
