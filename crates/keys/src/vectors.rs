//! docs/secrets.md against this code, and its Python against both.

use std::fmt::Write as _;
use std::process::Command;

use sha2::{Digest as _, Sha256};
use sovereign_model::StackName;

use crate::ca::{Ca, CaKey, p256_key};
use crate::derive::DerivedSecret;
use crate::purpose::Purpose;
use crate::seed::RootSeed;
use crate::transfer_key::transfer_secret;
use crate::typed::{archive_password, database_password, link_key, owner_password, signing_key, webhook_key};
use crate::zone_key::ZoneKey;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/secrets.md");

/// A vector of BIP-39's authors.
const WORDS: &str = "hamster diagram private dutch cause delay private meat slide toddler razor book \
                     happy fancy gospel tennis maple dilemma loan word shrug inflict delay length";

fn stack() -> StackName {
    "demo".parse().unwrap()
}

fn secret(purpose: &str, epoch: u32) -> DerivedSecret {
    let purpose: Purpose = purpose.parse().unwrap();
    RootSeed::parse(WORDS).unwrap().derive(&stack(), &purpose, epoch)
}

fn lines(vectors: &[(&str, String)]) -> String {
    vectors.iter().fold(String::new(), |mut text, (name, value)| {
        writeln!(text, "{name:24} {value}").unwrap();
        text
    })
}

fn private() -> String {
    lines(&[
        ("fingerprint", RootSeed::parse(WORDS).unwrap().fingerprint(&stack()).to_string()),
        ("owner-password/blog 1", owner_password(&secret("owner-password/blog", 1)).expose().to_owned()),
        ("owner-password/blog 2", owner_password(&secret("owner-password/blog", 2)).expose().to_owned()),
        ("webhook/blog 1", webhook_key(&secret("webhook/blog", 1)).expose().to_owned()),
        ("database/blog 1", database_password(&secret("database/blog", 1)).expose().to_owned()),
        ("ca 1", hex::encode(CaKey::from_secret(&secret("ca", 1)).scalar())),
        ("link/home 1", hex::encode(secret("link/home", 1).expose())),
        ("config-signing 1", hex::encode(signing_key(&secret("config-signing", 1)).to_bytes())),
        ("archive 1", archive_password(&secret("archive", 1)).expose().to_owned()),
        ("hosts 1", hex::encode(secret("hosts", 1).expose())),
        ("hosts-recovery 1", hex::encode(secret("hosts-recovery", 1).expose())),
        ("zone/example.org 1", hex::encode(p256_key(&secret("zone/example.org", 1)).to_bytes())),
        ("transfer/friend 1", transfer_secret(&secret("transfer/friend", 1)).expose().to_owned()),
    ])
}

fn public() -> String {
    let domain = "example.org".parse().unwrap();
    let ca = Ca::new(&stack(), 1, &secret("ca", 1)).unwrap();
    lines(&[
        ("link/home 1", link_key(&secret("link/home", 1)).public_hex),
        ("config-signing 1", hex::encode(signing_key(&secret("config-signing", 1)).verifying_key().as_bytes())),
        ("ca 1, SHA-256", hex::encode(Sha256::digest(ca.der()))),
        ("zone/example.org 1, DS", ZoneKey::from_secret(&secret("zone/example.org", 1)).ds(&domain).to_string()),
    ])
}

/// The fenced blocks of `language` in the document.
fn blocks(language: &str) -> Vec<String> {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let fenced = document.split("\n```").skip(1).step_by(2);
    fenced.filter_map(|block| Some(block.strip_prefix(language)?.strip_prefix('\n')?.to_owned() + "\n")).collect()
}

#[test]
fn the_document_has_our_numbers() {
    for ours in [private(), public()] {
        assert!(blocks("text").contains(&ours), "docs/secrets.md lacks:\n{ours}");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn the_documents_python_gives_our_numbers() {
    let recipe = blocks("python").concat();
    match Command::new("python3").args(["-I", "-c", &recipe]).output() {
        Ok(output) => {
            assert_eq!(String::from_utf8_lossy(&output.stderr), "");
            assert_eq!(String::from_utf8_lossy(&output.stdout), private());
        }
        Err(error) => eprintln!("skipped: python3 cannot be run ({error})"),
    }
}

#[test]
fn words_mean_what_bip39_says() {
    let seed = RootSeed::parse(WORDS).unwrap();
    assert_eq!(hex::encode(seed.entropy()), "68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c");
    assert_eq!(seed.words().expose(), WORDS);
}
