//! A host's keys, before any of them is trusted.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use sovereign_model::ssh::{Fingerprint, HostKey, SshAddress};
use tokio::time::timeout;

use crate::connection::spawn;
use crate::error::SshError;

/// Kinds of keys, the one to pin first.
const KINDS: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];
/// More keys than a host has.
const MOST_KEYS: usize = 16;

/// The keys that a host shows, the best one first. Whoever answers at that address can show any key: what is found here
/// is trusted only after somebody compared a fingerprint.
///
/// # Errors
/// When nobody shows a key within `patience`.
pub async fn scan(host: &SshAddress, patience: Duration) -> Result<Vec<HostKey>, SshError> {
    let here = |source| SshError::Here { action: "start ssh-keyscan".to_owned(), source };
    let mut command = sovereign_ssh::program("ssh-keyscan");
    command.args(["-T", &patience.as_secs().clamp(1, 60).to_string(), "-p", &host.port().to_string()]);
    command.args(["-t", "ed25519,ecdsa,rsa", "--", host.host()]);
    let child = spawn(command, Stdio::null()).map_err(here)?;
    let timed_out = || SshError::TimedOut { host: host.clone(), action: "show its keys".to_owned(), waited: patience };
    let output = timeout(patience, child.wait_with_output()).await.map_err(|_| timed_out())?.map_err(here)?;
    let keys = parse(&output.stdout);
    if keys.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with('#'));
        let said = said.map_or_else(
            || "no SSH server answers".to_owned(),
            |line| line.chars().filter(|c| !c.is_control()).collect(),
        );
        return Err(SshError::Unreachable { host: host.clone(), said });
    }
    Ok(keys)
}

/// The key with the fingerprint that the operator has from the host itself.
///
/// # Errors
/// When the host shows no such key.
pub fn choose(host: &SshAddress, keys: Vec<HostKey>, expected: &Fingerprint) -> Result<HostKey, SshError> {
    let found = keys.iter().map(HostKey::fingerprint).collect();
    keys.into_iter().find(|key| key.fingerprint() == *expected).ok_or_else(|| SshError::OtherFingerprint {
        host: host.clone(),
        expected: expected.clone(),
        found,
    })
}

/// Lines of `host kind key`.
fn parse(output: &[u8]) -> Vec<HostKey> {
    let text = String::from_utf8_lossy(output);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let keys = lines.filter_map(|line| line.split_once(' ')?.1.parse::<HostKey>().ok());
    let rank = |key: &HostKey| KINDS.iter().position(|kind| *kind == key.kind());
    let ranked: BTreeSet<(usize, String)> =
        keys.filter_map(|key| Some((rank(&key)?, key.as_str().to_owned()))).take(MOST_KEYS).collect();
    ranked.into_iter().filter_map(|(_, key)| key.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0r1nq9FvKpkrV8c0M2xwJY1mB3mYd0q1q0y2z3q4r5";
    const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7vbqajDw4o6gJy8UtmIbkcpnkO3Kw";

    #[test]
    fn the_best_key_is_first_and_what_is_none_is_passed_over() {
        let text = format!("# atlas:22 SSH-2.0\n[atlas]:22 {RSA}\natlas {ED25519}\natlas ssh-dss AAAA\nnonsense\n");
        let keys = parse(text.as_bytes());
        assert_eq!(keys.iter().map(HostKey::as_str).collect::<Vec<_>>(), [ED25519, RSA]);
        let host: SshAddress = "root@atlas".parse().unwrap();
        let expected = keys[1].fingerprint();
        assert_eq!(choose(&host, keys.clone(), &expected).unwrap().as_str(), RSA);
        let other = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
        let error = choose(&host, keys, &other).unwrap_err();
        assert!(error.to_string().contains(&expected.to_string()), "{error}");
    }

    proptest! {
        #[test]
        fn whatever_a_host_shows_is_read(bytes: Vec<u8>) {
            parse(&bytes);
        }
    }
}
