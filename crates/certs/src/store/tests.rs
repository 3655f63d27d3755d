//! Tests of the store.

use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::*;
use crate::moment::Moment;
use crate::state::{Hold, Order};

const ENDS: u64 = 1_900_000_000;

fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["blog.example".to_owned()]).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(ENDS as i64).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn held() -> Held {
    Held {
        number: 0,
        authority: "ca".parse().unwrap(),
        stored: Moment::at(1),
        not_before: Moment::at(1),
        not_after: Moment::at(ENDS),
        id: None,
        window: None,
        ask: Moment::LONG_AGO,
        revoked: false,
        elsewhere: false,
        handed: false,
    }
}

fn opened() -> (TempDir, Store, DnsName) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("certs")).unwrap();
    (folder, store, "blog.example".parse().unwrap())
}

/// Everything below a folder, with its mode.
fn below(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        all.push((entry.path(), entry.metadata().unwrap().permissions().mode() & 0o777));
        if entry.file_type().unwrap().is_dir() {
            all.extend(below(&entry.path()));
        }
    }
    all
}

#[test]
fn what_is_served_and_what_was_before_are_kept_and_nobody_else_reads_them() {
    let (folder, store, name) = opened();
    let mut state = store.state(&name).unwrap();
    let mut chains = Vec::new();
    for _ in 0..3 {
        let (chain, key) = certificate();
        store.put_next_key(&name, &key).unwrap();
        store.keep(&mut state, held(), &chain, &key).unwrap();
        chains.push(chain);
    }
    let read = store.state(&name).unwrap();
    assert_eq!(read, state);
    let [now, before] = [&read.held, &read.previous].map(|held| held.as_ref().unwrap());
    assert_eq!((now.number, before.number), (3, 2));
    assert_eq!(*store.chain(&name, now).unwrap().unwrap(), chains[2]);
    assert_eq!(*store.chain(&name, before).unwrap().unwrap(), chains[1]);
    let all = below(folder.path());
    assert!(!all.iter().any(|(path, _)| path.ends_with("1") || path.ends_with("next.pem")), "{all:?}");
    for (path, mode) in all {
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}

/// As a kill leaves it: after each thing that is written, before the next.
#[test]
fn killed_while_a_certificate_is_taken_in_the_one_before_is_served() {
    let (_folder, store, name) = opened();
    let mut state = store.state(&name).unwrap();
    let (chain, key) = certificate();
    store.keep(&mut state, held(), &chain, &key).unwrap();
    let home = store.name(&name);
    let (newer, newer_key) = certificate();
    let steps: [&dyn Fn(); 4] = [
        &|| fs::create_dir(home.join(".2.new")).unwrap(),
        &|| fs::write(home.join(".2.new/chain.pem"), &newer).unwrap(),
        &|| fs::write(home.join(".2.new/key.pem"), &newer_key).unwrap(),
        &|| fs::rename(home.join(".2.new"), home.join("2")).unwrap(),
    ];
    for step in steps {
        step();
        let read = store.state(&name).unwrap();
        assert_eq!(read.held.as_ref().unwrap().number, 1);
        assert_eq!(*store.chain(&name, read.held.as_ref().unwrap()).unwrap().unwrap(), chain);
    }
    // And the next run takes its own in, over what was left.
    let (third, third_key) = certificate();
    let mut state = store.state(&name).unwrap();
    store.keep(&mut state, held(), &third, &third_key).unwrap();
    let read = store.state(&name).unwrap();
    assert_eq!(*store.chain(&name, read.held.as_ref().unwrap()).unwrap().unwrap(), third);
    assert_eq!(read.previous.unwrap().number, 1);
}

#[test]
fn what_is_damaged_counts_as_none_and_what_is_newer_is_left_alone() {
    let (_folder, store, name) = opened();
    let mut state = store.state(&name).unwrap();
    let (chain, key) = certificate();
    store.keep(&mut state, held(), &chain, &key).unwrap();
    state.refused.insert("ca".parse().unwrap(), Hold { failures: 3, until: Moment::at(9), why: "no".into() });
    store.save(&state).unwrap();
    let served = store.served(&name, state.held.as_ref().unwrap());
    let other = certificate();
    for (path, content) in [(&served.key, &other.1), (&served.chain, &other.0), (&served.chain, &String::new())] {
        let good = fs::read(path).unwrap();
        fs::write(path, content).unwrap();
        let read = store.state(&name).unwrap();
        assert!(read.held.is_none() && read.refused.len() == 1, "what was tried is known all the same");
        fs::write(path, good).unwrap();
    }
    assert!(store.state(&name).unwrap().held.is_some());

    let file = store.name(&name).join("state.json");
    for damaged in ["", "{", "{\"version\": 1}", "[]"] {
        fs::write(&file, damaged).unwrap();
        assert_eq!(store.state(&name).unwrap(), NameState::new(name.clone()));
    }
    fs::write(&file, "{\"version\": 2, \"more\": 1}").unwrap();
    assert!(matches!(store.state(&name), Err(StoreError::Newer { .. })));
}

#[test]
fn the_key_of_an_open_order_is_kept_until_it_is_closed() {
    let (_folder, store, name) = opened();
    let mut state = store.state(&name).unwrap();
    state.order = Some(Order { authority: "ca".parse().unwrap(), url: "u".into(), since: Moment::at(1) });
    store.put_next_key(&name, "key").unwrap();
    store.save(&state).unwrap();
    assert_eq!(*store.next_key(&name).unwrap().unwrap(), "key");
    state.order = None;
    store.save(&state).unwrap();
    assert!(store.next_key(&name).unwrap().is_none());
}

#[test]
fn an_authority_that_has_moved_is_another_one() {
    let (_folder, store, _) = opened();
    let ca: AuthorityName = "ca".parse().unwrap();
    let mut state = store.authority_state(&ca, "https://old").unwrap();
    state.account = Some("https://old/acct/1".into());
    store.save_authority(&ca, &state).unwrap();
    assert_eq!(store.authority_state(&ca, "https://old").unwrap(), state);
    assert_eq!(store.authority_state(&ca, "https://new").unwrap().account, None);
}

#[test]
fn what_was_handed_over_is_known_and_its_key_is_not() {
    let (_folder, store, name) = opened();
    let mut state = store.state(&name).unwrap();
    let (chain, key) = certificate();
    store.keep(&mut state, held(), &chain, &key).unwrap();
    store.handed(&mut state).unwrap();
    let known = store.state(&name).unwrap();
    let known = known.held.as_ref().unwrap();
    assert!(known.handed && !known.elsewhere && !store.served(&name, known).key.exists());
    assert!(store.bundle(&name, known).unwrap().is_none() && store.chain(&name, known).unwrap().is_some());
}
