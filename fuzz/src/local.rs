//! Files, sockets, the environment, and what the operator types.

use std::path::Path;

use sovereign_dns::geography::mmdb::Table;
use sovereign_dns::geography::ranges::{Family, Ranges};
use sovereign_edge::store::{Limits, Store, decode_head, encode_head};
use sovereign_images::{Lock, Manifest, debian};
use sovereign_keys::RootSeed;
use sovereign_runtime::SigningKey;
use sovereign_runtime::control::{Request, parse_response};
use sovereign_runtime::{signed as envelope, sockets as passed};

/// A stack file is a stack, or a list of problems that can be told.
pub(crate) fn stack_file(data: &[u8]) {
    if let Err(problems) = sovereign_model::file::parse("stack.toml", &crate::text(data), Path::new("/base")) {
        assert!(!problems.to_string().is_empty());
    }
}

/// A record's head that is understood survives being written.
pub(crate) fn store_head(data: &[u8]) {
    let Ok(head) = decode_head(data) else { return };
    let again = decode_head(&encode_head(&head)).expect("what was written is understood");
    assert_eq!((again.key, again.status, again.fields, again.terms), (head.key, head.status, head.fields, head.terms));
}

/// A store opens whatever lies in it, and clears away what is no record.
pub(crate) fn store_record(data: &[u8]) {
    let folder = tempfile::tempdir_in(crate::applications::scratch()).expect("a folder for a trial");
    let name = "ab".repeat(32);
    let shard = folder.path().join("ab");
    std::fs::create_dir(&shard).expect("a fresh folder");
    std::fs::write(shard.join(&name), data).expect("a fresh file");
    let store = Store::open(folder.path(), Limits::default()).expect("a damaged record is no reason not to serve");
    assert_eq!(store.opened().kept, 0, "no page hashes to this name");
    assert!(!shard.join(&name).exists());
}

/// An envelope opens only when it was sealed with the trusted key.
pub(crate) fn signed(data: &[u8]) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let trust = key.verifying_key();
    if let Ok(opened) = envelope::open(&trust, 1, data) {
        let sealed = envelope::seal(&key, opened.protocol, opened.generation, opened.payload.clone());
        assert_eq!(envelope::open(&trust, 1, sealed.as_bytes()).expect("ours"), opened);
    }
    let _ = envelope::parse_trust(&crate::text(data));
    // Strangers' bytes inside an honest envelope come out as they went in.
    let payload = crate::text(data).into_owned();
    let sealed = envelope::seal(&key, 1, 9, payload.clone());
    assert_eq!(envelope::open(&trust, 1, sealed.as_bytes()).expect("ours").payload, payload);
}

/// A line on a control socket is a request or gets an answer; the same for the other direction.
pub(crate) fn control(data: &[u8]) {
    match Request::parse(data) {
        Ok(request) => {
            assert!(!request.fields.contains_key("protocol") && !request.fields.contains_key("command"));
            let _ = request.field::<Option<u64>>("site");
            assert!(!request.unknown().message.is_empty());
        }
        Err(refusal) => assert!(!refusal.message.is_empty()),
    }
    let _ = parse_response(data);
}

/// `LISTEN_FDS`, `LISTEN_FDNAMES` and `LISTEN_PID`, one per line.
pub(crate) fn sockets(data: &[u8]) {
    let text = crate::text(data);
    let mut lines = text.lines();
    let (count, names, process) = (lines.next(), lines.next(), lines.next());
    let variable = |name: &str| match name {
        passed::LISTEN_FDS => count.map(str::to_owned),
        passed::LISTEN_FDNAMES => names.map(str::to_owned),
        _ => process.map(str::to_owned),
    };
    if let Ok(announced) = passed::announced(variable, 42) {
        assert_eq!(announced.len(), count.map_or(0, |count| count.parse().expect("an understood number")));
    }
}

/// What describes images on disk: locks and manifests.
pub(crate) fn image_files(data: &[u8]) {
    if let Ok(lock) = Lock::parse(&crate::text(data)) {
        let _ = (lock.digest(), lock.packages_here().count());
    }
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(data) {
        let text = serde_json::to_vec(&manifest).expect("a manifest serializes");
        assert_eq!(serde_json::from_slice::<Manifest>(&text).expect("what was written is understood"), manifest);
    }
}

/// What apt says of a mirror, and a lock of Debian's packages: what was understood is written and read again.
pub(crate) fn apt(data: &[u8]) {
    let text = crate::text(data);
    if let Ok(lock) = debian::Lock::parse(&text) {
        assert_eq!(debian::Lock::parse(&lock.to_text()).expect("what was written is understood"), lock);
        assert_eq!(lock.changes(&lock), []);
    }
    for offer in debian::apt::offers(&text).unwrap_or_default() {
        assert!(!offer.name.as_str().contains(['/', ' ', ',']));
    }
    for failure in debian::apt::failures(&text) {
        assert!(!failure.reason.contains('\n'));
    }
    let _ = (debian::apt::targets(&text), debian::apt::refusal(&text), debian::apt::complaints(&text));
    let _ = (debian::apt::made(&text), debian::apt::installed(&text));
}

/// Words are the seed or a refusal that names none of them by accident; a seed's own words give it again.
pub(crate) fn words(data: &[u8]) {
    match RootSeed::parse(&crate::text(data)) {
        Ok(seed) => assert!(RootSeed::parse(seed.words().expose()).is_ok()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Ranges of addresses are in ascending order and apart, whatever is read, and a table takes them as they are.
pub(crate) fn addresses(data: &[u8]) {
    for family in [Family::Ipv4, Family::Ipv6] {
        let mut table = Table::new(vec!["all".to_owned()]);
        let mut free = Some(0);
        for range in Ranges::new(data, family).map_while(Result::ok) {
            assert!(free.is_some_and(|free| free <= range.first) && range.first <= range.last, "{range:?}, {free:?}");
            assert_eq!(range.last >> 32 == 0, family == Family::Ipv4, "{range:?}");
            free = range.last.checked_add(1);
            table.put(range.first, range.last, 0).expect("so few have room");
        }
        table.to_bytes(0).expect("so few have room");
    }
}
