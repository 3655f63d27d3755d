//! The internal CA before judges that are not ours: rustls with webpki, and the openssl command where there is one.

#![cfg(test)]

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{RootCertStore, crypto};
use sovereign_keys::{Ca, CaError, Leaf, LeafFacts, Purpose, RootSeed, issue_leaf};
use sovereign_model::DnsName;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn ca() -> Ca {
    let words = format!("{}art", "abandon ".repeat(23));
    let stack = "shop".parse().unwrap();
    let secret = RootSeed::parse(&words).unwrap().derive(&stack, &Purpose::Ca, 1);
    Ca::new(&stack, 1, &secret).unwrap()
}

/// 2026-11-23 00:00 UTC.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_392_000)
}

fn names() -> Vec<DnsName> {
    vec!["blog.localhost".parse().unwrap(), "www.example.org".parse().unwrap()]
}

fn addresses() -> Vec<IpAddr> {
    vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]
}

fn leaf(ca: &Ca) -> Leaf {
    issue_leaf(ca, &names(), &addresses(), now(), 90 * DAY).unwrap()
}

fn verify(ca: &Ca, leaf: &Leaf, name: &str, at: SystemTime) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let certificate = CertificateDer::from_pem_slice(leaf.chain_pem.as_bytes()).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap());
    verifier.verify_server_cert(&certificate, &[], &name, &[], at).map(|_| ())
}

#[test]
fn rustls_accepts_a_leaf_for_its_names_in_its_time() {
    let ca = ca();
    let leaf = leaf(&ca);
    for name in ["blog.localhost", "www.example.org", "127.0.0.1", "::1"] {
        verify(&ca, &leaf, name, now() + DAY).unwrap();
    }
    assert!(verify(&ca, &leaf, "example.org", now() + DAY).is_err());
    assert!(verify(&ca, &leaf, "blog.localhost", now() + 91 * DAY).is_err());
    assert!(verify(&ca, &leaf, "blog.localhost", now() - DAY).is_err());
}

#[test]
fn rustls_serves_with_the_key() {
    let leaf = leaf(&ca());
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.expose().as_bytes()).unwrap();
    let key = crypto::aws_lc_rs::sign::any_ecdsa_type(&key).unwrap();
    let certificate = CertificateDer::from_pem_slice(leaf.chain_pem.as_bytes()).unwrap();
    rustls::sign::CertifiedKey::new(vec![certificate], key).keys_match().unwrap();
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn openssl_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let ca = ca();
    let leaf = leaf(&ca);
    leaf.write(&path("chain.pem"), &path("key.pem")).unwrap();
    std::fs::write(path("ca.pem"), ca.pem()).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["verify", "-x509_strict", "-purpose", "sslserver", "-attime", "1795478400"]);
    openssl.args(["-verify_hostname", "blog.localhost", "-CAfile"]).args([path("ca.pem"), path("chain.pem")]);
    match openssl.output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => eprintln!("skipped: the openssl command cannot be run ({error})"),
    }
}

#[test]
fn what_a_leaf_says_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    let ca = ca();
    assert_eq!(LeafFacts::read(&chain, &key).unwrap(), None);
    leaf(&ca).write(&chain, &key).unwrap();
    let facts = LeafFacts::read(&chain, &key).unwrap().unwrap();
    assert_eq!(facts.ends(), now() + 90 * DAY);

    let serves = |names: &[DnsName], at, margin| facts.serves(&ca, names, &addresses(), at, margin);
    assert!(serves(&names(), now(), 30 * DAY));
    let mut turned = names();
    turned.reverse();
    assert!(serves(&turned, now(), 30 * DAY), "order does not matter");
    assert!(!serves(&names(), now() + 60 * DAY, 30 * DAY), "it ends within the margin");
    assert!(!serves(&names(), now() - DAY, 30 * DAY), "it has not begun");
    assert!(!serves(&names()[..1], now(), 30 * DAY), "it names too many");
    let other =
        Ca::new(&"shop".parse().unwrap(), 2, &RootSeed::generate().derive(&"shop".parse().unwrap(), &Purpose::Ca, 2));
    assert!(!facts.serves(&other.unwrap(), &names(), &addresses(), now(), 30 * DAY), "it is another CA's");

    std::fs::remove_file(&chain).unwrap();
    assert_eq!(LeafFacts::read(&chain, &key).unwrap(), None);
}

#[test]
fn a_damaged_leaf_counts_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    let ca = ca();
    for file in ["chain.pem", "key.pem", "chain.json"] {
        for damage in [&b""[..], b"\0\xff", b"-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----"] {
            leaf(&ca).write(&chain, &key).unwrap();
            assert!(LeafFacts::read(&chain, &key).unwrap().is_some());
            std::fs::write(folder.path().join(file), damage).unwrap();
            assert_eq!(LeafFacts::read(&chain, &key).unwrap(), None, "{file}: {damage:?}");
        }
    }
    leaf(&ca).write(&chain, &key).unwrap();
    std::fs::write(&key, leaf(&ca).key_pem.expose()).unwrap();
    assert_eq!(LeafFacts::read(&chain, &key).unwrap(), None, "another leaf's key");
}

#[test]
fn senseless_leaves_are_not_issued() {
    let ca = ca();
    let issue = |names: &[DnsName], from, lifetime| issue_leaf(&ca, names, &[], from, lifetime).unwrap_err();
    assert!(matches!(issue(&[], now(), DAY), CaError::NoNames));
    assert!(matches!(issue(&names(), now(), Duration::ZERO), CaError::Lifetime { .. }));
    assert!(matches!(issue(&names(), now(), 40 * 365 * DAY), CaError::Lifetime { .. }));
    assert!(matches!(issue(&names(), UNIX_EPOCH - DAY, DAY), CaError::Lifetime { .. }));
    assert!(matches!(issue(&names(), now(), Duration::MAX), CaError::Lifetime { .. }));
}
